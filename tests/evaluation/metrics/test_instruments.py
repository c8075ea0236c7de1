"""Instrument leakage and detection: scikit-learn, mir_eval, and a case worked by hand."""

import numpy as np
import pytest
import sklearn.metrics as sklearn_metrics

from mt3.evaluation.metrics import Counts, score
from mt3.symbolic.notes import Notes

EMPTY = Notes.empty()


def note(program, onset=0.0, *, pitch=60, is_drum=False):
    return (onset, onset + 1.0, pitch, 100, program, is_drum)


def test_leakage_and_detection_by_hand():
    # Piano, guitar and drums; the guitar is transcribed as bass, strings and half a piano.
    reference = Notes.from_rows([note(0), note(25, 1.0), note(0, is_drum=True)])
    estimate = Notes.from_rows([note(1), note(33, 1.0), note(48, 2.0), note(40, 2.0), note(0, is_drum=True)])
    scores = score(reference, estimate, metrics=["instrument_leakage", "instrument_detection"])
    expected = {
        # Piano, bass, ensemble, strings, drums for piano, guitar, drums.
        "Instrument leakage ratio": 5 / 3,
        "Instrument detection precision": 2 / 5,
        "Instrument detection recall": 2 / 3,
        "Instrument detection F1": 1 / 2,
        "Instrument leakage ratio (full)": 5 / 3,
        # Program 1 is another piano.
        "Instrument detection precision (full)": 1 / 5,
        "Instrument detection recall (full)": 1 / 3,
        "Instrument detection F1 (full)": 1 / 4,
    }
    assert scores == pytest.approx(expected)


def indicator(notes, granularity):
    """bool [129]: the instruments that have notes; drums last."""
    size = {"midi_class": 8, "full": 1}[granularity]
    present = np.zeros(129, bool)
    for program, is_drum in notes.instruments:
        present[128 if is_drum else program // size] = True
    return present


def test_detection_is_that_of_scikit_learn(small_pieces):
    scores = [score(*sides, metrics=["instrument_detection"]) for sides in small_pieces]
    for granularity, suffix in (("midi_class", ""), ("full", " (full)")):
        true, guessed = (
            np.stack([indicator(sides[side], granularity) for sides in small_pieces]) for side in (0, 1)
        )
        # A row of tables [recordings, not there or there, not found or found].
        tables = sklearn_metrics.multilabel_confusion_matrix(true, guessed, samplewise=True)
        for own, ((_, extra), (missed, found)) in zip(scores, tables.tolist(), strict=True):
            expected = Counts(found, found + missed, found + extra)
            assert expected.scores(f"Instrument detection {{}}{suffix}").items() <= own.items()


def test_without_reference_there_is_nothing_to_detect():
    piano = Notes.from_rows([note(0)])
    names = ["instrument_leakage", "instrument_detection"]
    assert score(EMPTY, piano, metrics=names) == {}
    assert score(EMPTY, EMPTY, metrics=names) == {}
    assert set(score(piano, EMPTY, metrics=names).values()) == {0.0}


def count_by_instrument(count_hits, reference, estimate, group):
    """Hits of mir_eval, instrument by instrument."""
    total = np.zeros(3, int)
    sides = [
        notes.replace(program=np.where(notes.is_drum, 0, group(notes.program)))
        for notes in (reference, estimate)
    ]
    for program, is_drum in {*sides[0].instruments, *sides[1].instruments}:
        parts = [notes[(notes.program == program) & (notes.is_drum == is_drum)] for notes in sides]
        total += count_hits(*parts, offset_ratio=None)
    return Counts(*total.tolist())


@pytest.mark.parametrize(
    ("granularity", "group"),
    [("flat", np.zeros_like), ("midi_class", lambda program: program // 8), ("full", np.copy)],
)
def test_onsets_of_the_right_instrument_are_those_of_mir_eval(small_pieces, count_hits, granularity, group):
    for reference, estimate in small_pieces:
        scores = score(reference, estimate, metrics=[f"onset_program_{granularity}"])
        expected = count_by_instrument(count_hits, reference, estimate, group)
        assert scores == pytest.approx(expected.scores(f"Onset + program {{}} ({granularity})"))


def test_onset_program_by_hand():
    reference = Notes.from_rows([note(0), note(25, 1.0), note(0, 2.0, pitch=36, is_drum=True)])
    # Offsets do not matter; the guitar's note is a bass guitar's.
    estimate = Notes.from_rows(
        [(0.0, 9.0, 60, 100, 1, False), note(33, 1.0), note(0, 2.0, pitch=36, is_drum=True)]
    )
    scores = score(reference, estimate, metrics=["instruments"])
    assert scores["Onset + program F1 (flat)"] == 1.0
    assert scores["Onset + program F1 (midi_class)"] == pytest.approx(2 / 3)
    assert scores["Onset + program F1 (full)"] == pytest.approx(1 / 3)
