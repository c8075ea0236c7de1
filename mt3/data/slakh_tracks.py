"""The tracks of Slakh2100 as they are published, and which split each is in.

What the sources `slakh` and `cerberus4` share. A track is a folder
`TrackNNNNN/{mix.flac,metadata.yaml,stems/SNN.flac,MIDI/SNN.mid}`, in split folders
or (BabySlakh, with WAV files) without. Names are all that is looked at here; what
is in a track is read by `mt3.data.slakh_stems`.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mt3.data.file_tree import FileRef, FileTree, open_tree
from mt3.data.recordings import AUDIO_FORMATS
from mt3.data.sources.base import SPLITS, Download, Plan, PlanOptions, SourceError, plain

LICENCE = "CC BY 4.0 (Slakh2100)"
HOMEPAGE = "http://www.slakh.com"
DOWNLOADS = (
    Download(
        "https://zenodo.org/record/4599666/files/slakh2100_flac_redux.tar.gz",
        "slakh2100_flac_redux.tar.gz",
        md5="f4b71b6c45ac9b506f59788456b3f0c4",
        variant="redux",
    ),
    Download(
        "https://zenodo.org/record/4603870/files/babyslakh_16k.tar.gz",
        "babyslakh_16k.tar.gz",
        md5="311096dc2bde7d61c97e930edbfc7f78",
        variant="baby",
    ),
)
AUDIO_SUFFIXES = (".flac", ".wav")

_TRACK_FOLDER = re.compile(r"Track(\d{5})")
_ORIGINAL_SPLITS = {"train": range(1, 1501), "validation": range(1501, 1876), "test": range(1876, 2101)}
_OMITTED = "omitted"


@dataclasses.dataclass(frozen=True)
class SlakhTracksConfig:
    """What is taken from Slakh2100, and how its labels are read.

    Attributes:
      split: "redux" (the folders of the redux release, which leaves out tracks
        that are copies) or "original" (by track number; needs the folder
        `omitted`, too).
      octave_correction: bass stems are written an octave too high; lower them.
      octave_exceptions: names of plugins (patches) whose bass is written as it sounds.
      skip_unrendered: leave out stems that `metadata.yaml` says were not
        rendered or not saved; if not, all that have files are taken.
      seed: of random choices.
      sample_rate: in Hz.
      audio_format: of the records, "flac" or "pcm16".
    """

    split: str = "redux"
    octave_correction: bool = True
    octave_exceptions: tuple[str, ...] = ("scarbee_jay_bass_slap_both.nkm",)
    skip_unrendered: bool = True
    seed: int = 0
    sample_rate: int = 16000
    audio_format: str = "flac"

    def __post_init__(self) -> None:
        # gin and JSON give lists.
        object.__setattr__(self, "octave_exceptions", tuple(self.octave_exceptions))
        check_choice("split", self.split, ("redux", "original"))
        check_choice("audio_format", self.audio_format, AUDIO_FORMATS)
        check_at_least("seed", self.seed, 0)
        check_at_least("sample_rate", self.sample_rate, 1)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Raises ValueError when a setting is none of its choices."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; choose one of {', '.join(choices)}.")


def check_at_least(name: str, value: int, least: int) -> None:
    """Raises ValueError when a setting is too small."""
    if value < least:
        raise ValueError(f"{name} is {value}; it must be at least {least}.")


@dataclasses.dataclass(frozen=True, eq=False)
class Track:
    """One song's folder.

    Attributes:
      folder: where it is in the input.
      files: name in the folder -> file.
    """

    folder: str
    files: Mapping[str, FileRef]

    @property
    def name(self) -> str:
        """ "Track00001"."""
        return self.folder.rsplit("/", 1)[-1]

    @property
    def number(self) -> int:
        return int(self.name.removeprefix("Track"))

    def find(self, *names: str) -> FileRef | None:
        """The first of the files that is there."""
        return next((self.files[name] for name in names if name in self.files), None)


@dataclasses.dataclass(frozen=True, eq=False)
class TrackItem:
    """A track that is to become recordings.

    Attributes:
      track: its files.
      split: that it is in.
      config: what is made of it.
    """

    track: Track
    split: str
    config: Any

    @property
    def id(self) -> str:
        return self.track.name


def plan_tracks(dataset: str, config: SlakhTracksConfig, inputs: Sequence[str], options: PlanOptions) -> Plan:
    """A plan with an item for each track, by names alone.

    Raises:
      SourceError: as `list_tracks`.
    """
    try:
        tracks = list_tracks(open_tree(inputs, index_dir=options.index_dir), config.split)
    except SourceError as error:
        raise SourceError(f"{', '.join(inputs)}: {error}") from error
    items = {split: [TrackItem(track, split, config) for track in listed] for split, listed in tracks.items()}
    return Plan(dataset, items, plain(config), seed=config.seed)


def list_tracks(tree: FileTree, split: str) -> dict[str, list[Track]]:
    """The tracks of each split, by number; splits without tracks are left out.

    For "redux" a track is in the split whose folder it is in; those in `omitted`
    are in none. A track that is in no such folder (BabySlakh has none) takes
    the split that its number has in the original split, by which alone
    "original" goes: 1 to 1500 train, to 1875 validation, to 2100 test.

    Args:
      tree: names of files, below any folders.
      split: "redux" or "original".

    Raises:
      SourceError: when there is no track at all, or one is there twice.
    """
    folders: dict[str, dict[str, FileRef]] = {}
    for name, file in tree.files.items():
        parts = name.split("/")
        for depth, part in enumerate(parts[:-1], 1):
            if _TRACK_FOLDER.fullmatch(part):
                folders.setdefault("/".join(parts[:depth]), {})["/".join(parts[depth:])] = file
                break
    tracks = sorted((Track(*row) for row in folders.items()), key=lambda track: track.number)
    if not tracks:
        raise SourceError(
            f"No track of Slakh2100 is among the {len(tree.files)} files of the input (folders named like "
            "Track00001 were looked for); name slakh2100_flac_redux.tar.gz or what was extracted from it."
        )
    for one, other in itertools.pairwise(tracks):
        if one.number == other.number:
            raise SourceError(
                f"{one.name} is in the input twice, as {one.folder} and {other.folder}; name one of them."
            )
    found = [(_split_of(track, split), track) for track in tracks]
    listed = {name: [track for its_split, track in found if its_split == name] for name in SPLITS}
    return {name: members for name, members in listed.items() if members}


def _split_of(track: Track, split: str) -> str | None:
    """Its split, "omitted", or None where the number is none of the dataset's."""
    parent = ("/" + track.folder).split("/")[-2].lower()
    if split == "redux" and parent in (*SPLITS, _OMITTED):
        return parent
    return next((name for name, numbers in _ORIGINAL_SPLITS.items() if track.number in numbers), None)


def find_mix(track: Track) -> FileRef:
    """The audio of all stems together, as it was published.

    Raises:
      ValueError: when it is missing.
    """
    mix = track.find(*(f"mix{suffix}" for suffix in AUDIO_SUFFIXES))
    if mix is None:
        raise ValueError(f"{track.folder}/mix.flac is missing; fetch the track again.")
    return mix


def draw_distinct(total: int, count: int, rng: np.random.Generator) -> list[int]:
    """Different numbers below `total`, each set of them equally likely.

    Args:
      total: how many numbers there are; they are not listed.
      count: how many are drawn; if there are no more, the result is all, in order. A
        larger count continues the draw of a smaller one.
      rng: of the draw.
    """
    if total <= count:
        return list(range(total))
    drawn: dict[int, None] = {}  # keeps the order
    while len(drawn) < count:
        drawn[int(rng.integers(total))] = None
    return list(drawn)
