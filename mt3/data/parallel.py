"""An ordered map over worker processes (`mt3.processes`), with bounded memory and a progress bar."""

from __future__ import annotations

import contextlib
import itertools
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future
from typing import TypeVar

import tqdm

from mt3.processes import make_executor

Item = TypeVar("Item")
Result = TypeVar("Result")

# Chunks under way or waiting to be taken, per worker.
_CHUNKS_PER_WORKER = 4


def ordered_map(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int = 0,
    description: str = "",
    chunk_size: int = 1,
) -> Generator[Result, None, None]:
    """`function` of each item, in order; close the iterator to end the workers early.

    Args:
      function: at the top level of a module, so that workers can import it.
      items: its arguments.
      workers: processes; 0 for none but this one.
      description: of the progress bar, which appears where stderr is a terminal
        once the work takes more than a moment; empty for none.
      chunk_size: items that are sent to a worker together.
    """
    bar = tqdm.tqdm(total=len(items), desc=description, delay=1.0, disable=None if description else True)
    with bar:
        if workers < 1:
            results = (function(item) for item in items)
        else:
            results = _parallel(function, items, workers, chunk_size)
        with contextlib.closing(results):
            for result in results:
                bar.update()
                yield result


def _parallel(
    function: Callable[[Item], Result], items: Sequence[Item], workers: int, chunk_size: int
) -> Generator[Result, None, None]:
    chunks = (items[first : first + chunk_size] for first in range(0, len(items), chunk_size))
    workers = min(workers, -(-len(items) // chunk_size))
    if not workers:
        return
    executor = make_executor(workers)
    try:
        pending: deque[Future[list[Result]]] = deque()
        for chunk in itertools.islice(chunks, workers * _CHUNKS_PER_WORKER):
            pending.append(executor.submit(_apply, function, chunk))
        while pending:
            results = pending.popleft().result()
            for chunk in itertools.islice(chunks, 1):
                pending.append(executor.submit(_apply, function, chunk))
            yield from results
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _apply(function: Callable[[Item], Result], chunk: Sequence[Item]) -> list[Result]:
    return [function(item) for item in chunk]
