"""Notes as files: written, and where the format holds notes exactly enough, read back.

`FORMATS` is the one table: a row a format, chosen by name or by suffix.
`write_transcription` writes what a transcriber heard; `write_notes` plain notes;
`read_notes` and `read_document` read. JSON, CSV and NoteSequence give back the
very notes that were written, in their order (a NoteSequence without the programs
of drums); MIDI rounds times to its ticks. Scores, pictures and sound are written
only. Files appear under their name only once complete.

The JSON document (version 1)::

    {"format": "mt3.notes", "version": 1,
     "metadata": {...},                      # whatever the writer was given
     "notes": [{"onset_seconds": 0.5, "offset_seconds": 1.25, "pitch": 60,
                "velocity": 100, "program": 0, "is_drum": false,
                "confidence": 0.93}, ...]}

The CSV file has a header line with the same names and `is_drum` as 0 or 1.
In both, velocity, program and is_drum may be missing or, in CSV, blank; they
then are unknown (0), piano (0) and no drum. So they are in JAMS, which lacks them.
Confidence (0..1) is there where the writer knew it.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mt3.files import atomic_path
from mt3.inference.formats.csv_notes import read_csv, write_csv
from mt3.inference.formats.documents import FormatError, Metadata, NoteDocument, OutputOptions
from mt3.inference.formats.json_notes import read_json_document, write_json
from mt3.inference.formats.midi import read_midi_document, write_midi_document
from mt3.inference.formats.music_xml import write_music_xml
from mt3.inference.formats.note_sequences import (
    read_note_sequence,
    read_note_sequence_text,
    write_note_sequence,
    write_note_sequence_text,
)
from mt3.inference.formats.pictures import write_png, write_svg
from mt3.inference.formats.sound import write_comparison, write_rendering
from mt3.symbolic.jams_reading import read_jams
from mt3.symbolic.notes import Notes

if TYPE_CHECKING:
    from mt3.inference.transcription import Transcription

__all__ = [
    "FORMATS",
    "READ_FORMATS",
    "WRITTEN_FORMATS",
    "FormatError",
    "NoteDocument",
    "NoteFormat",
    "OutputOptions",
    "format_of",
    "output_path",
    "read_document",
    "read_json",
    "read_notes",
    "write_notes",
    "write_transcription",
]


@dataclasses.dataclass(frozen=True)
class NoteFormat:
    """One way to keep notes in a file.

    Attributes:
      label: what it is, for people.
      suffixes: of file names, lower case; the first is the usual one.
      read: what a path holds; None where the format is only written.
      write: a document to a path; None where the format is only read.
      modules: what has to be importable to write it, beyond the package's own needs.
      extra: the package's extra that installs them.
      needs_audio: whether it is written from the recording too.
    """

    label: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], NoteDocument] | None
    write: Callable[[NoteDocument, Path], None] | None
    modules: tuple[str, ...] = ()
    extra: str | None = None
    needs_audio: bool = False

    @property
    def suffix(self) -> str:
        """The suffix that such files usually have."""
        return self.suffixes[0]

    @property
    def missing(self) -> str | None:
        """None where it can be written here, else what to install."""
        absent = [name for name in self.modules if importlib.util.find_spec(name) is None]
        return f"{', '.join(absent)} is not installed: pip install 'mt3[{self.extra}]'" if absent else None


def _read_jams(path: Path) -> NoteDocument:
    return NoteDocument(read_jams(path)[0])


FORMATS: dict[str, NoteFormat] = {
    "midi": NoteFormat("MIDI", (".mid", ".midi"), read_midi_document, write_midi_document),
    "json": NoteFormat("JSON", (".json",), read_json_document, write_json),
    "csv": NoteFormat("CSV", (".csv",), read_csv, write_csv),
    "note_sequence": NoteFormat("NoteSequence", (".pb",), read_note_sequence, write_note_sequence),
    "note_sequence_text": NoteFormat(
        "NoteSequence, text", (".pbtxt",), read_note_sequence_text, write_note_sequence_text
    ),
    "jams": NoteFormat("JAMS", (".jams",), _read_jams, None),
    "musicxml": NoteFormat("Score (MusicXML)", (".musicxml",), None, write_music_xml),
    "svg": NoteFormat("Piano roll (SVG)", (".svg",), None, write_svg),
    "png": NoteFormat("Piano roll (PNG)", (".png",), None, write_png, ("PIL",), "pictures"),
    "rendering": NoteFormat("Notes as sound (WAV)", (".rendering.wav",), None, write_rendering),
    "comparison": NoteFormat(
        "Recording left, notes right (WAV)", (".comparison.wav",), None, write_comparison, needs_audio=True
    ),
}

READ_FORMATS: tuple[str, ...] = tuple(name for name, entry in FORMATS.items() if entry.read is not None)
WRITTEN_FORMATS: tuple[str, ...] = tuple(name for name, entry in FORMATS.items() if entry.write is not None)


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
    return read_document(path, format).notes


def read_document(path: str | os.PathLike[str], format: str | None = None) -> NoteDocument:
    """The notes of a file with their confidence and metadata, as far as it has them.

    Raises:
      as `read_notes`.
    """
    path = Path(path)
    format = format_of(path, format)
    reader = FORMATS[format].read
    if reader is None:
        raise FormatError(f"{path}: {format} is only written; read {', '.join(READ_FORMATS)}.")
    return reader(path)


def read_json(path: Path) -> tuple[Notes, dict[str, Any]]:
    """Notes and metadata of a JSON file.

    Raises:
      FormatError: when it is not JSON of the documented form.
    """
    document = read_json_document(path)
    return document.notes, dict(document.metadata)


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
      FormatError: for an unknown format or suffix, one that is only read, or that cannot be written here.
      ValueError: for notes or metadata that the format cannot hold.
      OSError: when it cannot be written.
    """
    path = Path(path)
    _write(NoteDocument(notes, metadata=metadata or {}, name=path.stem), path, format_of(path, format))


def write_transcription(
    transcription: Transcription,
    path: str | os.PathLike[str],
    format: str,
    *,
    options: OutputOptions = OutputOptions(),
    audio: str | os.PathLike[str] | None = None,
    metadata: Metadata | None = None,
) -> Path:
    """Writes what was heard in a recording, replacing what was there only when all is written.

    Args:
      transcription: the notes with their confidence.
      path: the file, or its name without the format's suffix, which is added then.
      format: one of `WRITTEN_FORMATS`.
      options: choices of what is written.
      audio: the recording; needed where the format's `needs_audio` is true.
      metadata: JSON values to keep beside the counts of the transcription, where the format can.

    Returns:
      the path that was written.

    Raises:
      FormatError: for an unknown format, one that is only read, or that cannot be written here.
      AudioError: when the recording is needed and cannot be read.
      ValueError: for notes that the format cannot hold.
      OSError: when it cannot be written.
    """
    path = output_path(path, format)
    audio = None if audio is None else Path(audio)
    counts = {name: getattr(transcription, name) for name in _COUNTS}
    document = NoteDocument(
        notes=transcription.notes,
        confidence=transcription.confidence,
        metadata=counts | dict(metadata or {}),
        duration_seconds=transcription.duration_seconds,
        audio=audio,
        name=path.stem if audio is None else audio.stem,
        options=options,
    )
    _write(document, path, format)
    return path


_COUNTS = ("duration_seconds", "num_events", "invalid_events", "dropped_events", "truncated_segments")


def output_path(path: str | os.PathLike[str], format: str) -> Path:
    """`path`, with the format's suffix added where it has none of the format's.

    Raises:
      FormatError: for an unknown format.
    """
    path = Path(path)
    suffixes = FORMATS[format_of(path, format)].suffixes
    return path if path.name.lower().endswith(suffixes) else path.with_name(path.name + suffixes[0])


def _write(document: NoteDocument, path: Path, format: str) -> None:
    entry = FORMATS[format]
    if entry.write is None:
        raise FormatError(f"{path}: {format} is only read; write {', '.join(WRITTEN_FORMATS)}.")
    if problem := entry.missing:
        raise FormatError(f"{path}: {problem}.")
    if entry.needs_audio and document.audio is None:
        raise FormatError(f"{path}: {format} is written from the recording too; name the audio file.")
    with atomic_path(path) as temporary:
        entry.write(document, temporary)


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
        if path.name.lower().endswith(entry.suffixes):
            return name
    known = ", ".join(suffix for entry in FORMATS.values() for suffix in entry.suffixes)
    raise FormatError(f"{path}: notes are kept in files that end in {known}; name the format to use another.")
