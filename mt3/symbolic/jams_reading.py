"""Notes of JAMS files (https://jams.readthedocs.io): annotations of music as JSON.

All annotations of the first namespace of `JAMS_NAMESPACES` that has
observations are merged; pitches are rounded to the nearest semitone. JAMS knows
neither instruments nor velocities.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from mt3.symbolic.note_columns import NoteFileError, ReadNotes, notes_of_columns, pitch_of_hz
from mt3.symbolic.notes import Notes

# In order of preference. pitch_midi is how JAMS kept notes before it had note_midi.
JAMS_NAMESPACES = ("note_midi", "note_hz", "pitch_midi")


class BinaryFile(Protocol):
    """A path, or something like one; its text names it in messages."""

    def read_bytes(self) -> bytes: ...


def read_jams(
    file: BinaryFile, *, program: int = 0, namespaces: Sequence[str] = JAMS_NAMESPACES
) -> ReadNotes:
    """The notes of a JAMS file; velocity unknown.

    Args:
      file: a path or a member of an archive.
      program: of all notes; JAMS has none.
      namespaces: that are looked for, the preferred one first.

    Raises:
      NoteFileError: when it is no JAMS file or has no annotation of notes.
      OSError: when it cannot be read.
    """
    annotations = _jams_annotations(file)
    wanted = [
        [annotation for annotation in annotations if annotation.get("namespace") == namespace]
        for namespace in namespaces
    ]
    if not any(wanted):
        present = sorted({str(annotation.get("namespace")) for annotation in annotations}) or ["nothing"]
        raise NoteFileError(
            f"{file} has no notes ({', '.join(namespaces)}); it annotates {', '.join(present)}."
        )
    for namespace, found in zip(namespaces, wanted, strict=True):
        observed = [_observations(file, annotation) for annotation in found]
        time, duration, value = np.concatenate([np.zeros((0, 3)), *observed]).T
        if len(time):
            pitch = pitch_of_hz(value) if namespace.endswith("_hz") else value
            return notes_of_columns(time, time + duration, pitch, program=program)
    return Notes.empty(), {}


def _jams_annotations(file: BinaryFile) -> list[dict[str, Any]]:
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise NoteFileError(f"{file} is no JAMS file: it is not JSON ({error}).") from error
    annotations = document.get("annotations") if isinstance(document, dict) else None
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        raise NoteFileError(f'{file} is no JAMS file: it lacks a list "annotations".')
    return annotations


def _observations(file: BinaryFile, annotation: Mapping[str, Any]) -> np.ndarray:
    """float64 [num_observations, 3]: time, duration and value (NaN where there is none).

    Observations are kept one by one or, to save space, as an object of lists.
    """
    data = annotation.get("data", [])
    names = ("time", "duration", "value")
    try:
        if isinstance(data, dict):
            rows = list(zip(*(data[name] for name in names), strict=True))
        else:
            rows = [tuple(one[name] for name in names) for one in data]
        observed = np.array(rows, np.float64).reshape(-1, 3)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise NoteFileError(
            f"{file}: observations of {annotation['namespace']} must have a time, a duration and "
            f"a value that are numbers ({reason})."
        ) from error
    if not np.isfinite(observed[:, :2]).all():
        raise NoteFileError(f"{file}: an observation of {annotation['namespace']} has no time or duration.")
    return observed
