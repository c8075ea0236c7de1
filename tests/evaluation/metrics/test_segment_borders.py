"""Errors at segment borders: a second implementation, note by note, and cases worked by hand."""

import numpy as np
import pytest

from mt3.evaluation.metrics import Comparison, score
from mt3.evaluation.metrics.segment_borders import segment_border_scores
from mt3.symbolic.notes import Notes

BORDER = 2.048


def notes_of(*rows):
    return Notes.from_rows([(onset, offset, pitch, 100, 0, False) for onset, offset, pitch in rows])


def test_rates_by_hand():
    reference = notes_of(
        (1.0, 3.0, 60),  # broken at the border
        (1.0, 3.0, 61),  # cut there
        (1.0, 3.0, 62),  # not found before it
        (1.0, 3.0, 63),  # whole
        (1.0, 7.0, 64),  # broken at the third border, cut at the second
        (2.05, 3.0, 65),  # begins at the border, lost
        (4.1, 5.0, 66),  # begins at the next, found
        (1.0, 2.0, 67),  # far from any, lost
        (0.02, 1.0, 68),  # there is no border at the very beginning; lost
    )
    estimate = notes_of(
        (1.0, 2.04, 60),
        (2.05, 3.0, 60),
        (1.0, 2.05, 61),
        (2.048, 3.0, 62),
        (1.02, 3.0, 63),
        (1.0, 4.096, 64),
        (6.144, 7.0, 64),
        (4.11, 5.0, 66),
    )
    assert score(reference, estimate, metrics=["segments"]) == pytest.approx(
        {
            "Segment broken rate": 2 / 5,
            "Segment cut rate": 1 / 5,
            "Segment late rate": 1 / 5,
            "Segment lost rate": 1 / 2,
            # 62, 67, 68 of the other seven.
            "Segment lost rate elsewhere": 3 / 7,
        }
    )


def test_other_notes_of_the_pitch_are_no_faults():
    # A second instrument repeats the pitch at the border, and both are found.
    reference = notes_of((1.0, 3.0, 60), (1.5, 2.04, 60), (2.05, 2.6, 60))
    rates = score(reference, reference, metrics=["segments"])
    assert set(rates.values()) == {0.0}
    # An onset so near before a border that its estimate may lie at the border.
    late = score(notes_of((1.95, 3.0, 60)), notes_of((2.0, 3.0, 60)), metrics=["segments"])
    assert late == {"Segment lost rate elsewhere": 0.0}


def test_a_break_is_one_whatever_the_instrument():
    reference = notes_of((1.0, 3.0, 60))
    estimate = notes_of((1.0, 2.048, 60), (2.048, 3.0, 60)).replace(program=[0, 40])
    assert score(reference, estimate, metrics=["segments"])["Segment broken rate"] == 1.0


def test_segments_may_have_another_length():
    sides = notes_of((1.0, 3.0, 60)), notes_of((1.0, 1.5, 60), (1.5, 3.0, 60))
    assert score(*sides, metrics=["segments"])["Segment broken rate"] == 0.0
    assert score(*sides, metrics=["segments"], segment_seconds=1.5)["Segment broken rate"] == 1.0
    with pytest.raises(ValueError, match=r"segment_seconds is 0.1; it must be at least 0.2, four times"):
        score(*sides, metrics=["segments"], segment_seconds=0.1)


def slow_rates(comparison, length, tolerance=0.05):
    """The same, note by note and border by border."""
    reference, estimate = comparison.matchable.reference, comparison.matchable.estimate
    found = set(comparison.onset_matching.reference.tolist())
    borders = [number * length for number in range(1, 40)]
    faults = {"broken": [], "cut": [], "late": [], "lost": [], "elsewhere": []}
    for row in range(len(reference)):
        onset, offset = reference.onset_seconds[row], reference.offset_seconds[row]
        near = any(abs(onset - border) <= tolerance for border in borders)
        faults["lost" if near else "elsewhere"].append(row not in found)
        restarts = stops = across = False
        same = estimate[estimate.pitch == reference.pitch[row]]
        for border in borders:
            if not onset + tolerance + 0.05 < border < offset - tolerance - 0.05:
                continue
            across = True
            if ((same.onset_seconds < border - tolerance) & (same.offset_seconds > border + tolerance)).any():
                continue
            starts = (abs(same.onset_seconds - border) <= tolerance).any()
            restarts |= starts
            stops |= not starts and (abs(same.offset_seconds - border) <= tolerance).any()
        if across:
            faults["broken"].append(row in found and restarts)
            faults["cut"].append(row in found and stops and not restarts)
            faults["late"].append(row not in found and restarts)
    return {name: sum(rows) / len(rows) for name, rows in faults.items() if rows}


def test_rates_are_those_of_counting_note_by_note(small_pieces):
    seen = set()
    for seed, sides in enumerate(small_pieces):
        # No whole hundredths: nothing lies exactly at a tolerance's edge.
        reference, estimate = (notes.shift(0.0031) for notes in sides)
        if seed % 2:
            parts = [estimate.crop(start, start + 0.7) for start in np.arange(-1, 12) * 0.7]
            estimate = Notes.concatenate(parts)
        comparison = Comparison(reference, estimate, segment_seconds=0.7).pitched
        rates = segment_border_scores(comparison)
        expected = slow_rates(comparison, 0.7)
        names = {"lost": "lost rate", "elsewhere": "lost rate elsewhere"}
        expected = {f"Segment {names.get(name, name + ' rate')}": rate for name, rate in expected.items()}
        assert rates == pytest.approx(expected), seed
        seen |= {name for name, rate in rates.items() if 0 < rate < 1}
    assert len(seen) == 5


def test_what_is_not_there_is_left_out():
    short = notes_of((0.5, 1.0, 60))
    assert score(short, Notes.empty(), metrics=["segments"]) == {"Segment lost rate elsewhere": 1.0}
    assert score(Notes.empty(), short, metrics=["segments"]) == {}


def test_notes_across_millions_of_borders():
    reference = notes_of((-1e9, 1e9, 60), (0.0, 1e9, -5))
    rates = score(reference, notes_of((0.0, 10 * BORDER, -5)), metrics=["segments"])
    assert rates == {
        "Segment broken rate": 0.0,
        "Segment cut rate": 1 / 2,
        "Segment late rate": 0.0,
        "Segment lost rate elsewhere": 1 / 2,
    }
