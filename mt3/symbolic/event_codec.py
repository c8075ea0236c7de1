"""The numbering of events: (kind, value) pairs <-> consecutive integer ids.

A `Codec` is an ordered list of ranges; the ids of one range follow those of
the range before it. It knows nothing of music, vocabularies or special tokens,
and works on whole arrays.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

INVALID_KIND = -1


@dataclasses.dataclass(frozen=True)
class EventRange:
    """The events of one kind: values `min_value`..`max_value`, both included."""

    kind: str
    min_value: int
    max_value: int

    def __post_init__(self) -> None:
        if self.max_value < self.min_value:
            raise ValueError(
                f"The range of {self.kind!r} ends at {self.max_value}, before its start {self.min_value}."
            )

    @property
    def num_values(self) -> int:
        return self.max_value - self.min_value + 1


@dataclasses.dataclass(frozen=True)
class Codec:
    """An ordered list of event ranges, numbered consecutively from 0.

    Raises:
      ValueError: where a kind appears twice.
    """

    ranges: tuple[EventRange, ...]

    def __post_init__(self) -> None:
        kinds = [event_range.kind for event_range in self.ranges]
        if len(set(kinds)) != len(kinds):
            raise ValueError(f"Every kind of event needs one range, got {kinds}.")

    @functools.cached_property
    def kinds(self) -> tuple[str, ...]:
        """Names of the kinds; `decode` answers with positions in this tuple."""
        return tuple(event_range.kind for event_range in self.ranges)

    @functools.cached_property
    def num_classes(self) -> int:
        """How many events there are; ids are 0..num_classes - 1."""
        return sum(event_range.num_values for event_range in self.ranges)

    @functools.cached_property
    def _first_ids(self) -> np.ndarray:
        sizes = [event_range.num_values for event_range in self.ranges]
        return np.concatenate(([0], np.cumsum(sizes)))

    @functools.cached_property
    def _kind_and_value(self) -> tuple[np.ndarray, np.ndarray]:
        """Kind and value of every id, and of one invalid id after the last."""
        kinds = [np.full(r.num_values, i, np.int32) for i, r in enumerate(self.ranges)]
        values = [np.arange(r.min_value, r.max_value + 1, dtype=np.int32) for r in self.ranges]
        kinds.append(np.full(1, INVALID_KIND, np.int32))
        values.append(np.zeros(1, np.int32))
        return np.concatenate(kinds), np.concatenate(values)

    def kind_index(self, kind: str) -> int:
        """Position of `kind` among `kinds`."""
        try:
            return self.kinds.index(kind)
        except ValueError:
            raise ValueError(f"No events of kind {kind!r}; this codec has {', '.join(self.kinds)}.") from None

    def id_range(self, kind: str) -> tuple[int, int]:
        """First and last id (included) of the events of `kind`."""
        index = self.kind_index(kind)
        return int(self._first_ids[index]), int(self._first_ids[index + 1]) - 1

    def encode(self, kind: str, values: npt.ArrayLike) -> np.ndarray:
        """Ids (int32, the shape of `values`) of events of `kind`.

        Raises:
          ValueError: for an unknown kind or a value outside its range.
        """
        index = self.kind_index(kind)
        event_range = self.ranges[index]
        values = np.asarray(values)
        outside = (values < event_range.min_value) | (values > event_range.max_value)
        if outside.any():
            raise ValueError(
                f"{kind} {values[outside].flat[0]} is outside "
                f"{event_range.min_value}..{event_range.max_value}."
            )
        return (values + (self._first_ids[index] - event_range.min_value)).astype(np.int32)

    def decode(self, ids: npt.ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        """Kinds and values of events.

        Args:
          ids: event ids of any shape; ids outside 0..num_classes - 1 are allowed.

        Returns:
          Two int32 arrays of that shape: positions in `kinds`, `INVALID_KIND`
          where the id is no event, and values, 0 there.
        """
        ids = np.asarray(ids, np.int64)
        kinds, values = self._kind_and_value
        known = np.where((ids >= 0) & (ids < self.num_classes), ids, self.num_classes)
        return kinds[known], values[known]
