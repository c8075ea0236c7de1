"""A name for parameters: equal for equal numbers, wherever they were stored.

It is made of the arrays in memory, not of files: the same parameters are other
bytes in every format, compressed or not, and Orbax gives files new names each
time.
"""

from __future__ import annotations

import hashlib
from typing import Any

import jax
import numpy as np

from mt3.models.tree_shapes import named_leaves


def parameter_hash(params: Any) -> str:
    """SHA-256, as 64 hexadecimal digits, over names, shapes and values of all arrays, by name.

    Args:
      params: tree of arrays that float32 holds exactly.
    """
    digest = hashlib.sha256()
    for name, leaf in sorted(named_leaves(params).items()):
        # Little-endian, on whichever machine.
        array = np.ascontiguousarray(jax.device_get(leaf), "<f4")
        digest.update(f"{name} {list(array.shape)}\n".encode())
        digest.update(array.data)
    return digest.hexdigest()
