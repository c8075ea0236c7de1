"""Notes as rows of named values, which JSON and CSV files have in common."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mt3.inference.formats.documents import FormatError, NoteDocument
from mt3.symbolic.notes import COLUMNS, Notes

CONFIDENCE = "confidence"


def columns_of(document: NoteDocument) -> tuple[str, ...]:
    """The names of what is written of each note."""
    return COLUMNS if _written_confidence(document) is None else (*COLUMNS, CONFIDENCE)


def rows_of(document: NoteDocument, flags: tuple[Any, Any]) -> Iterator[tuple[Any, ...]]:
    """Each note as Python values in the order of `columns_of`; `flags` stand for False and True.

    A confidence is text: the shortest that gives back the float32.
    """
    notes, confidence = document.notes, _written_confidence(document)
    columns = [getattr(notes, name).tolist() for name in COLUMNS[:-1]]
    columns.append([flags[is_drum] for is_drum in notes.is_drum.tolist()])
    if confidence is not None:
        columns.append(list(map(str, confidence)))
    return zip(*columns, strict=True)


def _written_confidence(document: NoteDocument) -> np.ndarray | None:
    return document.confidence if document.options.confidence else None


def parse_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> NoteDocument:
    """Notes of mappings whose values are numbers or their texts; confidences where all rows have one.

    Raises:
      FormatError: naming the row and column at fault.
    """
    columns = {name: _parse_column(path, rows, name) for name in COLUMNS}
    known = bool(rows) and all(row.get(CONFIDENCE) not in (None, "") for row in rows)
    confidence = np.array(_parse_column(path, rows, CONFIDENCE), np.float32) if known else None
    return NoteDocument(Notes(**columns), confidence)


def _parse_column(path: Path, rows: Sequence[Mapping[str, Any]], name: str) -> Any:
    parse, needed = _FIELDS[name]
    default = DEFAULTS.get(name)
    values = [default if (value := row.get(name)) is None or value == "" else value for row in rows]
    parsed: list[Any] = []
    try:
        parsed.extend(map(parse, values))
    except (TypeError, ValueError, OverflowError) as error:
        number = len(parsed)
        raise FormatError(f"{path}: {name} of note {number} is {values[number]!r}; {needed}.") from error
    return parsed


def check_midi_numbers(path: Path, notes: Notes) -> Notes:
    """`notes`, if they are within MIDI's range.

    Raises:
      FormatError: naming the note and column at fault.
    """
    for name in ("pitch", "velocity", "program"):
        values = getattr(notes, name)
        outside = np.flatnonzero((values < 0) | (values > 127))
        if len(outside):
            value = values[outside[0]]
            raise FormatError(f"{path}: {name} of note {outside[0]} is {value}; {_MIDI_NUMBER[1]}.")
    return notes


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


def _parse_share(value: Any) -> float:
    share = float(value)
    if not 0 <= share <= 1:
        raise ValueError(value)
    return share


# How a value is read, and what to say where it cannot be.
_SECONDS = (_parse_seconds, "it must be a finite number of seconds")
_MIDI_NUMBER = (_parse_midi_number, "it must be a whole number 0..127")
_FIELDS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "onset_seconds": _SECONDS,
    "offset_seconds": _SECONDS,
    "pitch": _MIDI_NUMBER,
    "velocity": _MIDI_NUMBER,
    "program": _MIDI_NUMBER,
    "is_drum": (_parse_flag, "it must be 0, 1, false or true"),
    CONFIDENCE: (_parse_share, "it must be a number 0..1"),
}
# What may be missing is unknown, piano, or no drum.
DEFAULTS: dict[str, Any] = {"velocity": 0, "program": 0, "is_drum": False}
