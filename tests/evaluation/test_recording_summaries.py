"""What is seen and heard of an evaluation: which recordings, which values, and what cannot be made."""

import logging

import numpy as np
import pytest

from mt3.audio.io import AudioError
from mt3.audio.spectrograms import SpectrogramConfig
from mt3.evaluation.recording_summaries import (
    RecordingSummaries,
    SummaryConfig,
    f1_histograms,
    spectrogram_image,
)
from mt3.evaluation.results import EvaluationResult, RecordingResult
from mt3.evaluation.summaries import Audio, Image
from mt3.symbolic.notes import Notes

RATE = 8000
SPECTROGRAM = SpectrogramConfig(sample_rate=RATE, num_mel_bins=64, mel_high_hz=3800.0)
MELODY = Notes.from_rows([(0.0, 0.4, 69, 100, 0, False), (0.5, 1.2, 71, 100, 0, False)])


class Piece:
    """A recording of `MELODY` that counts how often it is listened to."""

    def __init__(self, id, seconds=1.5, notes=MELODY, broken=None):
        self.id, self.notes, self.seconds, self.broken = id, notes, seconds, broken
        self.loaded = 0

    def load_audio(self, sample_rate):
        self.loaded += 1
        if self.broken is not None:
            raise self.broken
        return (
            0.5 * np.sin(np.arange(round(self.seconds * sample_rate)) * 2 * np.pi * 440 / sample_rate)
        ).astype(np.float32)


def summaries(**options):
    return RecordingSummaries(SummaryConfig(**options), SPECTROGRAM, 1.0)


def test_first_recordings_stay_those_that_are_shown():
    """In a later evaluation too, whose order may be another; what does not change is made once."""
    shown = summaries(num_recordings=2, num_seconds=1.0)
    pieces = [Piece(name) for name in ("a", "b", "c")]
    for piece in pieces:
        shown.observe(piece, MELODY)
    kinds = {"original": Audio, "spectrogram": Image, "reference": Audio, "estimate": Audio}
    kinds |= {"piano_roll": Image, "onset_piano_roll": Image}
    first = shown.take()
    assert {name: type(value) for name, value in first.items()} == {
        f"{id}/{name}": kind for id in "ab" for name, kind in kinds.items()
    }
    for piece in reversed(pieces):
        shown.observe(piece, MELODY[:1])
    second = shown.take()
    assert second.keys() == {
        f"{id}/{name}" for id in "ab" for name in ("estimate", "piano_roll", "onset_piano_roll")
    }
    assert [piece.loaded for piece in pieces] == [1, 1, 0]
    assert shown.take() == {}


def test_sound_is_of_the_asked_length_and_pitch():
    shown = summaries(num_seconds=0.4)
    shown.observe(Piece("a"), Notes.from_rows([(0.0, 0.4, 57, 100, 48, False)]))
    sounds = {name: value for name, value in shown.take().items() if isinstance(value, Audio)}
    loudest = {}
    for name, sound in sounds.items():
        assert sound.sample_rate == RATE
        assert sound.samples.shape == (0.4 * RATE,)
        assert 0.01 < np.abs(sound.samples).max() <= 1
        spectrum = np.abs(np.fft.rfft(sound.samples[RATE // 5 :] * np.hanning(RATE // 5)))
        loudest[name] = np.argmax(spectrum) * 5
    assert loudest["a/original"] == 440
    assert loudest["a/reference"] == pytest.approx(440, abs=5)
    # The loudest partial of A3.
    assert loudest["a/estimate"] == pytest.approx(220 * round(loudest["a/estimate"] / 220), abs=5)
    assert loudest["a/estimate"] > 200


def test_a_short_recording_is_shown_whole():
    shown = summaries(num_seconds=20.0)
    shown.observe(Piece("a", seconds=1.5), MELODY)
    made = shown.take()
    assert {value.samples.shape for value in made.values() if isinstance(value, Audio)} == {(1.5 * RATE,)}
    assert {value.pixels.shape[1] for value in made.values() if isinstance(value, Image)} == {75}


def test_zero_recordings_are_none():
    shown, piece = summaries(num_recordings=0), Piece("a")
    shown.observe(piece, MELODY)
    assert (shown.take(), piece.loaded) == ({}, 0)


@pytest.mark.parametrize("broken", [AudioError("a.wav is cut short"), FileNotFoundError("a.wav is gone")])
def test_audio_that_cannot_be_read_is_named_and_the_rest_is_shown(broken, caplog):
    shown = summaries()
    for _ in range(2):
        shown.observe(Piece("a", broken=broken), MELODY)
    assert shown.take().keys() == {
        f"a/{name}" for name in ("reference", "estimate", "piano_roll", "onset_piano_roll")
    }
    assert [record.getMessage() for record in caplog.records] == [
        f"TensorBoard does not get the original audio of a: {broken}"
    ]


def test_notes_that_cannot_be_played_are_named_once(caplog):
    """A program that MIDI does not have, in evaluation after evaluation; its picture is made all the same."""
    shown = summaries(num_seconds=1.0)
    for _ in range(3):
        shown.observe(Piece("a"), MELODY.replace(program=128))
    made = shown.take()
    assert "a/estimate" not in made
    assert "a/reference" in made
    assert "a/piano_roll" in made
    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert line.startswith("TensorBoard does not get the sound of the estimate of a: ")
    assert "128" in line


def test_missing_soundfont_is_named(caplog, tmp_path):
    shown = summaries(soundfont=str(tmp_path / "none.sf2"))
    shown.observe(Piece("a"), MELODY)
    assert not {"a/estimate", "a/reference"} & shown.take().keys()
    assert len(caplog.records) == 2
    assert all("none.sf2" in record.getMessage() for record in caplog.records)


def test_other_errors_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        summaries().observe(Piece("a", broken=ZeroDivisionError()), MELODY)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_recordings": -1}, "num_recordings is -1"),
        ({"num_seconds": 0.0}, "num_recordings = 0 to show none"),
    ],
)
def test_settings_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        SummaryConfig(**options)


def test_histograms_hold_the_f1_scores_of_all_recordings():
    scores = [
        {"Onset F1": 0.5, "Onset precision": 0.1, "Drum onset F1 (flat)": 1.0},
        {"Onset F1": 0.25, "Onset recall": 0.2},
        {"Onset F1": float("nan"), "Invalid F10": 1.0},
    ]
    result = EvaluationResult(tuple(RecordingResult(str(k), row, 1, 1) for k, row in enumerate(scores)))
    histograms = f1_histograms(result)
    assert {name: one.values.tolist() for name, one in histograms.items()} == {
        "Onset F1 (hist)": [0.5, 0.25],
        "Drum onset F1 (flat) (hist)": [1.0],
    }
    edges = histograms["Onset F1 (hist)"].edges
    assert (edges[0], edges[-1]) == (0.0, 1.0)


def test_spectrogram_shows_pitch_and_time():
    """A tone in the second half only: black in the row of its frequency, white before it begins."""
    tone = np.sin(np.arange(2 * RATE) * 2 * np.pi * 1000 / RATE) * (np.arange(2 * RATE) >= RATE)
    image = spectrogram_image(tone, SPECTROGRAM)
    assert image.shape == (64, 100, 3)
    assert (image[..., :1] == image).all()
    # A filter every so many mel: O'Shaughnessy's formula, the first one centred above the lowest frequency.
    mel = np.log1p(np.array([20.0, 3800.0, 1000.0]) / 700)
    row = 63 - ((mel[2] - mel[0]) / (mel[1] - mel[0]) * 65 - 1)
    assert np.argmin(image[:, 70, 0]) == pytest.approx(row, abs=1)
    assert image[:, 70, 0].min() < 25
    assert image[:, :30].min() == 255


def test_spectrogram_of_silence_is_a_picture():
    assert spectrogram_image(np.zeros(RATE), SpectrogramConfig(sample_rate=RATE, mel_high_hz=3800)).shape == (
        256,
        50,
        3,
    )
