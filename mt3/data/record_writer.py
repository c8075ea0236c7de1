"""Writes a split from recordings at hand, in this process.

`mt3.data.prepare` writes the splits of published datasets, in parallel;
`RecordWriter` is for everything smaller: a script's recordings, tests.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import mt3
from mt3.data.manifests import (
    Manifest,
    RecordingInfo,
    ShardInfo,
    SkippedItem,
    manifest_path,
    shard_name,
    write_manifest,
)
from mt3.data.recordings import Recording
from mt3.data.shards import ShardPart, ShardWriter, totals


class RecordWriter:
    """Writes the shards and the manifest of one split; recordings go to the shards in turn.

    A context manager: leaving it normally puts the shards in place and then the
    manifest; leaving it by an error removes what was written.
    """

    def __init__(
        self,
        directory: Path | str,
        name: str,
        split: str,
        *,
        num_shards: int = 1,
        seed: int = 0,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """See `Manifest` for the arguments; `directory` is made where it does not exist."""
        if num_shards < 1:
            raise ValueError(f"num_shards is {num_shards}; it must be at least 1.")
        self._directory = Path(directory)
        self._directory.mkdir(parents=True, exist_ok=True)
        remove_left_behind(self._directory, name, split)
        self._name, self._split, self._seed, self._config = name, split, seed, dict(config or {})
        paths = [self._directory / shard_name(name, split, index, num_shards) for index in range(num_shards)]
        self._stack = contextlib.ExitStack()
        self._writers = [self._stack.enter_context(ShardWriter(p, index)) for index, p in enumerate(paths)]
        self._turn = itertools.cycle(self._writers)

    def write(self, recording: Recording) -> None:
        """Adds a recording; audio that is not encoded yet is encoded as FLAC at 16 kHz."""
        next(self._turn).write(recording)

    def skip(self, item: str, reason: str) -> None:
        """Lists an input that gave no recording."""
        self._writers[0].skip(SkippedItem(item, reason))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            # From here until the new manifest is there, the split counts as not prepared.
            manifest_path(self._directory, self._name, self._split).unlink(missing_ok=True)
        self._stack.__exit__(kind, error, trace)
        if kind is None:
            parts = [writer.part for writer in self._writers]
            rounds = itertools.zip_longest(*(part.recordings for part in parts))
            finish_split(
                self._directory,
                self._name,
                self._split,
                parts,
                recordings=[info for infos in rounds for info in infos if info is not None],
                seed=self._seed,
                config=self._config,
            )


def finish_split(
    directory: Path,
    name: str,
    split: str,
    parts: Sequence[ShardPart],
    *,
    recordings: Sequence[RecordingInfo] | None = None,
    skipped: Sequence[SkippedItem] = (),
    seed: int,
    config: Mapping[str, Any],
) -> Manifest:
    """Writes the manifest of a split whose shards are in place, and removes what is left of earlier times.

    Args:
      directory, name, split: which.
      parts: of all shards, in order.
      recordings: all, in another order than shard by shard.
      skipped: inputs that were left out before anything was written.
      seed, config: see `Manifest`.
    """
    names = [shard_name(name, split, index, len(parts)) for index in range(len(parts))]
    for stale in directory.glob(f"{name}-{split}.tfrecord-?????-of-?????"):
        if stale.name not in names:
            stale.unlink()
    # Again: a worker of a run that was killed may outlive it by a moment, and begin one more shard.
    remove_left_behind(directory, name, split)
    manifest = Manifest(
        name=name,
        split=split,
        **totals(parts),
        shards=tuple(
            ShardInfo(file, len(part.recordings), part.num_bytes, part.sha256)
            for file, part in zip(names, parts, strict=True)
        ),
        recordings=tuple(recordings or [info for part in parts for info in part.recordings]),
        skipped=(*skipped, *(item for part in parts for item in part.skipped)),
        seed=seed,
        code_version=mt3.__version__,
        config=config,
    )
    write_manifest(directory, manifest)
    return manifest


def remove_left_behind(directory: Path, name: str, split: str) -> None:
    """Deletes what a run that was killed had not finished writing."""
    for left_behind in directory.glob(f".{name}-{split}.*.tmp"):
        left_behind.unlink(missing_ok=True)
