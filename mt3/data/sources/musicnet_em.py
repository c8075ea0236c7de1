"""MusicNetEM: MusicNet's recordings with labels that its authors aligned anew.

Takes MusicNet's audio, in its published layout, and the MIDI files of
MusicNetEM, `ID.mid` or `ID_*.mid` in any folder or archive of the input. Seven
recordings have no such labels. Splits are MusicNet's, programs and velocities
those of the MIDI files. The labels are for non-commercial use only.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath

from mt3.data.file_tree import FileRef, FileTree, open_tree, size_of
from mt3.data.manifests import SkippedItem
from mt3.data.note_files import read_note_file
from mt3.data.recordings import Recording
from mt3.data.sources import musicnet
from mt3.data.sources.base import Plan, PlanOptions, Source, SourceError, plain
from mt3.data.sources.musicnet import MusicNetItem, split_of

LICENCE = f"labels: CC BY-NC-SA 4.0, non-commercial use only; audio: MusicNet, {musicnet.LICENCE}"

# Recordings of MusicNet that MusicNetEM has no labels of; all would be for training.
WITHOUT_LABELS = frozenset(["2194", "2211", "2227", "2230", "2292", "2305", "2310"])

# MusicNet's own MIDI files have names of the same form; they are not aligned to the audio.
_UNALIGNED_FOLDER = "musicnet_midis"

_MIDI = re.compile(r"(\d+)(?:_.*)?\.midi?", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class MusicNetEmConfig:
    """How MusicNetEM is prepared: there is nothing to choose."""


def plan(config: MusicNetEmConfig, inputs: Sequence[str], options: PlanOptions) -> Plan:
    """The recordings that have audio and one MIDI file; the others are listed as skipped.

    Raises:
      SourceError: when there are none.
    """
    tree = open_tree(inputs, index_dir=options.index_dir)
    audio, labels = musicnet.find_files(tree, "data", ".wav"), _find_labels(tree)
    if not audio.keys() & labels.keys():
        raise SourceError(
            f"{', '.join(map(str, inputs))} must hold both MusicNet's audio, train_data/ID.wav and "
            f"test_data/ID.wav (there are {len(audio)}), and MusicNetEM's labels, ID.mid or ID_*.mid (there "
            f"are {len(labels)}; the unaligned ones in {_UNALIGNED_FOLDER} do not count); name both as input."
        )
    items = [
        MusicNetItem(id, split_of(id), audio[id], labels[id][0])
        for id in audio
        if len(labels.get(id, ())) == 1
    ]
    return Plan("musicnet_em", musicnet.by_split(items), plain(config), _skipped(audio, labels))


def _find_labels(tree: FileTree) -> dict[str, list[FileRef]]:
    """Id -> its MIDI files; of one name and size the first (an archive lies beside what it unpacked to)."""
    found: dict[str, dict[tuple[str, int], FileRef]] = {}
    for name, file in tree.files.items():
        folders = PurePosixPath(name.lower()).parts[:-1]
        if (match := _MIDI.fullmatch(file.name)) and _UNALIGNED_FOLDER not in folders:
            found.setdefault(match[1], {}).setdefault((file.name, size_of(file)), file)
    return {id: list(files.values()) for id, files in found.items()}


def _skipped(audio: Mapping[str, FileRef], labels: Mapping[str, Sequence[FileRef]]) -> list[SkippedItem]:
    skipped = []
    for id in audio:
        files = labels.get(id, ())
        if not files and id in WITHOUT_LABELS:
            skipped.append(SkippedItem(id, "MusicNetEM has no labels of it", is_fault=False))
        elif not files:
            skipped.append(SkippedItem(id, f"there is no MIDI file {id}.mid or {id}_*.mid"))
        elif len(files) > 1:
            names = ", ".join(str(file) for file in files)
            skipped.append(SkippedItem(id, f"it has {len(files)} MIDI files ({names}); leave the right one"))
    without_audio = sorted(labels.keys() - audio.keys(), key=int)
    return skipped + [SkippedItem(id, f"there is no audio file {id}.wav") for id in without_audio]


def make(item: MusicNetItem) -> Iterator[Recording]:
    """The recording of an item.

    Raises:
      ValueError or OSError: naming the MIDI file that cannot be used.
    """
    yield musicnet.recording(item, read_note_file(item.labels), "musicnet_em", LICENCE)


SOURCE = Source(
    name="musicnet_em",
    config=MusicNetEmConfig,
    plan=plan,
    make=make,
    licence=LICENCE,
    homepage="https://benadar293.github.io",
    access=(
        "the labels are MusicNetEM (musicnet_em.zip, non-commercial use only) in the authors' public "
        "repository benadar293/benadar293.github.io; the audio is MusicNet's, fetched by "
        "`mt3 prepare musicnet --download`; name both as --input"
    ),
    published_counts={"musicnet_em/train": 293, "musicnet_em/validation": 15, "musicnet_em/test": 15},
    items_per_shard=16,
)
