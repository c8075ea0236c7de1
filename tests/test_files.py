"""Files are whole or not there; the cache directory can be chosen."""

from __future__ import annotations

import pytest

from mt3 import files


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "scores.json"
    files.write_text(path, "old")
    with pytest.raises(RuntimeError), files.atomic_path(path) as temporary:  # noqa: PT012
        temporary.write_text("half of the ne")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_directory_is_whole_or_not_there(tmp_path):
    with pytest.raises(RuntimeError), files.atomic_directory(tmp_path / "model") as temporary:  # noqa: PT012
        (temporary / "part").touch()
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
    with files.atomic_directory(tmp_path / "model") as temporary:
        (temporary / "part").touch()
        assert not (tmp_path / "model").exists()
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "part"]


def test_a_file_is_replaced(tmp_path):
    path = tmp_path / "scores.json"
    files.write_text(path, "alt")
    files.write_bytes(path, "néu".encode())
    assert path.read_text(encoding="utf-8") == "néu"
    assert list(tmp_path.iterdir()) == [path]


def test_the_cache_directory_can_be_set(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("MT3_CACHE", raising=False)
    assert files.cache_directory() == tmp_path / "mt3"
    monkeypatch.setenv("MT3_CACHE", str(tmp_path / "here"))
    assert files.cache_directory() == tmp_path / "here"
