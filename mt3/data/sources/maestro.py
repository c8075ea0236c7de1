"""MAESTRO v1, v2 and v3: piano performances with the notes and pedals that the pianos recorded.

Reads the published zips (or what is in them) by their metadata, or Google's
TFRecord files as they are. The splits are the dataset's own, velocities are
kept, the sustain pedal lengthens notes, and all notes have program 0.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from mt3.data.file_tree import FileRef, FileTree, open_tree
from mt3.data.manifests import SkippedItem
from mt3.data.note_files import read_note_file
from mt3.data.recordings import AudioFile, Recording
from mt3.data.sources.base import SPLITS, Download, Plan, PlanOptions, Source, SourceError, plain
from mt3.data.tfrecords import RecordError, parse_example, read_tfrecord_at, record_offsets
from mt3.symbolic.conversions import from_note_sequence
from mt3.symbolic.note_columns import ReadNotes, notes_of_columns
from mt3.symbolic.notes import Notes

VERSIONS = (1, 2, 3)
LICENCE = "CC BY-NC-SA 4.0"

_METADATA = re.compile(r"maestro-v([123])\.\d+\.\d+\.(?:csv|json)")
_SHARD = re.compile(
    r"(maestro-v([123])\.\d+\.\d+_ns_wav_(train|validation|test))\.tfrecord-(\d{5})-of-(\d{5})"
)
_REQUIRED_COLUMNS = ("split", "midi_filename", "audio_filename")
_BASE_URL = "https://storage.googleapis.com/magentadata/datasets/maestro"


@dataclasses.dataclass(frozen=True)
class MaestroConfig:
    """Which MAESTRO is prepared.

    Attributes:
      version: 1, 2 or 3; None for the one that the input holds.
    """

    version: int | None = None

    def __post_init__(self) -> None:
        if self.version not in (None, *VERSIONS):
            raise ValueError(f"version is {self.version}; it must be 1, 2 or 3, or None to go by the input.")


@dataclasses.dataclass(frozen=True)
class MaestroItem:
    """A recording that the metadata lists.

    Attributes:
      id: the MIDI file's name without its suffix, as `2018/MIDI-Unprocessed_...`.
      dataset: "maestrov1", "maestrov2" or "maestrov3".
      split: the metadata's.
      metadata: the file that lists it, for messages.
      audio_name, midi_name: relative to that file.
      audio, midi: None where the input does not hold the file.
      composer, title: the metadata's.
      year: of the performance, None where the metadata gives none.
    """

    id: str
    dataset: str
    split: str
    metadata: str
    audio_name: str
    midi_name: str
    audio: FileRef | None
    midi: FileRef | None
    composer: str
    title: str
    year: int | None


@dataclasses.dataclass(frozen=True)
class MaestroRecordItem:
    """A record of one of Google's TFRecord files.

    Attributes:
      id: the file's name and the record's number in it, `NAME#3`; the
        recording's own id is in the record.
      dataset, split: of the file.
      path: of the file.
      offset: byte at which the record starts.
    """

    id: str
    dataset: str
    split: str
    path: Path
    offset: int


def plan(config: MaestroConfig, inputs: Sequence[str], options: PlanOptions) -> Plan:
    """The recordings that the metadata lists, or the records of the TFRecord files.

    Listed recordings whose files are missing are planned, too, so that each is
    reported; but there must be at least one that is there.

    Raises:
      SourceError: where there is no MAESTRO, or several and the configuration
        does not choose, or metadata that cannot be read.
    """
    tree = open_tree(inputs, index_dir=options.index_dir)
    metadata, shards = _find_by_version(tree, _METADATA, 1), _find_by_version(tree, _SHARD, 2)
    where = ", ".join(map(str, inputs))
    version = _choose_version(config, {*metadata, *shards}, where)
    dataset = f"maestrov{version}"
    items = _read_listing(tree, metadata.get(version, {}), dataset)
    num_present = _num_present(items)
    skipped: list[SkippedItem] = []
    if num_present and version in shards:
        raise SourceError(
            f"{where} holds MAESTRO v{version} as audio files and as TFRecords; name one of them."
        )
    if version in shards:
        items, skipped = _plan_records(shards[version], dataset)
    elif not num_present:
        raise SourceError(
            f"{where}: the metadata of MAESTRO v{version} lists {len(items)} recordings, but the .wav and "
            ".midi files of none are beside it; name the folder or zip that holds all."
        )
    by_split = {split: [item for item in items if item.split == split] for split in SPLITS}
    layout = "tfrecords" if version in shards else "files"
    return Plan(
        dataset=dataset,
        items={split: own for split, own in by_split.items() if own},
        config={**plain(config), "version": version, "layout": layout},
        skipped=skipped,
    )


def _find_by_version(tree: FileTree, pattern: re.Pattern[str], group: int) -> dict[int, dict[str, FileRef]]:
    """Version -> files whose names match, by their path in the tree."""
    found: dict[int, dict[str, FileRef]] = {}
    for name, file in tree.files.items():
        if match := pattern.fullmatch(file.name):
            found.setdefault(int(match[group]), {})[name] = file
    return found


def _choose_version(config: MaestroConfig, found: set[int], where: str) -> int:
    versions = [config.version] if config.version else sorted(found)
    if not found.intersection(versions):
        wanted = f"v{config.version}.0.0" if config.version else "v*"
        other = f" (it holds v{', v'.join(map(str, sorted(found)))})" if found else ""
        raise SourceError(
            f"{where} is no MAESTRO: neither maestro-{wanted}.csv or .json nor "
            f"maestro-{wanted}_ns_wav_*.tfrecord-* is in it{other}; name the published zip, its folder, "
            "or the folder of the TFRecords."
        )
    if len(versions) > 1:
        raise SourceError(
            f"{where} holds MAESTRO v{', v'.join(map(str, versions))}; "
            f"choose one, for example MaestroConfig.version = {versions[-1]}."
        )
    return versions[0]


def _read_listing(tree: FileTree, metadata: Mapping[str, FileRef], dataset: str) -> list[MaestroItem]:
    """What the metadata lists, in its order; of several copies the one with most of its files beside it.

    The csv and the json file of a folder say the same; the csv comes first by name.
    """
    one_a_folder: dict[PurePosixPath, str] = {}
    for name in metadata:
        one_a_folder.setdefault(PurePosixPath(name).parent, name)
    return max(
        (_read_items(tree, name, dataset) for name in one_a_folder.values()), key=_num_present, default=[]
    )


def _num_present(items: Iterable[MaestroItem]) -> int:
    return sum(item.audio is not None and item.midi is not None for item in items)


def _read_items(tree: FileTree, name: str, dataset: str) -> list[MaestroItem]:
    """The recordings of one metadata file."""
    file = tree.files[name]
    items: dict[str, MaestroItem] = {}
    for number, row in enumerate(_read_rows(file), start=1):
        lacking = [column for column in _REQUIRED_COLUMNS if not isinstance(row.get(column) or None, str)]
        if lacking or row["split"] not in SPLITS:
            problem = f"no {' and no '.join(lacking)}" if lacking else f"the unknown split {row['split']!r}"
            raise SourceError(f"{file}: recording {number} has {problem}; fetch the file again.")
        item = MaestroItem(
            id=str(PurePosixPath(row["midi_filename"]).with_suffix("")),
            dataset=dataset,
            split=row["split"],
            metadata=str(file),
            audio_name=row["audio_filename"],
            midi_name=row["midi_filename"],
            audio=tree.sibling(name, row["audio_filename"]),
            midi=tree.sibling(name, row["midi_filename"]),
            composer=row.get("canonical_composer") or "",
            title=row.get("canonical_title") or "",
            year=int(row["year"]) if str(row.get("year") or "").isdecimal() else None,
        )
        if item.id in items:
            raise SourceError(f"{file} lists {item.id} twice; fetch the file again.")
        items[item.id] = item
    return list(items.values())


def _read_rows(file: FileRef) -> list[Mapping[str, Any]]:
    """The rows of a csv file, or of a json file: objects (v1, v2), or an object of columns (v3).

    Raises:
      SourceError: when it is neither.
    """
    try:
        text = file.read_bytes().decode("utf-8-sig")
        if file.suffix == ".csv":
            return list(csv.DictReader(io.StringIO(text, newline="")))
        table = json.loads(text)
        if isinstance(table, dict):
            indices = table["midi_filename"]
            return [{column: values[index] for column, values in table.items()} for index in indices]
        return [dict(row) for row in table]
    except (OSError, ValueError, csv.Error, KeyError, TypeError) as error:
        raise SourceError(
            f"{file} is no metadata of MAESTRO ({type(error).__name__}: {error}); fetch the file again."
        ) from error


def _plan_records(
    shards: Mapping[str, FileRef], dataset: str
) -> tuple[list[MaestroRecordItem], list[SkippedItem]]:
    """A record an item, in the order of files; and the files that are missing or damaged."""
    items: list[MaestroRecordItem] = []
    skipped: list[SkippedItem] = []
    by_name = {file.name: file for file in shards.values()}
    for name in sorted(_shard_names(by_name)):
        file = by_name.get(name)
        if file is None:
            skipped.append(SkippedItem(name, "the file is missing; fetch it, too"))
            continue
        if not isinstance(file, Path):
            raise SourceError(f"{file} is in an archive; extract TFRecords, which are read by position.")
        split = _SHARD.fullmatch(name)[3]  # type: ignore[index]
        try:
            for number, offset in enumerate(record_offsets(file)):
                items.append(MaestroRecordItem(f"{name}#{number}", dataset, split, file, offset))
        except RecordError as error:
            skipped.append(SkippedItem(name, f"{_reason(error)}; fetch the file again"))
    return items, skipped


def _shard_names(names: Mapping[str, Any]) -> set[str]:
    """All files of the splits of which there is one."""
    complete = set()
    for match in filter(None, map(_SHARD.fullmatch, names)):
        count = int(match[5])
        complete |= {f"{match[1]}.tfrecord-{index:05d}-of-{count:05d}" for index in range(count)}
    return complete | set(names)


def _reason(error: RecordError) -> str:
    # The remedy that follows is that of files which this package wrote.
    return str(error).rpartition(";")[0] or str(error)


def make(item: MaestroItem | MaestroRecordItem) -> Iterator[Recording]:
    """The recording of an item.

    Raises:
      ValueError or OSError: naming the file that is missing or cannot be used.
    """
    yield _from_record(item) if isinstance(item, MaestroRecordItem) else _from_files(item)


def _from_files(item: MaestroItem) -> Recording:
    if item.audio is None or item.midi is None:
        name = item.audio_name if item.audio is None else item.midi_name
        raise ValueError(f"{name} is missing; {item.metadata} lists it.")
    extra = {"composer": item.composer, "title": item.title, "year": item.year}
    return _recording(item, item.id, read_note_file(item.midi), AudioFile(item.audio), extra)


def _from_record(item: MaestroRecordItem) -> Recording:
    try:
        features = parse_example(read_tfrecord_at(item.path, item.offset))
    except RecordError as error:
        raise ValueError(f"{_reason(error)}; fetch {item.path} again.") from error
    where = f"{item.path}: the record at byte {item.offset}"
    record_id, audio, sequence = (_bytes_of(features, name, where) for name in ("id", "audio", "sequence"))
    try:
        read = _possible(from_note_sequence(sequence))
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return _recording(item, record_id.decode(), read, AudioFile(audio), {"record": item.id})


def _bytes_of(features: Mapping[str, Sequence[Any]], name: str, where: str) -> bytes:
    value = next(iter(features.get(name, ())), None)
    if not isinstance(value, bytes):
        raise ValueError(f"{where} has no {name!r}; it must hold id, audio and sequence.")
    return value


def _possible(notes: Notes) -> ReadNotes:
    return notes_of_columns(
        notes.onset_seconds, notes.offset_seconds, notes.pitch.astype(np.float64), notes.velocity
    )


def _recording(
    item: MaestroItem | MaestroRecordItem, id: str, read: ReadNotes, audio: AudioFile, extra: dict[str, Any]
) -> Recording:
    """All notes are a piano's, whatever program and channel the file has."""
    notes, dropped = read
    return Recording(
        id=id,
        notes=notes.replace(program=0, is_drum=False),
        audio=audio,
        dataset=item.dataset,
        split=item.split,
        licence=LICENCE,
        extra={**extra, "corrections": dropped} if dropped else extra,
    )


SOURCE = Source(
    name="maestro",
    config=MaestroConfig,
    plan=plan,
    make=make,
    licence=LICENCE,
    homepage="https://magenta.tensorflow.org/datasets/maestro",
    downloads=(
        Download(f"{_BASE_URL}/v1.0.0/maestro-v1.0.0.zip", "maestro-v1.0.0.zip", variant="v1"),
        Download(
            f"{_BASE_URL}/v2.0.0/maestro-v2.0.0.zip",
            "maestro-v2.0.0.zip",
            md5="7a6c23536ebcf3f50b1f00ac253886a7",
            variant="v2",
        ),
        Download(f"{_BASE_URL}/v3.0.0/maestro-v3.0.0.zip", "maestro-v3.0.0.zip", variant="v3"),
    ),
    published_counts={"maestrov3/train": 962, "maestrov3/validation": 137, "maestrov3/test": 177},
    items_per_shard=12,
)
