"""`mt3 transcribe`: good and bad audio files."""

import numpy as np
import pytest

from mt3.audio.io import write_audio
from mt3.inference.formats import FORMATS, WRITTEN_FORMATS, read_notes
from mt3.inference.transcriber import Transcriber, Transcription
from mt3.models.model import TranscriptionModel
from mt3.symbolic.notes import Notes
from mt3.symbolic.vocabularies import EOS_ID

MP4_HEADER = b"\0\0\0\x20ftypisom\0\0\2\0isomiso2avc1mp41\0\0\0\x08free\0\0\1\0mdat" + bytes(256)
HEARD = Notes.from_rows([(0.1, 0.2, 60, 80, 0, False), (0.1, 0.3, 40, 80, 32, False)]).sorted()


@pytest.fixture
def listener(monkeypatch):
    """In the model's place: hears HEARD in whatever file can be read. Returns the transcribers used."""
    used = []
    transcribe = Transcriber.transcribe

    def silent(self, params, inputs, *, max_tokens, **options):
        return np.full((len(inputs), max_tokens), EOS_ID)

    def hear(self, audio):
        used.append(self)
        result = transcribe(self, audio)  # reads the file
        return Transcription(HEARD, 0, 0, 0, 0, result.duration_seconds)

    monkeypatch.setattr(TranscriptionModel, "generate", silent)
    monkeypatch.setattr(Transcriber, "transcribe", hear)
    return used


@pytest.fixture
def songs(tmp_path):
    """Good and bad files, by what they are."""
    rng = np.random.default_rng(0)
    files = {name: tmp_path / name for name in ("one.wav", "two.flac", "cut.flac", "empty.wav", "video.mp4")}
    for name in ("one.wav", "two.flac", "cut.flac"):
        write_audio(files[name], rng.normal(0, 0.1, 24000).astype(np.float32), 16000)
    files["cut.flac"].write_bytes(files["cut.flac"].read_bytes()[:20000])
    files["empty.wav"].touch()
    files["video.mp4"].write_bytes(MP4_HEADER)
    files["missing.mp3"] = tmp_path / "missing.mp3"
    return files


def test_all_formats(mt3, untrained, listener, songs, tmp_path):
    formats = [argument for name in WRITTEN_FORMATS for argument in ("-f", name)]
    output = tmp_path / "out" / "deep"
    outcome = mt3("transcribe", songs["one.wav"], songs["two.flac"], "-c", untrained, "-o", output, *formats)
    assert (outcome.code, outcome.err) == (0, "")
    suffixes = [FORMATS[name].suffix for name in WRITTEN_FORMATS]
    expected = {f"{stem}{suffix}" for stem in ("one", "two") for suffix in suffixes}
    assert {path.name for path in output.iterdir()} == expected
    assert len(outcome.out.splitlines()) == len(expected)
    for name in expected:
        notes = read_notes(output / name).sorted()
        assert notes.pitch.tolist() == HEARD.pitch.tolist()
        np.testing.assert_allclose(notes.onset_seconds, HEARD.onset_seconds, atol=1e-2)
    assert f"{output / 'one.mid'}: 2 notes in 1.5 s" in outcome.out


def test_bad_files_are_a_line_each_and_the_good_ones_done(mt3, untrained, listener, songs, tmp_path):
    output = tmp_path / "out"
    outcome = mt3("transcribe", *songs.values(), "-c", untrained, "-o", output)
    assert outcome.code == 1
    assert {path.name for path in output.iterdir()} == {"one.mid", "two.mid"}
    *lines, last = outcome.err.splitlines()
    assert last == "mt3: 4 of 6 files could not be transcribed"
    said = {
        "cut.flac": "is damaged or cut short",
        "empty.wav": "is an empty file; fetch or export it again",
        "video.mp4": "is no WAV, FLAC, MP3 or OGG file; convert it, for example: ffmpeg -i FILE video.wav",
        "missing.mp3": "does not exist; check the path",
    }
    assert len(lines) == len(said)
    for line, (name, remedy) in zip(lines, said.items(), strict=True):
        assert line.startswith(f"mt3: error: {songs[name]} ")
        assert remedy in line


def test_options_reach_the_model(mt3, untrained, listener, songs, tmp_path):
    options = ("--beam-size", 2, "--temperature", 0.5, "--batch-segments", 3)
    checkpoint = untrained / "checkpoints" / "1"
    outcome = mt3("transcribe", songs["one.wav"], "-c", checkpoint, "-o", tmp_path, *options)
    assert outcome.code == 0
    (transcriber,) = listener
    assert (transcriber.decoding.beam_size, transcriber.decoding.temperature) == (2, 0.5)
    assert transcriber.batch_segments == 3


def test_files_of_one_name_do_not_replace_each_other(mt3, untrained, listener, songs, tmp_path):
    twin = tmp_path / "one.flac"
    twin.write_bytes(songs["two.flac"].read_bytes())
    output = tmp_path / "out"
    assert mt3("transcribe", songs["one.wav"], twin, "-c", untrained, "-o", output).code == 0
    assert {path.name for path in output.iterdir()} == {"one.wav.mid", "one.flac.mid"}
    (tmp_path / "other").mkdir()
    third = tmp_path / "other" / "one.wav"
    third.write_bytes(songs["one.wav"].read_bytes())
    error = mt3("transcribe", songs["one.wav"], third, "-c", untrained, "-o", output).error()
    assert "one.wav is the name of several files: transcribe them into different directories" in error


def test_unknown_format(mt3, untrained, songs):
    error = mt3("transcribe", songs["one.wav"], "-c", untrained, "-f", "midi2").error()
    assert "--format midi2: choose from midi, json, csv, note_sequence" in error


@pytest.mark.parametrize("name", ["none", "."])
def test_missing_checkpoint(mt3, songs, tmp_path, name):
    error = mt3("transcribe", songs["one.wav"], "-c", tmp_path / name).error()
    assert "give a run's directory" in error


def test_output_that_cannot_be_made(mt3, untrained, songs, tmp_path):
    (tmp_path / "file").touch()
    error = mt3("transcribe", songs["one.wav"], "-c", untrained, "-o", tmp_path / "file").error()
    assert str(tmp_path / "file") in error
