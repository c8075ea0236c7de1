"""What a directory of results says is finished."""

import os
from pathlib import Path

import pytest

from mt3.cli.transcription_records import RECORD_NAME, FinishedOutputs, identity_of, settings_hash

TARGET = Path("live") / "song"


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.wav"
    path.write_bytes(b"audio")
    return path


def kept(directory, song, formats=("midi", "json"), made_by="model"):
    FinishedOutputs(directory, made_by).keep(TARGET, identity_of(song), formats)


def formats(directory, song, made_by="model"):
    return set(FinishedOutputs(directory, made_by).formats(TARGET, identity_of(song)))


def test_what_was_kept_is_found_by_the_same_model_and_options_alone(tmp_path, song):
    assert formats(tmp_path, song) == set()
    kept(tmp_path, song)
    assert formats(tmp_path, song) == {"midi", "json"}
    assert formats(tmp_path, song, made_by="another") == set()
    assert FinishedOutputs(tmp_path, "model").formats(Path("song"), identity_of(song)) == set()


def test_formats_add_up(tmp_path, song):
    kept(tmp_path, song)
    kept(tmp_path, song, ["csv"])
    assert formats(tmp_path, song) == {"midi", "json", "csv"}


def test_what_another_model_has_written_since_is_not_ours(tmp_path, song):
    kept(tmp_path, song)
    kept(tmp_path, song, ["csv"], made_by="another")
    assert formats(tmp_path, song) == set()
    assert formats(tmp_path, song, made_by="another") == {"csv"}


def test_changed_audio_is_not_finished(tmp_path, song):
    kept(tmp_path, song)
    before = song.stat()
    song.write_bytes(b"other")
    os.utime(song, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert formats(tmp_path, song) == set()
    kept(tmp_path, song, ["csv"])
    assert formats(tmp_path, song) == {"csv"}
    os.utime(song, ns=(before.st_atime_ns, before.st_mtime_ns))
    song.write_bytes(b"longer")
    assert formats(tmp_path, song) == set()
    song.unlink()
    assert identity_of(song) is None
    assert formats(tmp_path, song) == set()


def test_a_damaged_record_costs_only_what_is_damaged(tmp_path, song):
    kept(tmp_path, song)
    path = tmp_path / RECORD_NAME
    good = path.read_bytes()
    path.write_bytes(b'\xff\xfe\n[]\n{"version": 2}\n{"version": 1, "target": []}\n' + good + good[:50])
    assert formats(tmp_path, song) == {"midi", "json"}
    # What comes after a line that was cut short is a line of its own.
    kept(tmp_path, song, ["csv"])
    assert formats(tmp_path, song) == {"midi", "json", "csv"}


@pytest.mark.parametrize("name", ["x" * 300, "a\0b", "gone.wav"])
def test_there_is_nothing_to_tell_of_what_is_not_there(tmp_path, name):
    assert identity_of(tmp_path / name) is None
    FinishedOutputs(tmp_path, "model").keep(TARGET, None, ["midi"])
    assert not (tmp_path / RECORD_NAME).exists()


def test_a_hash_tells_settings_apart():
    settings = {"decoding": {"beam_size": 1}, "parameters": "ab"}
    assert settings_hash(settings) == settings_hash(dict(reversed(settings.items())))
    assert settings_hash(settings) != settings_hash({**settings, "decoding": {"beam_size": 2}})
