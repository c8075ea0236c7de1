"""Instrument AUC: scikit-learn on dense seconds, and cases worked by hand."""

import numpy as np
import pytest
import sklearn.metrics as sklearn_metrics

from mt3.evaluation.metrics import instrument_auc, score
from mt3.evaluation.metrics.instrument_activity import INSTRUMENTS, activity_of, auc
from mt3.symbolic.notes import Notes


def test_auc_is_that_of_scikit_learn():
    rng = np.random.default_rng(0)
    for _ in range(200):
        num_items = int(rng.integers(2, 40))
        # Few values, so that many are equal.
        scores = rng.integers(0, 6, num_items) / 5
        is_positive = rng.random(num_items) < 0.4
        is_positive[:2] = True, False
        weights = rng.integers(1, 5, num_items)
        repeated = np.repeat(scores, weights), np.repeat(is_positive, weights)
        expected = sklearn_metrics.roc_auc_score(*reversed(repeated))
        assert auc(*repeated) == pytest.approx(expected)
        assert auc(scores, is_positive, weights) == pytest.approx(expected)


def test_seconds_are_those_of_scikit_learn(small_pieces):
    num_defined = 0
    for seed, (reference, estimate) in enumerate(small_pieces):
        first = min(0.0, np.floor(np.concatenate([reference.onset_seconds, estimate.onset_seconds]).min()))
        last = np.ceil(max(reference.end_seconds, estimate.end_seconds))
        active, activity = (
            activity_of(notes.shift(-first), int(last - first)) for notes in (reference, estimate)
        )
        expected = {}
        for column, name in enumerate(INSTRUMENTS):
            labels = active[:, column] > 0
            if labels.any() and not labels.all():
                value = sklearn_metrics.roc_auc_score(labels, activity[:, column])
                expected[f"Instrument AUC ({name})"] = value
        if expected:
            expected["Instrument AUC (mean)"] = np.mean(list(expected.values()))
        assert score(reference, estimate, metrics=["instrument_auc"]) == pytest.approx(expected), seed
        num_defined += len(expected)
    assert num_defined > 200


def test_activity_by_hand():
    notes = Notes.from_rows(
        [
            (0.5, 2.25, 60, 100, 0, False),
            (1.0, 1.5, 64, 100, 4, False),  # another piano, at the same time
            (3.1, 3.2, 64, 100, 0, False),
            (3.6, 3.7, 64, 100, 0, False),
            (0.0, 1.0, 64, 100, 40, False),
            (0.0, 9.0, 36, 100, 0, True),
        ]
    )
    found = activity_of(notes, 5, {"piano": range(8), "violin": [40], "flute": [73]})
    assert found[:, 0].tolist() == pytest.approx([0.5, 1.0, 0.25, 0.2, 0.0])
    assert found[:, 1].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert not found[:, 2].any()


def test_auc_of_notes_by_hand():
    # The piano sounds in seconds 0, 1 and 3 of 5; the flute in all.
    reference = Notes.from_rows(
        [
            (0.0, 2.0, 60, 100, 0, False),
            (3.0, 3.5, 60, 100, 0, False),
            (0.0, 5.0, 60, 100, 73, False),
        ]
    )
    # Heard in second 0 for all of it, in second 2 for half of it, in second 3 for a fifth.
    estimate = Notes.from_rows(
        [
            (0.0, 1.0, 60, 100, 0, False),
            (2.0, 2.5, 60, 100, 0, False),
            (3.0, 3.2, 60, 100, 0, False),
        ]
    )
    scores = score(reference, estimate, metrics=["activity"])
    # Shares 1, 0, 0.2 where it sounds, 0.5 and 0 where not: of six pairs 1 beats both, 0 ties one, 0.2
    # beats one.
    expected = (2 + 0.5 + 1) / 6
    assert scores == pytest.approx({"Instrument AUC (piano)": expected, "Instrument AUC (mean)": expected})


def test_auc_of_a_networks_activity():
    reference = Notes.from_rows([(0.0, 1.5, 60, 100, 0, False), (2.0, 3.0, 60, 100, 41, False)])
    activity = np.array([[0.9, 0.1], [0.4, 0.2], [0.6, 0.1], [0.1, 0.3]])
    instruments = {"piano": range(8), "viola": [41]}
    scores = instrument_auc(activity, reference, instruments)
    assert scores == pytest.approx(
        # The piano's 0.9 beats two, its 0.4 one of 0.6 and 0.1; the viola's 0.1 ties one of three.
        {
            "Instrument AUC (piano)": 3 / 4,
            "Instrument AUC (viola)": 0.5 / 3,
            "Instrument AUC (mean)": (3 / 4 + 0.5 / 3) / 2,
        }
    )
    with pytest.raises(ValueError, match=r"activity has shape \(4, 2\); it must be \[seconds, 5\], a column"):
        instrument_auc(activity, reference)


def test_what_is_undefined_is_left_out():
    piano = Notes.from_rows([(0.0, 0.5, 60, 100, 0, False), (2.0, 2.0, 60, 100, 0, False)])
    assert score(Notes.empty(), piano, metrics=["activity"]) == {}
    assert score(Notes.empty(), Notes.empty(), metrics=["activity"]) == {}
    # A note of no length is not heard, but the recording lasts until there.
    assert score(piano, Notes.empty(), metrics=["activity"])["Instrument AUC (piano)"] == 0.5


def test_long_music_takes_no_room():
    reference = Notes.from_rows([(-1e6, 1e6, 60, 100, 0, False), (1e9 - 2, 1e9, 60, 100, 40, False)])
    scores = score(reference, reference, metrics=["activity"])
    assert scores == {
        "Instrument AUC (piano)": 1.0,
        "Instrument AUC (violin)": 1.0,
        "Instrument AUC (mean)": 1.0,
    }
