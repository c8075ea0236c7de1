"""Random pieces of music and their imperfect transcriptions."""

from collections.abc import Callable

import numpy as np
import pytest

from mt3.symbolic.notes import Notes

Piece = tuple[Notes, Notes]


def make_piece(seed: int) -> Piece:
    """A reference and an estimate of it, crowded enough that many notes have several candidates.

    Times are often whole hundredths, so that distances of exactly 50 ms occur.
    """
    rng = np.random.default_rng(seed)
    num_notes = int(rng.integers(1, 120))
    onset = rng.uniform(0, rng.uniform(0.2, 20), num_notes)
    duration = rng.choice([0.02, 0.1, 0.5, 2.0], num_notes) * rng.uniform(0.5, 1.5, num_notes)
    columns = {
        "onset_seconds": onset,
        "offset_seconds": onset + duration,
        "pitch": rng.integers(60, 60 + rng.integers(1, 12), num_notes),
        "velocity": rng.integers(1, 128, num_notes),
        "program": rng.choice([0, 1, 24, 33, 127], num_notes),
        "is_drum": rng.random(num_notes) < 0.2,
    }
    reference = Notes(**columns)
    wrong = rng.random(num_notes) < 0.1
    onset = onset + rng.normal(0, 0.03, num_notes)
    offset = onset + duration * rng.uniform(0.7, 1.3, num_notes)
    estimate = Notes(
        onset_seconds=np.maximum(onset, 0),
        offset_seconds=np.maximum(offset, np.maximum(onset, 0) + 0.01),
        pitch=np.where(wrong, 59, reference.pitch),
        velocity=np.clip(reference.velocity + rng.integers(-20, 20, num_notes), 1, 127),
        program=np.where(rng.random(num_notes) < 0.1, 0, reference.program),
        is_drum=reference.is_drum,
    )
    estimate = estimate[rng.permutation(num_notes)[: rng.integers(1, num_notes + 1)]]
    if seed % 2:
        reference, estimate = (
            notes.replace(
                onset_seconds=np.round(notes.onset_seconds, 2),
                offset_seconds=np.round(notes.onset_seconds, 2) + 0.01 + np.round(notes.duration_seconds, 2),
            )
            for notes in (reference, estimate)
        )
    return reference, estimate


@pytest.fixture(scope="session")
def piece() -> Callable[[int], Piece]:
    """From a seed to a reference and an estimate."""
    return make_piece
