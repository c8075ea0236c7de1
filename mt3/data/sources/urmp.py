"""URMP: 44 pieces of chamber music for 2 to 5 players, recorded one by one and mixed.

Read from the published layout: a folder a piece, `NN_Name_inst1_inst2...`, with
`AuMix_*.wav`, and for each track K `AuSep_K_inst_*.wav` and `Notes_K_inst_*.txt`
(onset in seconds, frequency in Hz, duration in seconds); all else in the archive
is ignored. Labels are the notes of all tracks, each frequency rounded to the
nearest semitone. (The score's MIDI file is not aligned to the audio.) Nine
pieces are for validation, 35 for training; there is no test split.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from mt3.data.file_tree import FileRef, open_tree
from mt3.data.manifests import SkippedItem
from mt3.data.recordings import AudioFile, Recording
from mt3.data.sources.base import Plan, PlanOptions, Source, SourceError, plain
from mt3.symbolic.note_columns import NoteFileError, ReadNotes, notes_of_columns, pitch_of_hz
from mt3.symbolic.notes import Notes

LICENCE = "CC0 1.0 where it is deposited at Dryad; cite Li et al., IEEE TMM 2019, and see the authors' page"

NUM_PIECES = 44
VALIDATION_PIECES = frozenset({1, 2, 12, 13, 24, 25, 31, 38, 39})

# Instruments as names of folders and files have them -> General MIDI program.
PROGRAMS: dict[str, int] = {
    "vn": 40,
    "va": 41,
    "vc": 42,
    "db": 43,
    "tpt": 56,
    "tbn": 57,
    "tba": 58,
    "hn": 60,
    "sax": 64,
    "ob": 68,
    "bn": 70,
    "cl": 71,
    "fl": 73,
}

# (piece, track, instrument that its files are named by) -> what it is.
_MISNAMED = {(15, 3, "tpt"): "tbn"}

_PIECE = re.compile(r"(\d\d)_([^_]+)_([a-z]+(?:_[a-z]+)*)")
_TRACK_FILE = re.compile(r"(Notes|AuSep)_(\d+)_([a-z]+)_.*\.(?:txt|wav)", re.IGNORECASE)


@dataclasses.dataclass(frozen=True)
class UrmpConfig:
    """How URMP is prepared.

    Attributes:
      include_stems: in the training split, further recordings of each track alone.
    """

    include_stems: bool = False


@dataclasses.dataclass(frozen=True)
class UrmpTrack:
    """A player's part.

    Attributes:
      number: from 1.
      instrument: a key of `PROGRAMS`, corrected where the published one is wrong.
      published_instrument: as its files are named.
      notes: the text file of its notes.
      audio: of this track alone, None where that is missing.
    """

    number: int
    instrument: str
    published_instrument: str
    notes: FileRef
    audio: FileRef | None = None


@dataclasses.dataclass(frozen=True)
class UrmpItem:
    """One recording: a piece, or one of its tracks.

    Attributes:
      id: of the recording.
      piece: name of the piece's folder.
      split: train or validation.
      audio: WAV file.
      tracks: that sound in it.
    """

    id: str
    piece: str
    split: str
    audio: FileRef
    tracks: tuple[UrmpTrack, ...]


def plan(config: UrmpConfig, inputs: Sequence[str], options: PlanOptions) -> Plan:
    """Finds the pieces and their files.

    Raises:
      SourceError: when there are none.
    """
    pieces = _find_pieces(open_tree(inputs, index_dir=options.index_dir).files)
    if not pieces:
        raise SourceError(
            f"{', '.join(inputs) or 'No input'} holds no folder like 01_Jupiter_vn_vc with AuMix_*.wav and "
            "Notes_*.txt; give URMP's Dataset folder or the archive that it comes in."
        )
    items: dict[str, list[UrmpItem]] = {"train": [], "validation": []}
    skipped = []
    for piece, files in sorted(pieces.items()):
        try:
            mix = _piece_item(piece, files)
        except ValueError as error:
            skipped.append(SkippedItem(piece, str(error)))
            continue
        items[mix.split].append(mix)
        if not config.include_stems or mix.split != "train":
            continue
        for track in mix.tracks:
            stem = f"{piece}+{track.number}_{track.instrument}"
            if track.audio is None:
                missing = f"AuSep_{track.number}_{track.published_instrument}_*.wav"
                skipped.append(SkippedItem(stem, f"there is no {missing}"))
                continue
            items[mix.split].append(UrmpItem(stem, piece, mix.split, track.audio, (track,)))
    return Plan("urmp", {split: of for split, of in items.items() if of}, plain(config), skipped)


def _find_pieces(files: Mapping[str, FileRef]) -> dict[str, list[FileRef]]:
    """Files of each piece by the name of its folder; of several such folders the first that has a mix."""
    folders: dict[str, list[FileRef]] = {}
    for name, file in files.items():
        if file.name.lower().startswith(("aumix_", "ausep_", "notes_")):
            folders.setdefault(str(PurePosixPath(name).parent), []).append(file)
    pieces: dict[str, list[FileRef]] = {}
    for folder, found in sorted(folders.items(), key=lambda pair: (not _mixes(pair[1]), pair[0])):
        if _PIECE.fullmatch(PurePosixPath(folder).name):
            pieces.setdefault(PurePosixPath(folder).name, found)
    return pieces


def _mixes(files: Iterable[FileRef]) -> list[FileRef]:
    names = re.compile(r"AuMix_.*\.wav", re.IGNORECASE)
    return [file for file in files if names.fullmatch(file.name)]


def _piece_item(piece: str, files: Iterable[FileRef]) -> UrmpItem:
    """The recording of a piece.

    Raises:
      ValueError: when its files are not what its name says.
    """
    number, instruments = parse_piece(piece)
    mixes = _mixes(files)
    if len(mixes) != 1:
        raise ValueError(f"it has {len(mixes)} files AuMix_*.wav, there must be one")
    named = [(parts, file) for file in files if (parts := _TRACK_FILE.fullmatch(file.name))]
    audio = {int(parts[2]): file for parts, file in named if parts[1].lower() == "ausep"}
    tracks = []
    for parts, file in named:
        if parts[1].lower() != "notes":
            continue
        track, published = int(parts[2]), parts[3].lower()
        instrument = _MISNAMED.get((number, track, published), published)
        tracks.append(UrmpTrack(track, instrument, published, file, audio.get(track)))
    tracks.sort(key=lambda track: track.number)
    if len(tracks) != len(instruments):
        raise ValueError(f"it has {len(tracks)} files Notes_*.txt for {len(instruments)} instruments")
    if [track.instrument for track in tracks] != list(instruments):
        raise ValueError(
            f"its notes are of {', '.join(track.instrument for track in tracks)}, "
            f"its name says {', '.join(instruments)}"
        )
    split = "validation" if number in VALIDATION_PIECES else "train"
    return UrmpItem(piece, piece, split, mixes[0], tuple(tracks))


def parse_piece(name: str) -> tuple[int, tuple[str, ...]]:
    """Number and instruments of a piece by the name of its folder.

    Raises:
      ValueError: when it is none of URMP's.
    """
    parts = _PIECE.fullmatch(name)
    number = int(parts[1]) if parts else 0
    instruments = tuple(parts[3].split("_")) if parts else ()
    if not 1 <= number <= NUM_PIECES:
        raise ValueError(f"URMP's pieces are 01 to {NUM_PIECES}")
    if unknown := [instrument for instrument in instruments if instrument not in PROGRAMS]:
        raise ValueError(f"its instrument {unknown[0]!r} is none of {', '.join(PROGRAMS)}")
    return number, instruments


def make(item: UrmpItem) -> list[Recording]:
    """The recording of an item.

    Raises:
      ValueError: when a file of notes is broken or has no notes.
    """
    parts: list[Notes] = []
    corrections: dict[str, int] = {}
    for track in item.tracks:
        notes, changed = read_notes(track.notes, PROGRAMS[track.instrument])
        if not len(notes):
            raise NoteFileError(f"{track.notes} has no notes; every track of URMP has some.")
        if track.instrument != track.published_instrument:
            changed = {**changed, "instrument_renamed": len(notes)}
        for name, count in changed.items():
            corrections[name] = corrections.get(name, 0) + count
        parts.append(notes)
    extra: dict[str, Any] = {"piece": item.piece, "instruments": [track.instrument for track in item.tracks]}
    if corrections:
        extra["corrections"] = corrections
    return [
        Recording(
            id=item.id,
            notes=Notes.concatenate(parts).sorted(),
            audio=AudioFile(item.audio),
            dataset="urmp",
            split=item.split,
            licence=LICENCE,
            extra=extra,
        )
    ]


def read_notes(file: FileRef, program: int) -> ReadNotes:
    """The notes of a track: lines of onset (s), frequency (Hz) and duration (s); velocity unknown.

    Raises:
      NoteFileError: naming the line at fault.
      OSError: when it cannot be read.
    """
    rows = []
    for number, line in enumerate(file.read_bytes().decode("latin-1").splitlines(), 1):
        cells = line.split()
        if not cells:
            continue
        try:
            row = np.array(cells[:3], np.float64)
        except ValueError:
            row = np.zeros(0)
        if len(row) != 3 or not np.isfinite(row[[0, 2]]).all():
            raise NoteFileError(
                f"{file}, line {number}: {line.strip()[:60]!r} is not onset, frequency, duration."
            )
        rows.append(row)
    onset, frequency_hz, duration = np.array(rows, np.float64).reshape(-1, 3).T
    return notes_of_columns(onset, onset + duration, pitch_of_hz(frequency_hz), program=program)


SOURCE = Source(
    name="urmp",
    config=UrmpConfig,
    plan=plan,
    make=make,
    licence=LICENCE,
    homepage="https://labsites.rochester.edu/air/projects/URMP.html",
    access=(
        "fill in the form of the authors' page, https://labsites.rochester.edu/air/projects/URMP.html, "
        "or fetch Dataset.tar.gz from Dryad, https://doi.org/10.5061/dryad.ng3r749 (12 GB with the videos)"
    ),
    published_counts={"urmp/train": 35, "urmp/validation": 9},
    items_per_shard=16,
)
