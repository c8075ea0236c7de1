"""What `mt3 transcribe` has finished in an output directory: a second run goes on where the first ended.

A line of JSON in `.mt3-transcribed.jsonl` says of a recording what audio was
heard (name, size and time of change, as `make` and `rsync` judge it), by what it
was transcribed (a hash over parameters, model and all options that shape results)
and which formats were written. Where any of that has changed, or a file is gone,
the recording is transcribed anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

RECORD_NAME = ".mt3-transcribed.jsonl"
_VERSION = 1

Identity = Mapping[str, Any]


def identity_of(path: Path) -> Identity | None:
    """What tells that an audio file is still the same; None where there is none."""
    try:
        found = path.stat()
    except (OSError, ValueError):  # the latter for names that no file can have
        return None
    return {"file": path.name, "num_bytes": found.st_size, "changed_ns": found.st_mtime_ns}


def settings_hash(settings: Mapping[str, Any]) -> str:
    """SHA-256 over JSON values, as 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, allow_nan=False).encode()).hexdigest()


class FinishedOutputs:
    """The finished recordings of an output directory, by one model with one set of options."""

    def __init__(self, directory: Path, made_by: str) -> None:
        """Args:
        directory: of the results; it must exist.
        made_by: see `settings_hash`.

        Raises:
          OSError: what is there cannot be read.
        """
        self._path = directory / RECORD_NAME
        self._made_by = made_by
        self._formats: dict[str, tuple[Identity, frozenset[str]]] = {}
        lines = self._path.read_bytes().splitlines() if self._path.exists() else []
        for line in lines:
            self._take(line)

    def formats(self, target: Path, audio: Identity | None) -> frozenset[str]:
        """The formats in which a recording's results have been written, from this very audio."""
        heard, formats = self._formats.get(target.as_posix(), (None, frozenset()))
        return formats if audio is not None and heard == audio else frozenset()

    def keep(self, target: Path, audio: Identity | None, formats: Iterable[str]) -> None:
        """Marks results as written. Of audio that was not there to be looked at, nothing is kept.

        Args:
          target: of the results, relative to the directory.
          audio: what `identity_of` said before it was read.
          formats: that are written, each whole.

        Raises:
          OSError: it cannot be written.
        """
        if audio is None:
            return
        line = {
            "version": _VERSION,
            "target": target.as_posix(),
            "audio": dict(audio),
            "made_by": self._made_by,
            "formats": sorted(formats),
        }
        content = json.dumps(line).encode()
        # A line of its own even after one that was cut short; in one write, should two commands write here.
        start = b"" if self._ends_with_line() else b"\n"
        with self._path.open("ab") as file:
            file.write(start + content + b"\n")
        self._take(content)

    def _ends_with_line(self) -> bool:
        if not self._path.exists() or not self._path.stat().st_size:
            return True
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def _take(self, line: bytes) -> None:
        try:
            values = json.loads(line)
            if values["version"] != _VERSION:
                return
            target, audio, formats = values["target"], values["audio"], frozenset(values["formats"])
            made_by = values["made_by"]
        # Cut short, or of another program: its recording is transcribed again, and as good as new.
        except (ValueError, TypeError, KeyError):
            return
        if made_by != self._made_by:
            # Its files are replaced by, or have replaced, those that this model and these options make.
            self._formats.pop(target, None)
            return
        heard, before = self._formats.get(target, (None, frozenset()))
        self._formats[target] = (audio, formats | before if heard == audio else formats)
