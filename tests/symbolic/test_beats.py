"""Beats that are known from how the music was made are found again."""

import io
import zipfile
from pathlib import Path

import mir_eval
import numpy as np
import pretty_midi
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mt3.symbolic.beats import BeatGrid, estimate_beats
from mt3.symbolic.midi_reading import read_midi
from mt3.symbolic.notes import Notes

MIDI = Path(__file__).parents[3] / "shared" / "data" / "midi"


def band(beat_seconds, beats_per_measure=4, jitter_seconds=0.01, seed=0):
    """Drums, bass, chords and a melody over beats that are given; one more ends the last."""
    rng = np.random.default_rng(seed)
    rows = []

    def play(position, beats, pitch, program=0, is_drum=False):
        if position + beats > len(beat_seconds) - 1:
            return
        times = np.interp([position, position + beats], np.arange(len(beat_seconds)), beat_seconds)
        rows.append((*np.maximum(times + rng.normal(0, jitter_seconds, 2), 0), pitch, 90, program, is_drum))

    for beat in range(len(beat_seconds) - 1):
        place = beat % beats_per_measure
        if place == 0:
            play(beat, beats_per_measure, 36 + 7 * (beat // beats_per_measure % 2), 33)
            play(beat, 0.2, 36, is_drum=True)
        else:
            play(beat, 0.2, 38, is_drum=True)
            for pitch in (60, 64, 67):
                play(beat, 0.9, pitch, 25)
        for half in (0, 0.5):
            play(beat + half, 0.1, 42, is_drum=True)
        if rng.random() < 0.7:
            play(beat, 0.5, int(rng.integers(67, 84)), 73)
            play(beat + 0.5, 0.5, int(rng.integers(67, 84)), 73)
    return Notes.from_rows(rows).sorted()


def agreement(grid, beat_seconds):
    """The F-measure of beats within 50 ms."""
    est = grid.beat_seconds
    inside = (est > beat_seconds[0] - 0.1) & (est < beat_seconds[-1] + 0.1)
    return mir_eval.beat.f_measure(np.asarray(beat_seconds), est[inside], f_measure_threshold=0.05)


@pytest.mark.parametrize("beats_per_minute", [66, 83, 97, 120, 141, 160])
def test_a_steady_tempo_is_found(beats_per_minute):
    beats = 0.7 + 60 / beats_per_minute * np.arange(65)
    grid = estimate_beats(band(beats))
    assert grid.beats_per_minute == pytest.approx(beats_per_minute, rel=0.02)
    assert agreement(grid, beats[:-1]) > 0.97
    assert grid.beats_per_measure == 4


@pytest.mark.parametrize("beats_per_minute", [45, 200, 230])
def test_far_tempi_are_found_or_their_half_or_double(beats_per_minute):
    beats = 60 / beats_per_minute * np.arange(97)
    octaves = np.log2(estimate_beats(band(beats)).beats_per_minute / beats_per_minute)
    assert octaves == pytest.approx(np.rint(octaves), abs=0.03)
    assert abs(octaves) < 1.1


def test_a_tempo_that_drifts_is_followed():
    beats = np.cumsum(np.linspace(60 / 90, 60 / 125, 160))
    assert agreement(estimate_beats(band(beats)), beats[:-1]) > 0.95


def test_slowing_down_and_a_pause():
    beats = np.cumsum(np.concatenate([np.full(40, 0.5), np.linspace(0.5, 0.7, 12), [1.8], np.full(40, 0.5)]))
    assert agreement(estimate_beats(band(beats)), beats[:-1]) > 0.9


@pytest.mark.parametrize(("beats_per_measure", "pickup"), [(3, 0), (4, 0), (4, 2), (3, 1)])
def test_measures_begin_where_accents_are(beats_per_measure, pickup):
    beats = 0.25 + 0.5 * np.arange(-pickup, 72)
    notes = band(beats - beats[0], beats_per_measure).shift(beats[0])
    notes = notes[notes.onset_seconds >= 0]
    grid = estimate_beats(notes)
    assert grid.beats_per_measure == beats_per_measure
    downbeats = grid.beat_seconds[grid.first_downbeat :: beats_per_measure]
    truth = beats[::beats_per_measure]
    truth = truth[(truth > 0) & (truth < beats[-2])]
    assert mir_eval.beat.f_measure(truth, downbeats) > 0.95


def test_a_measure_that_is_known_is_kept():
    grid = estimate_beats(band(0.5 * np.arange(60), 5), beats_per_measure=5)
    assert (grid.beats_per_measure, grid.first_downbeat) == (5, 0)


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [(3.0, 3.5, 60, 80, 0, False)],
        [(0.1 * k, 0.1 * k + 40, 60, 80, 0, False) for k in range(3)],
        [(2.0, 2.1, pitch, 80, 0, False) for pitch in range(40, 60)],
        [(float(k) ** 3, float(k) ** 3 + 1, 60, 80, 0, False) for k in range(9)],
        [(-1.0, float("inf"), 60, 80, 0, False), (0.0, 1.0, 60, 80, 0, False)],
    ],
)
def test_too_little_music_has_beats_all_the_same(rows):
    notes = Notes.from_rows(rows)
    grid = estimate_beats(notes)
    finite = notes[np.isfinite(notes.offset_seconds)]
    if len(finite):
        assert grid.beat_seconds[0] <= finite.onset_seconds.min() + 0.1
        assert grid.beat_seconds[-1] >= finite.end_seconds
    assert 30 < grid.beats_per_minute < 250


@given(
    steps=st.lists(st.floats(0.1, 3), min_size=1, max_size=20),
    positions=st.lists(st.floats(-5, 30), min_size=1, max_size=10),
)
def test_positions_and_seconds_are_inverse(steps, positions):
    grid = BeatGrid(np.cumsum([0.5, *steps]))
    np.testing.assert_allclose(grid.positions(grid.seconds(np.array(positions))), positions, atol=1e-9)
    np.testing.assert_allclose(grid.positions(grid.beat_seconds), np.arange(len(steps) + 1), atol=1e-12)


@pytest.mark.parametrize("beats", [[], [1.0], [0.0, 0.0], [1.0, 0.5], [0.0, float("nan")]])
def test_beats_that_do_not_increase_are_refused(beats):
    with pytest.raises(ValueError, match="two or more increasing times"):
        BeatGrid(np.array(beats))


def test_a_downbeat_outside_of_the_measure_is_refused():
    with pytest.raises(ValueError, match=r"first_downbeat is 3; it must lie in 0\.\.2"):
        BeatGrid(np.arange(9.0), 3, 3)


@pytest.mark.skipif(not MIDI.is_dir(), reason="needs ../shared/data/midi")
@pytest.mark.parametrize(("corpus", "at_least"), [("music21_bach_chorales", 0.9), ("mma_generated", 0.75)])
def test_music_whose_tempo_map_is_known(corpus, at_least):
    with zipfile.ZipFile(MIDI / f"{corpus}.zip") as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".mid"))[::20][:8]
        files = [archive.read(name) for name in names]
    scores = []
    for content in files:
        notes = read_midi(content)
        beats = pretty_midi.PrettyMIDI(io.BytesIO(content)).get_beats()
        beats = beats[
            (beats >= notes.onset_seconds.min() - 0.01) & (beats <= notes.onset_seconds.max() + 0.01)
        ]
        estimated = estimate_beats(notes).beat_seconds
        estimated = estimated[(estimated > beats[0] - 0.1) & (estimated < beats[-1] + 0.1)]
        # The share of beats at the right or half or double tempo.
        scores.append(mir_eval.beat.continuity(beats, estimated)[3])
    assert np.mean(scores) > at_least
