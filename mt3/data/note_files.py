"""Note labels as researchers keep them, to `Notes`: MIDI, JAMS and CSV files.

Files may lie in folders or archives. Each reader gives the notes, sorted, and
how many it left out because they cannot be, by reason: `without_pitch` (no
number, or a frequency that is none), `out_of_range` (pitch outside 0..127),
`negative_onset`, `zero_length` (ends where it starts, or before). A file that
is not what its suffix says is a `NoteFileError` of one line that names it.

JAMS: all annotations of the first namespace of `JAMS_NAMESPACES` that has
observations, merged; pitches are rounded to the nearest semitone.

CSV: a header line with `onset_seconds`, `offset_seconds`, `pitch` and, if
wanted, `velocity`, `program` and `is_drum` (0 or 1), in any order; other columns
are ignored. `onset_s`, `offset_s` and `midi_pitch` are read, too. What
`mt3.inference.formats` writes is of this form. A blank or missing velocity is
unknown (0), a blank or missing program is the reader's default.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mt3.data.file_tree import FileRef
from mt3.symbolic.conversions import MidiError, read_midi
from mt3.symbolic.notes import Notes

# In order of preference. pitch_midi is how JAMS kept notes before it had note_midi.
JAMS_NAMESPACES = ("note_midi", "note_hz", "pitch_midi")

# Column of Notes -> names in CSV files.
_CSV_NAMES: dict[str, tuple[str, ...]] = {
    "onset_seconds": ("onset_seconds", "onset_s"),
    "offset_seconds": ("offset_seconds", "offset_s"),
    "pitch": ("pitch", "midi_pitch"),
    "velocity": ("velocity",),
    "program": ("program",),
    "is_drum": ("is_drum",),
}
_CSV_REQUIRED = ("onset_seconds", "offset_seconds", "pitch")
_CSV_DEFAULTS = {"velocity": 0, "is_drum": 0}
_FLAGS = {"0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}

# Notes, and how many were left out by reason; reasons without any are absent.
ReadNotes = tuple[Notes, dict[str, int]]


class NoteFileError(ValueError):
    """A file that does not hold notes in the format that its suffix says; the message names it."""


def read_note_file(file: FileRef, *, program: int = 0) -> ReadNotes:
    """The notes of a file, in the format that its suffix says.

    Args:
      file: a path or a member of an archive.
      program: of pitched notes whose program the file does not tell.

    Raises:
      NoteFileError: when it does not hold what it should.
      OSError: when it cannot be read.
    """
    reader = _READERS.get(file.suffix.lower())
    if reader is None:
        raise NoteFileError(f"{file}: notes are read from files that end in {', '.join(_READERS)}.")
    return reader(file, program)


def read_jams(file: FileRef, *, program: int = 0, namespaces: Sequence[str] = JAMS_NAMESPACES) -> ReadNotes:
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


def _jams_annotations(file: FileRef) -> list[dict[str, Any]]:
    try:
        document = json.loads(file.read_bytes())
    except (ValueError, RecursionError) as error:
        raise NoteFileError(f"{file} is no JAMS file: it is not JSON ({error}).") from error
    annotations = document.get("annotations") if isinstance(document, dict) else None
    if not isinstance(annotations, list) or not all(isinstance(one, dict) for one in annotations):
        raise NoteFileError(f'{file} is no JAMS file: it lacks a list "annotations".')
    return annotations


def _observations(file: FileRef, annotation: Mapping[str, Any]) -> np.ndarray:
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


def read_csv(file: FileRef, *, program: int = 0) -> ReadNotes:
    """The notes of a CSV file; pitches are rounded to the nearest semitone.

    Args:
      file: a path or a member of an archive.
      program: of pitched notes whose program is blank.

    Raises:
      NoteFileError: naming the line and column at fault.
      OSError: when it cannot be read.
    """
    header, rows = _csv_rows(file)
    defaults = {**_CSV_DEFAULTS, "program": program}
    columns = {}
    for name, known_names in _CSV_NAMES.items():
        index = next((header.index(known) for known in known_names if known in header), len(header))
        cells = [(line, row[index].strip() if index < len(row) else "") for line, row in rows]
        values = [_csv_value(file, name, defaults.get(name), line, text) for line, text in cells]
        columns[name] = np.array(values, np.float64)
    return notes_of_columns(**columns)


def _csv_rows(file: FileRef) -> tuple[list[str], list[tuple[int, list[str]]]]:
    """The names in the header line, and (line number, cells) of each row that is not blank."""
    try:
        reader = csv.reader(io.StringIO(file.read_bytes().decode("utf-8-sig"), newline=""))
        header = [cell.strip().lower() for cell in next(reader, [])]
        rows = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except (UnicodeDecodeError, csv.Error) as error:
        raise NoteFileError(f"{file} is no CSV file ({error}).") from error
    missing = [name for name in _CSV_REQUIRED if not set(_CSV_NAMES[name]) & set(header)]
    if missing:
        raise NoteFileError(
            f"{file}: the header line has no {', no '.join(missing)}; "
            f"it must name {', '.join(_CSV_REQUIRED)} and may name velocity, program, is_drum."
        )
    return header, rows


def _csv_value(file: FileRef, name: str, default: float | None, line: int, text: str) -> float:
    """One cell as a number.

    Raises:
      NoteFileError: when it cannot be that of its column.
    """
    if not text and default is not None:
        return default
    try:
        value = _FLAGS[text.lower()] if name == "is_drum" else float(text)
    except (ValueError, KeyError):
        value = np.nan
    if not np.isfinite(value):
        needed = "0 or 1" if name == "is_drum" else "a number"
        raise NoteFileError(f"{file}, line {line}: {name} is {text!r}; it must be {needed}.")
    if name in ("velocity", "program") and not (value.is_integer() and 0 <= value <= 127):
        raise NoteFileError(f"{file}, line {line}: {name} is {text}; it must be a whole number 0..127.")
    return value


def _read_midi(file: FileRef) -> ReadNotes:
    if isinstance(file, Path):
        return read_midi(file), {}
    try:
        return read_midi(file.read_bytes()), {}
    except MidiError as error:
        raise NoteFileError(f"{file}: {error}") from error


# Suffix, lower case -> how such a file is read.
_READERS: dict[str, Callable[[FileRef, int], ReadNotes]] = {
    ".mid": lambda file, program: _read_midi(file),
    ".midi": lambda file, program: _read_midi(file),
    ".jams": lambda file, program: read_jams(file, program=program),
    ".csv": lambda file, program: read_csv(file, program=program),
}


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
