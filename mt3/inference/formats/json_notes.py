"""Notes as JSON; the document is described in `mt3.inference.formats`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from mt3.inference.formats.documents import FormatError, NoteDocument
from mt3.inference.formats.note_rows import columns_of, parse_rows, rows_of

_FORMAT = "mt3.notes"
_VERSION = 1


def read_json_document(path: Path) -> NoteDocument:
    """Notes, their confidence and metadata of a JSON file; keys that are not known are passed over.

    Raises:
      FormatError: when it is not JSON of the documented form.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise FormatError(f"{path} is not JSON: {error}.") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise FormatError(f'{path} is JSON, but not of notes: it lacks "format": "{_FORMAT}".')
    if document.get("version") != _VERSION:
        raise FormatError(f"{path} has version {document.get('version')!r}; this code reads {_VERSION}.")
    rows, metadata = document.get("notes"), document.get("metadata", {})
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise FormatError(f'{path}: "notes" must be a list of objects.')
    if not isinstance(metadata, dict):
        raise FormatError(f'{path}: "metadata" must be an object.')
    parsed = parse_rows(path, rows)
    return NoteDocument(parsed.notes, parsed.confidence, metadata)


def write_json(document: NoteDocument, path: Path) -> None:
    """Writes the documented form.

    Raises:
      ValueError: for times or metadata that JSON cannot hold.
    """
    head = {"format": _FORMAT, "version": _VERSION, "metadata": dict(document.metadata)}
    for name in ("onset_seconds", "offset_seconds"):
        if not np.isfinite(getattr(document.notes, name)).all():
            raise ValueError(f"{name} has values that are not JSON compliant: they must be finite.")
    # A note a line: as easy to read and to compare as it can be. Put together here: the encoder, called
    # for each note, takes five times as long.
    note = "{" + ", ".join(f'"{name}": %s' for name in columns_of(document)) + "}"
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(head, allow_nan=False)[:-1] + ', "notes": [\n  ')
        for number, row in enumerate(rows_of(document, ("false", "true"))):
            file.write((",\n  " if number else "") + note % row)
        file.write("\n]}\n")
