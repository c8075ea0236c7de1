"""Collections: MIDI folders and zips, saved pieces, broken files, the cache."""

import zipfile

import pytest

from mt3.data import piece_collections
from mt3.data.piece_collections import load_pieces
from mt3.data.pieces import PieceError
from mt3.symbolic.conversions import read_midi, write_midi


def test_folder_and_zip_hold_the_same_pieces(tmp_path, midi_folder):
    archive = tmp_path / "music.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(midi_folder.iterdir()):
            file.write(path, path.name)
        file.writestr("README.txt", "no music")
    from_folder, _ = load_pieces([str(midi_folder)], cache_dir=tmp_path / "cache")
    from_zip, _ = load_pieces([str(archive)], cache_dir=tmp_path / "cache")
    assert len(from_folder) == 12
    for a, b in zip(from_folder, from_zip, strict=True):
        assert a.id == b.id
        assert a.notes == b.notes == read_midi(midi_folder / a.id)


def test_broken_files_are_listed_by_name(tmp_path, make_tune, caplog):
    caplog.set_level("INFO")
    write_midi(make_tune(1), tmp_path / "fine.mid")
    (tmp_path / "broken.mid").write_bytes(b"MThd\0\0\0\6\0\1\0\1\0\x60MTrk\0\0\0\xff")
    (tmp_path / "empty.MID").write_bytes(b"")
    write_midi(make_tune(1)[:0], tmp_path / "silent.midi")
    pieces, skipped = load_pieces([str(tmp_path)], cache_dir=tmp_path / "cache")
    assert [piece.id for piece in pieces] == ["fine.mid"]
    assert [skip.item for skip in skipped] == ["broken.mid", "empty.MID", "silent.midi"]
    assert skipped[2].reason == "it has no notes"
    assert "broken.mid" in caplog.text
    with pytest.raises(PieceError, match=r"broken\.mid"):
        load_pieces([str(tmp_path)], cache_dir=tmp_path / "cache", strict=True)


def test_parsing_is_cached_until_files_change(tmp_path, make_tune, monkeypatch):
    folder = tmp_path / "music"
    folder.mkdir()
    write_midi(make_tune(1), folder / "a.mid")
    first, _ = load_pieces([str(folder)], cache_dir=tmp_path / "cache")
    (cached,) = (tmp_path / "cache").iterdir()

    def fail(file):
        raise AssertionError(f"{file} was parsed again")

    with monkeypatch.context() as patched:
        patched.setattr(piece_collections, "_parse", fail)
        again, _ = load_pieces([str(folder)], cache_dir=tmp_path / "cache")
    assert again[0].notes == first[0].notes
    from_cache_file, _ = load_pieces([str(cached)])
    assert from_cache_file[0].notes == first[0].notes
    cached.write_bytes(b"damaged")
    assert load_pieces([str(folder)], cache_dir=tmp_path / "cache")[0][0].notes == first[0].notes
    write_midi(make_tune(2), folder / "b.mid")
    assert len(load_pieces([str(folder)], cache_dir=tmp_path / "cache")[0]) == 2


def test_worker_processes_parse_the_same(tmp_path, midi_folder):
    serial, _ = load_pieces([str(midi_folder)], cache_dir=tmp_path / "a")
    parallel, _ = load_pieces([str(midi_folder)], cache_dir=tmp_path / "b", workers=2)
    assert [piece.id for piece in serial] == [piece.id for piece in parallel]
    assert all(a.notes == b.notes for a, b in zip(serial, parallel, strict=True))


def test_pieces_of_one_name_are_told_apart(tmp_path, make_tune):
    for folder, seed in (("a", 1), ("b", 2)):
        (tmp_path / folder).mkdir()
        write_midi(make_tune(seed), tmp_path / folder / "x.mid")
    pieces, _ = load_pieces([str(tmp_path / "a"), str(tmp_path / "b")], cache_dir=tmp_path / "cache")
    assert [piece.id for piece in pieces] == ["x.mid", "x.mid~2"]


@pytest.mark.parametrize("name", ["bach_choral", "nowhere/music.zip"])
def test_unknown_collection_is_told_the_known_ones(tmp_path, name):
    with pytest.raises(PieceError, match=r"is unknown; name a folder or zip.*bach_chorales"):
        load_pieces([name], cache_dir=tmp_path)


def test_folder_without_music(tmp_path):
    (tmp_path / "music").mkdir()
    with pytest.raises(PieceError, match="holds no music"):
        load_pieces([str(tmp_path / "music")], cache_dir=tmp_path)
