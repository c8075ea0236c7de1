"""The framing of TFRecord files, which TensorBoard's event files share.

A record is its length, a checksum of that, the payload, and a checksum of that;
all little-endian.
"""

from __future__ import annotations

import struct

import google_crc32c

LENGTH = struct.Struct("<Q")
CRC = struct.Struct("<I")
_CRC_MASK_DELTA = 0xA282EAD8


def masked_crc(data: bytes) -> bytes:
    """TFRecord's checksum: CRC-32C rotated right by 15 bits plus a constant."""
    crc = int(google_crc32c.value(data))
    return CRC.pack((((crc >> 15) | (crc << 17)) + _CRC_MASK_DELTA) & 0xFFFFFFFF)


def frame_record(payload: bytes) -> bytes:
    """The bytes of one record."""
    length = LENGTH.pack(len(payload))
    return b"".join((length, masked_crc(length), payload, masked_crc(payload)))
