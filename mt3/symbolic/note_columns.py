"""Notes of the columns of a file of labels, without those that cannot be.

Left out, and counted by reason, are `without_pitch` (no number, or a frequency
that is none), `out_of_range` (pitch outside 0..127), `negative_onset`,
`zero_length` (ends where it starts, or before).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from mt3.symbolic.notes import Notes

# Notes, and how many were left out by reason; reasons without any are absent.
ReadNotes = tuple[Notes, dict[str, int]]


class NoteFileError(ValueError):
    """A file that does not hold notes in the format that its suffix says; the message names it."""


def pitch_of_hz(frequency_hz: npt.ArrayLike) -> np.ndarray:
    """float64, MIDI pitch with A4 = 440 Hz; NaN for what is no frequency."""
    frequency_hz = np.asarray(frequency_hz, np.float64)
    is_frequency = np.isfinite(frequency_hz) & (frequency_hz > 0)
    return np.where(is_frequency, 69 + 12 * np.log2(np.where(is_frequency, frequency_hz, 440) / 440), np.nan)


def notes_of_columns(
    onset_seconds: np.ndarray,
    offset_seconds: np.ndarray,
    pitch: np.ndarray,
    velocity: npt.ArrayLike = 0,
    program: npt.ArrayLike = 0,
    is_drum: npt.ArrayLike = False,
) -> ReadNotes:
    """Notes of what a file gives, without those that cannot be.

    Args:
      onset_seconds, offset_seconds: float64 [num_notes], finite.
      pitch: float64 [num_notes], MIDI pitch; NaN where there is none.
      velocity, program, is_drum: [num_notes], or a scalar for all. Drums get program 0.
    """
    semitone = np.rint(pitch)
    faults = {
        "without_pitch": ~np.isfinite(semitone),
        "out_of_range": (semitone < 0) | (semitone > 127),
        "negative_onset": onset_seconds < 0,
        "zero_length": offset_seconds <= onset_seconds,
    }
    kept = np.ones(len(semitone), np.bool_)
    dropped = {}
    for reason, at_fault in faults.items():
        if count := int(np.sum(kept & at_fault)):
            dropped[reason] = count
        kept &= ~at_fault
    is_drum = np.broadcast_to(is_drum, kept.shape).astype(np.bool_)
    notes = Notes(
        onset_seconds=onset_seconds[kept],
        offset_seconds=offset_seconds[kept],
        pitch=semitone[kept],
        velocity=np.broadcast_to(velocity, kept.shape)[kept],
        program=np.where(is_drum, 0, program)[kept],
        is_drum=is_drum[kept],
    )
    return notes.sorted(), dropped
