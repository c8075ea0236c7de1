"""What is asked of a transcriber and what it answers."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from mt3.symbolic.notes import Notes

# A file, mono samples [num_samples], or such samples block by block.
Audio = str | Path | np.ndarray | Iterable[np.ndarray]


class Cancelled(Exception):
    """A transcription that was given up because its caller wished so."""


def never() -> bool:
    """Not cancelled."""
    return False


@dataclasses.dataclass(frozen=True, eq=False)
class Job:
    """One recording to transcribe.

    Attributes:
      audio: a path, mono samples [num_samples] or blocks of them.
      sample_rate: of samples, in Hz; None for the model's own. A file knows its own.
      cancelled: whether to give it up; asked now and then.
    """

    audio: Audio
    sample_rate: int | None = None
    cancelled: Callable[[], bool] = never


@dataclasses.dataclass(frozen=True, eq=False)
class Transcription:
    """What a transcriber heard in one recording.

    Attributes:
      notes: in order of onset, none after the end of the audio.
      confidence: float32 [num_notes], how probable the model held each note's onset
        (time, program, velocity and pitch), given what it had written before.
      invalid_events: tokens that could not follow those before them.
      dropped_events: tokens ignored because their time had passed.
      num_events: tokens in all, those above among them, ends of segments not.
      truncated_segments: segments whose tokens ran into the limit without an
        end; their last notes may be missing.
      duration_seconds: length of the audio.
    """

    notes: Notes
    confidence: np.ndarray
    invalid_events: int
    dropped_events: int
    num_events: int
    truncated_segments: int
    duration_seconds: float

    def __eq__(self, other: object) -> bool:
        """Equality of everything, exactly."""
        if not isinstance(other, Transcription):
            return NotImplemented
        return all(
            np.array_equal(mine, its) if field.name == "confidence" else mine == its
            for field in dataclasses.fields(self)
            for mine, its in [(getattr(self, field.name), getattr(other, field.name))]
        )

    __hash__ = None  # type: ignore[assignment]


@dataclasses.dataclass(frozen=True, eq=False)
class Progress:
    """A recording has been heard a little further.

    Attributes:
      index: which of the recordings, from 0.
      decoded_seconds: of it, from its start and without a gap.
      notes: those that have become final since its last `Progress`, in no promised order.
      confidence: float32 [num_notes], of these.
    """

    index: int
    decoded_seconds: float
    notes: Notes
    confidence: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Finished:
    """A recording is done: which, and everything that was heard in it."""

    index: int
    transcription: Transcription


@dataclasses.dataclass(frozen=True, eq=False)
class Failed:
    """A recording could not be transcribed: which, and why (an `AudioError` or `Cancelled`)."""

    index: int
    error: Exception


Event = Progress | Finished | Failed
