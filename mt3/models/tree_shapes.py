"""Compares two trees of arrays by path, shape and type, in words for an error message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax


def named_leaves(tree: Any) -> dict[str, Any]:
    """Path joined by `/` -> leaf.

    Named tuples and dictionaries of the same field names, and tuples and
    lists, give the same paths: a checkpoint's metadata knows only the latter.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {path_name(path): leaf for path, leaf in leaves}


def path_name(path: tuple[Any, ...]) -> str:
    """A path of `jax.tree_util` as text joined by `/`."""
    # Its parts are dictionary keys, sequence indices or field names.
    parts = (getattr(key, "key", getattr(key, "idx", getattr(key, "name", key))) for key in path)
    return "/".join(str(part) for part in parts)


def named_shapes(tree: Any) -> dict[str, tuple[tuple[int, ...], str]]:
    """Path -> (shape, type name), for every leaf with `shape` and `dtype`; see `named_leaves`."""
    return {name: (tuple(leaf.shape), str(leaf.dtype)) for name, leaf in named_leaves(tree).items()}


def shape_differences(stored: Any, wanted: Any) -> list[str]:
    """What keeps the arrays of a checkpoint from filling a tree; empty when they fit.

    Args:
      stored: tree of the checkpoint's shapes.
      wanted: tree to be filled.
    """
    theirs, ours = named_shapes(stored), named_shapes(wanted)
    missing = [f"{name} is not in the checkpoint" for name in ours if name not in theirs]
    surplus = [f"{name} is only in the checkpoint" for name in theirs if name not in ours]
    unequal = [
        f"{name} is {_text(*theirs[name])} in the checkpoint and {_text(*ours[name])} here"
        for name in ours
        if name in theirs and theirs[name] != ours[name]
    ]
    return unequal + missing + surplus


def summarize(differences: Sequence[str], most: int = 8) -> str:
    """The first few differences on one line, and how many more there are."""
    more = len(differences) - most
    return "; ".join(differences[:most]) + (f"; and {more} more" if more > 0 else "")


def _text(shape: tuple[int, ...], dtype: str) -> str:
    return f"{dtype}[{', '.join(map(str, shape))}]"
