"""Notes as MIDI files; see `mt3.symbolic.midi_writing`."""

from __future__ import annotations

from pathlib import Path

from mt3.inference.formats.documents import NoteDocument
from mt3.symbolic.beats import estimate_beats
from mt3.symbolic.midi_reading import read_midi
from mt3.symbolic.midi_writing import write_midi


def read_midi_document(path: Path) -> NoteDocument:
    """Raises: MidiError: for what is not a MIDI file, or a broken one."""
    return NoteDocument(read_midi(path))


def write_midi_document(document: NoteDocument, path: Path) -> None:
    """Writes a track an instrument, in beats of the music where the options ask for a tempo map."""
    options = document.options
    beats = None
    if options.tempo_map:
        beats = estimate_beats(document.notes, beats_per_measure=options.beats_per_measure)
    write_midi(document.notes, path, beats=beats)
