"""Frame-level agreement of two sets of notes, frame by frame and pitch by pitch.

The published frame scores compare two piano rolls of 62.5 frames a second. Here
the rolls are never built: the places where notes start and end are sorted, and
stretches between them are counted, in memory and time that depend on the number
of notes, not on the length of the music.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from mt3.symbolic.notes import Notes
from mt3.symbolic.vocabularies import DEFAULT_VELOCITY

FRAMES_PER_SECOND = 62.5
# What sounds for less is counted as sounding for this long; so is every drum hit.
MIN_NOTE_SECONDS = 0.05
# Reference frames up to this MIDI velocity count as silent (E. Manilow et al.,
# "Simultaneous separation and transcription of mixtures", ICASSP 2020).
SILENT_VELOCITY = 30


class FrameCounts(NamedTuple):
    """Number of (pitch, frame) cells that sound in both, in the reference, in the estimate."""

    both: int
    reference: int
    estimate: int


def count_frames(
    reference: Notes, estimate: Notes, frames_per_second: float = FRAMES_PER_SECOND
) -> FrameCounts:
    """Cells of the piano rolls of two sets of notes.

    A note covers the frames from floor(onset x rate) to before floor(offset x rate).
    Velocities of reference notes that share a cell add up before they are
    compared with `SILENT_VELOCITY`; an unknown velocity (0) counts as loud.
    """
    rows = []
    for notes, is_reference in ((reference, True), (estimate, False)):
        start, end = note_frames(notes, frames_per_second)
        loudness = np.where(notes.velocity > 0, notes.velocity, DEFAULT_VELOCITY).astype(np.int64)
        ones, zeros = np.ones(len(notes), np.int64), np.zeros(len(notes), np.int64)
        change = (loudness, zeros) if is_reference else (zeros, ones)
        rows.append((notes.pitch, start, *change))
        rows.append((notes.pitch, end, -change[0], -change[1]))
    pitch, frame, loudness, count = (np.concatenate(column) for column in zip(*rows, strict=True))
    order = np.lexsort((frame, pitch))
    # After the last note of a pitch both sums are zero: what follows counts for nothing.
    length = np.diff(frame[order], append=0)
    in_reference = np.cumsum(loudness[order]) > SILENT_VELOCITY
    in_estimate = np.cumsum(count[order]) > 0
    masks = (in_reference & in_estimate, in_reference, in_estimate)
    return FrameCounts(*(int(length[mask].sum()) for mask in masks))


def note_frames(notes: Notes, frames_per_second: float = FRAMES_PER_SECOND) -> tuple[np.ndarray, np.ndarray]:
    """First frame and frame after the last of each note, int64 [num_notes]."""
    is_fixed = notes.is_drum | (notes.duration_seconds < MIN_NOTE_SECONDS)
    offset = np.where(is_fixed, notes.onset_seconds + MIN_NOTE_SECONDS, notes.offset_seconds)
    start, end = (np.floor(seconds * frames_per_second) for seconds in (notes.onset_seconds, offset))
    return start.astype(np.int64), end.astype(np.int64)
