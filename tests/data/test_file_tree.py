"""The files of a dataset, in folders and in archives: the same names, the same bytes."""

import io
import os
import pickle
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mt3.audio.io import load_audio, write_audio
from mt3.data.file_tree import ArchiveMember, FileTreeError, open_tree, size_of


@pytest.fixture(scope="module")
def contents():
    """{name: bytes}: some large enough to lie over several seek points."""
    rng = np.random.default_rng(0)
    sizes = {"a/one.bin": 10, "a/stems/S00.bin": 3_000_000, "a/stems/S01.bin": 6_000_000, "b/Two.TXT": 999}
    return {name: rng.bytes(size) for name, size in sizes.items()}


def write_folder(contents, folder):
    for name, content in contents.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(contents, path, compression=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return path


def write_tar(contents, path, mode):
    with tarfile.open(path, mode) as archive:
        for name, content in contents.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


FORMS = {
    "folder": lambda contents, path: write_folder(contents, path / "d"),
    "zip": lambda contents, path: write_zip(contents, path / "d.zip"),
    "stored zip": lambda contents, path: write_zip(contents, path / "d.zip", zipfile.ZIP_STORED),
    "tar": lambda contents, path: write_tar(contents, path / "d.tar", "w"),
    "tar.gz": lambda contents, path: write_tar(contents, path / "d.tar.gz", "w:gz"),
    "tgz": lambda contents, path: write_tar(contents, path / "d.tgz", "w:gz"),
}


@pytest.fixture(params=FORMS)
def tree(request, contents, tmp_path):
    return open_tree([FORMS[request.param](contents, tmp_path)], index_dir=tmp_path / "index")


def test_every_file_is_there_and_reads_as_written(tree, contents):
    assert [name.split("d/")[-1] for name in tree.files] == sorted(contents)
    for name, file in tree.files.items():
        expected = contents[name.split("d/")[-1]]
        assert file.read_bytes() == expected
        assert size_of(file) == len(expected)
        assert file.name == name.split("/")[-1]
        assert file.stem == file.name.split(".")[0]


def test_files_can_be_read_from_anywhere(tree, contents):
    (file,) = tree.find("stems/S01.bin").values()
    expected = contents["a/stems/S01.bin"]
    with file.open("rb") as opened:
        assert opened.seek(0, os.SEEK_END) == len(expected)
        for start in (5_999_990, 10, 4_500_000, 0):
            opened.seek(start)
            assert opened.read(100) == expected[start : start + 100]
        opened.seek(-5, os.SEEK_END)
        assert opened.read() == expected[-5:]
        assert opened.read(10) == b""


def test_references_reach_other_processes_and_threads(tree, contents):
    files = pickle.loads(pickle.dumps(tree.find("stems/S*.bin")))
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda file: file.read_bytes(), [*files.values()] * 4))
    assert found == [contents["a/stems/S00.bin"], contents["a/stems/S01.bin"]] * 4


def test_a_folder_of_archives_is_one_tree(tmp_path, contents):
    write_zip({"x.wav": b"1"}, tmp_path / "audio_mono-mic.zip")
    write_tar(contents, tmp_path / "more.tar.gz", "w:gz")
    (tmp_path / "readme.txt").write_text("hello")
    tree = open_tree([tmp_path], index_dir=tmp_path / ".index")
    assert set(tree.files) == {"audio_mono-mic/x.wav", "readme.txt", *(f"more/{name}" for name in contents)}
    assert tree.find("audio_mono-mic/*.wav")["audio_mono-mic/x.wav"].read_bytes() == b"1"


def test_patterns_match_the_last_parts_whatever_the_case(tree):
    assert [file.name for file in tree.find("stems/*.bin").values()] == ["S00.bin", "S01.bin"]
    assert [file.name for file in tree.find("*.txt").values()] == ["Two.TXT"]
    assert not tree.find("a/*.wav")
    assert len(tree.find("*.bin")) == 3
    name = next(iter(tree.find("stems/S00.bin")))
    assert tree.sibling(name, "S01.bin").name == "S01.bin"
    assert tree.sibling(name, "S02.bin") is None


def test_exactly_one(tree):
    assert tree.find_one("one.bin", "the one")[1].name == "one.bin"
    with pytest.raises(FileTreeError, match=r"must hold the metadata \(\*\.csv\); there is none"):
        tree.find_one("*.csv", "the metadata")
    with pytest.raises(FileTreeError, match="3 files match it: "):
        tree.find_one("*.bin", "the data")


def test_hidden_files_and_those_of_macos_are_left_out(tmp_path):
    path = write_zip({"a.wav": b"1", "__MACOSX/._a.wav": b"2", ".DS_Store": b"3"}, tmp_path / "d.zip")
    assert list(open_tree([path]).files) == ["d/a.wav"]


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_an_archive_that_is_cut_short_is_named(form, contents, tmp_path):
    path = FORMS[form](contents, tmp_path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(FileTreeError, match=rf"{path.name} is damaged or cut short .*; fetch it again"):
        open_tree([path], index_dir=tmp_path / "index")


def test_a_member_that_is_damaged_is_named_when_it_is_read(tmp_path, contents):
    path = write_zip(contents, tmp_path / "d.zip", zipfile.ZIP_STORED)
    content = bytearray(path.read_bytes())
    content[1_000_000] ^= 0xFF
    path.write_bytes(content)
    (file,) = open_tree([path]).find("S00.bin").values()
    with pytest.raises(OSError, match=r"d\.zip!a/stems/S00\.bin is damaged"):
        file.read_bytes()


def test_an_input_that_is_not_there(tmp_path):
    with pytest.raises(FileTreeError, match="none does not exist"):
        open_tree([tmp_path / "none"])


def test_the_pass_through_a_compressed_tar_is_made_once(tmp_path, contents, monkeypatch):
    path = write_tar(contents, tmp_path / "d.tar.gz", "w:gz")
    first = open_tree([path], index_dir=tmp_path / "index")
    monkeypatch.setattr(tarfile, "open", None)
    again = open_tree([path], index_dir=tmp_path / "index")
    assert again == first
    assert all(isinstance(file, ArchiveMember) and file.read_bytes() for file in again.files.values())


@pytest.mark.parametrize("form", ["zip", "tar.gz"])
@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
def test_audio_is_decoded_out_of_archives(tmp_path, form, suffix):
    samples = np.sin(np.arange(40000) * 0.05).astype(np.float32) / 2
    file = tmp_path / f"tone{suffix}"
    write_audio(file, samples, 16000)
    tree = open_tree([FORMS[form]({file.name: file.read_bytes()}, tmp_path)], index_dir=tmp_path / "index")
    (member,) = tree.files.values()
    np.testing.assert_array_equal(load_audio(member), load_audio(file))
