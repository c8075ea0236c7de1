"""The `Notes` type: the notes of a recording as parallel NumPy arrays.

Everything downstream (tokens, metrics, rendering, file formats) is array work
on this type. It promises: six columns of one length and of fixed dtypes,
read-only, so that a `Notes` can be shared freely between threads and caches.
It does not promise any order; ask for `sorted()` where order matters.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

_DTYPES: dict[str, npt.DTypeLike] = {
    "onset_seconds": np.float64,
    "offset_seconds": np.float64,
    "pitch": np.int32,
    "velocity": np.int32,
    "program": np.int32,
    "is_drum": np.bool_,
}

COLUMNS: tuple[str, ...] = tuple(_DTYPES)


@dataclasses.dataclass(frozen=True, eq=False)
class Notes:
    """Notes as columns, all of shape [num_notes].

    Attributes:
      onset_seconds: float64, start of each note.
      offset_seconds: float64, end of each note.
      pitch: int32, MIDI pitch 0..127 (for drums: the General MIDI drum key).
      velocity: int32, MIDI velocity 1..127 (0: unknown).
      program: int32, 0-based General MIDI program 0..127; 0 for drums.
      is_drum: bool.

    Raises:
      ValueError: when the columns are not one-dimensional or differ in length.
    """

    onset_seconds: np.ndarray
    offset_seconds: np.ndarray
    pitch: np.ndarray
    velocity: np.ndarray
    program: np.ndarray
    is_drum: np.ndarray

    def __post_init__(self) -> None:
        lengths = {}
        for name, dtype in _DTYPES.items():
            column = np.array(getattr(self, name), dtype=dtype)
            if column.ndim != 1:
                raise ValueError(f"Notes.{name} has shape {column.shape}; it must be one-dimensional.")
            column.flags.writeable = False
            object.__setattr__(self, name, column)
            lengths[name] = len(column)
        if len(set(lengths.values())) != 1:
            raise ValueError(f"The columns of Notes must have one length, got {lengths}.")

    @classmethod
    def empty(cls) -> Notes:
        """No notes."""
        return cls(**{name: np.zeros(0, dtype) for name, dtype in _DTYPES.items()})

    @classmethod
    def from_rows(cls, rows: Iterable[tuple[float, float, int, int, int, bool]]) -> Notes:
        """Notes from (onset_seconds, offset_seconds, pitch, velocity, program, is_drum) tuples."""
        rows = list(rows)
        return cls(*zip(*rows, strict=True)) if rows else cls.empty()  # type: ignore[arg-type]

    @classmethod
    def concatenate(cls, parts: Iterable[Notes]) -> Notes:
        """All notes of `parts`, in the order given."""
        parts = list(parts)
        if not parts:
            return cls.empty()
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in COLUMNS})

    def __len__(self) -> int:
        return len(self.pitch)

    def __getitem__(self, index: slice | npt.ArrayLike) -> Notes:
        """The notes that a slice, a boolean mask or an array of integers selects."""
        key = index if isinstance(index, slice) else np.asarray(index)
        if isinstance(index, list) and not index:
            key = np.zeros(0, np.int64)  # NumPy takes an empty list for floats
        return Notes(**{name: getattr(self, name)[key] for name in COLUMNS})

    def __eq__(self, other: object) -> bool:
        """Exact equality of all columns, order included."""
        if not isinstance(other, Notes):
            return NotImplemented
        return all(np.array_equal(getattr(self, name), getattr(other, name)) for name in COLUMNS)

    __hash__ = None  # type: ignore[assignment]

    def replace(self, **columns: Any) -> Notes:
        """A copy with some columns replaced; a scalar stands for a constant column."""
        full = {
            name: np.full(len(self), value) if np.ndim(value) == 0 else value
            for name, value in columns.items()
        }
        return dataclasses.replace(self, **full)

    def sorted(self) -> Notes:
        """By onset, then pitch, program, drums, offset, velocity: a canonical order."""
        return self[self.order()]

    def order(self) -> np.ndarray:
        """int64 [num_notes], the notes' places in the order of `sorted`: to sort what goes with them too."""
        keys = (
            self.velocity,
            self.offset_seconds,
            self.is_drum,
            self.program,
            self.pitch,
            self.onset_seconds,
        )
        return np.lexsort(keys)

    def shift(self, seconds: float) -> Notes:
        """All notes moved later by `seconds` (earlier where negative)."""
        return self.replace(
            onset_seconds=self.onset_seconds + seconds,
            offset_seconds=self.offset_seconds + seconds,
        )

    def crop(self, start_seconds: float, end_seconds: float) -> Notes:
        """What sounds in [start_seconds, end_seconds), cut to it; times stay absolute."""
        inside = (self.onset_seconds < end_seconds) & (self.offset_seconds > start_seconds)
        kept = self[inside]
        return kept.replace(
            onset_seconds=np.maximum(kept.onset_seconds, start_seconds),
            offset_seconds=np.minimum(kept.offset_seconds, end_seconds),
        )

    @property
    def duration_seconds(self) -> np.ndarray:
        """float64 [num_notes], offset minus onset."""
        return self.offset_seconds - self.onset_seconds

    @property
    def end_seconds(self) -> float:
        """The latest offset; 0.0 without notes."""
        return float(self.offset_seconds.max()) if len(self) else 0.0

    @property
    def instruments(self) -> list[tuple[int, bool]]:
        """The distinct (program, is_drum) pairs, sorted, pitched instruments first."""
        pairs = set(zip(self.program.tolist(), self.is_drum.tolist(), strict=True))
        return sorted(pairs, key=lambda pair: (pair[1], pair[0]))
