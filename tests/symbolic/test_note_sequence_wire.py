"""Notes on the wire, against what protobuf itself writes for them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from mt3.symbolic.note_sequence_proto import note_sequence_class
from mt3.symbolic.note_sequence_wire import encode_notes

int32 = st.integers(-(2**31), 2**31 - 1) | st.sampled_from([0, 1, 127, 128, 16383, 16384])
double = st.floats(allow_nan=False) | st.sampled_from([0.0, -0.0])
note = st.fixed_dictionaries(
    {
        "start_time": double,
        "end_time": double,
        "pitch": int32,
        "velocity": int32,
        "program": int32,
        "is_drum": st.booleans(),
        "instrument": int32,
    }
)


@given(st.lists(note, max_size=8))
def test_the_bytes_are_those_of_protobuf(notes):
    message = note_sequence_class()()
    for fields in notes:
        message.notes.add(**fields)

    columns = {name: [fields[name] for fields in notes] for name in note_fields()}
    content = encode_notes(
        onset_seconds=np.array(columns["start_time"], np.float64),
        offset_seconds=np.array(columns["end_time"], np.float64),
        pitch=np.array(columns["pitch"], np.int32),
        velocity=np.array(columns["velocity"], np.int32),
        program=np.array(columns["program"], np.int32),
        is_drum=np.array(columns["is_drum"], bool),
        instrument=np.array(columns["instrument"], np.int32),
    )

    assert content == message.SerializeToString(deterministic=True)


def note_fields() -> tuple[str, ...]:
    return ("start_time", "end_time", "pitch", "velocity", "program", "is_drum", "instrument")
