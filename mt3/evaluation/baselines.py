"""A transcriber that does not listen, to see what scores are worth.

It has seen the training notes and repeats their commonest notes at their usual
pace, whatever the audio. A model that does not score well above it has learnt
how music goes on average, not how to hear it.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Iterable

import numpy as np

from mt3.evaluation.note_matching import ONSET_TOLERANCE_SECONDS
from mt3.symbolic.note_decoding import DecodedNotes
from mt3.symbolic.notes import Notes

# Between chords, where the training notes have only one.
_DEFAULT_INTERVAL_SECONDS = 1.0


@dataclasses.dataclass(frozen=True)
class Baseline:
    """One chord, repeated from 0 s to the end.

    Attributes:
      chord: (pitch, program, is_drum) of its notes.
      interval_seconds: from one onset to the next.
      note_seconds: length of a note, at most the interval.
      velocity: MIDI velocity.
    """

    chord: tuple[tuple[int, int, bool], ...]
    interval_seconds: float
    note_seconds: float
    velocity: int

    def transcribe(self, duration_seconds: float) -> Notes:
        """The notes of any audio that lasts `duration_seconds`."""
        num_chords = max(0, math.ceil(duration_seconds / self.interval_seconds))
        onset = np.repeat(np.arange(num_chords) * self.interval_seconds, len(self.chord))
        pitch, program, is_drum = (np.tile(column, num_chords) for column in zip(*self.chord, strict=True))
        return Notes(
            onset_seconds=onset,
            offset_seconds=np.minimum(onset + self.note_seconds, duration_seconds),
            pitch=pitch,
            velocity=np.full(len(onset), self.velocity),
            program=program,
            is_drum=is_drum,
        )

    def transcriber(self, sample_rate: int) -> Callable[[np.ndarray], DecodedNotes]:
        """`transcribe` as `mt3.evaluation.evaluator.evaluate` wants it: a function of samples."""
        return lambda samples: DecodedNotes(self.transcribe(len(samples) / sample_rate), 0, 0)


def fit(pieces: Iterable[Notes]) -> Baseline:
    """The baseline of a set of training pieces.

    The chord has as many notes as chords of the pieces have on average, the
    commonest ones; interval, length and velocity are medians. Notes less than
    50 ms apart are one chord.

    Raises:
      ValueError: when there are no notes.
    """
    pieces = list(pieces)
    notes = Notes.concatenate(pieces)
    if not len(notes):
        raise ValueError(f"The {len(pieces)} training pieces have no notes; a baseline needs some.")
    starts = [_chord_starts(piece) for piece in pieces]
    chord_size = max(1, round(len(notes) / sum(map(len, starts))))
    kinds = zip(notes.pitch.tolist(), notes.program.tolist(), notes.is_drum.tolist(), strict=True)
    # Ties go to the lower pitch, so that the order of the pieces does not matter.
    commonest = sorted(collections.Counter(kinds).items(), key=lambda item: (-item[1], item[0]))
    intervals = np.concatenate([np.diff(start) for start in starts])
    interval = float(np.median(intervals)) if len(intervals) else _DEFAULT_INTERVAL_SECONDS
    return Baseline(
        chord=tuple(kind for kind, _ in commonest[:chord_size]),
        interval_seconds=interval,
        note_seconds=min(float(np.median(notes.duration_seconds)), interval),
        velocity=int(np.median(notes.velocity)),
    )


def _chord_starts(notes: Notes) -> np.ndarray:
    """Seconds at which notes start together, float64 [num_chords], more than 50 ms apart."""
    onsets = np.sort(notes.onset_seconds)
    is_first = np.diff(onsets, prepend=-np.inf) > ONSET_TOLERANCE_SECONDS
    return onsets[is_first]
