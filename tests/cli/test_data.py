"""`mt3 data check`, `stats`, `show` and `cache` on a small prepared dataset."""

import json

import numpy as np
import pytest

from mt3.audio.io import audio_info
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import Recording, SampledAudio
from mt3.inference.formats import read_notes
from mt3.symbolic.notes import Notes

RATE = 16000


def struck(notes, seconds):
    """Decaying tones at the notes' onsets: a sound that fits its labels."""
    samples = np.zeros(round(seconds * RATE), np.float32)
    for onset, pitch in zip(notes.onset_seconds, notes.pitch, strict=True):
        time = np.arange(RATE // 4) / RATE
        tone = np.sin(2 * np.pi * 440 * 2 ** ((int(pitch) - 69) / 12) * time) * np.exp(-12 * time) * 0.2
        part = samples[round(onset * RATE) :][: len(tone)]
        part += tone[: len(part)].astype(np.float32)
    return samples


def recording(split, number, *, shift_seconds=0.0):
    rng = np.random.default_rng([len(split), number])
    onset = 0.3 + np.cumsum(rng.uniform(0.15, 0.4, 24))
    pitch = rng.integers(50, 80, 24)
    zeros = np.zeros(24, int)
    notes = Notes(onset, onset + 0.12, pitch, zeros + 80, zeros, zeros.astype(bool))
    samples = struck(notes.shift(shift_seconds), notes.end_seconds + 1.0)
    return Recording(f"{split}{number}", notes, SampledAudio(samples, RATE), "own", split, "CC0")


def write(directory, *, shift_seconds=0.0):
    for split, count in (("train", 3), ("validation", 1)):
        with RecordWriter(directory, "own", split) as writer:
            for number in range(count):
                shifted = shift_seconds if (split, number) == ("train", 1) else 0.0
                writer.write(recording(split, number, shift_seconds=shifted))
    return directory


@pytest.fixture
def dataset(tmp_path):
    return write(tmp_path / "own")


def test_a_clean_dataset_has_no_findings(mt3, dataset):
    outcome = mt3("data", "check", dataset, "--workers", 0)
    assert outcome.code == 0, outcome.out
    assert "own" in outcome.out


def test_a_misaligned_recording_is_named_and_the_exit_code_says_so(mt3, tmp_path):
    outcome = mt3("data", "check", write(tmp_path / "shifted", shift_seconds=0.25), "--workers", 0)
    assert outcome.code == 1
    assert "train1" in outcome.out


def test_statistics(mt3, dataset, tmp_path):
    outcome = mt3("data", "stats", dataset, "--workers", 0, "--picture", tmp_path / "stats.png")
    assert outcome.code == 0, outcome.err
    assert "Acoustic Grand Piano" in outcome.out
    assert (tmp_path / "stats.png").read_bytes().startswith(b"\x89PNG")
    as_json = json.loads(mt3("data", "stats", dataset, "--json", "--workers", 0).out)
    assert "train" in json.dumps(as_json)


def test_show_writes_what_a_model_is_taught(mt3, dataset, tmp_path):
    task, output = "own_notes_ties_vb1_validation", tmp_path / "seen"
    outcome = mt3("data", "show", task, "-d", dataset, "-o", output, "--count", 2, "--no-render")
    assert outcome.code == 0, outcome.err
    assert len(list(output.glob("*.png"))) == len(list(output.glob("*.mid"))) == 2
    assert audio_info(output / "000.wav").duration_seconds == pytest.approx(2.048)
    assert len(read_notes(output / "000.mid")) > 3
    assert outcome.err == ""
    assert (
        "mt3 prepare slakh" in mt3("data", "show", "slakh_notes_train", "-d", dataset, "-o", output).error()
    )


def test_cache(mt3, dataset, tmp_path):
    outcome = mt3("data", "cache", dataset, "-o", tmp_path / "cache", "--workers", 0)
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "cache" / "own_chunks_train" / "COMPLETED").exists()
    assert outcome.out.startswith("own: ")


@pytest.mark.parametrize("command", ["check", "stats", "cache"])
def test_what_is_not_prepared_is_one_line(mt3, tmp_path, command):
    more = ("-o", tmp_path / "out") if command == "cache" else ()
    assert "does not exist" in mt3("data", command, tmp_path / "none", *more).error()
