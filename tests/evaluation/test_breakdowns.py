"""Notes counted by group: an example worked by hand, and sums that must agree with the scores."""

import numpy as np
import pytest

from mt3.evaluation.breakdowns import GROUPINGS, Breakdown, break_down, polyphony_at
from mt3.evaluation.metrics import DRUMS_INSTRUMENT, score
from mt3.evaluation.note_errors import EXTRA, KINDS, MISSED, RIGHT, WRONG_INSTRUMENT, find_note_errors
from mt3.symbolic.notes import Notes

# A piano chord of two notes over a bass note, a drum, and a violin note that is taken for a piano's.
REFERENCE = Notes.from_rows(
    [
        (0.0, 2.0, 36, 40, 32, False),
        (0.5, 1.5, 60, 70, 0, False),
        (1.0, 1.5, 64, 70, 0, False),
        (1.0, 1.1, 38, 127, 0, True),
        (3.0, 4.0, 72, 0, 40, False),
    ]
)
ESTIMATE = Notes.from_rows(
    [
        (0.0, 2.0, 36, 100, 32, False),
        (0.5, 1.5, 60, 100, 0, False),
        (1.0, 1.1, 38, 100, 0, True),
        (3.0, 4.0, 72, 100, 0, False),
        (5.0, 6.0, 24, 100, 0, False),
    ]
)


def counted(name):
    """Label -> (reference counts, estimate counts), each kind -> number, of those that are not 0."""
    breakdown = break_down(find_note_errors(REFERENCE, ESTIMATE), GROUPINGS[name])
    return {
        GROUPINGS[name].label(group): tuple(
            {KINDS[kind]: int(number) for kind, number in enumerate(row) if number} for row in rows
        )
        for group, rows in zip(
            breakdown.groups, zip(breakdown.reference, breakdown.estimate, strict=True), strict=True
        )
    }


def test_by_instrument():
    assert counted("instrument") == {
        "Piano": ({"right": 1, "missed": 1}, {"right": 1, "wrong instrument": 1, "extra": 1}),
        "Bass": ({"right": 1}, {"right": 1}),
        "Strings": ({"wrong instrument": 1}, {}),
        "Drums": ({"right": 1}, {"right": 1}),
    }


def test_by_pitch():
    assert counted("pitch") == {
        "C1 to B1": ({}, {"extra": 1}),
        "C2 to B2": ({"right": 1}, {"right": 1}),
        "C4 to B4": ({"right": 1, "missed": 1}, {"right": 1}),
        "C5 to B5": ({"wrong instrument": 1}, {"wrong instrument": 1}),
    }


def test_by_polyphony():
    # The bass alone; with one piano note; with two and the drum; the violin alone; nothing.
    assert counted("polyphony") == {
        "0": ({}, {"extra": 1}),
        "1": ({"right": 1, "wrong instrument": 1}, {"right": 1, "wrong instrument": 1}),
        "2": ({"right": 1}, {"right": 1}),
        "4": ({"right": 1, "missed": 1}, {"right": 1}),
    }


def test_by_loudness():
    # The extra note is nearest to the violin, whose velocity is unknown.
    assert counted("velocity") == {
        "unknown": ({"wrong instrument": 1}, {"wrong instrument": 1, "extra": 1}),
        "33 to 48": ({"right": 1}, {"right": 1}),
        "65 to 80": ({"right": 1, "missed": 1}, {"right": 1}),
        "113 to 127": ({"right": 1}, {"right": 1}),
    }


def test_polyphony_at_borders():
    notes = Notes.from_rows([(0.0, 1.0, 60, 80, 0, False), (1.0, 2.0, 60, 80, 0, False)])
    assert polyphony_at(notes, np.array([-1.0, 0.0, 1.0, 1.5, 2.0])).tolist() == [0, 1, 1, 1, 0]


def test_counts_of_a_group():
    grouping = GROUPINGS["instrument"]
    breakdown = break_down(find_note_errors(REFERENCE, ESTIMATE), grouping)
    piano = breakdown.counts(breakdown.groups.index(0), (RIGHT,))
    assert (piano.hits, piano.reference, piano.estimate) == (1, 2, 3)
    assert WRONG_INSTRUMENT not in grouping.onset_hits


@pytest.mark.parametrize("name", GROUPINGS)
def test_recordings_add_up(piece, name):
    grouping = GROUPINGS[name]
    parts = [break_down(find_note_errors(*piece(seed)), grouping) for seed in range(6)]
    total = sum(parts, Breakdown.empty())
    assert total.groups == tuple(sorted({group for part in parts for group in part.groups}))
    for group in total.groups:
        row = total.groups.index(group)
        rows = [part.reference[part.groups.index(group)] for part in parts if group in part.groups]
        assert total.reference[row].tolist() == np.sum(rows, axis=0).tolist()
    assert total.estimate.sum() == sum(part.estimate.sum() for part in parts)


@pytest.mark.parametrize("name", ["instrument", "polyphony", "velocity"])
@pytest.mark.parametrize("seed", range(10))
def test_all_groups_together_are_the_score(piece, name, seed):
    reference, estimate = piece(seed)
    breakdown = break_down(find_note_errors(reference, estimate), GROUPINGS[name])
    hits = breakdown.reference[:, RIGHT].sum()
    f1 = 2 * hits / (breakdown.reference.sum() + breakdown.estimate.sum())
    scores = score(reference, estimate, metrics=["program_midi_class"])
    assert f1 == pytest.approx(scores["Onset + offset + program F1 (midi_class)"])


@pytest.mark.parametrize("name", GROUPINGS)
def test_empty_sides(name):
    nothing = break_down(find_note_errors(Notes.empty(), Notes.empty()), GROUPINGS[name])
    assert nothing.groups == ()
    extra = break_down(find_note_errors(Notes.empty(), ESTIMATE), GROUPINGS[name])
    pitched = name == "pitch"
    assert extra.estimate[:, EXTRA].sum() == len(ESTIMATE) - pitched
    missed = break_down(find_note_errors(REFERENCE, Notes.empty()), GROUPINGS[name])
    assert missed.reference[:, MISSED].sum() == len(REFERENCE) - pitched


def test_drums_are_an_instrument():
    assert GROUPINGS["instrument"].label(DRUMS_INSTRUMENT) == "Drums"
