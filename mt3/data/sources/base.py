"""What a dataset's source is: it plans, and makes recordings; all else is shared.

A source is a module with a `SOURCE`, registered by a row in
`mt3.data.sources.SOURCES`. `plan` looks at what was published (names and small
tables, no audio) and lists, for each split, the items that become recordings.
`make` turns one item into recordings, in any process. `mt3.data.prepare` does
the rest: runs, encodes, writes, skips what is broken, resumes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from mt3.data.manifests import SkippedItem
from mt3.data.recordings import Recording

SPLITS = ("train", "validation", "test")


class SourceError(ValueError):
    """Input that is not the dataset, or not all of it; the message says what is missing and the remedy."""


class LeftOut(Exception):
    """Raised by `make` for an item that rightly gives no recording; the message says why.

    It is listed in the manifest; `strict` does not mind it.
    """


class Item(Protocol):
    """The unit of work: what `make` takes. A frozen dataclass that can be sent to other processes."""

    @property
    def id(self) -> str:
        """Names it in messages and manifests; unique in its split."""
        ...


@dataclasses.dataclass(frozen=True)
class PlanOptions:
    """How planning goes about its work, apart from what is planned.

    Attributes:
      workers: processes that may be used.
      cache_dir: for what is read slowly, once; None for the user's cache directory.
      index_dir: where `open_tree` keeps the seek points of compressed tars.
      strict: fail at the first input that cannot be used.
    """

    workers: int = 0
    cache_dir: Path | str | None = None
    index_dir: Path | str | None = None
    strict: bool = False


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a dataset consists of.

    Attributes:
      dataset: name of the prepared dataset, the first part of its tasks' names.
      items: split -> items, in the order of the records. Splits that the dataset
        does not have are left out.
      config: what the recordings depend on, plain values: part of each manifest,
        and what tells whether finished work is of the same kind.
      skipped: input that cannot be used, found while planning.
      seed: of all random choices.
    """

    dataset: str
    items: Mapping[str, Sequence[Item]]
    config: Mapping[str, Any]
    skipped: Sequence[SkippedItem] = ()
    seed: int = 0


@dataclasses.dataclass(frozen=True)
class Download:
    """A file that the dataset's authors publish.

    Attributes:
      url: direct link.
      file: name that it is kept under; by it `plan` knows it.
      md5: hexadecimal; empty where the authors give none.
      num_bytes: its size, None where unknown.
      variant: name of the version or part that it belongs to; empty for all.
    """

    url: str
    file: str
    md5: str = ""
    num_bytes: int | None = None
    variant: str = ""


@dataclasses.dataclass(frozen=True)
class Source:
    """A dataset that can be prepared.

    Attributes:
      name: of the command, `mt3 prepare NAME`.
      config: class of its settings, a frozen dataclass whose fields all have defaults.
      plan: (config, inputs, options) -> plan; raises `SourceError`. `inputs` are
        the folders and archives that the user named.
      make: item -> recordings. Their audio may still be references. ValueError
        and OSError mean that the item's files are at fault: it is skipped.
      licence: of audio and labels, in words.
      homepage: where people get it.
      downloads: direct links, where the licence allows them.
      access: how to get it where there is no direct link.
      published_counts: "DATASET/SPLIT" -> recordings that the published dataset
        gives with the default configuration; splits of which that depends on
        the music are left out.
      items_per_shard: about how many items make a shard file of 50 to 200 MB.
    """

    name: str
    config: type
    plan: Callable[[Any, Sequence[str], PlanOptions], Plan]
    make: Callable[[Any], Iterable[Recording]]
    licence: str
    homepage: str = ""
    downloads: Sequence[Download] = ()
    access: str = ""
    published_counts: Mapping[str, int] = dataclasses.field(default_factory=dict)
    items_per_shard: int = 8


def plain(config: Any) -> dict[str, Any]:
    """A configuration as plain values for a plan; equal configurations give equal values."""
    return dataclasses.asdict(config)
