"""safetensors files: a JSON header (name -> type, shape, byte range), then the arrays' bytes.

The format is small enough to be read here with every number of the header
checked: ranges lie in the file, fit their shapes, and cover it without gap or
overlap. Layout: 8 bytes of header length, little-endian; the header; the data.
The header's `__metadata__` maps text to text; the model's spec is kept there.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mt3.files import atomic_path
from mt3.models.checkpoints import CheckpointError
from mt3.models.formats.base import Format, StoredArray, StoredModel, as_float32, numpy_type
from mt3.models.formats.pytorch_names import published_names

_METADATA = "__metadata__"
_SPEC_KEY, _STEP_KEY = "mt3_spec", "mt3_step"
_LENGTH = struct.Struct("<Q")
_MAX_HEADER_BYTES = 100_000_000  # As the format's own library has it.
_ALIGNMENT_BYTES = 8

# Name in the header -> NumPy's.
_TYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U64": "uint64",
    "U32": "uint32",
    "U16": "uint16",
    "U8": "uint8",
    "BOOL": "bool",
}


def _recognizes(path: Path) -> bool:
    return path.suffix == ".safetensors"


def _open(path: Path) -> StoredModel:
    try:
        with path.open("rb") as file:
            header, data_start = _read_header(file)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is no safetensors file, or damaged ({error}): fetch it again"
        ) from error
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    metadata = header.pop(_METADATA, {})
    try:
        arrays = {name: _stored(path, name, entry, data_start) for name, entry in header.items()}
        _check_ranges(header, path.stat().st_size - data_start)
    except ValueError as error:
        raise CheckpointError(f"{path} is damaged or cut short: {error}. Fetch it again") from error
    return StoredModel(path, published_names(arrays, path), *_known(metadata))


def _read_header(file: Any) -> tuple[dict[str, Any], int]:
    start = file.read(_LENGTH.size)
    if len(start) < _LENGTH.size:
        raise ValueError("it ends before its header")
    (num_bytes,) = _LENGTH.unpack(start)
    if num_bytes > _MAX_HEADER_BYTES:
        raise ValueError(f"its header would be {num_bytes} bytes long")
    text = file.read(num_bytes)
    if len(text) < num_bytes:
        raise ValueError("it ends within its header")
    header = json.loads(text, object_pairs_hook=_unique)
    if not isinstance(header, dict):
        raise ValueError("its header is no table of arrays")
    return header, _LENGTH.size + num_bytes


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError("its header names an array twice")
    return table


def _stored(path: Path, name: str, entry: Any, data_start: int) -> StoredArray:
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"{name} is not described by dtype, shape and data_offsets")
    if entry["dtype"] not in _TYPES:
        raise ValueError(f"{name} is of the unknown type {entry['dtype']!r}")
    shape, offsets = entry["shape"], entry["data_offsets"]
    if not (_is_naturals(shape) and _is_naturals(offsets) and len(offsets) == 2):
        raise ValueError(f"{name} has the shape {shape!r} at {offsets!r}")
    dtype = _TYPES[entry["dtype"]]
    num_bytes = math.prod(shape) * numpy_type(dtype).itemsize
    begin, end = offsets
    if end - begin != num_bytes:
        raise ValueError(f"{name} takes {num_bytes} bytes but has {end - begin}")

    def read() -> np.ndarray:
        try:
            with path.open("rb") as file:
                file.seek(data_start + begin)
                data = file.read(num_bytes)
        except OSError as error:
            raise CheckpointError(f"cannot read {name} of {path}: {error.strerror}") from error
        if len(data) < num_bytes:
            raise CheckpointError(f"{path} ends within {name}: fetch it again")
        return np.frombuffer(data, numpy_type(dtype)).reshape(shape)

    return StoredArray(tuple(shape), dtype, read)


def _is_naturals(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and value >= 0 for value in values)


def _check_ranges(header: Mapping[str, Any], data_bytes: int) -> None:
    place, last = 0, "the header"
    for name, entry in sorted(header.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if begin != place:
            raise ValueError(f"{name} starts at byte {begin} of the data, {last} ends at {place}")
        place, last = end, name
    if place != data_bytes:
        raise ValueError(f"{last} ends at byte {place} of the data, of which there are {data_bytes}")


def _known(metadata: Any) -> tuple[Any, int | None]:
    """Spec and step, where `_write` has put them."""
    if not isinstance(metadata, dict) or _SPEC_KEY not in metadata:
        return None, None
    step = metadata.get(_STEP_KEY)
    try:
        return json.loads(metadata[_SPEC_KEY]), None if step is None else int(step)
    except (TypeError, ValueError):
        return None, None


def _write(path: Path, model: StoredModel) -> None:
    header: dict[str, Any] = {}
    if model.spec is not None:
        header[_METADATA] = {"format": "np", _SPEC_KEY: json.dumps(dict(model.spec))}
        if model.step is not None:
            header[_METADATA][_STEP_KEY] = str(model.step)
    place, names = 0, sorted(model.arrays)
    for name in names:
        array = model.arrays[name]
        end = place + array.size * 4
        header[name] = {"dtype": "F32", "shape": list(array.shape), "data_offsets": [place, end]}
        place = end
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % _ALIGNMENT_BYTES)
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(_LENGTH.pack(len(text)) + text)
        for name in names:
            file.write(as_float32(model.arrays[name].read()).tobytes())


FORMAT = Format(_recognizes, _open, _write)
