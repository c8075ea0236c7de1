"""tf.train.Example and TFRecord files without TensorFlow.

The framing is TFRecord's (length, masked CRC-32C of it, payload, masked CRC-32C
of it; all little-endian) and the messages are `tf.train.Example`, so that
TensorFlow, seqio and Beam read what is written here and the other way round.
The message classes are built at run time in a descriptor pool of their own:
TensorFlow, imported beside them, registers the same names in the default pool.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from mt3.record_framing import CRC, LENGTH, frame_record, masked_crc

__all__ = [
    "RecordError",
    "encode_example",
    "frame_record",
    "parse_example",
    "read_tfrecord",
    "read_tfrecord_at",
    "record_offsets",
]

# A feature: bytes or text, integers or floats; one value or several.
Feature = bytes | str | int | float | Sequence[bytes] | Sequence[int] | Sequence[float]

_HEADER_BYTES = LENGTH.size + CRC.size
# A longer record than any sane one: such a length means a damaged file.
_MAX_RECORD_BYTES = 1 << 33
_REMEDY = "delete the split's manifest and prepare it again."


class RecordError(ValueError):
    """A record file that is missing, truncated, damaged or of another schema."""


def read_tfrecord(path: Path) -> Iterator[bytes]:
    """The payloads of a TFRecord file, one by one, checksums verified.

    Raises:
      RecordError: one line that names the file, where it is damaged and what to do.
    """
    try:
        with Path(path).open("rb") as file:
            while (payload := _read_one(file, path)) is not None:
                yield payload
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror}); prepare the dataset again.") from error


def read_tfrecord_at(path: Path, offset: int) -> bytes:
    """The payload of the record that starts at byte `offset`, checksums verified.

    Raises:
      RecordError: as `read_tfrecord`, also where the file ends before it.
    """
    try:
        with Path(path).open("rb") as file:
            file.seek(offset)
            payload = _read_one(file, path)
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror}); prepare the dataset again.") from error
    if payload is None:
        raise RecordError(f"{path} is truncated: it ends before byte {offset}; {_REMEDY}")
    return payload


def record_offsets(path: Path) -> Iterator[int]:
    """Where the records of a TFRecord file start, in bytes, for `read_tfrecord_at`.

    Only the lengths are read: a file of gigabytes takes a few reads a record. A
    last record that is cut short is listed, too; reading it tells.

    Raises:
      RecordError: as `read_tfrecord`, for a damaged length.
    """
    try:
        with Path(path).open("rb") as file:
            while (length := _read_length(file, path)) is not None:
                yield file.tell() - _HEADER_BYTES
                file.seek(length + CRC.size, io.SEEK_CUR)
    except OSError as error:
        raise RecordError(f"{path} cannot be read ({error.strerror}); prepare the dataset again.") from error


def _read_length(file: BinaryIO, path: Path) -> int | None:
    """The length of the payload that follows; None at the end of the file."""
    where = f"{path}: the record at byte {file.tell()}"
    header = file.read(_HEADER_BYTES)
    if not header:
        return None
    if len(header) < _HEADER_BYTES:
        raise RecordError(f"{where} is truncated; {_REMEDY}")
    length = int(LENGTH.unpack_from(header)[0])
    if header[LENGTH.size :] != masked_crc(header[: LENGTH.size]) or length > _MAX_RECORD_BYTES:
        raise RecordError(f"{where} is corrupt (wrong checksum of its length); {_REMEDY}")
    return length


def _read_one(file: BinaryIO, path: Path) -> bytes | None:
    where = f"{path}: the record at byte {file.tell()}"
    length = _read_length(file, path)
    if length is None:
        return None
    payload, crc = file.read(length), file.read(CRC.size)
    if len(payload) < length or len(crc) < CRC.size:
        raise RecordError(f"{where} is truncated ({len(payload)} of {length} bytes); {_REMEDY}")
    if crc != masked_crc(payload):
        raise RecordError(f"{where} is corrupt (wrong checksum); {_REMEDY}")
    return payload


def encode_example(features: Mapping[str, Feature]) -> bytes:
    """A serialized tf.train.Example; equal features give equal bytes."""
    example = _example_class()()
    for name, value in features.items():
        is_single = isinstance(value, bytes | str | int | float)
        _set_feature(example.features.feature[name], name, [value] if is_single else list(value))
    return example.SerializeToString(deterministic=True)


def _set_feature(feature: Any, name: str, values: list[Any]) -> None:
    values = [value.encode() if isinstance(value, str) else value for value in values]
    for kind, field in ((bytes, "bytes_list"), (int, "int64_list"), (float, "float_list")):
        if values and all(isinstance(value, kind) for value in values):
            getattr(feature, field).value.extend(values)
            return
    raise TypeError(
        f"Feature {name!r} must hold bytes, integers or floats, all of one kind, and not be empty."
    )


def parse_example(data: bytes) -> dict[str, list[Any]]:
    """The features of a serialized tf.train.Example: name -> list of bytes, int or float.

    Raises:
      RecordError: when `data` is no tf.train.Example.
    """
    example = _example_class()()
    try:
        example.ParseFromString(data)
    except DecodeError as error:
        raise RecordError("A record does not hold a tf.train.Example.") from error
    features = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        features[name] = list(getattr(feature, kind).value) if kind else []
    return features


@functools.cache
def _example_class() -> Any:
    """The message class of tf.train.Example; field numbers and names are TensorFlow's."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="mt3/example.proto", package="tensorflow", syntax="proto3")

    def add(
        message: Any, name: str, number: int, kind: int, *, type_name: str = "", repeated: bool = False
    ) -> Any:
        label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
        added = message.field.add(name=name, number=number, type=kind, label=label)
        if type_name:
            added.type_name = type_name
        return added

    lists = (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    )
    for list_name, kind in lists:
        value = add(file.message_type.add(name=list_name), "value", 1, kind, repeated=True)
        if kind != field.TYPE_BYTES:
            value.options.packed = True
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, list_name) in enumerate(
        (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")), start=1
    ):
        add(feature, name, number, field.TYPE_MESSAGE, type_name=f".tensorflow.{list_name}").oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    add(entry, "key", 1, field.TYPE_STRING)
    add(entry, "value", 2, field.TYPE_MESSAGE, type_name=".tensorflow.Feature")
    entry_name = ".tensorflow.Features.FeatureEntry"
    add(features, "feature", 1, field.TYPE_MESSAGE, type_name=entry_name, repeated=True)
    example = file.message_type.add(name="Example")
    add(example, "features", 1, field.TYPE_MESSAGE, type_name=".tensorflow.Features")
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))
