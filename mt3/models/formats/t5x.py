"""T5X checkpoint directories: the layout of the published MT3 and ISMIR 2021 models.

    DIR/checkpoint          msgpack: {"version": 3, "optimizer": {"target": parameters, "state": ...}}
    DIR/target.NAME...      one zarr (v2) array a parameter
    DIR/state.NAME...       one zarr array a large optimizer slot
    DIR/model.json          the model's spec; only where this project has written it, T5X does not look

In the index a tree's leaf is either an array (extension type 1: shape, type,
bytes) or the TensorStore spec of a zarr array. Of such a spec only shape, type
and the directory's name are used: it is opened with a spec made here, so a file
chooses neither a driver nor a path. TensorStore reads and writes the arrays, as
in T5X itself; it comes with Orbax, knows bfloat16, and runs no code of a file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgpack
import numpy as np

from mt3.files import atomic_directory
from mt3.models.checkpoints import CheckpointError
from mt3.models.formats.base import (
    FLOAT_TYPES,
    INTEGER_TYPES,
    Format,
    StoredArray,
    StoredModel,
    as_float32,
    numpy_type,
)

INDEX_FILE = "checkpoint"
SPEC_FILE = "model.json"
VERSION = 3
# Version 2 differs in how bfloat16 is stored (as uint16, which is then refused by its type).
_READABLE_VERSIONS = (2, VERSION)
_MAX_INDEX_BYTES = 64 << 20
_ARRAY_EXTENSION, _SCALAR_EXTENSION = 1, 3
_STEP_FOLDER = re.compile(r"checkpoint_(\d+)")
_ARRAY_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_COMPRESSOR = {"id": "gzip", "level": 1}
# Slots that T5X keeps in the index rather than beside it.
_INLINE_SLOTS = ("m", "v_row", "v_col")


def _recognizes(path: Path) -> bool:
    return (path / INDEX_FILE).is_file() or (path.name == INDEX_FILE and path.is_file()) or bool(_steps(path))


def _steps(path: Path) -> dict[int, Path]:
    """The checkpoints of a T5X model directory."""
    found = (
        (_STEP_FOLDER.fullmatch(entry.parent.name), entry.parent) for entry in path.glob(f"*/{INDEX_FILE}")
    )
    return {int(match[1]): folder for match, folder in found if match}


def _open(path: Path) -> StoredModel:
    folder = path.parent if path.is_file() else path
    if not (folder / INDEX_FILE).is_file():
        folder = max(_steps(path).items())[1]
    index = _read_index(folder / INDEX_FILE)
    try:
        _allow(index, {"version", "optimizer"}, "the index")
        if index.get("version") not in _READABLE_VERSIONS:
            raise ValueError(f"its version is {index.get('version')!r}, known are 2 and 3")
        optimizer = _table(index.get("optimizer"), "optimizer")
        _allow(optimizer, {"target", "state", "flax_mutables"}, "optimizer")
        if optimizer.get("flax_mutables"):
            raise ValueError("it has flax_mutables, which no transcription model has")
        state = _table(optimizer.get("state", {}), "state")
        _allow(state, {"step", "param_states"}, "state")
        arrays = dict(_leaves(folder, _table(optimizer.get("target"), "target"), ""))
        slots = dict(_leaves(folder, _table(state.get("param_states", {}), "param_states"), ""))
        step = _step(state.get("step"))
    except ValueError as error:
        raise CheckpointError(f"{folder} is no T5X checkpoint of a known kind: {error}") from error
    return StoredModel(folder, arrays, _read_spec(folder / SPEC_FILE), step, slots)


def _read_index(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_INDEX_BYTES:
            raise ValueError(f"it is larger than {_MAX_INDEX_BYTES} bytes, an index is small")
        content = msgpack.unpackb(path.read_bytes(), raw=False, strict_map_key=True, ext_hook=_extension)
        return _table(content, "the index")
    except OSError as error:
        raise CheckpointError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, TypeError, msgpack.exceptions.UnpackException) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise CheckpointError(
            f"{path} is no T5X checkpoint, damaged or cut short ({reason}): fetch it again"
        ) from error


def _extension(code: int, data: bytes) -> np.ndarray:
    """An array of the index. The types of Python objects and of code are not among those that there are."""
    if code not in (_ARRAY_EXTENSION, _SCALAR_EXTENSION):
        raise ValueError(f"it has the msgpack extension type {code}")
    shape, type_name, content = msgpack.unpackb(data, raw=False, strict_map_key=True)
    if type_name not in (*FLOAT_TYPES, *INTEGER_TYPES):
        raise ValueError(f"it has an array of type {type_name!r}")
    return np.frombuffer(content, numpy_type(type_name)).reshape(shape)


def _table(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{what} is {type(value).__name__} where a table should be")
    return value


def _allow(table: Mapping[str, Any], names: set[str], what: str) -> None:
    surplus = sorted(set(table) - names)
    if surplus:
        raise ValueError(f"{what} has the unknown entries {', '.join(surplus)}")


def _step(value: Any) -> int | None:
    if value is None:
        return None
    if np.ndim(value) or not np.issubdtype(np.asarray(value).dtype, np.integer):
        raise ValueError(f"its step is {value!r}")
    return int(value)


def _leaves(folder: Path, tree: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, StoredArray]]:
    for key, value in tree.items():
        name = f"{prefix}/{key}" if prefix else str(key)
        if isinstance(value, np.ndarray):
            yield name, StoredArray.of(value)
        elif isinstance(value, dict) and {"driver", "kvstore", "metadata"} <= set(value):
            yield name, _zarr(folder, name, value)
        elif isinstance(value, dict):
            yield from _leaves(folder, value, name)
        else:
            raise ValueError(f"{name} is {type(value).__name__} where an array should be")


def _zarr(folder: Path, name: str, spec: Mapping[str, Any]) -> StoredArray:
    """The array that a TensorStore spec of the index stands for."""
    kvstore, metadata = _table(spec["kvstore"], name), _table(spec["metadata"], name)
    # Older TensorStores have the path beside the kvstore; its parents are those of the machine that wrote it.
    place = kvstore.get("path", spec.get("path"))
    shape, dtype = metadata.get("shape"), spec.get("dtype")
    if spec["driver"] != "zarr" or not isinstance(place, str) or not isinstance(dtype, str):
        raise ValueError(f"{name} is stored in no zarr array")
    array_folder = place.rstrip("/").split("/")[-1]
    if not _ARRAY_FOLDER.fullmatch(array_folder):
        raise ValueError(f"{name} is stored in {place!r}, which is no name beside the index")
    if not isinstance(shape, list) or not all(type(size) is int and size >= 0 for size in shape):
        raise ValueError(f"{name} has the shape {shape!r}")
    if dtype not in (*FLOAT_TYPES, *INTEGER_TYPES):
        raise ValueError(f"{name} is of type {dtype!r}")
    place = folder / array_folder

    def read() -> np.ndarray:
        return _read_zarr(place, name, tuple(shape), dtype)

    return StoredArray(tuple(shape), dtype, read)


def _read_zarr(place: Path, name: str, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    import tensorstore

    try:
        store = tensorstore.open(
            {
                "driver": "zarr",
                "kvstore": {"driver": "file", "path": f"{place}/"},
                # A chunk that is missing is damage, not zeros.
                "fill_missing_data_reads": False,
            },
            open=True,
            read=True,
        ).result()
        found = tuple(store.shape), store.dtype.name
        if found != (shape, dtype):
            raise CheckpointError(
                f"{place}: {name} is {found[1]}{list(found[0])} on disk and {dtype}{list(shape)} in the index"
            )
        return store.read().result()
    except ValueError as error:
        raise CheckpointError(
            f"{place}: {name} is missing, damaged or cut short ({_reason(error)}): fetch it again"
        ) from error


def _reason(error: ValueError) -> str:
    text = " ".join(str(error).split()).split(" [tensorstore_spec=")[0]
    return text.partition(": ")[2] or text


def _read_spec(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): remove it, and say what the model is"
        ) from error


def _write(path: Path, model: StoredModel) -> None:
    with atomic_directory(path) as folder:
        target: dict[str, Any] = {}
        for name in sorted(model.arrays):
            array = as_float32(model.arrays[name].read())
            _put(target, name, _write_zarr(folder, f"target.{name.replace('/', '.')}", array))
        states: dict[str, Any] = {}
        for name in sorted(model.slots):
            array = np.asarray(model.slots[name].read())
            inline = name.rpartition("/")[2] in _INLINE_SLOTS or array.shape == (1,)
            folder_name = f"state.param_states.{name.replace('/', '.')}"
            _put(states, name, _packed(array) if inline else _write_zarr(folder, folder_name, array))
        state: dict[str, Any] = {"param_states": states} if states else {}
        state["step"] = _packed(np.asarray(model.step or 0, np.int32))
        index = {"version": VERSION, "optimizer": {"state": state, "target": target}}
        if model.spec is not None:
            (folder / SPEC_FILE).write_text(json.dumps(dict(model.spec), indent=2) + "\n", encoding="utf-8")
        (folder / INDEX_FILE).write_bytes(_pack(index))


def _put(tree: dict[str, Any], name: str, value: Any) -> None:
    *parents, last = name.split("/")
    for parent in parents:
        tree = tree.setdefault(parent, {})
    tree[last] = value


def _packed(array: np.ndarray) -> msgpack.ExtType:
    content = (list(array.shape), array.dtype.name, array.tobytes())
    return msgpack.ExtType(_ARRAY_EXTENSION, _pack(content))


def _pack(content: Any) -> bytes:
    return msgpack.Packer(use_bin_type=True).pack(content)


def _write_zarr(folder: Path, name: str, array: np.ndarray) -> dict[str, Any]:
    """Writes one array, in one chunk; returns the TensorStore spec that the index has in its place."""
    import tensorstore

    shape = list(array.shape)
    metadata = {"chunks": shape, "compressor": _COMPRESSOR, "shape": shape}
    spec = {"driver": "zarr", "dtype": array.dtype.name, "metadata": metadata}
    kvstore = {"driver": "file", "path": f"{folder / name}/"}
    try:
        store = tensorstore.open({**spec, "kvstore": kvstore}, create=True).result()
        store.write(array).result()
    except ValueError as error:
        raise OSError(f"cannot write {name} of the checkpoint: {_reason(error)}") from error
    return {
        "driver": "zarr",
        "dtype": array.dtype.name,
        "kvstore": {"driver": "file", "path": f"{name}/"},
        "metadata": metadata,
    }


FORMAT = Format(_recognizes, _open, _write)
