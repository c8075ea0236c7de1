"""One shard of a split: written by one process, whole or not at all, and then described.

A split is written shard by shard, each on its own: that is what lets many
machines work on it, and a run that was killed go on. A finished shard has a
*part* beside it, which says what the shard holds; a split's manifest is its
parts put together. A shard without a part is not finished.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import uuid
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mt3 import files
from mt3.data.manifests import RecordingInfo, SkippedItem, count_programs, to_json
from mt3.data.preprocessors import num_chunks
from mt3.data.recordings import EncodedAudio, Recording
from mt3.data.records import encode_recording
from mt3.data.tfrecords import frame_record

SAMPLE_RATE = 16000


@dataclasses.dataclass(frozen=True)
class ShardPart:
    """What a finished shard holds.

    Attributes:
      made_from: tells what the shard was made from; another value means that it is of no use.
      num_bytes, sha256: of the file.
      recordings: in the order of writing.
      skipped: inputs that gave none.
      programs, corrections: as in the manifest.
      licences: of the recordings, sorted.
    """

    made_from: str
    num_bytes: int
    sha256: str
    recordings: tuple[RecordingInfo, ...]
    skipped: tuple[SkippedItem, ...]
    programs: Mapping[str, int]
    licences: tuple[str, ...]
    corrections: Mapping[str, int]

    def to_json(self) -> str:
        return to_json(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ShardPart:
        """The inverse of `to_json`.

        Raises:
          ValueError, TypeError or KeyError: when `text` is no part.
        """
        values = json.loads(text)
        for field, kind in (("recordings", RecordingInfo), ("skipped", SkippedItem)):
            values[field] = tuple(kind(**row) for row in values[field])
        return cls(**{**values, "licences": tuple(values["licences"])})


class ShardWriter:
    """Writes one shard.

    A context manager: leaving it normally puts the file in place, after which
    `part` describes it; leaving it by an error removes what was written.
    """

    def __init__(self, path: Path, index: int, *, made_from: str = "") -> None:
        """`path` of the shard, its `index` among those of the split; see `ShardPart.made_from`."""
        self._path, self._index, self._made_from = path, index, made_from
        self._temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        self._file = self._temporary.open("wb")
        self._hash = hashlib.sha256()
        self._recordings: list[RecordingInfo] = []
        self._skipped: list[SkippedItem] = []
        self._programs: Counter[str] = Counter()
        self._corrections: Counter[str] = Counter()
        self._licences: set[str] = set()

    def write(self, recording: Recording) -> None:
        """Adds a recording; audio that is not encoded yet is encoded as FLAC at 16 kHz.

        Raises:
          ValueError, OSError: when its audio cannot be read; the shard is as it was.
        """
        audio = EncodedAudio.of(recording.audio, SAMPLE_RATE)
        seconds = audio.num_samples / audio.sample_rate
        info = RecordingInfo(
            id=recording.id,
            seconds=seconds,
            num_notes=len(recording.notes),
            num_chunks=num_chunks(round(seconds * SAMPLE_RATE)),
            shard=self._index,
            offset=self._file.tell(),
        )
        framed = frame_record(encode_recording(dataclasses.replace(recording, audio=audio)))
        self._file.write(framed)
        self._hash.update(framed)
        self._recordings.append(info)
        self._programs.update(count_programs(recording.notes))
        self._corrections.update(recording.extra.get("corrections", {}))
        self._licences.add(recording.licence)

    def skip(self, item: SkippedItem) -> None:
        """Lists an input that gave no recording."""
        self._skipped.append(item)

    @property
    def part(self) -> ShardPart:
        """What has been written."""
        return ShardPart(
            made_from=self._made_from,
            num_bytes=self._path.stat().st_size,
            sha256=self._hash.hexdigest(),
            recordings=tuple(self._recordings),
            skipped=tuple(self._skipped),
            programs=dict(self._programs),
            licences=tuple(sorted(self._licences)),
            corrections=dict(self._corrections),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._file:
                if kind is None:
                    self._file.flush()
                    os.fsync(self._file.fileno())
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)


def totals(parts: Sequence[ShardPart]) -> dict[str, Any]:
    """The manifest's fields that are sums over shards."""
    recordings = [info for part in parts for info in part.recordings]
    programs, corrections = Counter[str](), Counter[str]()
    for part in parts:
        programs.update(part.programs)
        corrections.update(part.corrections)
    return {
        "num_recordings": len(recordings),
        "seconds": sum(info.seconds for info in recordings),
        "num_notes": sum(info.num_notes for info in recordings),
        "num_chunks": sum(info.num_chunks for info in recordings),
        "programs": dict(sorted(programs.items(), key=lambda item: (len(item[0]), item[0]))),
        "licences": tuple(sorted({licence for part in parts for licence in part.licences})),
        "corrections": dict(sorted(corrections.items())),
    }


def write_part(path: Path, part: ShardPart) -> None:
    """Beside the shard, atomically."""
    files.write_text(path, part.to_json())


def finished_part(path: Path, shard: Path, made_from: str) -> ShardPart | None:
    """The part of a shard that is finished and made from the same; None where it is to be made."""
    try:
        part = ShardPart.from_json(path.read_text(encoding="utf-8"))
        size = shard.stat().st_size
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None
    return part if part.made_from == made_from and part.num_bytes == size else None
