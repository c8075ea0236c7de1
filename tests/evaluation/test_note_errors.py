"""What became of each note: an example worked by hand, and the metrics' own counts."""

import numpy as np
import pytest

from mt3.evaluation.metrics import score
from mt3.evaluation.note_errors import (
    EXTRA,
    KINDS,
    MISSED,
    RIGHT,
    WRONG_INSTRUMENT,
    WRONG_OCTAVE,
    WRONG_OFFSET,
    WRONG_ONSET,
    find_note_errors,
)
from mt3.symbolic.notes import Notes

# (reference, estimate, kind), a second apart, so that only the notes of a row can belong together.
# Rows are (onset, offset, pitch, velocity, program, is_drum); None where a side has no note.
CASES = [
    ((0.0, 0.5, 60, 80, 0, False), (0.04, 0.55, 60, 80, 0, False), RIGHT),
    # Another program of the same family is the same instrument.
    ((1.0, 1.5, 60, 80, 0, False), (1.0, 1.5, 60, 80, 7, False), RIGHT),
    ((2.0, 2.5, 60, 80, 0, False), (2.0, 2.9, 60, 80, 0, False), WRONG_OFFSET),
    ((3.0, 3.5, 60, 80, 0, False), (3.0, 3.5, 60, 80, 40, False), WRONG_INSTRUMENT),
    ((4.0, 4.5, 60, 80, 0, False), (4.0, 4.9, 60, 80, 40, False), WRONG_INSTRUMENT),
    ((5.0, 5.5, 60, 80, 0, False), (5.15, 5.5, 60, 80, 0, False), WRONG_ONSET),
    ((6.0, 6.5, 60, 80, 0, False), (6.0, 6.5, 36, 80, 0, False), WRONG_OCTAVE),
    # Late and of another instrument: two faults are no pair.
    ((7.0, 7.5, 60, 80, 0, False), None, MISSED),
    (None, (7.15, 7.5, 60, 80, 40, False), EXTRA),
    # Offsets of drums do not matter; a drum never answers a pitched note, nor in another octave.
    ((8.0, 8.5, 36, 80, 0, True), (8.0, 8.1, 36, 80, 0, True), RIGHT),
    ((9.0, 9.5, 36, 80, 0, True), None, MISSED),
    (None, (9.0, 9.5, 36, 80, 0, False), EXTRA),
    ((10.0, 10.5, 36, 80, 0, True), None, MISSED),
    (None, (10.0, 10.5, 48, 80, 0, True), EXTRA),
]


def test_each_kind_by_hand():
    reference = Notes.from_rows(row for row, _, _ in CASES if row)
    estimate = Notes.from_rows(row for _, row, _ in CASES if row)
    errors = find_note_errors(reference, estimate)
    assert errors.reference_kind.tolist() == [kind for row, _, kind in CASES if row]
    by_onset = sorted((row[0], kind) for _, row, kind in CASES if row)
    assert errors.estimate_kind.tolist() == [kind for _, kind in by_onset]
    pairs = sum(bool(a and b) for a, b, _ in CASES)
    assert len(errors.pairs) == pairs
    assert (
        errors.reference_kind[errors.pairs.reference] == errors.estimate_kind[errors.pairs.estimate]
    ).all()


def test_the_strictest_rule_chooses_first():
    # The later note fits in all, though the earlier one is nearer in time.
    reference = Notes.from_rows([(1.0, 2.0, 60, 80, 0, False)])
    estimate = Notes.from_rows([(1.0, 1.2, 60, 80, 0, False), (1.04, 2.0, 60, 80, 0, False)])
    assert find_note_errors(reference, estimate).estimate_kind.tolist() == [EXTRA, RIGHT]


def test_granularity_full_tells_programs_apart():
    reference = Notes.from_rows([(0.0, 1.0, 60, 80, 0, False)])
    estimate = reference.replace(program=1)
    assert find_note_errors(reference, estimate, "full").reference_kind.tolist() == [WRONG_INSTRUMENT]


def test_notes_of_no_length_are_left_out():
    notes = Notes.from_rows([(0.0, 0.0, 60, 80, 0, False), (1.0, 2.0, 60, 80, 0, False)])
    errors = find_note_errors(notes, notes)
    assert errors.reference_kind.tolist() == errors.estimate_kind.tolist() == [RIGHT]


@pytest.mark.parametrize("empty", ["reference", "estimate", "both"])
def test_an_empty_side(empty):
    notes = Notes.from_rows([(0.0, 1.0, 60, 80, 0, False)])
    reference = notes if empty == "estimate" else Notes.empty()
    estimate = notes if empty == "reference" else Notes.empty()
    errors = find_note_errors(reference, estimate)
    assert errors.reference_kind.tolist() == [MISSED] * len(reference)
    assert errors.estimate_kind.tolist() == [EXTRA] * len(estimate)


@pytest.mark.parametrize("seed", range(40))
def test_right_notes_are_the_hits_of_the_published_score(piece, seed):
    reference, estimate = piece(seed)
    errors = find_note_errors(reference, estimate)
    right = int((errors.reference_kind == RIGHT).sum())
    assert right == int((errors.estimate_kind == RIGHT).sum())
    scores = score(reference, estimate, metrics=["program_midi_class"])
    name = "Onset + offset + program {} (midi_class)"
    assert right / len(errors.estimate) == pytest.approx(scores[name.format("precision")])
    assert right / len(errors.reference) == pytest.approx(scores[name.format("recall")])


@pytest.mark.parametrize("seed", range(10))
def test_no_note_is_in_two_pairs(piece, seed):
    errors = find_note_errors(*piece(seed))
    for side, kinds, alone in (
        (errors.pairs.reference, errors.reference_kind, MISSED),
        (errors.pairs.estimate, errors.estimate_kind, EXTRA),
    ):
        assert len(np.unique(side)) == len(side) == int((kinds != alone).sum())
    assert len(KINDS) == len(set(KINDS))
