"""Failed writes and reads of checkpoints: which errors they are, in words, and reported once.

Orbax and TensorStore raise what they meet as errors of many kinds, from several
threads, and report it in their own ways besides.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

# TensorStore reports failed reads and writes as ValueErrors that begin with one of these.
_STORAGE_STATUS = re.compile(
    r"(RESOURCE_EXHAUSTED|UNAVAILABLE|INTERNAL|PERMISSION_DENIED|DATA_LOSS|UNKNOWN|ABORTED|NOT_FOUND"
    r"|FAILED_PRECONDITION|INVALID_ARGUMENT|OUT_OF_RANGE|DEADLINE_EXCEEDED): "
)
# What the operating system says.
_SYSTEM_WORDS = re.compile(
    "|".join(
        os.strerror(number)
        for number in (
            *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO),
            *(errno.ENOENT, errno.ENOTDIR, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ETIMEDOUT),
        )
    )
)


def is_of_storage(error: OSError | ValueError) -> bool:
    """Whether an error of Orbax is about files, and not a mistake in how it was called."""
    return isinstance(error, OSError) or bool(_STORAGE_STATUS.match(str(error)))


def reason(error: Exception) -> str:
    """The cause of a failure in a few words, on one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split()) or type(error).__name__
    # TensorStore nests its messages; the operating system's own words are deep within.
    system = _SYSTEM_WORDS.search(text)
    return system.group(0) if system else text[:300]


def remedy(error: Exception) -> str:
    full = getattr(error, "errno", None) in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    if full or re.search(r"No space left|quota|File too large", str(error)):
        return "Free disk space there or keep fewer checkpoints."
    return "Check that the disk is there and writable."


@contextlib.contextmanager
def one_report_of_failures() -> Iterator[None]:
    """Keeps libraries from printing tracebacks of a failed write, which is raised and reported here too.

    Orbax logs it from its threads, asyncio logs what became of the other
    arrays, and TensorStore reports to an event loop that is closed by then. What
    is logged stays out for good: threads of a failed write may outlive the
    checkpoints' manager.
    """

    def on_unraisable(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            hook_before(unraisable)

    for name in ("absl", "asyncio"):
        logging.getLogger(name).addFilter(_keep)
    hook_before, sys.unraisablehook = sys.unraisablehook, on_unraisable
    try:
        yield
    finally:
        if sys.unraisablehook is on_unraisable:
            sys.unraisablehook = hook_before


def _keep(record: logging.LogRecord) -> bool:
    of_orbax = "orbax" in record.pathname or "orbax" in record.getMessage()
    return not (record.exc_info and of_orbax)
