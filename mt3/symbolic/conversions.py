"""Notes from and to other representations: MIDI files, NoteSequence, pretty_midi.

`Notes` is what the project works with; all conversions start or end there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mt3.symbolic.general_midi import program_name
from mt3.symbolic.midi_reading import MidiError, MidiSource, read_midi
from mt3.symbolic.midi_writing import write_midi
from mt3.symbolic.note_cleaning import PedalChanges
from mt3.symbolic.note_cleaning import apply_sustain as _apply_sustain
from mt3.symbolic.note_sequence_proto import note_sequence_class
from mt3.symbolic.note_sequence_wire import encode_notes
from mt3.symbolic.notes import COLUMNS, Notes
from mt3.symbolic.vocabularies import DEFAULT_VELOCITY

if TYPE_CHECKING:
    import pretty_midi

__all__ = [
    "MidiError",
    "MidiSource",
    "from_note_sequence",
    "from_pretty_midi",
    "read_midi",
    "to_note_sequence",
    "to_pretty_midi",
    "write_midi",
]

_SUSTAIN_CONTROLLER = 64
# By convention the instrument number of drums, after MIDI's channel.
_DRUM_INSTRUMENT = 9
_TICKS_PER_QUARTER = 220


def to_note_sequence(notes: Notes, id: str = "") -> Any:
    """A NoteSequence message with the notes, in their order; `.SerializeToString()` gives its bytes.

    Args:
      notes: any.
      id: the sequence's identifier.
    """
    message = note_sequence_class()(id=id, ticks_per_quarter=_TICKS_PER_QUARTER, total_time=notes.end_seconds)
    numbers = _instrument_numbers(notes)
    for (program, is_drum), number in numbers.items():
        message.instrument_infos.add(instrument=number, name=program_name(program, is_drum))
    columns = {name: getattr(notes, name) for name in COLUMNS}
    message.MergeFromString(encode_notes(**columns, instrument=_instruments(notes, numbers)))
    return message


# Column of Notes -> field of NoteSequence.Note
_NOTE_FIELDS = {
    "onset_seconds": "start_time",
    "offset_seconds": "end_time",
    "pitch": "pitch",
    "velocity": "velocity",
    "program": "program",
    "is_drum": "is_drum",
}


def _instrument_numbers(notes: Notes) -> dict[tuple[int, bool], int]:
    """A number for each (program, is_drum): 9 for drums, the others in order around it."""
    pitched = [key for key in notes.instruments if not key[1]]
    drums = [key for key in notes.instruments if key[1]]
    numbers = {key: index + (index >= _DRUM_INSTRUMENT) for index, key in enumerate(pitched)}
    return numbers | dict.fromkeys(drums, _DRUM_INSTRUMENT)


def _instruments(notes: Notes, numbers: Mapping[tuple[int, bool], int]) -> np.ndarray:
    """The number of each note's instrument, int32 [num_notes]."""
    instrument = np.zeros(len(notes), np.int32)
    for (program, is_drum), number in numbers.items():
        instrument[(notes.program == program) & (notes.is_drum == is_drum)] = number
    return instrument


def from_note_sequence(sequence: Any, apply_sustain: bool = True) -> Notes:
    """The notes of a NoteSequence, in their order; of drums the program is not kept.

    Args:
      sequence: a message (this project's or note_seq's), or the bytes of one.
      apply_sustain: lengthen notes by the sustain pedal (control changes 64).

    Raises:
      ValueError: for bytes that are no NoteSequence.
    """
    if isinstance(sequence, bytes | bytearray | memoryview):
        sequence = _parse(bytes(sequence))
    rows = list(sequence.notes)
    columns = {
        name: np.array([getattr(note, field) for note in rows]) for name, field in _NOTE_FIELDS.items()
    }
    notes = Notes(**columns)
    notes = notes.replace(program=np.where(notes.is_drum, 0, notes.program))
    if not apply_sustain:
        return notes
    changes = [change for change in sequence.control_changes if change.control_number == _SUSTAIN_CONTROLLER]
    pedal = PedalChanges.from_controller(
        [change.time for change in changes],
        [change.control_value for change in changes],
        [change.instrument for change in changes],
    )
    return _apply_sustain(notes, pedal, [note.instrument for note in rows])


def _parse(content: bytes) -> Any:
    from google.protobuf.message import DecodeError

    try:
        return note_sequence_class().FromString(content)
    except DecodeError as error:
        raise ValueError(f"{len(content)} bytes are no NoteSequence ({error}).") from error


def to_pretty_midi(notes: Notes) -> pretty_midi.PrettyMIDI:
    """A PrettyMIDI with one instrument per program; velocity 0 (unknown) becomes 100."""
    import pretty_midi

    midi = pretty_midi.PrettyMIDI()
    notes = notes.sorted()
    for program, is_drum in notes.instruments:
        own = notes[(notes.program == program) & (notes.is_drum == is_drum)]
        instrument = pretty_midi.Instrument(program, is_drum, program_name(program, is_drum))
        velocity = np.where(own.velocity > 0, own.velocity, DEFAULT_VELOCITY)
        columns = (velocity, own.pitch, own.onset_seconds, own.offset_seconds)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        instrument.notes = [pretty_midi.Note(*row) for row in rows]
        midi.instruments.append(instrument)
    return midi


def from_pretty_midi(midi: pretty_midi.PrettyMIDI, apply_sustain: bool = True) -> Notes:
    """The notes of a PrettyMIDI, sorted; of drums the program is not kept.

    Args:
      midi: any.
      apply_sustain: lengthen notes by the sustain pedal, instrument by instrument.
    """
    rows, owners, changes = [], [], []
    for index, instrument in enumerate(midi.instruments):
        is_drum = bool(instrument.is_drum)
        program = 0 if is_drum else instrument.program
        rows += [(n.start, n.end, n.pitch, n.velocity, program, is_drum) for n in instrument.notes]
        owners += [index] * len(instrument.notes)
        changes += [
            (change.time, change.value, index)
            for change in instrument.control_changes
            if change.number == _SUSTAIN_CONTROLLER
        ]
    notes = Notes.from_rows(rows)
    if apply_sustain and changes:
        notes = _apply_sustain(notes, PedalChanges.from_controller(*zip(*changes, strict=True)), owners)
    return notes.sorted()
