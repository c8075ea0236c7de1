"""The NoteSequence message, wire-compatible with note_seq's, without note_seq.

The message is described here with protobuf's own descriptors and built at first
use, in a pool of its own: note_seq may be imported beside it. Only the fields
that this project reads or writes are described; protobuf carries the others
through unchanged when a message is parsed and written again.
"""

from __future__ import annotations

import functools
from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

FULL_NAME = "magenta.NoteSequence"

# Nested message -> (number, name, type) of each field; a type that names a
# message of this table is a repeated field of it. "" is NoteSequence itself.
_FIELDS: dict[str, tuple[tuple[int, str, str], ...]] = {
    "": (
        (1, "id", "string"),
        (2, "filename", "string"),
        (3, "collection_name", "string"),
        (4, "ticks_per_quarter", "int32"),
        (5, "time_signatures", "TimeSignature"),
        (7, "tempos", "Tempo"),
        (8, "notes", "Note"),
        (9, "total_time", "double"),
        (11, "control_changes", "ControlChange"),
        (18, "reference_number", "int64"),
        (23, "instrument_infos", "InstrumentInfo"),
    ),
    "Note": (
        (1, "pitch", "int32"),
        (2, "velocity", "int32"),
        (3, "start_time", "double"),
        (4, "end_time", "double"),
        (7, "instrument", "int32"),
        (8, "program", "int32"),
        (9, "is_drum", "bool"),
        (10, "part", "int32"),
        (12, "voice", "int32"),
    ),
    "TimeSignature": (
        (1, "time", "double"),
        (2, "numerator", "int32"),
        (3, "denominator", "int32"),
    ),
    "Tempo": (
        (1, "time", "double"),
        (2, "qpm", "double"),
    ),
    "ControlChange": (
        (1, "time", "double"),
        (2, "control_number", "int32"),
        (3, "control_value", "int32"),
        (4, "instrument", "int32"),
        (5, "program", "int32"),
        (6, "is_drum", "bool"),
    ),
    "InstrumentInfo": (
        (1, "instrument", "int32"),
        (2, "name", "string"),
    ),
}


@functools.cache
def note_sequence_class() -> Any:
    """The message class; instances are ordinary protobuf messages."""
    package, name = FULL_NAME.rsplit(".", 1)
    file = descriptor_pb2.FileDescriptorProto(
        name="mt3/note_sequence.proto", package=package, syntax="proto3"
    )
    root = file.message_type.add(name=name)
    for message_name, fields in _FIELDS.items():
        message = root.nested_type.add(name=message_name) if message_name else root
        for number, field_name, field_type in fields:
            _add_field(message, number, field_name, field_type)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(FULL_NAME))


def _add_field(
    message: descriptor_pb2.DescriptorProto, number: int, field_name: str, field_type: str
) -> None:
    kinds = descriptor_pb2.FieldDescriptorProto
    field = message.field.add(name=field_name, number=number, label=kinds.LABEL_OPTIONAL)
    if field_type in _FIELDS:
        field.label = kinds.LABEL_REPEATED
        field.type = kinds.TYPE_MESSAGE
        field.type_name = f".{FULL_NAME}.{field_type}"
    else:
        field.type = kinds.Type.Value(f"TYPE_{field_type.upper()}")
