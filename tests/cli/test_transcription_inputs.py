"""Which recordings arguments name, and where their results go."""

import io
import os
import sys

import pytest

from mt3.cli.transcription_inputs import audio_of_standard_input, find_inputs


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Files of these names, empty, in the working directory."""
    names = (
        *(
            "one.wav",
            "music/b.mp3",
            "music/a.wav",
            "music/notes.txt",
            "music/.hidden.wav",
            "music/.git/x.wav",
        ),
        *(
            "music/live/a.FLAC",
            "music/live/a.ogg",
            "other/a.wav",
            "other/late.aiff",
            "what?.wav",
            "docs/x.txt",
        ),
    )
    for name in names:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*arguments, standard_input=b"", **options):
    inputs = find_inputs(arguments, io.BytesIO(standard_input), **options)
    return {item.path.as_posix(): item.target.as_posix() for item in inputs}


def test_a_file_is_named_as_it_is(tree):
    assert found("music/b.mp3", "one.wav") == {"music/b.mp3": "b", "one.wav": "one"}
    # What is missing, or has no audio's suffix, is told when it is to be read.
    assert found("music/notes.txt", "gone.wav") == {"music/notes.txt": "notes", "gone.wav": "gone"}


def test_a_folder_is_searched_to_its_depth_and_keeps_its_tree(tree):
    assert found("music") == {
        "music/a.wav": "a",
        "music/b.mp3": "b",
        "music/live/a.FLAC": "live/a.FLAC",  # two would be live/a
        "music/live/a.ogg": "live/a.ogg",
    }


def test_several_folders_keep_their_names(tree):
    assert found("other", "music/live", "one.wav") == {
        "other/a.wav": "other/a",
        "other/late.aiff": "other/late",
        "music/live/a.FLAC": "live/a.FLAC",
        "music/live/a.ogg": "live/a.ogg",
        "one.wav": "one",
    }


def test_results_are_not_taken_for_recordings(tree):
    assert found("music", without=[".mp3", "live/a.ogg"]).keys() == {
        "music/a.wav",
        "music/live/a.FLAC",
        "music/live/a.ogg",
    }


def test_a_pattern_keeps_the_tree_below_its_fixed_part(tree):
    assert found("music/**/a.*") == {
        "music/a.wav": "a",
        "music/live/a.FLAC": "live/a.FLAC",
        "music/live/a.ogg": "live/a.ogg",
    }
    assert found(str(tree / "o*" / "*.wav")) == {(tree / "other" / "a.wav").as_posix(): "other/a"}
    # A file may have such a name.
    assert found("what?.wav") == {"what?.wav": "what?"}


def test_what_holds_no_audio_is_told_when_it_is_to_be_read(tree):
    assert found("docs", "docs/*.wav", "one.wav") == {"docs": "docs", "docs/*.wav": "*", "one.wav": "one"}
    (tree / "empty").mkdir()
    os.chdir(tree / "empty")
    assert found(".", "...wav", "a.") == {".": "folder", "...wav": "...wav", "a.": "a."}


def test_names_on_standard_input(tree):
    names = b"one.wav\r\n\n  \nmusic/b.mp3\nother\n*.wav\n" + b"n" * 5000 + b"\n\xff.wav\na\0b\n"
    inputs = found("-", standard_input=names)
    assert inputs["one.wav"] == "one"
    assert inputs["other/late.aiff"] == "late"
    assert inputs["*.wav"] == "*"  # no pattern here
    assert len(inputs) == 8


def test_a_recording_named_twice_is_one(tree):
    assert found("one.wav", str(tree / "one.wav"), "./one.wav", "*.wav").keys() == {"one.wav", "what?.wav"}


def test_two_recordings_of_one_name_in_different_folders(tree):
    with pytest.raises(
        ValueError, match=r"a\.wav is the name of several files, music/a\.wav and other/a\.wav"
    ):
        found("music/a.wav", "other/a.wav")
    (tree / "one.wav.wav").touch()
    (tree / "one.mp3").touch()
    with pytest.raises(ValueError, match="is the name of several files"):
        found("one.wav", "one.mp3", "one.wav.wav")


@pytest.mark.parametrize("arguments", [(), ("-",)])
def test_where_there_is_nothing(tree, arguments):
    with pytest.raises(ValueError, match="no recording is named"):
        found(*arguments)


@pytest.mark.skipif(sys.platform == "win32", reason="names of files are text there")
def test_audio_on_standard_input_lies_in_a_file_for_a_while():
    with audio_of_standard_input(io.BytesIO(b"audio")) as item:
        assert item.path.read_bytes() == b"audio"
        assert item.name == "standard input"
        assert item.told(ValueError(f"{item.path} is no audio")) == "standard input is no audio"
    assert not item.path.exists()
