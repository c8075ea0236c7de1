"""Checkpoints of this project's own runs (`mt3.models.checkpoints`), by Orbax.

Only read here: training writes them, with what it needs to go on.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import jax
import numpy as np

from mt3.models.checkpoints import find_checkpoint, read_params, read_spec
from mt3.models.formats.base import Format, StoredArray, StoredModel
from mt3.models.model import TranscriptionModel
from mt3.models.tree_shapes import named_leaves, named_shapes


def _recognizes(path: Path) -> bool:
    return path.is_dir()


def _open(path: Path) -> StoredModel:
    step_dir = find_checkpoint(path)
    spec = read_spec(step_dir)

    # Orbax restores all arrays together; they are shared by those who ask for one.
    @functools.cache
    def params() -> dict[str, Any]:
        return named_leaves(read_params(step_dir, spec))

    shapes = named_shapes(TranscriptionModel(spec).abstract_params())
    arrays = {
        name: StoredArray(shape, dtype, lambda name=name: np.asarray(jax.device_get(params()[name])))
        for name, (shape, dtype) in shapes.items()
    }
    step = int(step_dir.name) if step_dir.name.isdecimal() else None
    return StoredModel(step_dir, arrays, spec.to_dict(), step)


FORMAT = Format(_recognizes, _open)
