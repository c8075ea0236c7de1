"""Random small pieces of many instruments, for comparison with slow second implementations."""

from collections.abc import Callable

import numpy as np
import pytest

from mt3.symbolic.notes import Notes

PROGRAMS = [0, 1, 26, 33, 40, 42, 50, 73, 81, 100, 120]
DRUM_KEYS = [35, 36, 38, 40, 42, 44, 46, 22, 45, 47, 49, 51, 56, 75]


def make_small_piece(seed: int) -> tuple[Notes, Notes]:
    """A reference of up to 24 notes in about 7 s, and an estimate with every kind of fault.

    Some notes have no length. Times are mostly whole hundredths, so that ties and whole seconds occur.
    """
    rng = np.random.default_rng(seed)
    num_notes = int(rng.integers(1, 25))
    onset = np.round(rng.uniform(0, 6, num_notes), 2)
    duration = np.round(rng.choice([0, 0.05, 0.3, 2.5], num_notes, p=[0.05, 0.25, 0.4, 0.3]), 2)
    is_drum = rng.random(num_notes) < 0.3
    reference = Notes(
        onset_seconds=onset,
        offset_seconds=onset + duration,
        pitch=np.where(is_drum, rng.choice(DRUM_KEYS, num_notes), rng.integers(60, 64, num_notes)),
        velocity=rng.integers(1, 128, num_notes),
        program=np.where(is_drum, 0, rng.choice(PROGRAMS[: rng.integers(1, len(PROGRAMS) + 1)], num_notes)),
        is_drum=is_drum,
    )
    doubled = Notes.concatenate([reference, reference[rng.random(num_notes) < 0.2]])
    onset = np.round(doubled.onset_seconds + rng.normal(0, 0.04, len(doubled)), 2)
    length = np.round(doubled.duration_seconds * rng.uniform(0.7, 1.3, len(doubled)), 2)
    other_program = (rng.random(len(doubled)) < 0.3) & ~doubled.is_drum
    other_key = (rng.random(len(doubled)) < 0.3) & doubled.is_drum
    estimate = doubled.replace(
        onset_seconds=onset,
        offset_seconds=onset + length,
        program=np.where(other_program, rng.choice(PROGRAMS, len(doubled)), doubled.program),
        pitch=np.where(other_key, rng.choice(DRUM_KEYS, len(doubled)), doubled.pitch),
    )
    return reference, estimate[rng.permutation(len(estimate))[: rng.integers(0, len(estimate) + 1)]]


@pytest.fixture(scope="session")
def small_pieces() -> list[tuple[Notes, Notes]]:
    """200 references with their estimates."""
    return [make_small_piece(seed) for seed in range(200)]


def by_mir_eval(reference: Notes, estimate: Notes, **options: float | None) -> tuple[int, int, int]:
    """Hits of mir_eval.transcription, and notes that last, in the reference and in the estimate."""
    import mir_eval

    sides = [notes[notes.duration_seconds > 0] for notes in (reference, estimate)]
    if not all(map(len, sides)):
        return 0, len(sides[0]), len(sides[1])
    columns = []
    for notes in sides:
        columns.append(np.stack([notes.onset_seconds, notes.offset_seconds], axis=1))
        columns.append(mir_eval.util.midi_to_hz(notes.pitch))
    return len(mir_eval.transcription.match_notes(*columns, **options)), len(sides[0]), len(sides[1])


@pytest.fixture(scope="session")
def count_hits() -> Callable[..., tuple[int, int, int]]:
    """Hits, reference notes and estimated notes by mir_eval.transcription, whose options it takes."""
    return by_mir_eval
