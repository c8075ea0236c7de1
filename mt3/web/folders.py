"""The private folder of a running server; what a server that crashed has left is removed.

Each server works in a folder of its own and holds a lock on a file in it, which
the system releases however the server ends. A folder whose lock is free is
therefore left over, and the next server removes it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_PREFIX = "serving-"
_LOCK = "lock"


@contextlib.contextmanager
def private_folder(base: Path) -> Iterator[Path]:
    """A new folder in `base` that this user alone can enter (mode 0700), removed at the end.

    Args:
      base: made where it is missing.

    Raises:
      OSError: it cannot be made.
    """
    base.mkdir(parents=True, exist_ok=True)
    clear_leftovers(base)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    lock = _locked(folder)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def clear_leftovers(base: Path) -> None:
    """Removes this user's folders in `base` that no living server holds."""
    for folder in base.glob(f"{_PREFIX}*"):
        try:
            status = folder.lstat()
            # Where others may write too, a link or somebody else's folder is left alone.
            if not folder.is_dir() or folder.is_symlink() or status.st_uid != os.getuid():
                continue
            lock = _locked(folder)
        except OSError:  # gone by now
            continue
        if lock is not None:
            shutil.rmtree(folder, ignore_errors=True)
            os.close(lock)


def _locked(folder: Path) -> int | None:
    """The descriptor of the folder's lock, now held; None where another process holds it."""
    descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor
