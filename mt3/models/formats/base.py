"""What every checkpoint format gives: arrays by name, read when they are needed, and what is known besides.

A format is read without running anything that the file says: no pickle, no
driver or path of its choosing. Promises: opening reads names, shapes and types
only; an array that is damaged is named in one line when it is read.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

# Types that parameters may be stored in; they are read as float32.
FLOAT_TYPES = ("float32", "bfloat16", "float16", "float64")
INTEGER_TYPES = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")


@dataclasses.dataclass(frozen=True)
class StoredArray:
    """An array of a checkpoint, not read yet.

    Attributes:
      shape: its shape.
      dtype: name of the type it is stored in, e.g. "bfloat16".
      read: reads it, in that type.
    """

    shape: tuple[int, ...]
    dtype: str
    read: Callable[[], np.ndarray]

    @property
    def size(self) -> int:
        """Number of entries."""
        return math.prod(self.shape)

    @property
    def num_bytes(self) -> int:
        """Size of the array in memory, as stored."""
        return self.size * numpy_type(self.dtype).itemsize

    @classmethod
    def of(cls, array: np.ndarray) -> StoredArray:
        """One that is in memory already."""
        return cls(tuple(array.shape), str(array.dtype), lambda: array)


@dataclasses.dataclass(frozen=True)
class StoredModel:
    """A checkpoint of any format, opened.

    Attributes:
      path: where it is.
      arrays: the parameters, by their paths joined by `/`. What is not known to
        be a parameter keeps the name it has in the file.
      spec: the model's spec as `ModelSpec.to_dict` gives it, where the file has it.
      step: updates that it was trained for, where the file says so.
      slots: the optimizer's arrays, as PARAMETER/SLOT, where there are any.
    """

    path: Path
    arrays: Mapping[str, StoredArray]
    spec: Mapping[str, Any] | None = None
    step: int | None = None
    slots: Mapping[str, StoredArray] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Format:
    """How files of one format are told, read and written.

    Attributes:
      recognizes: whether a path is of this format, by its name and the names in it.
      open: reads names, shapes and types.
      write: writes a model as a new file or directory, whole or not at all; None where it is only read.
    """

    recognizes: Callable[[Path], bool]
    open: Callable[[Path], StoredModel]
    write: Callable[[Path, StoredModel], None] | None = None


def numpy_type(name: str) -> np.dtype:
    """The NumPy type of a name among `FLOAT_TYPES` and `INTEGER_TYPES`."""
    return jnp.dtype(name)


def as_float32(array: np.ndarray) -> np.ndarray:
    """The array in float32, C order."""
    return np.ascontiguousarray(array, np.float32)
