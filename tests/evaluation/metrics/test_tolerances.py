"""Tolerance sweeps and other names of the onset score: mir_eval, and cases worked by hand."""

import pytest

from mt3.evaluation.metrics import Comparison, Counts, score
from mt3.evaluation.metrics import tolerances as module
from mt3.symbolic.notes import Notes

SWEEPS = ["onset_sweep", "offset_sweep", "onset_offset_sweep"]
MILLISECONDS = [10, 20, 50, 100, 200, 500]


def pitched(notes):
    return notes[~notes.is_drum]


def test_sweeps_are_those_of_mir_eval(small_pieces, count_hits):
    for seed, (reference, estimate) in enumerate(small_pieces):
        scores = score(reference, estimate, metrics=SWEEPS)
        sides = pitched(reference), pitched(estimate)
        for milliseconds in MILLISECONDS:
            seconds = milliseconds / 1000
            for name, options in {
                f"Onset F1 ({milliseconds} ms)": {"onset_tolerance": seconds, "offset_ratio": None},
                f"Onset + offset F1 (offset {milliseconds} ms)": {
                    "offset_ratio": 0.0,
                    "offset_min_tolerance": seconds,
                },
                f"Onset + offset F1 ({seconds})": {
                    "onset_tolerance": seconds,
                    "offset_min_tolerance": seconds,
                },
            }.items():
                expected = Counts(*count_hits(*sides, **options)).f1
                assert scores[name] == pytest.approx(expected, abs=1e-12), (seed, name)


def test_sweeps_by_hand():
    reference = Notes.from_rows([(1.0, 2.0, 60, 100, 0, False), (5.0, 9.0, 62, 100, 0, False)])
    estimate = Notes.from_rows([(1.09, 2.0, 60, 100, 0, False), (5.0, 9.3, 62, 100, 0, False)])
    scores = score(reference, estimate, metrics=SWEEPS)
    expected = {
        "Onset F1 (50 ms)": 1 / 2,
        "Onset F1 (100 ms)": 1.0,
        # 0.3 s late at the end; the other note is not found in the first place.
        "Onset + offset F1 (offset 200 ms)": 0.0,
        "Onset + offset F1 (offset 500 ms)": 1 / 2,
        # 20 % of four seconds are enough at any tolerance.
        "Onset + offset precision (0.01)": 1 / 2,
        "Onset + offset recall (0.1)": 1.0,
    }
    assert {name: scores[name] for name in expected} == pytest.approx(expected)


def test_notes_are_scored_as_they_are():
    # Lengthened to 50 ms, as the published sweep does, both would end together.
    reference = Notes.from_rows([(1.0, 1.01, 60, 100, 0, False)])
    estimate = Notes.from_rows([(1.0, 1.045, 60, 100, 0, False)])
    scores = score(reference, estimate, metrics=["onset_offset_sweep"])
    assert scores["Onset + offset F1 (0.02)"] == 0.0
    assert scores["Onset + offset F1 (0.05)"] == 1.0


def test_the_middle_of_a_sweep_is_the_published_score(piece):
    reference, estimate = piece(7)
    scores = score(reference, estimate, metrics=["published", *SWEEPS])
    assert scores["Onset F1 (50 ms)"] == scores["Onset F1"]
    assert scores["Onset + offset F1 (0.05)"] == scores["Onset + offset F1"]


def test_fno_is_mir_evals_f_measure_without_offsets(small_pieces, count_hits):
    for reference, estimate in small_pieces:
        scores = score(reference, estimate, metrics=["leaderboards", "onset"])
        assert scores["Fno"] == scores["Onset F1"]
        expected = Counts(*count_hits(pitched(reference), pitched(estimate), offset_ratio=None)).f1
        assert scores["Fno"] == pytest.approx(expected)
        expected = Counts(*count_hits(reference, estimate, offset_ratio=None)).f1
        assert scores["Onset F1 (with drums)"] == pytest.approx(expected)


def test_many_candidates_give_the_same_scores(piece, monkeypatch):
    pieces = [piece(seed) for seed in range(20)]
    expected = [score(*sides, metrics=SWEEPS) for sides in pieces]
    monkeypatch.setattr(module, "_MANY_CANDIDATES", 0)
    assert [score(*sides, metrics=SWEEPS) for sides in pieces] == expected


def test_too_many_candidates_are_named(piece, monkeypatch):
    monkeypatch.setattr(module, "_MAX_CANDIDATES", 3)
    with pytest.raises(ValueError, match=r"agree within 0\.\d+ s, above the limit of 3; remove"):
        module.onset_offset_sweep_scores(Comparison(*piece(7)))


@pytest.mark.parametrize(("reference_size", "estimate_size"), [(0, 0), (0, 1), (1, 0)])
def test_an_empty_side_scores_zero(reference_size, estimate_size):
    notes = Notes.from_rows([(0.0, 1.0, 60, 100, 0, False)])
    scores = score(
        notes[:reference_size], notes[:estimate_size], metrics=[*SWEEPS, "fno", "onset_with_drums"]
    )
    assert len(scores) == 6 + 6 + 18 + 2
    assert set(scores.values()) == {0.0}
