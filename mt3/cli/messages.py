"""Log messages of a command, as lines on standard error: `mt3: ...`.

The rooms report through `logging`; here it is decided what of that a user
sees: warnings of this project, and errors of the libraries below it, whose
warnings are about things that no user can change.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

_PROJECT = "mt3"


@contextlib.contextmanager
def log_messages() -> Iterator[None]:
    """Shows messages while a command runs; afterwards logging is as it was, but for `_silence_asyncio`."""
    _silence_asyncio()
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter(f"{_PROJECT}: %(message)s"))
    handler.addFilter(_is_shown)
    project = logging.getLogger(_PROJECT)
    level = project.level
    logging.getLogger().addHandler(handler)
    try:
        with _without_closed_loops():
            yield
    finally:
        logging.getLogger().removeHandler(handler)
        project.setLevel(level)


def show_progress_as_lines() -> None:
    """Shows informative messages too, unless on a terminal, where there are progress bars."""
    if not sys.stderr.isatty():
        logging.getLogger(_PROJECT).setLevel(logging.INFO)


@contextlib.contextmanager
def without_library_output() -> Iterator[None]:
    """Keeps off standard error what C libraries write there themselves; with MT3_TRACEBACK=1 it stays.

    libmpg123 comments on what it finds in each damaged MP3 file, of which this project says one line.
    """
    before = sys.stderr
    if os.environ.get("MT3_TRACEBACK") or before is None or before is not sys.__stderr__:
        yield
        return
    before.flush()
    kept = os.dup(before.fileno())
    handlers = [handler for handler in logging.getLogger().handlers if _stream_of(handler) is before]
    with (
        Path(os.devnull).open("w") as nowhere,
        open(kept, "w", buffering=1, errors="backslashreplace") as ours,  # noqa: PTH123
    ):
        os.dup2(nowhere.fileno(), before.fileno())
        try:
            _write_to(ours, handlers)
            yield
        finally:
            ours.flush()
            os.dup2(kept, before.fileno())
            _write_to(before, handlers)


def _stream_of(handler: logging.Handler) -> Any:
    return handler.stream if isinstance(handler, logging.StreamHandler) else None


def _write_to(stream: Any, handlers: Sequence[logging.Handler]) -> None:
    sys.stderr = stream
    for handler in handlers:
        if isinstance(handler, logging.StreamHandler):
            handler.setStream(stream)


def show_only_errors() -> None:
    """Leaves progress and warnings out, in processes whose messages another one gives too."""
    logging.getLogger(_PROJECT).setLevel(logging.ERROR)


def _is_shown(record: logging.LogRecord) -> bool:
    return record.name.split(".")[0] == _PROJECT or record.levelno >= logging.ERROR


def _silence_asyncio() -> None:
    # It reports tasks that Orbax gave up when another one had failed. That failure is raised; these come
    # when they are collected, which may be at the very end of the process: so it stays silent.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    # Python's own words about the same tasks.
    warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)


@contextlib.contextmanager
def _without_closed_loops() -> Iterator[None]:
    """Without what tensorstore's threads say when they come back to a loop that Orbax has given up."""
    report = sys.unraisablehook

    def unless_closed(raised: Any) -> None:
        if not (isinstance(raised.exc_value, RuntimeError) and "loop is closed" in str(raised.exc_value)):
            report(raised)

    sys.unraisablehook = unless_closed
    try:
        yield
    finally:
        sys.unraisablehook = report
