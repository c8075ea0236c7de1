"""Notes as files: MIDI, JSON, CSV and NoteSequence, written and read back; JAMS, read.

`write_notes` and `read_notes` choose by name or suffix from one table,
`FORMATS`. JSON, CSV and NoteSequence give back the very notes that were
written, in their order (a NoteSequence without the programs of drums); MIDI
rounds times to its ticks. Files appear under their name only once complete.

The JSON document (version 1)::

    {"format": "mt3.notes", "version": 1,
     "metadata": {...},                      # whatever the writer was given
     "notes": [{"onset_seconds": 0.5, "offset_seconds": 1.25, "pitch": 60,
                "velocity": 100, "program": 0, "is_drum": false}, ...]}

The CSV file has a header line with the same names and `is_drum` as 0 or 1.
In both, velocity, program and is_drum may be missing or, in CSV, blank; they
then are unknown (0), piano (0) and no drum. So they are in JAMS, which lacks them.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf import text_format

from mt3.files import atomic_path
from mt3.symbolic.conversions import from_note_sequence, read_midi, to_note_sequence, write_midi
from mt3.symbolic.jams_reading import read_jams
from mt3.symbolic.notes import COLUMNS, Notes

_JSON_FORMAT = "mt3.notes"
_JSON_VERSION = 1
_JSON_NOTE = "{" + ", ".join(f'"{name}": %s' for name in COLUMNS) + "}"

Metadata = Mapping[str, Any]


class FormatError(ValueError):
    """A file that does not hold notes in the format it should."""


@dataclasses.dataclass(frozen=True)
class NoteFormat:
    """One way to keep notes in a file.

    Attributes:
      suffixes: of file names, lower case; the first is the usual one.
      read: notes of a path.
      write: notes, path and metadata; formats without a place for metadata ignore it.
        None where the format is only read.
    """

    suffixes: tuple[str, ...]
    read: Callable[[Path], Notes]
    write: Callable[[Notes, Path, Metadata], None] | None

    @property
    def suffix(self) -> str:
        """The suffix that such files usually have."""
        return self.suffixes[0]


def read_notes(path: str | os.PathLike[str], format: str | None = None) -> Notes:
    """The notes of a file.

    Args:
      path: the file.
      format: a key of `FORMATS`; by default what the suffix says.

    Raises:
      FormatError, MidiError, NoteFileError: when the file does not hold what it should (all are
        `ValueError`s).
      OSError: when it cannot be read.
    """
    path = Path(path)
    return FORMATS[format_of(path, format)].read(path)


def write_notes(
    notes: Notes, path: str | os.PathLike[str], format: str | None = None, *, metadata: Metadata | None = None
) -> None:
    """Writes a file of notes, replacing what was there only when all is written.

    Args:
      notes: in any order.
      path: the file; its folder must exist.
      format: one of `WRITTEN_FORMATS`; by default what the suffix says.
      metadata: JSON values to keep beside the notes, where the format can.

    Raises:
      FormatError: for an unknown format or suffix, or one that is only read.
      ValueError: for notes or metadata that the format cannot hold.
    """
    path = Path(path)
    format = format_of(path, format)
    writer = FORMATS[format].write
    if writer is None:
        raise FormatError(f"{path}: {format} is only read; write {', '.join(WRITTEN_FORMATS)}.")
    with atomic_path(path) as temporary:
        writer(notes, temporary, metadata or {})


def format_of(path: Path, format: str | None = None) -> str:
    """The key of `FORMATS` for a path, or `format` itself after a check.

    Raises:
      FormatError: when there is none.
    """
    if format is not None:
        if format not in FORMATS:
            raise FormatError(f"Note format {format!r} is none of {', '.join(FORMATS)}.")
        return format
    for name, entry in FORMATS.items():
        if path.suffix.lower() in entry.suffixes:
            return name
    known = ", ".join(suffix for entry in FORMATS.values() for suffix in entry.suffixes)
    raise FormatError(f"{path}: notes are kept in files that end in {known}; name the format to use another.")


def read_json(path: Path) -> tuple[Notes, dict[str, Any]]:
    """Notes and metadata of a JSON file.

    Raises:
      FormatError: when it is not JSON of the documented form.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path} is not JSON: {error}.") from error
    if not isinstance(document, dict) or document.get("format") != _JSON_FORMAT:
        raise FormatError(f'{path} is JSON, but not of notes: it lacks "format": "{_JSON_FORMAT}".')
    if document.get("version") != _JSON_VERSION:
        raise FormatError(f"{path} has version {document.get('version')!r}; this code reads {_JSON_VERSION}.")
    rows, metadata = document.get("notes"), document.get("metadata", {})
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FormatError(f'{path}: "notes" must be a list of objects.')
    if not isinstance(metadata, dict):
        raise FormatError(f'{path}: "metadata" must be an object.')
    return _parse_rows(path, rows), metadata


def _write_json(notes: Notes, path: Path, metadata: Metadata) -> None:
    head = {"format": _JSON_FORMAT, "version": _JSON_VERSION, "metadata": dict(metadata)}
    for name in ("onset_seconds", "offset_seconds"):
        if not np.isfinite(getattr(notes, name)).all():
            raise ValueError(f"{name} has values that are not JSON compliant: they must be finite.")
    # A note a line: as easy to read and to compare as it can be. Put together here: the encoder, called
    # for each note, takes five times as long.
    lines = ",\n  ".join(map(_JSON_NOTE.__mod__, _rows(notes, ("false", "true"))))
    text = json.dumps(head, allow_nan=False)[:-1] + ', "notes": [\n  ' + lines + "\n]}\n"
    path.write_text(text, encoding="utf-8")


def _read_csv(path: Path) -> Notes:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (*(reader.fieldnames or ()), *_DEFAULTS)]
            if missing:
                raise FormatError(f"{path}: the header line has no {', no '.join(missing)}.")
            return _parse_rows(path, list(reader))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path} is not CSV: {error}.") from error


def _write_csv(notes: Notes, path: Path, metadata: Metadata) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(_rows(notes, (0, 1)))


def _read_midi(path: Path) -> Notes:
    return read_midi(path)


def _write_midi(notes: Notes, path: Path, metadata: Metadata) -> None:
    write_midi(notes, path)


def _read_note_sequence(path: Path) -> Notes:
    try:
        return _checked(path, from_note_sequence(path.read_bytes()))
    except FormatError:
        raise
    except ValueError as error:
        raise FormatError(f"{path} is not a NoteSequence: {error}") from error


def _checked(path: Path, notes: Notes) -> Notes:
    """`notes`, if they are within MIDI's range, which a NoteSequence need not be."""
    for name in ("pitch", "velocity", "program"):
        values = getattr(notes, name)
        outside = np.flatnonzero((values < 0) | (values > 127))
        if len(outside):
            value = values[outside[0]]
            raise FormatError(f"{path}: {name} of note {outside[0]} is {value}; {_MIDI_NUMBER[1]}.")
    return notes


def _write_note_sequence(notes: Notes, path: Path, metadata: Metadata) -> None:
    path.write_bytes(to_note_sequence(notes).SerializeToString())


def _read_note_sequence_text(path: Path) -> Notes:
    message = to_note_sequence(Notes.empty())
    message.Clear()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not a NoteSequence in text form: {error}") from error
    return _checked(path, from_note_sequence(message))


def _write_note_sequence_text(notes: Notes, path: Path, metadata: Metadata) -> None:
    path.write_text(text_format.MessageToString(to_note_sequence(notes)), encoding="utf-8")


FORMATS: dict[str, NoteFormat] = {
    "midi": NoteFormat((".mid", ".midi"), _read_midi, _write_midi),
    "json": NoteFormat((".json",), lambda path: read_json(path)[0], _write_json),
    "csv": NoteFormat((".csv",), _read_csv, _write_csv),
    "note_sequence": NoteFormat((".pb",), _read_note_sequence, _write_note_sequence),
    "note_sequence_text": NoteFormat((".pbtxt",), _read_note_sequence_text, _write_note_sequence_text),
    "jams": NoteFormat((".jams",), lambda path: read_jams(path)[0], None),
}

WRITTEN_FORMATS: tuple[str, ...] = tuple(name for name, entry in FORMATS.items() if entry.write is not None)


def _rows(notes: Notes, flags: tuple[Any, Any]) -> Iterator[tuple[Any, ...]]:
    """Each note as Python numbers in the order of `COLUMNS`; `flags` stand for False and True."""
    columns = [getattr(notes, name).tolist() for name in COLUMNS[:-1]]
    return zip(*columns, [flags[is_drum] for is_drum in notes.is_drum.tolist()], strict=True)


def _parse_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> Notes:
    """Notes of mappings whose values are numbers or their texts.

    Raises:
      FormatError: naming the row and column at fault.
    """
    columns = {}
    for name, (parse, needed) in _FIELDS.items():
        default = _DEFAULTS.get(name)
        values = [default if (value := row.get(name)) is None or value == "" else value for row in rows]
        parsed: list[Any] = []
        try:
            parsed.extend(map(parse, values))
        except (TypeError, ValueError, OverflowError) as error:
            number = len(parsed)
            raise FormatError(f"{path}: {name} of note {number} is {values[number]!r}; {needed}.") from error
        columns[name] = parsed
    return Notes(**columns)


def _parse_seconds(value: Any) -> float:
    seconds = float(value)
    if not math.isfinite(seconds):
        raise ValueError(seconds)
    return seconds


def _parse_midi_number(value: Any) -> int:
    number = float(value)
    if number != int(number) or not 0 <= number <= 127:
        raise ValueError(value)
    return int(number)


def _parse_flag(value: Any) -> bool:
    text = str(value).strip().lower()
    if text not in ("0", "1", "false", "true"):
        raise ValueError(value)
    return text in ("1", "true")


# How a value is read, and what to say where it cannot be.
_SECONDS = (_parse_seconds, "it must be a finite number of seconds")
_MIDI_NUMBER = (_parse_midi_number, "it must be a whole number 0..127")
_FLAG = (_parse_flag, "it must be 0, 1, false or true")
_FIELDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "onset_seconds": _SECONDS,
    "offset_seconds": _SECONDS,
    "pitch": _MIDI_NUMBER,
    "velocity": _MIDI_NUMBER,
    "program": _MIDI_NUMBER,
    "is_drum": _FLAG,
}
_DEFAULTS: dict[str, Any] = {"velocity": 0, "program": 0, "is_drum": False}
