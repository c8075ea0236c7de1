"""Whether a value from a gin file is of the type that a parameter is annotated with.

gin takes any value for any parameter; `num_steps = "many"` would otherwise
show itself deep inside of training. Only what gin files can write is looked
into; every other annotation is taken on trust.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Callable, Sequence
from typing import Any

_SCALARS: dict[Any, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    str: ((str,), "text"),
    bool: ((bool,), "True or False"),
    types.NoneType: ((types.NoneType,), "None"),
}


def fits(value: Any, hint: Any) -> bool:
    """Whether `value` may stand where `hint` is annotated."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, choice) for choice in arguments)
    if hint in _SCALARS:
        # Python counts True as a number.
        return isinstance(value, _SCALARS[hint][0]) and (hint is bool or not isinstance(value, bool))
    if origin in (tuple, Sequence):
        return isinstance(value, list | tuple) and _members_fit(value, origin, arguments)
    if origin is Callable:
        return callable(value)
    if hint is Any or not isinstance(hint, type):
        return True
    return isinstance(value, hint)


def _members_fit(values: Sequence[Any], origin: Any, arguments: tuple[Any, ...]) -> bool:
    if origin is Sequence or arguments[-1] is Ellipsis:
        return all(fits(value, arguments[0]) for value in values)
    pairs = zip(values, arguments, strict=False)
    return len(values) == len(arguments) and all(fits(value, hint) for value, hint in pairs)


def in_words(hint: Any) -> str:
    """What `fits`, for a message."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(map(in_words, arguments))
    if hint in _SCALARS:
        return _SCALARS[hint][1]
    if origin is Sequence or (origin is tuple and arguments[-1] is Ellipsis):
        return f"(..., ...), each {in_words(arguments[0])}"
    if origin is tuple:
        return f"({', '.join(map(in_words, arguments))})"
    if origin is Callable:
        return "@NAME of what is to be called"
    return f"@{hint.__name__}()" if isinstance(hint, type) else str(hint)
