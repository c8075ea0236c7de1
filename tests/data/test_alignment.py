"""The lag between labels and sound."""

import csv
from pathlib import Path

import numpy as np
import pytest

from mt3.audio.io import load_audio
from mt3.data.alignment import HOP_SECONDS, OnsetLag, measure_onset_lag, onset_flux
from mt3.symbolic.notes import Notes

RATE = 16000
REAL = Path(__file__).resolve().parents[3] / "shared" / "data" / "real"


def real_recordings():
    if not (REAL / "MANIFEST.csv").exists():
        return []
    with (REAL / "MANIFEST.csv").open() as file:
        return [row["path"] for row in csv.DictReader(file) if row["alignment_check"].startswith("PASS")]


def read_notes(path):
    with path.open() as file:
        rows = [
            (
                float(row["onset_s"]),
                float(row["offset_s"]),
                int(row["midi_pitch"] or 0),
                int(row["velocity"] or 0),
                int(row["program"] or 0),
                row["is_drum"] == "1",
            )
            for row in csv.DictReader(file)
        ]
    return Notes.from_rows(rows)


def melody(seed=0, num_notes=40, spacing=None):
    """Notes of 0.1 to 0.3 s, or at equal distances."""
    rng = np.random.default_rng(seed)
    onset = 0.5 + np.cumsum(rng.uniform(0.1, 0.3, num_notes) if spacing is None else [spacing] * num_notes)
    pitch = rng.integers(45, 85, num_notes)
    return Notes.from_rows([(t, t + 0.1, p, 80, 0, False) for t, p in zip(onset, pitch, strict=True)])


def tones(notes, attack_seconds=0.003):
    """Decaying tones of four harmonics."""
    samples = np.zeros(round((notes.end_seconds + 1) * RATE), np.float32)
    time = np.arange(RATE // 2) / RATE
    envelope = np.minimum(time / attack_seconds, 1) * np.exp(-8 * np.maximum(time - attack_seconds, 0))
    for onset, pitch in zip(notes.onset_seconds, notes.pitch, strict=True):
        frequency = 440 * 2 ** ((pitch - 69) / 12)
        tone = sum(np.sin(2 * np.pi * frequency * k * time) / k for k in range(1, 5))
        first = round(onset * RATE)
        samples[first : first + len(time)] += 0.1 * tone * envelope
    return samples


@pytest.mark.parametrize("shift", [-0.6, -0.2, -0.1, 0.0, 0.08, 0.2, 0.6])
def test_the_lag_is_found(shift):
    notes = melody()
    lag = measure_onset_lag(tones(notes), notes.shift(shift))
    assert lag.seconds == pytest.approx(-shift, abs=0.03)
    assert lag.peak_strength > 15
    assert lag.num_onsets == 40
    assert lag.is_beyond(0.05) == (shift != 0.0)


def test_a_steady_beat_with_changing_pitches_has_one_lag():
    notes = melody(spacing=0.15)
    lag = measure_onset_lag(tones(notes), notes.shift(0.15))
    assert lag.seconds == pytest.approx(-0.15, abs=0.03)
    assert lag.is_beyond(0.05)


def test_a_steady_beat_of_one_pitch_is_no_fault():
    notes = melody(spacing=0.15).replace(pitch=60)
    assert not measure_onset_lag(tones(notes), notes).is_beyond(0.05)


def test_a_soft_attack_is_no_fault():
    notes = melody(spacing=0.4)
    lag = measure_onset_lag(tones(notes, attack_seconds=0.15), notes)
    assert not lag.is_beyond(0.05)


def test_drums_are_found_in_noise_bursts():
    rng = np.random.default_rng(0)
    onset = 0.5 + np.cumsum(rng.uniform(0.1, 0.4, 20))
    samples = rng.normal(0, 1e-4, round((onset[-1] + 1) * RATE)).astype(np.float32)
    for first in np.round(onset * RATE).astype(int):
        samples[first : first + 800] += rng.normal(0, 0.1, 800) * np.exp(-np.arange(800) / 200)
    notes = Notes.from_rows([(t, t + 0.1, 38, 90, 0, True) for t in onset])
    assert abs(measure_onset_lag(samples, notes).seconds) <= 0.03
    assert measure_onset_lag(samples, notes.shift(-0.2)).is_beyond(0.05)


def test_labels_of_other_music_do_not_fit():
    samples = tones(melody(0, 80))
    for seed in (1, 2, 3):
        assert measure_onset_lag(samples, melody(seed, 80)).peak_strength < 5


@pytest.mark.parametrize("num_samples", [0, 1, 400, 16000])
def test_silence_and_scraps_give_no_lag(num_samples):
    assert measure_onset_lag(np.zeros(num_samples, np.float32), melody()) is None


def test_without_onsets_in_the_audio_there_is_no_lag():
    notes = melody()
    samples = tones(notes)
    assert measure_onset_lag(samples, Notes.empty()) is None
    assert measure_onset_lag(samples, notes.shift(100.0)) is None
    impossible = notes.replace(onset_seconds=np.nan)
    assert measure_onset_lag(samples, impossible) is None


def test_flux_of_a_long_recording_is_that_of_its_parts():
    samples = tones(melody(num_notes=160))  # over several blocks of frames
    start = 20 * RATE
    whole, part = onset_flux(samples), onset_flux(samples[start : start + 8 * RATE])
    assert whole.shape == (len(samples) // 160 + 1, 66)
    # Away from the cut ends, up to the loudness that levels are measured against.
    a, b = whole[2000 + 100 : 2000 + 700].ravel(), part[100:700].ravel()
    assert np.corrcoef(a, b)[0, 1] > 0.999


def test_a_second_peak_within_the_bound_forgives():
    lags = np.arange(-100, 101) * HOP_SECONDS

    def at(centre, height):
        return height * np.exp(-(((lags - centre) / 0.02) ** 2))

    assert OnsetLag(at(0.3, 20), 50).is_beyond(0.05)
    assert OnsetLag(at(0.3, 20) + at(0.0, 15), 50).is_beyond(0.05)
    assert not OnsetLag(at(0.3, 20) + at(0.0, 18), 50).is_beyond(0.05)
    assert not OnsetLag(at(0.3, 20), 50).is_beyond(0.4)
    # Bars repeat: far off, less is forgiven with.
    assert OnsetLag(at(0.8, 20), 50).is_beyond(0.05)
    assert not OnsetLag(at(0.8, 20) + at(0.0, 12), 50).is_beyond(0.05)


@pytest.mark.skipif(not real_recordings(), reason="shared/data/real is not there")
def test_real_recordings_are_aligned_and_shifts_are_found():
    paths = real_recordings()
    assert len(paths) == 18
    for path in paths:
        notes = read_notes((REAL / path).with_suffix(".notes.csv"))
        samples = load_audio(REAL / path, RATE)
        lag = measure_onset_lag(samples, notes)
        assert abs(lag.seconds) <= 0.05, path
        assert lag.peak_strength > 8, path
        assert not lag.is_beyond(0.05), path
        for shift in (0.2, -0.2):
            shifted = measure_onset_lag(samples, notes.shift(shift))
            assert shifted.seconds == pytest.approx(lag.seconds - shift, abs=0.011), path
            assert shifted.is_beyond(0.05), path
            assert shifted.peak_strength > 8, path
