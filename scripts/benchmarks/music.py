"""Made-up music for the benchmarks."""

from __future__ import annotations

import numpy as np

from mt3.symbolic.notes import Notes

PROGRAMS = (0, 24, 32, 40, 48, 56)  # and drums, every fifth note


def random_notes(rng: np.random.Generator, seconds: float, notes_per_second: float) -> Notes:
    """Notes of 0.05 to 0.8 s at random times of a piece."""
    count = int(seconds * notes_per_second)
    onset_seconds = rng.uniform(0, seconds - 1, count)
    is_drum = rng.random(count) < 0.2
    return Notes(
        onset_seconds,
        onset_seconds + rng.uniform(0.05, 0.8, count),
        np.where(is_drum, rng.integers(35, 55, count), rng.integers(30, 90, count)),
        rng.integers(1, 128, count),
        np.where(is_drum, 0, rng.choice(PROGRAMS, count)),
        is_drum,
    )
