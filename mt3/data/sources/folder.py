"""A researcher's own recordings: audio files beside files of notes, in folders or archives.

An audio file and a label file of the same path without suffix are a recording
(`a/b.wav` with `a/b.mid`, `a/b.jams`, `a/b.csv` or `a/b.notes.csv`), and that
path, `a/b`, is its id. Which split it belongs to is said by a file or drawn:
then it depends on the seed and the id alone, so that adding recordings does not
move others. What has no partner, or more than one, is named and left out.
"""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import hashlib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mt3.data.file_tree import FileRef, FileTree, open_tree, size_of
from mt3.data.manifests import SkippedItem
from mt3.data.note_files import read_note_file
from mt3.data.recordings import AudioFile, Recording
from mt3.data.sources.base import SPLITS, Plan, PlanOptions, Source, SourceError, plain

AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".aif", ".aiff")
# Kind of label file -> endings, the longer of two that fit first.
LABEL_SUFFIXES: dict[str, tuple[str, ...]] = {
    "midi": (".mid", ".midi"),
    "jams": (".jams",),
    "csv": (".notes.csv", ".csv"),
}


@dataclasses.dataclass(frozen=True)
class FolderConfig:
    """Which recordings a folder holds, and how they are divided.

    Attributes:
      dataset: name of the prepared dataset, the first part of its tasks' names.
      audio_pattern: only audio files whose last parts match it, e.g. "*_mix.wav"
        or "studio/*"; empty for all.
      labels: kind of label files, "midi", "jams" or "csv" (see
        `mt3.data.note_files`); "auto" for any.
      split_file: CSV file with columns id and split, or JSON file with an object
        id -> split or split -> list of ids; empty for a seeded split.
      validation_fraction, test_fraction: of a seeded split, the expected shares.
      seed: of a seeded split.
      licence: of audio and labels, in words, for the manifest.
      program: General MIDI program of all notes but drums, whatever their files say.
      default_program: of notes in JAMS files and of those in CSV files whose program
        is blank or missing.
    """

    dataset: str = "folder"
    audio_pattern: str = ""
    labels: str = "auto"
    split_file: str = ""
    validation_fraction: float = 0.1
    test_fraction: float = 0.1
    seed: int = 0
    licence: str = ""
    program: int | None = None
    default_program: int = 0

    def __post_init__(self) -> None:
        if not re.fullmatch(r"\w+", self.dataset):
            raise ValueError(f"dataset is {self.dataset!r}; it must consist of letters, digits and _.")
        if self.labels not in ("auto", *LABEL_SUFFIXES):
            raise ValueError(f"labels is {self.labels!r}; choose auto, {', '.join(LABEL_SUFFIXES)}.")
        held_out = self.validation_fraction + self.test_fraction
        if not (self.validation_fraction >= 0 and self.test_fraction >= 0 and held_out < 1):
            raise ValueError(
                f"validation_fraction + test_fraction is {held_out}; "
                "they must be 0 or more and leave recordings to train on."
            )
        for name in ("program", "default_program"):
            value = getattr(self, name)
            if value is not None and not 0 <= value <= 127:
                raise ValueError(f"{name} is {value}; it must be 0..127.")


@dataclasses.dataclass(frozen=True)
class FolderItem:
    """One recording.

    Attributes:
      id: path of its files without suffix, relative to the input.
      split: train, validation or test.
      audio, labels: its files.
      config: how it is read.
    """

    id: str
    split: str
    audio: FileRef
    labels: FileRef
    config: FolderConfig


def plan(config: FolderConfig, inputs: Sequence[str], options: PlanOptions) -> Plan:
    """Pairs audio and labels, and divides them into splits.

    Raises:
      SourceError: when there are no pairs, or for a split file that cannot be used.
    """
    tree = open_tree(inputs, index_dir=options.index_dir)
    pairs, skipped = find_pairs(tree, config)
    if not pairs:
        reasons = "".join(f" {skip.item}: {skip.reason}." for skip in skipped[:3])
        raise SourceError(
            f"{', '.join(inputs) or 'No input'} holds no audio file ({config.audio_pattern or '*'}"
            f"{'|'.join(AUDIO_SUFFIXES)}) beside a label file of its name "
            f"({', '.join(_label_suffixes(config))}).{reasons}"
        )
    if config.split_file:
        split_of = read_split_file(config.split_file)
        skipped += _compare_with_split_file(pairs, split_of, skipped)
    else:
        split_of = draw_splits(pairs, config)
    chosen = {id: pair for id, pair in pairs.items() if id in split_of}
    if not chosen:
        raise SourceError(
            f"{config.split_file} lists none of the {len(pairs)} recordings, such as {min(pairs)!r}; "
            "its ids must be paths without suffix, relative to the input."
        )
    items = {
        split: [
            FolderItem(id, split, audio, labels, config)
            for id, (audio, labels) in chosen.items()
            if split_of[id] == split
        ]
        for split in SPLITS
    }
    described = {
        **plain(config),
        "split_file": Path(config.split_file).name,
        "files_sha256": _digest(chosen, split_of),
    }
    return Plan(
        config.dataset, {split: of for split, of in items.items() if of}, described, skipped, config.seed
    )


def find_pairs(
    tree: FileTree, config: FolderConfig
) -> tuple[dict[str, tuple[FileRef, FileRef]], list[SkippedItem]]:
    """The recordings, id -> (audio, labels), in order of ids; and what has no partner or too many."""
    audio_files = tree.find(config.audio_pattern) if config.audio_pattern else tree.files
    split_file = Path(config.split_file).resolve() if config.split_file else None
    audio = _by_id(audio_files, AUDIO_SUFFIXES)
    labels = _by_id(tree.files, _label_suffixes(config), without=split_file)
    pairs, skipped = {}, []
    for id in sorted({*audio, *labels}):
        sounds, notes = audio.get(id, {}), labels.get(id, {})
        if len(sounds) == 1 and len(notes) == 1:
            pairs[id] = (*sounds.values(), *notes.values())
        elif not notes:
            wanted = ", ".join(_label_suffixes(config))
            skipped += [SkippedItem(name, f"there is no label file {id} ({wanted})") for name in sounds]
        elif not sounds:
            wanted = ", ".join(AUDIO_SUFFIXES)
            reason = f"there is no audio file {id} ({wanted})"
            # Where only some audio is asked for, labels of other audio are no fault.
            skipped += [SkippedItem(name, reason, is_fault=not config.audio_pattern) for name in notes]
        elif len(notes) > 1:
            reason = f"has several label files ({', '.join(notes)}); choose by FolderConfig.labels"
            skipped.append(SkippedItem(id, reason))
        else:
            reason = f"has several audio files ({', '.join(sounds)}); choose by FolderConfig.audio_pattern"
            skipped.append(SkippedItem(id, reason))
    return pairs, skipped


def _label_suffixes(config: FolderConfig) -> tuple[str, ...]:
    chosen = LABEL_SUFFIXES if config.labels == "auto" else [config.labels]
    return tuple(suffix for kind in chosen for suffix in LABEL_SUFFIXES[kind])


def _by_id(
    files: Mapping[str, FileRef], suffixes: Iterable[str], without: Path | None = None
) -> dict[str, dict[str, FileRef]]:
    """Files with one of the suffixes: id -> name -> file."""
    found: dict[str, dict[str, FileRef]] = {}
    for name, file in files.items():
        suffix = next((suffix for suffix in suffixes if name.lower().endswith(suffix)), None)
        if suffix is None or (without is not None and isinstance(file, Path) and file.resolve() == without):
            continue
        found.setdefault(name[: -len(suffix)], {})[name] = file
    return found


def draw_splits(ids: Iterable[str], config: FolderConfig) -> dict[str, str]:
    """The seeded split of each id; training gets the nearest one where it would stay empty."""
    position = {id: _position(config.seed, id) for id in ids}
    # Held-out splits first: they stay as they are when there are other fractions behind them.
    names = ("test", "validation", "train")
    ends = np.cumsum([config.test_fraction, config.validation_fraction])
    split_of = {id: names[int(np.searchsorted(ends, value, side="right"))] for id, value in position.items()}
    if split_of and "train" not in split_of.values():
        split_of[max(position, key=lambda id: (position[id], id))] = "train"
    return split_of


def _position(seed: int, id: str) -> float:
    """A number in [0, 1) that seems random."""
    digest = hashlib.sha256(f"{seed}\n{id}".encode()).hexdigest()
    return int(digest[:13], 16) / 16**13


def read_split_file(path: Path | str) -> dict[str, str]:
    """id -> split, as a file says it.

    Args:
      path: CSV with columns id and split; or JSON, an object id -> split or
        split -> list of ids. Ids may have the suffix of the audio file.

    Raises:
      SourceError: when it cannot be read, names an unknown split or has an id in two.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        rows = _json_rows(text) if Path(path).suffix.lower() == ".json" else _csv_rows(text)
    except (OSError, ValueError, csv.Error) as error:
        raise SourceError(f"The split file {path} cannot be used: {error}.") from error
    split_of: dict[str, str] = {}
    for listed, split in rows:
        if split not in SPLITS:
            raise SourceError(f"{path} puts {listed!r} in {split!r}; splits are {', '.join(SPLITS)}.")
        suffix = next((suffix for suffix in AUDIO_SUFFIXES if listed.lower().endswith(suffix)), "")
        id = listed[: len(listed) - len(suffix)]
        if split_of.setdefault(id, split) != split:
            raise SourceError(f"{path} puts {id!r} in {split_of[id]!r} and in {split!r}; leave one of them.")
    return split_of


def _json_rows(text: str) -> list[tuple[str, str]]:
    content = json.loads(text)
    if not isinstance(content, dict):
        raise ValueError("it must be an object id -> split, or split -> list of ids")
    rows = []
    for key, value in content.items():
        listed = [(id, key) for id in value] if isinstance(value, list) else [(key, value)]
        rows += [(str(id), str(split)) for id, split in listed]
    return rows


def _csv_rows(text: str) -> list[tuple[str, str]]:
    reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
    if not {"id", "split"} <= set(reader.fieldnames or ()):
        raise ValueError("its first line must name the columns id and split")
    return [((row["id"] or "").strip(), (row["split"] or "").strip()) for row in reader]


def _compare_with_split_file(
    pairs: Mapping[str, object], split_of: Mapping[str, str], skipped: Iterable[SkippedItem]
) -> list[SkippedItem]:
    """What only the split file or only the input has."""
    unlisted = [
        SkippedItem(id, "the split file does not list it", is_fault=False)
        for id in pairs
        if id not in split_of
    ]
    missing = [
        SkippedItem(id, "the split file lists it, but there is no such pair of audio and labels")
        for id in split_of
        if id not in pairs and not any(skip.item == id or skip.item.startswith(f"{id}.") for skip in skipped)
    ]
    return unlisted + missing


def _digest(pairs: Mapping[str, tuple[FileRef, FileRef]], split_of: Mapping[str, str]) -> str:
    """Tells whether finished work is of the same recordings: their labels, and lengths of audio files."""
    digest = hashlib.sha256()
    for id, (audio, labels) in pairs.items():
        digest.update(f"{id}\n{split_of[id]}\n{size_of(audio)}\n{size_of(labels)}\n".encode())
        with contextlib.suppress(OSError):  # what cannot be read is reported by `make`
            digest.update(hashlib.sha256(labels.read_bytes()).digest())
    return digest.hexdigest()


def make(item: FolderItem) -> list[Recording]:
    """The recording of an item. It may have no notes if its label file says so.

    Raises:
      ValueError: when the labels are broken, or none of the notes can be.
    """
    config = item.config
    notes, dropped = read_note_file(item.labels, program=config.default_program)
    if dropped and not len(notes):
        reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
        raise ValueError(f"{item.labels}: none of its notes can be ({reasons}).")
    if config.program is not None:
        notes = notes.replace(program=np.where(notes.is_drum, 0, config.program))
    extra: dict[str, Any] = {"audio_file": item.audio.name, "label_file": item.labels.name}
    if dropped:
        extra["corrections"] = dropped
    return [
        Recording(
            id=item.id,
            notes=notes,
            audio=AudioFile(item.audio),
            dataset=config.dataset,
            split=item.split,
            licence=config.licence,
            extra=extra,
        )
    ]


SOURCE = Source(
    name="folder",
    config=FolderConfig,
    plan=plan,
    make=make,
    licence="yours",
    access="it is your own: name the folder that holds your audio and label files",
    items_per_shard=16,
)
