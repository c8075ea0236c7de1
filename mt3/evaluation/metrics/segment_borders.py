"""Errors that come of transcribing in segments, of 2.048 s in MT3.

A network hears one segment at a time, and ties carry notes over the borders. A
note that sounds across a border can be broken in two there, end there, or begin
only there; a note that begins at a border can be lost. These rates say how often,
and are this project's own. Pitched notes are judged, whatever their instrument:
a note that goes on as another instrument's is broken too.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mt3.evaluation.metrics.comparison import Comparison, Metric, Scores
from mt3.evaluation.note_matching import ONSET_TOLERANCE_SECONDS
from mt3.symbolic.notes import Notes

# What starts or ends this near to a border does so at the border.
BORDER_TOLERANCE_SECONDS = 0.05

# A border's key is its pitch's rank times this, plus its number: no number of a
# border is as large (times are below 1e9 s, see `_check`).
_NUM_BORDERS = 1 << 41
_MIN_SEGMENT_SECONDS = 0.01


def segment_border_scores(
    comparison: Comparison,
    tolerance_seconds: float = BORDER_TOLERANCE_SECONDS,
) -> Scores:
    """How often notes suffer at the borders between segments; smaller is better.

    Of the reference notes that sound across a border, at least 0.1 s before and after it:

    - `Segment broken rate`: found by pitch and onset, but an estimate of that
      pitch starts at the border, and none sounds across it;
    - `Segment cut rate`: found, not broken, but an estimate of that pitch ends
      at the border, and none goes on;
    - `Segment late rate`: not found, but an estimate of that pitch starts at the border.

    Of the reference notes that start within 50 ms of a border, and of all
    others, to compare with: `Segment lost rate` and `Segment lost rate
    elsewhere`, the share that is not found.

    A rate without notes to be a share of is left out.

    Args:
      comparison: pitched notes; borders are at the multiples of its `segment_seconds`, from the first on.
      tolerance_seconds: how near to a border is at the border.

    Raises:
      ValueError: for segments shorter than 10 ms, or than four times the tolerance.
    """
    segment_seconds = comparison.segment_seconds
    _check(segment_seconds, tolerance_seconds)
    reference, estimate = comparison.matchable.reference, comparison.matchable.estimate
    found = np.zeros(len(reference), bool)
    found[comparison.onset_matching.reference] = True

    borders = _Borders.of(reference, estimate, segment_seconds)
    starts = borders.near(estimate.pitch, estimate.onset_seconds, tolerance_seconds)
    ends = borders.near(estimate.pitch, estimate.offset_seconds, tolerance_seconds)
    sounding = borders.inside(estimate, tolerance_seconds)
    starts = starts[~_any_within(starts, *sounding)]
    ends = np.setdiff1d(ends[~_any_within(ends, *sounding)], starts)

    first, last = borders.inside(reference, tolerance_seconds + ONSET_TOLERANCE_SECONDS)
    is_across = first <= last
    restarts, stops = _holds(first, last, starts), _holds(first, last, ends)
    at_border = np.zeros(len(reference), bool)
    at_border[borders.rows_near(reference.onset_seconds, tolerance_seconds)] = True
    shares = {
        "Segment broken rate": (found & restarts, is_across),
        "Segment cut rate": (found & ~restarts & stops, is_across),
        "Segment late rate": (~found & restarts, is_across),
        "Segment lost rate": (~found, at_border),
        "Segment lost rate elsewhere": (~found, ~at_border),
    }
    return {name: float(fault[among].mean()) for name, (fault, among) in shares.items() if among.any()}


@dataclasses.dataclass(frozen=True, eq=False)
class _Borders:
    """The borders of every pitch, as keys that sort by pitch, then time."""

    pitches: np.ndarray
    segment_seconds: float

    @classmethod
    def of(cls, reference: Notes, estimate: Notes, segment_seconds: float) -> _Borders:
        return cls(np.union1d(reference.pitch, estimate.pitch), segment_seconds)

    def keys(self, pitch: np.ndarray, number: np.ndarray) -> np.ndarray:
        return np.searchsorted(self.pitches, pitch) * _NUM_BORDERS + number.astype(np.int64)

    def rows_near(self, seconds: np.ndarray, tolerance_seconds: float) -> np.ndarray:
        """Which times are at a border."""
        number = np.maximum(np.rint(seconds / self.segment_seconds), 1)
        return np.flatnonzero(np.abs(seconds - number * self.segment_seconds) <= tolerance_seconds)

    def near(self, pitch: np.ndarray, seconds: np.ndarray, tolerance_seconds: float) -> np.ndarray:
        """The borders that times of pitches are at, sorted, each once."""
        rows = self.rows_near(seconds, tolerance_seconds)
        return np.unique(self.keys(pitch[rows], np.rint(seconds[rows] / self.segment_seconds)))

    def inside(self, notes: Notes, margin_seconds: float) -> tuple[np.ndarray, np.ndarray]:
        """The first and the last border that each note sounds across; the first after the last where none."""
        first = np.floor((notes.onset_seconds + margin_seconds) / self.segment_seconds) + 1
        last = np.ceil((notes.offset_seconds - margin_seconds) / self.segment_seconds) - 1
        first = np.maximum(first, 1)
        # So that the key of a short note stays within its pitch.
        last = np.maximum(last, first - 1)
        return self.keys(notes.pitch, first), self.keys(notes.pitch, last)


def _any_within(borders: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """bool [num_borders]: which borders lie within at least one of the ranges."""
    ranges = first <= last
    opened = np.searchsorted(np.sort(first[ranges]), borders, side="right")
    closed = np.searchsorted(np.sort(last[ranges]), borders, side="left")
    return opened > closed


def _holds(first: np.ndarray, last: np.ndarray, borders: np.ndarray) -> np.ndarray:
    """bool [num_ranges]: which ranges have at least one of the sorted borders within."""
    return np.searchsorted(borders, last, side="right") > np.searchsorted(borders, first, side="left")


def _check(segment_seconds: float, tolerance_seconds: float) -> None:
    least = max(_MIN_SEGMENT_SECONDS, 4 * tolerance_seconds)
    if not segment_seconds >= least:
        raise ValueError(
            f"segment_seconds is {segment_seconds}; it must be at least {least}, four times "
            f"tolerance_seconds and {_MIN_SEGMENT_SECONDS}."
        )


SEGMENTS: dict[str, Metric] = {
    "segment_borders": Metric(segment_border_scores, frozenset({"offset"})),
}
