"""Decoding in processes of their own: the samples, the limits, what is killed."""

import os
import signal
import struct
import threading

import numpy as np
import pytest

from mt3.audio.io import AudioError, load_audio, write_audio
from mt3.web.audio_reader import AudioReader, ReadingCancelled
from mt3.web.limits import Limits


def never():
    return False


@pytest.fixture
def make_reader():
    """Limits by name -> a reader at 16 kHz."""
    readers = []

    def make(**limits):
        readers.append(AudioReader(16000, Limits(**limits)))
        return readers[-1]

    yield make
    for reader in readers:
        reader.close()


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.flac"
    samples = np.random.default_rng(0).normal(0, 0.1, (33075, 2)).astype(np.float32)
    write_audio(path, samples, 44100)
    return path


@pytest.fixture
def endless(tmp_path):
    """A file that takes long to read, and no room: three hours of nothing at 192 kHz."""
    num_bytes = 2_000_000_000
    path = tmp_path / "endless.wav"
    form = b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 192000, 192000, 1, 8) + b"data"
    form = b"RIFF" + struct.pack("<I", 36 + num_bytes) + form + struct.pack("<I", num_bytes)
    path.write_bytes(form)
    os.truncate(path, len(form) + num_bytes)
    return path


def test_samples_are_those_of_load_audio(make_reader, song, tmp_path):
    reader = make_reader()
    for name in ("one", "two"):
        assert reader.read(song, tmp_path / name, "song", never) == pytest.approx(0.75, abs=1e-4)
        np.testing.assert_array_equal(np.fromfile(tmp_path / name, np.float32), load_audio(song))
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o600


def test_errors_have_the_name_and_not_the_path(make_reader, tmp_path):
    (tmp_path / "upload").write_bytes(b"no audio at all")
    with pytest.raises(AudioError, match=r"^my song\.mp3 is no WAV") as raised:
        make_reader().read(tmp_path / "upload", tmp_path / "samples", "my song.mp3", never)
    assert str(tmp_path) not in str(raised.value)
    assert not (tmp_path / "samples").exists()


def test_too_little_memory_is_an_error_of_that_file(make_reader, song, tmp_path):
    with pytest.raises(AudioError, match=r"^song .*1 MiB of memory"):
        make_reader(reader_memory_bytes=1 << 20).read(song, tmp_path / "samples", "song", never)
    assert not (tmp_path / "samples").exists()


@pytest.mark.parametrize("limits", [{"reader_cpu_seconds": 1}, {"reader_seconds": 1}])
def test_what_runs_on_is_killed(make_reader, endless, song, tmp_path, limits):
    reader = make_reader(audio_seconds=1e6, **limits)
    with pytest.raises(AudioError, match=r"^endless could not be read within"):
        reader.read(endless, tmp_path / "samples", "endless", never)
    assert not (tmp_path / "samples").exists()
    assert reader.read(song, tmp_path / "samples", "song", never) > 0


def test_cancelling(make_reader, endless, song, tmp_path):
    reader = make_reader(audio_seconds=1e6)
    cancelled = threading.Event()
    threading.Timer(0.3, cancelled.set).start()
    with pytest.raises(ReadingCancelled):
        reader.read(endless, tmp_path / "samples", "endless", cancelled.is_set)
    assert not (tmp_path / "samples").exists()
    assert reader.read(song, tmp_path / "samples", "song", never) > 0


def test_a_process_that_was_killed_is_started_anew(make_reader, song, tmp_path):
    reader = make_reader()
    reader.read(song, tmp_path / "one", "song", never)
    process = reader._process
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert reader.read(song, tmp_path / "two", "song", never) > 0


def test_many_at_a_time(make_reader, song, tmp_path):
    reader, durations = make_reader(), []
    threads = [
        threading.Thread(
            target=lambda n=n: durations.append(reader.read(song, tmp_path / f"{n}", "song", never))
        )
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(durations) == 8
    assert len(set(durations)) == 1


def test_a_process_that_ends_meanwhile_is_no_fault_of_the_recording(make_reader, endless, song, tmp_path):
    reader = make_reader(audio_seconds=1e6)
    asked = []

    def kill_the_process():
        if not asked:
            asked.append(True)
            # With its child, as at a want of memory.
            os.killpg(reader._process.pid, signal.SIGKILL)
            reader._process.wait()
        return False

    with pytest.raises(RuntimeError, match="has ended"):
        reader.read(endless, tmp_path / "samples", "endless", kill_the_process)
    assert reader.read(song, tmp_path / "samples", "song", never) > 0
