"""Private folders, and what servers that crashed have left."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mt3.web.folders import private_folder

HOLDER = """
import sys, time
from pathlib import Path
from mt3.web.folders import private_folder
with private_folder(Path(sys.argv[1])) as folder:
    (folder / "upload").write_text("private")
    print(folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """A process that holds a folder in `tmp_path / "base"`, and the folder's path."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "base")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield process, process.stdout.readline().strip()
        process.kill()


def test_a_folder_is_private_and_goes(tmp_path):
    base = tmp_path / "cache" / "serve"
    with private_folder(base) as folder:
        assert folder.stat().st_mode & 0o777 == 0o700
        assert folder.stat().st_uid == os.getuid()
        (folder / "upload").write_text("private")
    assert list(base.iterdir()) == []


def test_what_a_crash_left_is_removed_and_what_lives_is_kept(tmp_path, holder):
    process, held = holder
    with private_folder(tmp_path / "base") as own:
        assert sorted(map(str, (tmp_path / "base").iterdir())) == sorted([held, str(own)])
    process.kill()
    process.wait()
    assert (Path(held) / "upload").exists()
    with private_folder(tmp_path / "base") as own:
        assert list((tmp_path / "base").iterdir()) == [own]


def test_links_and_files_of_others_are_left_alone(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").touch()
    base = tmp_path / "base"
    base.mkdir()
    (base / "serving-link").symlink_to(tmp_path / "elsewhere")
    (base / "serving-file").touch()
    (base / "other").mkdir()
    with private_folder(base):
        pass
    assert sorted(path.name for path in base.iterdir()) == ["other", "serving-file", "serving-link"]
    assert (tmp_path / "elsewhere" / "file").exists()
