"""Note labels as researchers keep them, to `Notes`: MIDI, JAMS and CSV files.

Files may lie in folders or archives. Each reader gives the notes, sorted, and
how many it left out because they cannot be, by reason; see
`mt3.symbolic.note_columns`. A file that is not what its suffix says is a
`NoteFileError` of one line that names it. JAMS: see `mt3.symbolic.jams_reading`.

CSV: a header line with `onset_seconds`, `offset_seconds`, `pitch` and, if
wanted, `velocity`, `program` and `is_drum` (0 or 1), in any order; other columns
are ignored. `onset_s`, `offset_s` and `midi_pitch` are read, too. What
`mt3.inference.formats` writes is of this form. A blank or missing velocity is
unknown (0), a blank or missing program is the reader's default.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mt3.data.file_tree import FileRef
from mt3.symbolic.conversions import MidiError, read_midi
from mt3.symbolic.jams_reading import read_jams
from mt3.symbolic.note_columns import NoteFileError, ReadNotes, notes_of_columns

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
