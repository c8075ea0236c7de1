"""Notes as a NoteSequence, serialized or as text."""

from __future__ import annotations

from pathlib import Path

from google.protobuf import text_format

from mt3.inference.formats.documents import FormatError, NoteDocument
from mt3.inference.formats.note_rows import check_midi_numbers
from mt3.symbolic.conversions import from_note_sequence, to_note_sequence
from mt3.symbolic.notes import Notes


def read_note_sequence(path: Path) -> NoteDocument:
    """Raises: FormatError: for bytes that are no NoteSequence, or notes beyond MIDI's range."""
    try:
        notes = from_note_sequence(path.read_bytes())
    except ValueError as error:
        raise FormatError(f"{path} is not a NoteSequence: {error}") from error
    return NoteDocument(check_midi_numbers(path, notes))


def write_note_sequence(document: NoteDocument, path: Path) -> None:
    """Writes the serialized message."""
    path.write_bytes(to_note_sequence(document.notes).SerializeToString())


def read_note_sequence_text(path: Path) -> NoteDocument:
    """Raises: FormatError: as `read_note_sequence`."""
    message = to_note_sequence(Notes.empty())
    message.Clear()
    try:
        text_format.Parse(path.read_text(encoding="utf-8"), message)
    except (text_format.ParseError, UnicodeDecodeError) as error:
        raise FormatError(f"{path} is not a NoteSequence in text form: {error}") from error
    return NoteDocument(check_midi_numbers(path, from_note_sequence(message)))


def write_note_sequence_text(document: NoteDocument, path: Path) -> None:
    """Writes the message as protobuf's text."""
    path.write_text(text_format.MessageToString(to_note_sequence(document.notes)), encoding="utf-8")
