"""Counts of the cells that two rolls have in common, without building the rolls.

A roll has rows (pitches, instruments, or pitches of instruments) and columns
(frames); a note fills some cells of one row. Rolls are counted from the places
where notes start and end, in memory and time that depend on the number of
notes, not on the length of the music.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mt3.evaluation.metrics.comparison import Counts
from mt3.symbolic.notes import Notes


@dataclasses.dataclass(frozen=True, eq=False)
class Stretches:
    """The cells of a roll, as stretches that may overlap.

    Attributes:
      row: int64 [num_stretches].
      start: int64 [num_stretches], the first frame of each.
      end: int64 [num_stretches], the frame after the last.
    """

    row: np.ndarray
    start: np.ndarray
    end: np.ndarray


def stretches_of(notes: Notes, row: np.ndarray, frames_per_second: float) -> Stretches:
    """Each note in a row of its own choice, from the frame that it starts in to before the one it ends in.

    A note always fills one frame, be it as short as it may.
    """
    start, end = (
        np.floor(seconds * frames_per_second).astype(np.int64)
        for seconds in (notes.onset_seconds, notes.offset_seconds)
    )
    return Stretches(row.astype(np.int64), start, np.maximum(end, start + 1))


def count_cells(reference: Stretches, estimate: Stretches) -> Counts:
    """Cells filled in both rolls, in the reference's and in the estimate's."""
    row = np.concatenate([reference.row, reference.row, estimate.row, estimate.row])
    frame = np.concatenate([reference.start, reference.end, estimate.start, estimate.end])
    # +1 where a stretch begins, -1 where it ends, by side.
    changes = np.zeros((2, len(row)), np.int64)
    num_reference, num_estimate = len(reference.row), len(estimate.row)
    changes[0, : 2 * num_reference] = np.repeat([1, -1], num_reference)
    changes[1, 2 * num_reference :] = np.repeat([1, -1], num_estimate)
    order = np.lexsort((frame, row))
    # After the last stretch of a row both sums are zero: what follows counts for nothing.
    length = np.diff(frame[order], append=0)
    in_reference, in_estimate = np.cumsum(changes[:, order], axis=1) > 0
    masks = (in_reference & in_estimate, in_reference, in_estimate)
    return Counts(*(int(length[mask].sum()) for mask in masks))
