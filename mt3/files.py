"""Files that are written whole or not at all, and where caches are kept. Any room may import this."""

from __future__ import annotations

import contextlib
import os
import shutil
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A name beside `path` to write to; renamed to `path` on success, removed on failure."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """A new directory beside `path` to fill; renamed to `path` on success, removed on failure."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    temporary.mkdir()
    try:
        yield temporary
        temporary.rename(path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Replaces the file at once: a reader sees the old content or the new, never a part."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """The same for text, as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def cache_directory() -> Path:
    """What is compiled or parsed once is kept in $MT3_CACHE, else in the user's cache directory."""
    if configured := os.environ.get("MT3_CACHE"):
        return Path(configured)
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "mt3"
