"""The notes of a NoteSequence as protobuf's wire format, written by arrays.

Building a message note by note in Python costs more than anything else that is
done with the labels of a large dataset. Promises: the bytes are those that
protobuf writes for the same notes (fields by number, zeros left out).
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

_VARINT, _FIXED64, _MESSAGE = 0, 1, 2  # wire types
_NOTES_FIELD = 8
_VARINT_BITS = 7  # of a number, in each byte

# Rows of bytes, and which of them are written: uint8 and bool [num_notes, width].
_Bytes = tuple[np.ndarray, np.ndarray]


def encode_notes(
    onset_seconds: np.ndarray,
    offset_seconds: np.ndarray,
    pitch: np.ndarray,
    velocity: np.ndarray,
    program: np.ndarray,
    is_drum: np.ndarray,
    instrument: np.ndarray,
) -> bytes:
    """`NoteSequence.notes` of notes, in their order; every argument is [num_notes].

    The bytes may stand anywhere in a serialized NoteSequence, or be merged into a message.
    """
    # In the order of the field numbers, as protobuf writes them.
    body, written = _joined(
        [
            _integers(1, pitch),
            _integers(2, velocity),
            _doubles(3, onset_seconds),
            _doubles(4, offset_seconds),
            _integers(7, instrument),
            _integers(8, program),
            _integers(9, is_drum),
        ]
    )
    # No note takes 128 bytes, so that its length is one byte.
    head = np.empty((len(body), 2), np.uint8)
    head[:, 0] = _tag(_NOTES_FIELD, _MESSAGE)
    head[:, 1] = written.sum(axis=1)
    rows, written = _joined([(head, np.ones(head.shape, bool)), (body, written)])
    return rows[written].tobytes()


def _tag(field: int, wire_type: int) -> int:
    return field << 3 | wire_type


def _integers(field: int, values: np.ndarray) -> _Bytes:
    """int32 or bool as varints: 7 bits a byte, the lowest first, the eighth bit set where more follow."""
    numbers = values.astype(np.int64).view(np.uint64)  # protobuf writes a negative int32 as 64 bits
    num_bytes = -(-int(numbers.max(initial=1)).bit_length() // _VARINT_BITS)
    left = numbers[:, None] >> (_VARINT_BITS * np.arange(num_bytes)).astype(np.uint64)
    written = left > 0  # the first byte of a zero is not written, and then the field is not
    digits = (left & np.uint64(0x7F)).astype(np.uint8)
    digits[:, :-1] |= written[:, 1:].astype(np.uint8) << _VARINT_BITS
    return _tagged(_tag(field, _VARINT), digits, written)


def _doubles(field: int, values: np.ndarray) -> _Bytes:
    """Little-endian; +0.0 is left out, -0.0 is not."""
    digits = np.ascontiguousarray(values, "<f8").view(np.uint8).reshape(len(values), 8)
    written = np.repeat(digits.any(axis=1, keepdims=True), 8, axis=1)
    return _tagged(_tag(field, _FIXED64), digits, written)


def _tagged(tag: int, digits: np.ndarray, written: np.ndarray) -> _Bytes:
    tags = np.full((len(digits), 1), tag, np.uint8)
    return _joined([(tags, written[:, :1]), (digits, written)])


def _joined(parts: Iterable[_Bytes]) -> _Bytes:
    rows, written = zip(*parts, strict=True)
    return np.hstack(rows), np.hstack(written)
