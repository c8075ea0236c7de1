"""YourMT3's scores by class: mir_eval class by class, and cases worked by hand."""

import numpy as np
import pytest

from mt3.evaluation.metrics import Counts, score
from mt3.evaluation.metrics.instrument_classes import INSTRUMENT_CLASSES
from mt3.symbolic.notes import Notes


def of_class(notes, programs):
    return notes[~notes.is_drum & np.isin(notes.program, programs)]


def test_classes_are_those_of_mir_eval(small_pieces, count_hits):
    for seed, (reference, estimate) in enumerate(small_pieces):
        scores = score(reference, estimate, metrics=["class_onset"])
        expected = {}
        for name, programs in INSTRUMENT_CLASSES.items():
            sides = of_class(reference, programs), of_class(estimate, programs)
            counts = Counts(*count_hits(*sides, offset_ratio=None))
            if counts.reference:
                expected[f"Onset F1 ({name})"] = counts.f1
        counts = Counts(
            *count_hits(reference[reference.is_drum], estimate[estimate.is_drum], offset_ratio=None)
        )
        if counts.reference:
            expected["Onset F1 (Drums)"] = counts.f1
        assert scores == pytest.approx(expected), seed


# The keys of the pieces' drums that are one drum for YourMT3; 75 is none.
SAME_KEY = {35: 36, 40: 38, 44: 42, 22: 42}
KEYS = (36, 38, 42, 46, 45, 47, 49, 51, 56)


def drums_of(notes):
    drums = notes[notes.is_drum]
    drums = drums.replace(pitch=[SAME_KEY.get(key, key) for key in drums.pitch.tolist()])
    return drums[np.isin(drums.pitch, KEYS)]


def test_multi_instrument_f1_is_the_sum_over_classes(small_pieces, count_hits):
    num_empty = 0
    for seed, (reference, estimate) in enumerate(small_pieces):
        total = np.array(count_hits(drums_of(reference), drums_of(estimate), offset_ratio=None))
        for programs in INSTRUMENT_CLASSES.values():
            total += count_hits(of_class(reference, programs), of_class(estimate, programs))
        expected = Counts(*total.tolist())
        scores = score(reference, estimate, metrics=["multi_instrument"])
        assert scores == (
            {"Multi-instrument F1": pytest.approx(expected.f1)} if expected.reference else {}
        ), seed
        num_empty += not expected.reference
    assert num_empty < 20


def test_scores_by_hand():
    reference = Notes.from_rows(
        [
            (0.0, 1.0, 60, 100, 40, False),  # found as an ensemble: strings all the same
            (1.0, 2.0, 60, 100, 33, False),  # found by a guitar
            (2.0, 3.0, 60, 100, 33, False),  # found, ends late
            (3.0, 4.0, 60, 100, 120, False),  # of no class
            (4.0, 5.0, 60, 100, 100, False),  # sung, missed
            (5.0, 5.1, 35, 100, 0, True),  # found as the other kick
        ]
    )
    estimate = Notes.from_rows(
        [
            (0.0, 1.0, 60, 100, 48, False),
            (1.0, 2.0, 60, 100, 27, False),
            (2.0, 4.0, 60, 100, 39, False),
            (3.0, 4.0, 60, 100, 120, False),
            (5.0, 5.1, 36, 100, 0, True),
        ]
    )
    scores = score(reference, estimate, metrics=["classes"])
    expected = {
        "Onset F1 (Strings)": 1.0,
        # One of two basses found; the guitar's class is not the reference's, and left out.
        "Onset F1 (Bass)": 2 / 3,
        "Onset F1 (Singing)": 0.0,
        # Key by key.
        "Onset F1 (Drums)": 0.0,
        # Violin and kick, of 5 in the reference and 4 in the estimate.
        "Multi-instrument F1": 2 * 2 / (5 + 4),
    }
    assert scores == pytest.approx(expected)


def test_the_classes_do_not_overlap():
    programs = [program for group in INSTRUMENT_CLASSES.values() for program in group]
    assert len(set(programs)) == len(programs)
    assert set(range(96)) < set(programs)


def test_an_empty_estimate_scores_zero():
    reference = Notes.from_rows([(0.0, 1.0, 60, 100, 0, False)])
    assert score(reference, Notes.empty(), metrics=["classes"]) == {
        "Onset F1 (Piano)": 0.0,
        "Multi-instrument F1": 0.0,
    }
    assert score(Notes.empty(), reference, metrics=["classes"]) == {}
