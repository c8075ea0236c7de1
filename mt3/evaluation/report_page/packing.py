"""Notes with their kinds as a short text, which `assets/notes.js` unpacks.

Base64 of a zlib stream of little-endian columns: uint32 [2], the number of
reference and of estimated notes; then of each side int32 onsets in milliseconds,
each less the one before it; uint32 durations in milliseconds; and uint8 pitches,
programs (128: drums), velocities and kinds.
"""

from __future__ import annotations

import base64
import zlib

import numpy as np

from mt3.evaluation.metrics import DRUMS_INSTRUMENT
from mt3.evaluation.note_errors import NoteErrors
from mt3.symbolic.notes import Notes

_MILLISECONDS = 1000
_LEVEL = 9


def pack_notes(errors: NoteErrors) -> str:
    """The notes of one recording and run; times are rounded to milliseconds."""
    counts = np.array([len(errors.reference), len(errors.estimate)], "<u4")
    columns = [
        counts,
        *_columns(errors.reference, errors.reference_kind),
        *_columns(errors.estimate, errors.estimate_kind),
    ]
    content = b"".join(column.tobytes() for column in columns)
    return base64.b64encode(zlib.compress(content, _LEVEL)).decode("ascii")


def _columns(notes: Notes, kind: np.ndarray) -> list[np.ndarray]:
    onset = np.round(notes.onset_seconds * _MILLISECONDS).astype(np.int64)
    offset = np.round(notes.offset_seconds * _MILLISECONDS).astype(np.int64)
    return [
        np.diff(onset, prepend=0).astype("<i4"),
        np.maximum(offset - onset, 1).astype("<u4"),
        notes.pitch.astype("u1"),
        np.where(notes.is_drum, DRUMS_INSTRUMENT, notes.program).astype("u1"),
        notes.velocity.astype("u1"),
        kind.astype("u1"),
    ]
