"""Confusion matrices: scikit-learn where notes are unmistakable, what must hold always, and by hand."""

import numpy as np
import pytest
import sklearn.metrics as sklearn_metrics

from mt3.evaluation.metrics import DRUMS_INSTRUMENT, Comparison, ConfusionMatrix, confusion_matrix, score
from mt3.symbolic.notes import Notes

GRANULARITIES = ("flat", "midi_class", "full")


def note(onset, program, *, pitch=60, is_drum=False):
    return (onset, onset + 1.0, pitch, 100, program, is_drum)


def test_a_matrix_by_hand():
    reference = Notes.from_rows(
        [
            note(0.0, 0),
            note(2.0, 1),
            note(4.0, 25),
            note(6.0, 25),
            note(8.0, 0, pitch=36, is_drum=True),
        ]
    )
    estimate = Notes.from_rows(
        [
            note(0.01, 3),  # another piano
            note(2.01, 26),  # a guitar for the piano
            note(4.01, 25),
            note(9.0, 33),  # nobody played that
            note(8.0, 0, pitch=36),  # no drum
        ]
    )
    matrix = confusion_matrix(Comparison(reference, estimate), "midi_class")
    assert matrix.instruments == (0, 24, 32, DRUMS_INSTRUMENT)
    assert matrix.names == ("Piano", "Guitar", "Bass", "Drums")
    assert matrix.counts.tolist() == [
        [1, 1, 0, 0, 0],
        [0, 1, 0, 0, 1],
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 1],
        [1, 0, 1, 0, 0],
    ]
    flat = confusion_matrix(Comparison(reference, estimate), "flat")
    assert flat.names == ("Pitched", "Drums")
    assert flat.counts.tolist() == [[3, 0, 1], [0, 0, 1], [2, 0, 0]]
    scores = score(reference, estimate, metrics=["confusion"])
    assert scores == pytest.approx({"Program accuracy (midi_class)": 2 / 3, "Program accuracy (full)": 1 / 3})


def test_the_own_instrument_answers_first():
    # Unison of piano and guitar; the estimate has both, the guitar first.
    reference = Notes.from_rows([note(0.0, 0), note(0.0, 24)])
    estimate = Notes.from_rows([note(0.0, 24), note(0.04, 0)])
    matrix = confusion_matrix(Comparison(reference, estimate), "full")
    assert matrix.counts.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_unmistakable_notes_are_counted_as_by_scikit_learn():
    rng = np.random.default_rng(0)
    pieces = [rng.integers(0, 6, (2, rng.integers(1, 30))) for _ in range(200)]
    # All at once, each with labels of its own.
    true, guessed = np.concatenate([6 * piece + notes for piece, notes in enumerate(pieces)], axis=1)
    expected = sklearn_metrics.confusion_matrix(true, guessed, labels=np.arange(6 * 200))
    for piece, (true, guessed) in enumerate(pieces):
        reference = Notes.from_rows([note(2.0 * row, program) for row, program in enumerate(true.tolist())])
        estimate = reference.replace(program=guessed)[rng.permutation(len(guessed))]
        matrix = confusion_matrix(Comparison(reference, estimate), "full")
        labels = 6 * piece + np.array(matrix.instruments)
        assert matrix.counts[:-1, :-1].tolist() == expected[np.ix_(labels, labels)].tolist()
        assert not matrix.counts[-1].any()
        assert not matrix.counts[:, -1].any()


@pytest.mark.parametrize("granularity", GRANULARITIES)
def test_every_note_is_counted_once(small_pieces, granularity):
    sum_of_all = ConfusionMatrix.empty(granularity)
    num_notes = np.zeros(2, int)
    for reference, estimate in small_pieces:
        comparison = Comparison(reference, estimate)
        matrix = confusion_matrix(comparison, granularity)
        sides = comparison.matchable.reference, comparison.matchable.estimate
        assert matrix.counts[:-1].sum() == len(sides[0])
        assert matrix.counts[:, :-1].sum() == len(sides[1])
        assert matrix.counts[-1, -1] == 0
        for axis, notes in enumerate(sides):
            for place, instrument in enumerate(matrix.instruments):
                size = {"flat": 128, "midi_class": 8, "full": 1}[granularity]
                own = np.where(notes.is_drum, DRUMS_INSTRUMENT, notes.program // size * size) == instrument
                assert matrix.counts.take(place, axis).sum() == own.sum()
        # The diagonal holds the hits of the score by onset and program.
        scores = score(reference, estimate, metrics=[f"onset_program_{granularity}"])
        hits = np.trace(matrix.counts)
        assert scores[f"Onset + program recall ({granularity})"] == pytest.approx(
            hits / len(sides[0]) if len(sides[0]) else 0
        )
        sum_of_all += matrix
        num_notes += (len(sides[0]), len(sides[1]))
    assert [sum_of_all.counts[:-1].sum(), sum_of_all.counts[:, :-1].sum()] == num_notes.tolist()


def test_matrices_add_up_by_instrument():
    piano = confusion_matrix(Comparison(*[Notes.from_rows([note(0.0, 0)])] * 2), "full")
    guitar = confusion_matrix(
        Comparison(Notes.from_rows([note(0.0, 24)]), Notes.from_rows([note(0.0, 0)])), "full"
    )
    both = piano + guitar
    assert both.instruments == (0, 24)
    assert both.counts.tolist() == [[1, 0, 0], [1, 0, 0], [0, 0, 0]]
    with pytest.raises(ValueError, match="'full' and 'flat' do not add up"):
        piano + ConfusionMatrix.empty("flat")


def test_without_notes():
    nothing = Comparison(Notes.empty(), Notes.empty())
    assert confusion_matrix(nothing, "full").counts.tolist() == [[0]]
    assert score(Notes.empty(), Notes.empty(), metrics=["confusion"]) == {}
