"""Notes as CSV: a header line and a line a note."""

from __future__ import annotations

import csv
from pathlib import Path

from mt3.inference.formats.documents import FormatError, NoteDocument
from mt3.inference.formats.note_rows import DEFAULTS, columns_of, parse_rows, rows_of
from mt3.symbolic.notes import COLUMNS


def read_csv(path: Path) -> NoteDocument:
    """Notes and their confidence; columns that are not known are passed over.

    Raises:
      FormatError: when it is not CSV with the columns that are needed.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [name for name in COLUMNS if name not in (*(reader.fieldnames or ()), *DEFAULTS)]
            if missing:
                raise FormatError(f"{path}: the header line has no {', no '.join(missing)}.")
            return parse_rows(path, list(reader))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FormatError(f"{path} is not CSV: {error}.") from error


def write_csv(document: NoteDocument, path: Path) -> None:
    """Writes the documented form; metadata have no place in it."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns_of(document))
        writer.writerows(rows_of(document, (0, 1)))
