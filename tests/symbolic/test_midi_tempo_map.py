"""MIDI files in beats of the music sound as those without, and have their measures where they are."""

import io

import mido
import numpy as np
import pretty_midi
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt3.symbolic.beats import BeatGrid
from mt3.symbolic.midi_reading import read_midi
from mt3.symbolic.midi_writing import write_midi
from mt3.symbolic.notes import Notes


def written(notes, grid):
    content = io.BytesIO()
    write_midi(notes, content, beats=grid)
    return content.getvalue()


def melody(seconds):
    return Notes.from_rows([(one, one + 0.2, 60 + k % 12, 80, 0, False) for k, one in enumerate(seconds)])


@settings(deadline=None, max_examples=30)
@given(
    steps=st.lists(st.floats(0.25, 1.5), min_size=1, max_size=30),
    start=st.floats(-1, 4),
    onsets=st.lists(st.floats(0, 60), max_size=20, unique=True),
)
def test_notes_come_back_to_a_tick(steps, start, onsets):
    grid = BeatGrid(start + np.cumsum([0.0, *steps]))
    notes = melody(sorted(onsets)).sorted()
    heard = read_midi(written(notes, grid))
    assert len(heard) == len(notes)
    # Half a tick is a 2000th of a beat.
    assert heard.onset_seconds == pytest.approx(notes.onset_seconds, abs=2e-3)


def test_errors_do_not_add_up():
    beats = np.cumsum(np.random.default_rng(0).uniform(0.4, 0.6, 5000))
    notes = melody(beats[:-1:100])
    heard = read_midi(written(notes, BeatGrid(beats)))
    assert heard.onset_seconds == pytest.approx(notes.onset_seconds, abs=4e-4)


@pytest.mark.parametrize("start", [0.0, 0.1, 0.3, 2.2])
@pytest.mark.parametrize(("beats_per_measure", "first_downbeat"), [(4, 0), (4, 3), (3, 1)])
def test_other_programs_see_the_beats_and_measures(start, beats_per_measure, first_downbeat):
    beats = start + np.cumsum(np.linspace(0.45, 0.6, 40))
    grid = BeatGrid(beats, beats_per_measure, first_downbeat)
    midi = pretty_midi.PrettyMIDI(io.BytesIO(written(melody(beats), grid)))
    seen, downbeats = midi.get_beats(), midi.get_downbeats()
    for beat in beats[1:]:
        assert np.abs(seen - beat).min() < 1e-4
    for beat in beats[1:][(np.arange(1, 40) - first_downbeat) % beats_per_measure == 0]:
        assert np.abs(downbeats - beat).min() < 1e-4
    # Whatever fills the time before the first beat is no shorter than half a beat.
    assert np.diff(seen).min() > 0.2


def test_a_steady_beat_is_one_tempo():
    midi = mido.MidiFile(file=io.BytesIO(written(melody([0.0, 1.0]), BeatGrid(0.5 * np.arange(100)))))
    tempos = [message.tempo for message in midi.tracks[0] if message.type == "set_tempo"]
    assert tempos == [500_000]


def test_a_beat_too_long_for_midi_is_refused():
    with pytest.raises(ValueError, match=r"A beat lasts 20\.0 s; in MIDI 16\.0 s at most"):
        written(melody([0.0]), BeatGrid([0.0, 20.0]))
