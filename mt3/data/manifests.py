"""The manifest of a prepared split: what its shards hold, without opening them.

A manifest is written after the last shard: where there is a manifest, the split
is complete. It holds no dates or machine names, so that equal input and seed
give an equal manifest.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mt3 import files
from mt3.data.tfrecords import RecordError
from mt3.symbolic.notes import Notes

FORMAT_VERSION = 1


@dataclasses.dataclass(frozen=True)
class ShardInfo:
    """One shard file."""

    file: str
    num_recordings: int
    num_bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class RecordingInfo:
    """One recording; its record starts at byte `offset` of shard number `shard`."""

    id: str
    seconds: float
    num_notes: int
    num_chunks: int
    shard: int
    offset: int


@dataclasses.dataclass(frozen=True)
class SkippedItem:
    """An input that gave no recording, and why.

    Attributes:
      item: its id or file.
      reason: in words.
      is_fault: whether something is wrong with it; False where the dataset's
        rules leave it out.
    """

    item: str
    reason: str
    is_fault: bool = True


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a split holds.

    Attributes:
      name: the dataset.
      split: its part.
      num_recordings, seconds, num_notes: totals.
      num_chunks: chunks of 2000 frames (16 s), by which mixtures weigh datasets.
      programs: General MIDI program as text, or "drums" -> number of notes.
      licences: of the recordings, in words.
      corrections: what was done to published labels -> how many notes or stems.
      shards, recordings, skipped: in the order of writing.
      seed: of all random choices.
      code_version: of this package.
      config: what the split was made from, plain values.
    """

    name: str
    split: str
    num_recordings: int
    seconds: float
    num_notes: int
    num_chunks: int
    programs: Mapping[str, int]
    licences: tuple[str, ...]
    corrections: Mapping[str, int]
    shards: tuple[ShardInfo, ...]
    recordings: tuple[RecordingInfo, ...]
    skipped: tuple[SkippedItem, ...]
    seed: int
    code_version: str
    config: Mapping[str, Any]

    def to_json(self) -> str:
        """Readable JSON; equal manifests give equal text."""
        return to_json({"format_version": FORMAT_VERSION, **dataclasses.asdict(self)})

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """The inverse of `to_json`.

        Raises:
          ValueError, TypeError or KeyError: when `text` is no manifest.
        """
        values = json.loads(text)
        version = values.pop("format_version")
        if version != FORMAT_VERSION:
            raise ValueError(f"its format version is {version}, this code reads {FORMAT_VERSION}")
        values["licences"] = tuple(values["licences"])
        for field, kind in (("shards", ShardInfo), ("recordings", RecordingInfo), ("skipped", SkippedItem)):
            values[field] = tuple(kind(**row) for row in values[field])
        return cls(**values)


def to_json(values: Any) -> str:
    """Plain values as readable JSON; equal values give equal text."""
    return json.dumps(values, indent=1, ensure_ascii=False) + "\n"


def manifest_path(directory: Path | str, name: str, split: str) -> Path:
    """Where the manifest of a split lies."""
    return Path(directory) / f"{name}-{split}.manifest.json"


def shard_name(name: str, split: str, index: int, num_shards: int) -> str:
    """File name of a shard, as TensorFlow Datasets and seqio write it."""
    return f"{name}-{split}.tfrecord-{index:05d}-of-{num_shards:05d}"


def prepared_datasets(directory: Path | str, split: str) -> list[str]:
    """Names of the datasets of which a directory holds this split, finished."""
    suffix = f"-{split}.manifest.json"
    return sorted(path.name.removesuffix(suffix) for path in Path(directory).glob(f"*{suffix}"))


def read_manifest(directory: Path | str, split: str, name: str | None = None) -> Manifest:
    """The manifest of a finished split.

    Args:
      directory: where it was prepared.
      split: train, validation or test.
      name: of the dataset; may be left out where the directory holds one.

    Raises:
      RecordError: when the split is not prepared or its manifest is unreadable,
        or when `name` is needed to choose.
    """
    if name is None:
        found = prepared_datasets(directory, split)
        if len(found) != 1:
            what = f"{len(found)} datasets ({', '.join(found)})" if found else "no prepared dataset"
            raise RecordError(f"{directory} holds {what} with split {split!r}; name one that is prepared.")
        name = found[0]
    path = manifest_path(directory, name, split)
    try:
        return Manifest.from_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise RecordError(
            f"{path} does not exist: split {split!r} of {name!r} is not prepared; run `mt3 prepare {name}`."
        ) from None
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RecordError(
            f"{path} is no manifest ({error}); delete it and prepare the split again."
        ) from error


def write_manifest(directory: Path | str, manifest: Manifest) -> Path:
    """Writes atomically; returns the path."""
    path = manifest_path(directory, manifest.name, manifest.split)
    files.write_text(path, manifest.to_json())
    return path


def count_programs(notes: Notes) -> dict[str, int]:
    """Program as text, or "drums" -> number of notes; by program, drums last."""
    counts = {}
    for program, is_drum in notes.instruments:
        if is_drum:
            counts["drums"] = int(notes.is_drum.sum())
        else:
            counts[str(program)] = int((~notes.is_drum & (notes.program == program)).sum())
    return counts
