"""GuitarSet: 360 excerpts of acoustic guitar, each as a microphone and as a pickup recording.

Read from the published layout, `annotation/*.jams`, `audio_mono-mic/*_mic.wav`
and `audio_mono-pickup_mix/*_mix.wav`, as folders or as the zips of the same
names. Excerpts are named `PP_StyleN-Tempo-Key_comp` or `_solo` (PP the player):
chord progressions N = 1 and 2 are for training, 3 is for validation, and there
is no test split. Labels are the notes of the six strings together, each pitch
rounded to the nearest semitone. Both versions of an excerpt are recordings of
their own, of the same notes.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence
from typing import Any

from mt3.data.file_tree import FileRef, FileTree, open_tree
from mt3.data.manifests import SkippedItem
from mt3.data.recordings import AudioFile, Recording
from mt3.data.sources.base import Download, Plan, PlanOptions, Source, SourceError, plain
from mt3.symbolic.jams_reading import read_jams

LICENCE = "CC BY 4.0 (GuitarSet, Xi et al., ISMIR 2018)"

# Version of the audio -> its folder (and zip), and what names of its files end in.
_AUDIO_FOLDERS = {"mic": "audio_mono-mic", "mix": "audio_mono-pickup_mix"}

_EXCERPT = re.compile(
    r"(?P<player>\d\d)_(?P<style>[A-Za-z]+)(?P<progression>[123])-(?P<tempo>\d+)-(?P<key>[A-G][b#]?)"
    r"_(?P<playing>comp|solo)"
)
# Chord progression -> split.
_SPLITS = {1: "train", 2: "train", 3: "validation"}


@dataclasses.dataclass(frozen=True)
class GuitarSetConfig:
    """How GuitarSet is prepared.

    Attributes:
      audio: versions of the audio, "mic" (a microphone before the guitar) and
        "mix" (the hexaphonic pickup, mixed to mono); a recording for each.
      program: General MIDI program of all notes.
    """

    audio: tuple[str, ...] = ("mic", "mix")
    program: int = 24

    def __post_init__(self) -> None:
        # gin and JSON give lists.
        audio = (self.audio,) if isinstance(self.audio, str) else tuple(self.audio)
        object.__setattr__(self, "audio", audio)
        if not self.audio or set(self.audio) - set(_AUDIO_FOLDERS):
            raise ValueError(f"audio is {self.audio}; it must name some of {', '.join(_AUDIO_FOLDERS)}.")
        if not 0 <= self.program <= 127:
            raise ValueError(f"program is {self.program}; it must be 0..127.")


@dataclasses.dataclass(frozen=True)
class GuitarSetItem:
    """One version of one excerpt.

    Attributes:
      excerpt: its published name.
      version: of the audio, "mic" or "mix".
      split: train or validation.
      annotation: JAMS file.
      audio: WAV file.
      program: of all notes.
    """

    excerpt: str
    version: str
    split: str
    annotation: FileRef
    audio: FileRef
    program: int

    @property
    def id(self) -> str:
        return f"{self.excerpt}_{self.version}"


def describe_excerpt(name: str) -> dict[str, Any]:
    """Player, style, progression, tempo (beats a minute), key and playing; empty where it is no excerpt."""
    parts = _EXCERPT.fullmatch(name)
    if parts is None:
        return {}
    return {**parts.groupdict(), "progression": int(parts["progression"]), "tempo": int(parts["tempo"])}


def plan(config: GuitarSetConfig, inputs: Sequence[str], options: PlanOptions) -> Plan:
    """Pairs annotations and audio by name.

    Raises:
      SourceError: when there are no annotations, or none of a version's audio.
    """
    tree = open_tree(inputs, index_dir=options.index_dir)
    annotations = {file.stem: file for file in tree.find("*.jams").values()}
    if not annotations:
        raise SourceError(
            f"{', '.join(inputs) or 'No input'} holds no annotation/*.jams; give the folder of GuitarSet's "
            "annotation.zip, audio_mono-mic.zip and audio_mono-pickup_mix.zip, extracted or not."
        )
    audio = {version: _find_audio(tree, version, inputs) for version in dict.fromkeys(config.audio)}
    items: dict[str, list[GuitarSetItem]] = {"train": [], "validation": []}
    skipped = []
    for excerpt, annotation in sorted(annotations.items()):
        described = describe_excerpt(excerpt)
        if not described:
            reason = "is not named like an excerpt, PP_StyleN-Tempo-Key_comp.jams"
            skipped.append(SkippedItem(annotation.name, reason))
            continue
        split = _SPLITS[described["progression"]]
        for version, files in audio.items():
            file = files.pop(f"{excerpt}_{version}", None)
            if file is None:
                missing = f"{_AUDIO_FOLDERS[version]}/{excerpt}_{version}.wav"
                skipped.append(SkippedItem(f"{excerpt}_{version}", f"there is no {missing}"))
                continue
            items[split].append(GuitarSetItem(excerpt, version, split, annotation, file, config.program))
    skipped += [
        SkippedItem(name, f"there is no annotation/{name.removesuffix(f'_{version}')}.jams")
        for version, files in audio.items()
        for name in sorted(files)
    ]
    return Plan("guitarset", {split: of for split, of in items.items() if of}, plain(config), skipped)


def _find_audio(tree: FileTree, version: str, inputs: Sequence[str]) -> dict[str, FileRef]:
    """Files of a version by name without suffix."""
    found = {file.stem: file for file in tree.find(f"*_{version}.wav").values()}
    if not found:
        folder = _AUDIO_FOLDERS[version]
        others = tuple(other for other in _AUDIO_FOLDERS if other != version)
        raise SourceError(
            f"{', '.join(inputs)} holds no {folder}/*_{version}.wav; fetch {folder}.zip, "
            f"or set GuitarSetConfig.audio = {others}."
        )
    return found


def make(item: GuitarSetItem) -> list[Recording]:
    """The recording of an item.

    Raises:
      ValueError: when the annotation is broken or has no notes.
    """
    notes, dropped = read_jams(item.annotation, program=item.program, namespaces=("note_midi",))
    if not len(notes):
        raise ValueError(f"{item.annotation} has no notes; every excerpt of GuitarSet has some.")
    extra = {"excerpt": item.excerpt, "audio": item.version, **describe_excerpt(item.excerpt)}
    if dropped:
        extra["corrections"] = dropped
    return [
        Recording(
            id=item.id,
            notes=notes,
            audio=AudioFile(item.audio),
            dataset="guitarset",
            split=item.split,
            licence=LICENCE,
            extra=extra,
        )
    ]


def _download(file: str, md5: str) -> Download:
    return Download(f"https://zenodo.org/record/3371780/files/{file}?download=1", file, md5)


SOURCE = Source(
    name="guitarset",
    config=GuitarSetConfig,
    plan=plan,
    make=make,
    licence=LICENCE,
    homepage="https://zenodo.org/records/3371780",
    downloads=(
        _download("annotation.zip", "b39b78e63d3446f2e54ddb7a54df9b10"),
        _download("audio_mono-mic.zip", "275966d6610ac34999b58426beb119c3"),
        _download("audio_mono-pickup_mix.zip", "aecce79f425a44e2055e46f680e10f6a"),
    ),
    # The MT3 paper counts 478 and 238: the same two versions of each excerpt, less four recordings.
    published_counts={"guitarset/train": 480, "guitarset/validation": 240},
    items_per_shard=96,
)
