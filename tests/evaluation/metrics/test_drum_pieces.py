"""Drums by piece: mir_eval piece by piece, and a case worked by hand."""

import numpy as np
import pytest

from mt3.evaluation.metrics import Counts, score
from mt3.evaluation.metrics.drum_pieces import DRUM_PIECES
from mt3.symbolic.notes import Notes


def of_piece(notes, keys):
    return notes[notes.is_drum & np.isin(notes.pitch, keys)].replace(pitch=keys[0])


def test_pieces_are_those_of_mir_eval(small_pieces, count_hits):
    for seed, (reference, estimate) in enumerate(small_pieces):
        expected, total = {}, Counts(0, 0, 0)
        for name, keys in DRUM_PIECES.items():
            counts = Counts(
                *count_hits(of_piece(reference, keys), of_piece(estimate, keys), offset_ratio=None)
            )
            total += counts
            if counts.reference:
                expected[f"Drum onset F1 ({name})"] = counts.f1
        if total.reference:
            expected["Drum onset F1 (all pieces)"] = total.f1
        assert score(reference, estimate, metrics=["drum_pieces"]) == pytest.approx(expected), seed


def drums(*hits):
    return Notes.from_rows([(onset, onset + 0.1, key, 100, 0, True) for onset, key in hits])


def test_pieces_by_hand():
    reference = drums((0, 35), (1, 36), (0.5, 38), (2, 45), (2.5, 47), (3, 56))
    # A kick on the other key, one too early; a snare's rim; one tom, on a third key; a cowbell, which is
    # none of the pieces; a ride too much.
    estimate = drums((0, 36), (0.94, 36), (0.5, 37), (2.5, 50), (3, 56), (3, 51))
    scores = score(reference, estimate, metrics=["drums"])
    assert scores == pytest.approx(
        {
            "Drum onset F1 (kick)": 1 / 2,
            "Drum onset F1 (snare)": 1.0,
            "Drum onset F1 (toms)": 2 / 3,
            "Drum onset F1 (all pieces)": 3 / 5,
        }
    )


def test_pitched_notes_are_no_drums():
    kick = drums((0, 36))
    assert score(kick, kick.replace(is_drum=False), metrics=["drums"])["Drum onset F1 (kick)"] == 0.0
    assert score(kick.replace(is_drum=False), kick, metrics=["drums"]) == {}


def test_no_key_is_of_two_pieces():
    keys = [key for group in DRUM_PIECES.values() for key in group]
    assert len(set(keys)) == len(keys)
