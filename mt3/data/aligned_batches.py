"""Batches of several processes, made to fit together.

Each process reads its own part of the data, and all take part in every update:
so their batches must be of one shape and of one number. Parts may differ in both:
in the bucket that a batch's targets need, and, in a finite pass, in their length.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from mt3.data.batches import TARGET_FEATURES

Batch = dict[str, np.ndarray]


class AlignedBatches(Iterator[Batch]):
    """The batches of this process, with the length of targets that the longest of all processes has.

    A process whose part has ended gives rows of no weight until all have ended. Wraps an
    iterator with `get_state` and `set_state`, whose states are the same in all processes.
    """

    def __init__(self, batches: Any, exchange: Callable[[Any], list[Any]]) -> None:
        """Args:
        batches: an iterator of this process's batches.
        exchange: gives a value to all processes and returns theirs; see
          `mt3.training.multihost.Exchange`.
        """
        self._batches = batches
        self._exchange = exchange
        self._last: Batch | None = None

    def __next__(self) -> Batch:
        batch = next(self._batches, None)
        num_tokens = max(self._exchange(0 if batch is None else batch["decoder_target_tokens"].shape[1]))
        if num_tokens == 0:
            raise StopIteration
        if batch is None:
            if self._last is None:
                raise ValueError(
                    "this process's part of the data holds no example: prepare the data in at least as many "
                    "shards as there are processes, or start fewer"
                )
            batch = {name: np.zeros_like(value) for name, value in self._last.items()}
        self._last = batch
        return {name: _with_length(name, value, num_tokens) for name, value in batch.items()}

    def get_state(self) -> Any:
        """Of the batches; the same in all processes."""
        return self._batches.get_state()

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes to where `get_state` was called, in whichever process."""
        self._batches.set_state(state)

    def interrupt(self) -> None:
        """For another thread: ends the wait for a batch, which nobody wants any more."""
        self._call("close", self._exchange)
        self._call("interrupt", self._batches)

    def close(self) -> None:
        """Ends the batches."""
        self._call("close", self._batches)

    @staticmethod
    def _call(name: str, target: Any) -> None:
        getattr(target, name, lambda: None)()


def _with_length(name: str, value: np.ndarray, num_tokens: int) -> np.ndarray:
    """Padding (0) after the targets; or fewer of them, where a row of no weight has more."""
    if name not in TARGET_FEATURES:
        return value
    return np.pad(value, ((0, 0), (0, max(0, num_tokens - value.shape[1]))))[:, :num_tokens]
