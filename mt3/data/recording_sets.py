"""Recordings of prepared splits, chosen by dataset and split or by MT3's names of tasks, for evaluation.

A `RecordingSet` knows the ids of its recordings without reading any: what was
evaluated before is passed over at once. It also knows what it was read from,
by a hash of each split's manifest, which holds the checksums of all its shards.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import logging
from collections.abc import Sequence
from typing import Any, overload

import numpy as np

from mt3.data.mixtures import members_of
from mt3.data.prepared import DataDirectories, choose_datasets
from mt3.data.recordings import Recording
from mt3.data.records import Recordings, read_recordings
from mt3.data.task_names import TASK_KINDS, TaskName
from mt3.symbolic.notes import Notes

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class SetPart:
    """A split of a dataset in a set.

    Attributes:
      label: what it is called among the others: the dataset, or DATASET/SPLIT
        where several splits of it are there.
      recordings: those of it that are in the set.
      task: that asked for it; empty where none did.
    """

    label: str
    recordings: Recordings
    task: str = ""

    def describe(self) -> dict[str, Any]:
        """Where its recordings are from, as JSON values."""
        manifest = self.recordings.manifest
        return {
            "dataset": manifest.name,
            "split": manifest.split,
            "manifest_hash": hashlib.sha256(manifest.to_json().encode()).hexdigest(),
        }


@dataclasses.dataclass(frozen=True, eq=False)
class SetRecording:
    """A recording of a set, which is read when it is asked for anything but its names.

    Attributes:
      id: DATASET/ID where the set has several parts, as two datasets may share an id.
      dataset: the label of its part.
    """

    id: str
    dataset: str
    part: SetPart
    index: int

    def read(self) -> Recording:
        """The recording itself, under the id that it has in the set.

        Raises:
          RecordError: its record is damaged.
        """
        return dataclasses.replace(self.part.recordings[self.index], id=self.id)

    @property
    def notes(self) -> Notes:
        """See `Recording`."""
        return self.read().notes

    def load_audio(self, sample_rate: int = 16000) -> np.ndarray:
        """See `Recording`."""
        return self.read().load_audio(sample_rate)


class RecordingSet(Sequence[SetRecording]):
    """The recordings of several parts, one part after the other."""

    def __init__(self, parts: Sequence[SetPart]) -> None:
        self.parts = tuple(parts)
        prefixes = [f"{part.label}/" if len(parts) > 1 else "" for part in parts]
        self._recordings = [
            SetRecording(f"{prefix}{id}", part.label, part, index)
            for prefix, part in zip(prefixes, parts, strict=True)
            for index, id in enumerate(part.recordings.ids)
        ]

    def __len__(self) -> int:
        return len(self._recordings)

    @overload
    def __getitem__(self, index: int) -> SetRecording: ...

    @overload
    def __getitem__(self, index: slice) -> list[SetRecording]: ...

    def __getitem__(self, index: int | slice) -> SetRecording | list[SetRecording]:
        return self._recordings[index]


def split_recordings(
    data_dir: DataDirectories,
    split: str,
    names: str | Sequence[str] | None = None,
    *,
    max_recordings: int | None = None,
    missing: str = "error",
) -> RecordingSet:
    """The recordings of a split of one or several datasets.

    Args:
      data_dir, split, names, missing: see `mt3.data.prepared.choose_datasets`.
      max_recordings: only the first so many of each dataset.

    Raises:
      MissingDatasetError, ValueError: see `choose_datasets`.
    """
    chosen = choose_datasets(data_dir, names, split=split, missing=missing)
    if names is None and len(chosen) > 1:
        found = ", ".join(dataset.name for dataset in chosen)
        _LOG.info("The %s splits of all datasets in %s: %s", split, data_dir, found)
    return RecordingSet(
        [
            SetPart(
                dataset.name, read_recordings(dataset.directory, split, name=dataset.name)[:max_recordings]
            )
            for dataset in chosen
        ]
    )


def recordings_of_tasks(
    tasks: str | Sequence[str],
    data_dir: DataDirectories,
    *,
    mixture_datasets: str | Sequence[str] = "paper",
    max_recordings: int | None = None,
    missing: str = "error",
) -> RecordingSet:
    """The recordings of one or several tasks or mixtures; those of several names are there once.

    Args:
      tasks: MT3's names, e.g. `slakh_notes_ties_vb1_test` or `mega_notes_ties_vb1_eval`.
      data_dir: where datasets are prepared.
      mixture_datasets: the datasets of `mega` mixtures; see `mt3.data.mixtures`.
      max_recordings: only the first so many of each dataset.
      missing: of `mt3.data.prepared.MISSING_RULES`.

    Raises:
      MissingDatasetError: a dataset is not prepared.
      ValueError: a name is none of a task or mixture.
    """
    task_names: dict[tuple[str, str], str] = {}  # dataset and split -> the task that asks for it
    for name in members_of(tasks, mixture_datasets).task_names:
        task = parse_task(name)
        task_names.setdefault((task.dataset, TASK_KINDS[task.kind].records_split), name)
    splits = dict.fromkeys(split for _, split in task_names)
    found = {
        (dataset.name, split): dataset
        for split in splits
        for dataset in choose_datasets(
            data_dir,
            [dataset for dataset, other in task_names if other == split],
            split=split,
            missing=missing,
        )
    }
    num_splits = collections.Counter(dataset for dataset, _ in found)
    return RecordingSet(
        [
            SetPart(
                name if num_splits[name] == 1 else f"{name}/{split}",
                read_recordings(found[name, split].directory, split, name=name)[:max_recordings],
                task,
            )
            for (name, split), task in task_names.items()
            if (name, split) in found
        ]
    )


def parse_task(name: str) -> TaskName:
    """The parts of a task's name.

    Raises:
      ValueError: it has another form.
    """
    parts = TaskName.parse(name)
    if parts is None or parts.kind not in TASK_KINDS:
        raise ValueError(
            f"{name!r} is no task: names are DATASET_TOKENS_KIND, as in slakh_notes_ties_vb1_test; kinds are "
            f"{', '.join(TASK_KINDS)}; mixtures are mega_TOKENS_eval and mega_without_DATASET_TOKENS_eval."
        )
    return parts
