import importlib
import warnings

import numpy as np
import pytest

from mt3.symbolic.note_cleaning import PedalChanges, apply_sustain, trim_overlaps
from mt3.symbolic.notes import Notes


def _notes(*rows):
    return Notes.from_rows((onset, offset, pitch, 80, 0, False) for onset, offset, pitch in rows)


def test_overlaps_are_trimmed_within_pitch_program_and_drums_only():
    notes = Notes.from_rows(
        [
            (0.0, 2.0, 60, 80, 0, False),
            (1.0, 3.0, 60, 80, 0, False),  # ends the one above
            (1.0, 3.0, 60, 80, 1, False),  # another program
            (1.0, 3.0, 60, 80, 0, True),  # a drum
            (3.0, 4.0, 60, 80, 0, False),  # touches only
        ]
    )
    assert trim_overlaps(notes).offset_seconds.tolist() == [1.0, 3.0, 3.0, 3.0, 4.0]


def test_trimming_drops_notes_without_length_and_keeps_the_order():
    notes = _notes((5.0, 6.0, 60), (1.0, 2.0, 62), (1.0, 1.5, 62), (3.0, 3.0, 64))
    trimmed = trim_overlaps(notes)
    assert trimmed.onset_seconds.tolist() == [5.0, 1.0]
    assert trimmed.offset_seconds.tolist() == [6.0, 1.5]
    assert trim_overlaps(Notes.empty()) == Notes.empty()


def test_sustain_holds_to_the_release_or_the_next_onset_of_the_pitch():
    notes = _notes((0.0, 0.5, 60), (0.2, 1.5, 62), (0.3, 0.4, 64), (0.6, 0.7, 64), (2.0, 2.1, 60))
    pedal = PedalChanges.from_controller([0.1, 1.0], [64, 63])
    assert apply_sustain(notes, pedal).offset_seconds.tolist() == [1.0, 1.5, 0.6, 1.0, 2.1]


def test_a_pedal_that_stays_down_holds_to_the_last_event():
    notes = _notes((0.0, 0.5, 60), (1.0, 4.0, 62))
    pedal = PedalChanges.from_controller([0.1], [127])
    assert apply_sustain(notes, pedal).offset_seconds.tolist() == [4.0, 4.0]


def test_pedals_act_on_their_own_instrument_and_never_on_drums():
    notes = _notes((0.0, 0.5, 60), (0.0, 0.5, 60), (0.0, 0.5, 36)).replace(is_drum=[False, False, True])
    pedal = PedalChanges.from_controller([0.0, 2.0], [127, 0], instrument=1)
    sustained = apply_sustain(notes, pedal, instrument=[0, 1, 1])
    assert sustained.offset_seconds.tolist() == [0.5, 2.0, 0.5]


def test_of_notes_struck_together_under_the_pedal_one_remains():
    notes = _notes((1.0, 1.5, 60), (1.0, 1.2, 60))
    pedal = PedalChanges.from_controller([0.0, 3.0], [127, 0])
    assert apply_sustain(notes, pedal) == _notes((1.0, 3.0, 60))


def test_wrong_shapes_are_refused():
    pedal = PedalChanges.from_controller([0.0], [127])
    with pytest.raises(ValueError, match="one for each of 1 notes"):
        apply_sustain(_notes((0.0, 1.0, 60)), pedal, instrument=[0, 1])
    with pytest.raises(ValueError, match="one length"):
        PedalChanges(np.zeros(2), np.zeros(1), np.zeros(2))


@pytest.fixture(scope="module")
def note_seq():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("note_seq")
        except ImportError:
            pytest.skip("note_seq is not installed")


@pytest.mark.parametrize("seed", range(30))
def test_sustain_equals_note_seq(note_seq, seed):
    """On random music whose times often coincide: a grid of a tenth of a second."""
    random = np.random.default_rng(seed)
    num_notes, num_changes = random.integers(1, 40), random.integers(1, 15)
    onset = random.integers(0, 60, num_notes) / 10
    notes = Notes(
        onset,
        onset + random.integers(1, 30, num_notes) / 10,
        random.integers(60, 64, num_notes),
        random.permutation(num_notes) + 1,  # tells the notes apart
        np.zeros(num_notes),
        random.random(num_notes) < 0.1,
    )
    instrument = random.integers(0, 2, num_notes)
    time, value, owner = (
        random.integers(0, 70, num_changes) / 10,
        random.integers(0, 128, num_changes),
        random.integers(0, 2, num_changes),
    )
    sequence = note_seq.NoteSequence()
    for index in range(num_notes):
        sequence.notes.add(
            start_time=notes.onset_seconds[index],
            end_time=notes.offset_seconds[index],
            pitch=int(notes.pitch[index]),
            velocity=int(notes.velocity[index]),
            is_drum=bool(notes.is_drum[index]),
            instrument=int(instrument[index]),
        )
    for index in range(num_changes):
        sequence.control_changes.add(
            time=time[index],
            control_number=64,
            control_value=int(value[index]),
            instrument=int(owner[index]),
        )
    expected = note_seq.apply_sustain_control_changes(sequence)
    rows = [(n.start_time, n.end_time, n.pitch, n.velocity, 0, n.is_drum) for n in expected.notes]
    sustained = apply_sustain(notes, PedalChanges.from_controller(time, value, owner), instrument)
    assert sustained == Notes.from_rows(rows)
