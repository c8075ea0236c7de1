"""What a process does once before it computes: quiet libraries, a lasting compilation cache, its fellows."""

from __future__ import annotations

import contextlib
import os
import signal
import warnings
from collections.abc import Iterator

from mt3.cli.messages import show_only_errors, show_progress_as_lines
from mt3.files import cache_directory


def start_jax() -> None:
    """Makes JAX keep what it compiles, so that a second start takes seconds less."""
    import jax

    jax.config.update("jax_compilation_cache_dir", str(cache_directory() / "jax"))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)
    # Of a full disk, those hear who write what cannot be made again.
    warnings.filterwarnings("ignore", "Error (writing|reading) persistent compilation cache", UserWarning)


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's start-up messages off the terminal; call before it is imported."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")


@contextlib.contextmanager
def exit_code_of_sigterm(code: int) -> Iterator[None]:
    """Makes SIGTERM end the process with this exit code, where nobody else sees to it."""

    def end(signum: int, frame: object) -> None:
        raise SystemExit(code)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def join_processes(
    distributed: bool, coordinator: str | None, num_processes: int | None, process_index: int | None
) -> Iterator[None]:
    """Makes this process one of several where options say so; only the first one reports progress.

    Raises:
      ValueError: the options or the cluster do not say which processes there are.
      OSError: the others cannot be reached.
    """
    explicit = (coordinator, num_processes, process_index)
    if not distributed and explicit == (None, None, None):
        show_progress_as_lines()
        yield
        return
    from mt3.training import multihost

    with multihost.joined(*explicit):
        if multihost.is_primary():
            show_progress_as_lines()
        else:
            show_only_errors()
        yield
