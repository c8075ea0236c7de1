"""How sure a mean over recordings is: percentile bootstrap intervals.

Recordings are drawn with replacement, as many as there are, many times over; the
interval holds the middle 95 % of the means of those draws (B. Efron, R.
Tibshirani, "An Introduction to the Bootstrap", 1993, section 13.3). It says how
the mean would vary over other recordings of the same kind, and nothing of how a
system would vary over other trainings. All scores share the same draws, and
draws are the same every time: equal scores have equal intervals.
"""

from __future__ import annotations

import numpy as np

CONFIDENCE = 0.95
NUM_RESAMPLES = 10_000
SEED = 0

# Of the counts of one block of resamples.
_MAX_BLOCK_ELEMENTS = 4_000_000


def mean_intervals(
    values: np.ndarray,
    *,
    confidence: float = CONFIDENCE,
    num_resamples: int = NUM_RESAMPLES,
    seed: int = SEED,
) -> np.ndarray:
    """Intervals of means over recordings.

    Args:
      values: float64 [num_recordings, num_scores]; NaN where a recording lacks the
        score: it then has no part in that mean, in no draw.
      confidence: share of the draws that an interval holds, between 0 and 1.
      num_resamples: draws.
      seed: of the draws.

    Returns:
      float64 [num_scores, 2], low and high; NaN for scores that fewer than two recordings have.

    Raises:
      ValueError: for an impossible confidence or number of draws.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence is {confidence}; it must be between 0 and 1.")
    if num_resamples < 1:
        raise ValueError(f"num_resamples is {num_resamples}; it must be at least 1.")
    values = np.asarray(values, np.float64)
    present = np.isfinite(values)
    intervals = np.full((values.shape[1], 2), np.nan)
    chosen = np.flatnonzero(present.sum(axis=0) >= 2)
    means = resampled_means(values[:, chosen], num_resamples, seed)
    shares = [(1 - confidence) / 2, (1 + confidence) / 2]
    for score, column in zip(chosen, means.T, strict=True):
        # A score that few recordings have is absent from some draws.
        intervals[score] = np.quantile(column[np.isfinite(column)], shares)
    return intervals


def resampled_means(values: np.ndarray, num_resamples: int, seed: int = SEED) -> np.ndarray:
    """float64 [num_resamples, num_scores]: means of each draw; NaN where it has none of the score.

    Args:
      values: as for `mean_intervals`.
      num_resamples: draws.
      seed: of the draws.
    """
    num_recordings = len(values)
    present = np.isfinite(values)
    known = np.where(present, values, 0.0)
    rng = np.random.default_rng(seed)
    block = max(1, _MAX_BLOCK_ELEMENTS // max(1, num_recordings))
    means = []
    for first in range(0, num_resamples, block):
        size = min(block, num_resamples - first)
        drawn = rng.integers(0, num_recordings, (size, num_recordings)) if num_recordings else None
        counts = np.zeros((size, 0)) if drawn is None else _counts(drawn, num_recordings)
        with np.errstate(invalid="ignore"):
            means.append((counts @ known) / (counts @ present.astype(np.float64)))
    return np.concatenate(means)


def _counts(drawn: np.ndarray, num_recordings: int) -> np.ndarray:
    """float64 [num_resamples, num_recordings]: how often each recording is in each draw."""
    size = len(drawn)
    offsets = np.arange(size)[:, None] * num_recordings
    flat = np.bincount((drawn + offsets).ravel(), minlength=size * num_recordings)
    return flat.reshape(size, num_recordings).astype(np.float64)
