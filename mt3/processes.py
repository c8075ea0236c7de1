"""Worker processes, the same way for all rooms. Any room may import this.

Workers are started afresh (not forked: JAX and TensorFlow have threads, which a
fork would leave in an undefined state). What the calling process has imported
or configured does not reach them; what they need must be in their arguments.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Any


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def make_executor(
    workers: int, initializer: Callable[..., None] | None = None, arguments: tuple[Any, ...] = ()
) -> ProcessPoolExecutor:
    """A pool of fresh processes that end with this one, however it ends.

    Args:
      workers: how many.
      initializer: called once in each worker with `arguments`.
      arguments: sent to each worker once.
    """
    context = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(
        workers, mp_context=context, initializer=_initialize_worker, initargs=(initializer, arguments)
    )


def _initialize_worker(initializer: Callable[..., None] | None, arguments: tuple[Any, ...]) -> None:
    # An interrupt from the keyboard reaches all processes; the parent alone handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    if initializer is not None:
        initializer(*arguments)


def _exit_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
