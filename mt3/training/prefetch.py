"""Batches on their way to the devices, fetched by a thread while the devices compute.

Promises: batches come in order, each with the iterator's state after it, so that
a run resumes exactly however far ahead was fetched; what the iterator raises
comes out in its place, after the batches before it; nothing is fetched beyond
the last batch that is wanted.
"""

from __future__ import annotations

import dataclasses
import json
import queue
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Self

import jax
import numpy as np

from mt3.training.partitioning import Partitioner
from mt3.training.step import Batch, numbers

# Batches that are fetched and not yet asked for, at most. Two bridge a batch that takes twice as long.
_AHEAD = 2
# How often a wait for a batch looks at the devices, and whether it is still wanted.
_POLL_SECONDS = 0.002

# What the rows of a batch are of, if it says so; see `Fetched.example_ids`.
_EXAMPLE_IDS = "example_ids"


@dataclasses.dataclass(frozen=True)
class Fetched:
    """A batch on the devices.

    Attributes:
      batch: its numbers; what else a batch holds stays here.
      data_state: of the iterator, after this batch.
      num_examples: in the whole batch, over all processes.
      example_ids: what this process's rows are of, where batches say so.
    """

    batch: dict[str, jax.Array]
    data_state: Any
    num_examples: int
    example_ids: tuple[str, ...]


class Prefetch:
    """Fetches batches ahead of time. Close it, or use it in a `with` statement.

    Attributes:
      idle_seconds: how long `next` has waited while the devices had nothing to do.
    """

    def __init__(self, batches: Iterator[Batch], partitioner: Partitioner, most: int) -> None:
        """Starts fetching.

        Args:
          batches: see `mt3.training.loop.train`; nobody else may use them until this is closed.
          partitioner: says where arrays go.
          most: how many batches are wanted.

        Raises:
          TypeError: the state of the batches cannot be stored.
        """
        self.idle_seconds = 0.0
        self._batches = batches
        self._partitioner = partitioner
        self._get_state: Callable[[], Any] = getattr(batches, "get_state", lambda: None)
        try:
            json.dumps(self._get_state())
        except TypeError as error:
            raise TypeError(
                f"get_state() of the batches returns what JSON cannot store ({error}): "
                "return numbers, strings, lists and dictionaries"
            ) from error
        self._ready: queue.Queue[Fetched | BaseException | None] = queue.Queue(_AHEAD)
        self._closing = threading.Event()
        # A daemon: a second Ctrl-C ends the process whatever the iterator is doing.
        self._thread = threading.Thread(target=self._fetch_all, args=(most,), name="prefetch", daemon=True)
        self._thread.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def next(
        self,
        devices_are_busy: Callable[[], bool] = lambda: False,
        is_given_up: Callable[[], bool] = lambda: False,
    ) -> Fetched | None:
        """The next batch, on the devices or on its way there; None after the last.

        Args:
          devices_are_busy: cheap; the wait counts as idle from when they are not.
          is_given_up: cheap; ends the wait, with None.

        Raises:
          BaseException: what the iterator has raised.
        """
        while True:
            busy, start_seconds = devices_are_busy(), time.perf_counter()
            try:
                fetched = self._ready.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if is_given_up():
                    return None
                continue
            finally:
                if not busy:
                    self.idle_seconds += time.perf_counter() - start_seconds
            if isinstance(fetched, BaseException):
                raise fetched
            return fetched

    def close(self) -> None:
        """Ends fetching; waits for the batch that is under way, or interrupts it where it can be."""
        self._closing.set()
        if self._thread.is_alive():
            getattr(self._batches, "interrupt", lambda: None)()
        self._thread.join()

    def _fetch_all(self, most: int) -> None:
        last: BaseException | None = None
        try:
            for _ in range(most):
                batch = next(self._batches, None)
                if batch is None or self._closing.is_set():
                    break
                self._hand_over(self._send(batch))
        except BaseException as error:
            last = error  # Raised where the batch is asked for.
        self._hand_over(last)

    def _send(self, batch: Batch) -> Fetched:
        arrays = numbers(batch)
        num_examples = len(next(iter(arrays.values()))) * self._partitioner.batch_shard[1]
        placed = self._partitioner.place_batch(arrays)
        return Fetched(placed, self._get_state(), num_examples, _ids(batch))

    def _hand_over(self, fetched: Fetched | BaseException | None) -> None:
        while not self._closing.is_set():
            try:
                return self._ready.put(fetched, timeout=0.1)
            except queue.Full:
                continue


def _ids(batch: Batch) -> tuple[str, ...]:
    """What the rows of a batch are of; those that only fill it up have no id."""
    ids = np.asarray(batch.get(_EXAMPLE_IDS, ())).tolist()
    return tuple(name.decode() if isinstance(name, bytes) else str(name) for name in ids if name)
