import importlib
import warnings

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt3.symbolic.conversions import (
    from_note_sequence,
    from_pretty_midi,
    to_note_sequence,
    to_pretty_midi,
)
from mt3.symbolic.note_sequence_proto import note_sequence_class
from mt3.symbolic.notes import Notes

# Valid: program 0 for drums, as `Notes` has it; everything else that MIDI can hold, and unknown velocities.
_ROW = st.tuples(
    st.floats(0, 1e5),
    st.floats(0, 1e5),
    st.integers(0, 127),
    st.integers(0, 127),
    st.integers(0, 127),
    st.booleans(),
).map(lambda row: (*row[:4], 0 if row[5] else row[4], row[5]))
_NOTES = st.lists(_ROW, max_size=20).map(Notes.from_rows)


@settings(deadline=None, max_examples=100)
@given(notes=_NOTES)
def test_note_sequences_hold_notes_exactly(notes):
    message = to_note_sequence(notes, id="piece")
    assert from_note_sequence(message) == notes
    assert from_note_sequence(message.SerializeToString()) == notes
    assert (message.id, message.total_time) == ("piece", notes.end_seconds)


@settings(deadline=None, max_examples=50)
@given(notes=_NOTES.map(lambda notes: notes[(notes.velocity > 0) & (notes.duration_seconds >= 0)]))
def test_pretty_midi_holds_notes_exactly(notes):
    """Of known velocity and with an end that is not before their start."""
    assert from_pretty_midi(to_pretty_midi(notes)) == notes.sorted()


def test_instruments_are_numbered_around_the_drums():
    notes = Notes.from_rows([(0.0, 1.0, 60, 80, program, False) for program in range(12)])
    notes = Notes.concatenate([notes, Notes.from_rows([(0.0, 1.0, 38, 80, 0, True)])])
    message = to_note_sequence(notes)
    assert [note.instrument for note in message.notes] == [*range(9), 10, 11, 12, 9]
    names = {info.instrument: info.name for info in message.instrument_infos}
    assert (names[0], names[9]) == ("Acoustic Grand Piano", "Drums")


@pytest.fixture(scope="module")
def music_pb2():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return importlib.import_module("note_seq.protobuf.music_pb2")
        except ImportError:
            pytest.skip("note_seq is not installed")


def _assert_part_of(ours, theirs):
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        assert (field.number, field.type) == (other.number, other.type), field.name
        if field.message_type:
            _assert_part_of(field.message_type, other.message_type)


def test_fields_are_numbered_as_in_note_seq(music_pb2):
    ours, theirs = note_sequence_class().DESCRIPTOR, music_pb2.NoteSequence.DESCRIPTOR
    assert ours.full_name == theirs.full_name
    _assert_part_of(ours, theirs)


@settings(deadline=None, max_examples=25)
@given(notes=_NOTES)
def test_note_seq_reads_and_writes_the_same_bytes(music_pb2, notes):
    content = to_note_sequence(notes, id="piece").SerializeToString()
    theirs = music_pb2.NoteSequence.FromString(content)
    assert theirs.SerializeToString() == content
    assert from_note_sequence(theirs) == notes


def test_fields_of_note_seq_that_are_not_known_here_are_kept(music_pb2):
    theirs = music_pb2.NoteSequence(id="piece")
    theirs.key_signatures.add(time=1.0, key=3)
    theirs.sequence_metadata.title = "Title"
    theirs.notes.add(pitch=60, velocity=80, end_time=1.0, numerator=3)
    content = theirs.SerializeToString()
    ours = note_sequence_class().FromString(content)
    assert music_pb2.NoteSequence.FromString(ours.SerializeToString()) == theirs


def test_the_pedal_of_each_instrument_is_applied():
    message = to_note_sequence(Notes.from_rows([(0.0, 0.5, 60, 80, 0, False), (0.0, 0.5, 60, 80, 40, False)]))
    message.control_changes.add(time=0.2, control_number=64, control_value=100, instrument=1)
    message.control_changes.add(time=0.2, control_number=7, control_value=100, instrument=0)
    message.control_changes.add(time=1.2, control_number=64, control_value=0, instrument=1)
    assert from_note_sequence(message).offset_seconds.tolist() == [0.5, 1.2]
    assert from_note_sequence(message, apply_sustain=False).offset_seconds.tolist() == [0.5, 0.5]


def test_the_pedal_of_a_pretty_midi_instrument_is_applied():
    pretty_midi = pytest.importorskip("pretty_midi")
    midi = to_pretty_midi(Notes.from_rows([(0.0, 0.5, 60, 80, 0, False), (0.0, 0.5, 60, 80, 40, False)]))
    midi.instruments[1].control_changes += [
        pretty_midi.ControlChange(64, 127, 0.2),
        pretty_midi.ControlChange(64, 0, 2.0),
    ]
    assert from_pretty_midi(midi).offset_seconds.tolist() == [0.5, 2.0]
    assert from_pretty_midi(midi, apply_sustain=False).offset_seconds.tolist() == [0.5, 0.5]


def test_bytes_that_are_no_sequence_are_refused():
    with pytest.raises(ValueError, match="3 bytes are no NoteSequence"):
        from_note_sequence(b"\xff\xff\xff")
