"""State dictionaries as `torch.save` writes them since PyTorch 1.6, read without PyTorch and without pickle.

Such a file is a zip of `data.pkl`, a pickle of the dictionary with a reference
to a storage in each tensor's place, and `data/KEY`, the bytes of each storage.
A pickle is a program. This one is not run: its instructions are taken one by
one (`pickletools` parses them), those that build dictionaries, tuples and
numbers are followed, a call is accepted only where it means "a tensor of these
sizes over that storage", and anything else ends the reading. No name in the
file is ever looked up or imported. `torch.load(weights_only=True)` promises the
same, but was shown to be breakable twice (CVE-2025-32434 before PyTorch 2.6,
CVE-2026-24747 before 2.10), and needs PyTorch.
"""

from __future__ import annotations

import dataclasses
import math
import pickletools
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from mt3.models.checkpoints import CheckpointError
from mt3.models.formats.base import Format, StoredArray, StoredModel, numpy_type
from mt3.models.formats.pytorch_names import published_names

_SUFFIXES = (".pth", ".pt", ".ckpt", ".bin")
_INDEX = "data.pkl"
_MAX_INDEX_BYTES = 64 << 20
_DAMAGE = (OSError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)

_STORAGE_TYPES = {
    "torch FloatStorage": "float32",
    "torch DoubleStorage": "float64",
    "torch HalfStorage": "float16",
    "torch BFloat16Storage": "bfloat16",
    "torch LongStorage": "int64",
    "torch IntStorage": "int32",
    "torch ShortStorage": "int16",
    "torch CharStorage": "int8",
    "torch ByteStorage": "uint8",
    "torch BoolStorage": "bool",
}
_ORDERED_DICT = "collections OrderedDict"
_TENSOR = "torch._utils _rebuild_tensor_v2"
_PARAMETER = "torch._utils _rebuild_parameter"
_NAMES = {*_STORAGE_TYPES, _ORDERED_DICT, _TENSOR, _PARAMETER}


@dataclasses.dataclass(frozen=True)
class _Name:
    """What a file names, as text: "module name"."""

    text: str


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    num_elements: int


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Mark:
    """Where the members of a collection start on the stack."""


def _recognizes(path: Path) -> bool:
    return path.suffix in _SUFFIXES


def _open(path: Path) -> StoredModel:
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
            prefix = _prefix(members, path)
            if archive.getinfo(prefix + _INDEX).file_size > _MAX_INDEX_BYTES:
                raise CheckpointError(f"{path}: its {_INDEX} is larger than {_MAX_INDEX_BYTES} bytes")
            program = archive.read(prefix + _INDEX)
            order = prefix + "byteorder"
            if order in members and archive.read(order) != b"little":
                raise CheckpointError(f"{path} is of a big-endian machine: save it as safetensors there")
    except zipfile.BadZipFile as error:
        raise CheckpointError(
            f"{path} is cut short or no file of torch.save since PyTorch 1.6 ({error}): fetch it again, or "
            "load it in PyTorch and save its state_dict() as safetensors"
        ) from error
    except _DAMAGE as error:
        raise CheckpointError(f"cannot read {path}: {error}") from error
    try:
        tensors = _state_dictionary(_follow(program))
        arrays = {name: _stored(path, prefix, name, tensor) for name, tensor in tensors.items()}
    except (ValueError, IndexError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{path} is refused, nothing in it was run: {' '.join(str(error).split())}. "
            "Give the state_dict() of the network alone, best as safetensors"
        ) from error
    return StoredModel(path, published_names(arrays, path))


def _prefix(members: list[str], path: Path) -> str:
    found = [name.removesuffix(_INDEX) for name in members if name.split("/")[-1] == _INDEX]
    if len(found) != 1:
        raise CheckpointError(f"{path} is a zip, but not of torch.save: it has {len(found)} files {_INDEX}")
    return found[0]


def _follow(program: bytes) -> Any:
    """What the pickle builds, of dictionaries, lists, tuples, text, numbers and `_Tensor`.

    Raises:
      ValueError: an instruction that no state dictionary needs.
    """
    stack: list[Any] = []
    memo: dict[Any, Any] = {}
    for instruction, argument, _ in pickletools.genops(program):
        name = instruction.name
        if name == "STOP":
            (result,) = stack
            return result
        if name in ("BINPUT", "LONG_BINPUT"):
            memo[argument] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(memo[argument])
        elif name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name]())
        elif name in _BUILDERS:
            _BUILDERS[name](stack)
        elif name == "GLOBAL":
            stack.append(_name(argument))
        elif name != "PROTO":
            raise ValueError(f"it has the pickle instruction {name}")
    raise ValueError("it ends too early")


def _name(text: Any) -> _Name:
    if text not in _NAMES:
        raise ValueError(f"it asks for {str(text).replace(' ', '.')}")
    return _Name(text)


def _from_mark(stack: list[Any]) -> list[Any]:
    members = []
    while not isinstance(member := stack.pop(), _Mark):
        members.append(member)
    return members[::-1]


def _tuple(size: int) -> Callable[[list[Any]], None]:
    def build(stack: list[Any]) -> None:
        members = tuple(stack[-size:])
        del stack[-size:]
        stack.append(members)

    return build


def _set_items(stack: list[Any]) -> None:
    members = _from_mark(stack)
    _dictionary(stack[-1]).update(zip(members[::2], members[1::2], strict=True))


def _set_item(stack: list[Any]) -> None:
    value, key = stack.pop(), stack.pop()
    _dictionary(stack[-1])[key] = value


def _append_items(stack: list[Any]) -> None:
    members = _from_mark(stack)
    _list(stack[-1]).extend(members)


def _append_item(stack: list[Any]) -> None:
    member = stack.pop()
    _list(stack[-1]).append(member)


def _set_state(stack: list[Any]) -> None:
    stack.pop()  # `_metadata` of a state dictionary: versions of its modules.
    _dictionary(stack[-1])


def _call(stack: list[Any]) -> None:
    arguments, function = stack.pop(), stack.pop()
    if function == _Name(_ORDERED_DICT) and arguments == ():
        stack.append({})
    elif function == _Name(_PARAMETER) and isinstance(arguments[0], _Tensor):
        stack.append(arguments[0])
    elif function == _Name(_TENSOR):
        stack.append(_tensor(*arguments[:4]))
    else:
        raise ValueError("it has a call that makes no tensor")


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any) -> _Tensor:
    numbers = (offset, *shape, *strides)
    valid = isinstance(storage, _Storage) and all(type(number) is int and number >= 0 for number in numbers)
    if not valid or len(shape) != len(strides):
        raise ValueError("it has a tensor of no shape")
    # The place of its last entry, and its size: repeated entries (strides of 0) are no parameters.
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if max(last + 1, math.prod(shape)) > storage.num_elements:
        raise ValueError(
            f"it has a tensor {list(shape)} that needs more than its {storage.num_elements} numbers"
        )
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _persistent(stack: list[Any]) -> None:
    kind, storage_type, key, _, num_elements = stack.pop()
    if kind != "storage" or type(key) is not str or type(num_elements) is not int or num_elements < 0:
        raise ValueError("it refers to something that is no storage")
    stack.append(_Storage(key, _STORAGE_TYPES[storage_type.text], num_elements))


def _dictionary(value: Any) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise ValueError("it fills something that is no dictionary")
    return value


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ValueError("it fills something that is no list")
    return value


# Instructions that put their argument on the stack, that put something new there, that work on what is there.
_LITERALS = {"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"}
_CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_DICT": dict,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "MARK": _Mark,
}
_BUILDERS: dict[str, Callable[[list[Any]], None]] = {
    "TUPLE": lambda stack: stack.append(tuple(_from_mark(stack))),
    "TUPLE1": _tuple(1),
    "TUPLE2": _tuple(2),
    "TUPLE3": _tuple(3),
    "SETITEM": _set_item,
    "SETITEMS": _set_items,
    "APPEND": _append_item,
    "APPENDS": _append_items,
    "BUILD": _set_state,
    "REDUCE": _call,
    "BINPERSID": _persistent,
}


def _state_dictionary(value: Any) -> dict[str, _Tensor]:
    for name, tensor in _dictionary(value).items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise ValueError(f"{name!r} is no tensor")
    return value


def _stored(path: Path, prefix: str, name: str, tensor: _Tensor) -> StoredArray:
    storage = tensor.storage
    dtype = numpy_type(storage.dtype)

    def read() -> np.ndarray:
        try:
            with zipfile.ZipFile(path) as archive:
                data = archive.read(f"{prefix}data/{storage.key}")
        except (KeyError, *_DAMAGE) as error:
            raise CheckpointError(
                f"{path}: {name} is damaged or cut short ({error}): fetch it again"
            ) from error
        if len(data) != storage.num_elements * dtype.itemsize:
            raise CheckpointError(
                f"{path}: {name} should have {storage.num_elements} numbers of {storage.dtype}, "
                f"its storage has {len(data)} bytes: fetch it again"
            )
        values = np.frombuffer(data, dtype)[tensor.offset :]
        strides = tuple(stride * dtype.itemsize for stride in tensor.strides)
        # Within the storage: checked when the tensor was described.
        return np.lib.stride_tricks.as_strided(values, tensor.shape, strides, writeable=False).copy()

    return StoredArray(tensor.shape, storage.dtype, read)


FORMAT = Format(_recognizes, _open)
