"""MusicNet: 330 recordings of classical music with aligned labels.

Reads the published layout, `{train,test}_data/ID.wav` and
`{train,test}_labels/ID.csv`, under any folder or in `musicnet.tar.gz`. The
splits are lists of ids, whatever the folders are called: 15 recordings for
validation, 15 for test, the other 300 for training. Programs are those of the
labels; velocities are unknown.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Iterator, Sequence

import numpy as np

from mt3.data.file_tree import FileRef, FileTree, open_tree
from mt3.data.manifests import SkippedItem
from mt3.data.recordings import AudioFile, Recording
from mt3.data.sources.base import SPLITS, Download, Plan, PlanOptions, Source, SourceError, plain
from mt3.symbolic.note_columns import NoteFileError, ReadNotes, notes_of_columns

LICENCE = "CC BY 4.0; the recordings are in the public domain or under Creative Commons licences of their own"

# Numbers of the recordings that are not for training; those of MT3.
HELD_OUT: dict[str, frozenset[int]] = {
    "validation": frozenset(
        [1733, 1765, 1790, 1818, 2160, 2198, 2289, 2300, 2308, 2315, 2336, 2466, 2477, 2504, 2611]
    ),
    "test": frozenset(
        [1729, 1776, 1813, 1893, 2118, 2186, 2296, 2431, 2432, 2487, 2497, 2501, 2507, 2537, 2621]
    ),
}

# Labels count samples at this rate.
LABEL_SAMPLE_RATE = 44100

_COLUMNS = ("start_time", "end_time", "instrument", "note")
_BASE_URL = "https://zenodo.org/records/5120004/files"


@dataclasses.dataclass(frozen=True)
class MusicNetConfig:
    """How MusicNet is prepared: there is nothing to choose."""


@dataclasses.dataclass(frozen=True)
class MusicNetItem:
    """A recording.

    Attributes:
      id: its number, as text.
      split: by `split_of`.
      audio: WAV file.
      labels: CSV file.
    """

    id: str
    split: str
    audio: FileRef
    labels: FileRef


def split_of(id: str) -> str:
    """The split of a recording by its number."""
    return next((split for split, numbers in HELD_OUT.items() if int(id) in numbers), "train")


def find_files(tree: FileTree, kind: str, suffix: str) -> dict[str, FileRef]:
    """The files of `{train,test}_KIND/` by their ids, in order of numbers; of copies the first."""
    found: dict[str, FileRef] = {}
    for folder in (f"train_{kind}", f"test_{kind}"):
        for file in tree.find(f"{folder}/*{suffix}").values():
            if file.stem.isdecimal():
                found.setdefault(file.stem, file)
    return dict(sorted(found.items(), key=lambda pair: int(pair[0])))


def plan(config: MusicNetConfig, inputs: Sequence[str], options: PlanOptions) -> Plan:
    """The recordings that have audio and labels; the others are listed as skipped.

    Raises:
      SourceError: when there are none.
    """
    tree = open_tree(inputs, index_dir=options.index_dir)
    audio, labels = find_files(tree, "data", ".wav"), find_files(tree, "labels", ".csv")
    where = ", ".join(map(str, inputs))
    if not audio.keys() & labels.keys():
        raise SourceError(
            f"{where} is no MusicNet: no recording has both a .wav file in train_data or test_data "
            f"({len(audio)} have) and a .csv file in train_labels or test_labels ({len(labels)} have); "
            "name musicnet.tar.gz or the folder that it unpacks to."
        )
    items = [MusicNetItem(id, split_of(id), audio[id], labels[id]) for id in audio if id in labels]
    skipped = [SkippedItem(id, f"there is no labels file {id}.csv") for id in audio if id not in labels]
    skipped += [SkippedItem(id, f"there is no audio file {id}.wav") for id in labels if id not in audio]
    return Plan("musicnet", by_split(items), plain(config), skipped)


def by_split(items: Sequence[MusicNetItem]) -> dict[str, list[MusicNetItem]]:
    """The splits that have items."""
    found = {split: [item for item in items if item.split == split] for split in SPLITS}
    return {split: own for split, own in found.items() if own}


def make(item: MusicNetItem) -> Iterator[Recording]:
    """The recording of an item.

    Raises:
      ValueError or OSError: naming the labels file that cannot be used.
    """
    yield recording(item, read_labels(item.labels), "musicnet", LICENCE)


def recording(item: MusicNetItem, read: ReadNotes, dataset: str, licence: str) -> Recording:
    """A recording of MusicNet with labels of either kind.

    Raises:
      ValueError: when there are none.
    """
    notes, dropped = read
    if not len(notes):
        raise NoteFileError(f"{item.labels} has no notes; every recording of MusicNet has some.")
    return Recording(
        id=item.id,
        notes=notes,
        audio=AudioFile(item.audio),
        dataset=dataset,
        split=item.split,
        licence=licence,
        extra={"corrections": dropped} if dropped else {},
    )


def read_labels(file: FileRef) -> ReadNotes:
    """The notes of a CSV file of MusicNet; velocity unknown.

    Columns: start_time and end_time in samples at 44.1 kHz, instrument (General
    MIDI program from 1), note (MIDI pitch); others are ignored.

    Raises:
      NoteFileError: naming the line at fault.
      OSError: when it cannot be read.
    """
    try:
        rows = list(csv.reader(io.StringIO(file.read_bytes().decode("utf-8-sig"), newline="")))
    except (UnicodeDecodeError, csv.Error) as error:
        raise NoteFileError(f"{file} is no CSV file ({error}).") from error
    header, rows = (rows[0], rows[1:]) if rows else ([], [])
    if missing := [name for name in _COLUMNS if name not in header]:
        raise NoteFileError(f"{file}: the header line has no {', no '.join(missing)}.")
    indices = [header.index(name) for name in _COLUMNS]
    numbered = [(line, row) for line, row in enumerate(rows, start=2) if row]
    values = np.array([_label(file, line, row, indices) for line, row in numbered], np.int64)
    start, end, instrument, note = values.reshape(-1, len(_COLUMNS)).T
    return notes_of_columns(
        start / LABEL_SAMPLE_RATE,
        end / LABEL_SAMPLE_RATE,
        note.astype(np.float64),
        program=instrument - 1,
    )


def _label(file: FileRef, line: int, row: Sequence[str], indices: Sequence[int]) -> list[int]:
    """The columns of a row.

    Raises:
      NoteFileError: when one is missing, no whole number, or no instrument of General MIDI.
    """
    try:
        values = [int(row[index]) for index in indices]
    except (ValueError, IndexError) as error:
        raise NoteFileError(
            f"{file}, line {line}: {', '.join(row)[:60]!r} lacks whole numbers for {', '.join(_COLUMNS)}."
        ) from error
    if not 1 <= values[2] <= 128:
        raise NoteFileError(f"{file}, line {line}: instrument is {values[2]}; it must be 1..128.")
    return values


SOURCE = Source(
    name="musicnet",
    config=MusicNetConfig,
    plan=plan,
    make=make,
    licence=LICENCE,
    homepage="https://zenodo.org/records/5120004",
    downloads=(
        Download(
            f"{_BASE_URL}/musicnet.tar.gz",
            "musicnet.tar.gz",
            md5="844764911fa0d5b97c97da944a057590",
            num_bytes=11_097_394_998,
        ),
        Download(
            f"{_BASE_URL}/musicnet_metadata.csv",
            "musicnet_metadata.csv",
            md5="1caef62cee9c875235e62aac368b49d8",
        ),
    ),
    published_counts={"musicnet/train": 300, "musicnet/validation": 15, "musicnet/test": 15},
    items_per_shard=16,
)
