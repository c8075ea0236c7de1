"""Pieces of music as notes, before they are arranged and rendered.

A `Piece` keeps which part (voice, instrument, track) each note belongs to, so
that parts can be given other instruments. `content_key` says which pieces are
the same music under another name or in another key: those must never lie in
different splits. `save_pieces` and `load_saved_pieces` keep parsed pieces in
one .npz file, which needs neither the scores nor their parser any more.
"""

from __future__ import annotations

import dataclasses
import hashlib
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from mt3 import files
from mt3.data.manifests import SkippedItem
from mt3.symbolic.notes import COLUMNS, Notes

# Part of every saved file's name: raise it when parsing changes.
PIECES_VERSION = 1
# Notes of a melody's start that tell one tune from another.
_MELODY_NOTES = 16
_SAME_ONSET_SECONDS = 0.02


class PieceError(ValueError):
    """Music that cannot be read; the message names it and the remedy."""


@dataclasses.dataclass(frozen=True, eq=False)
class Piece:
    """The notes of a piece of music.

    Attributes:
      id: unique within its collection, such as "bach_chorales/bwv1.6".
      notes: as written, times in seconds at the written tempo.
      part: int32 [num_notes], which part plays each note.
      licence: of the score, in words.
    """

    id: str
    notes: Notes
    part: np.ndarray
    licence: str = ""

    def __post_init__(self) -> None:
        part = np.array(self.part, np.int32)
        if part.shape != (len(self.notes),):
            raise ValueError(f"{self.id}: part has shape {part.shape}, there are {len(self.notes)} notes.")
        part.flags.writeable = False
        object.__setattr__(self, "part", part)

    @classmethod
    def from_notes(cls, id: str, notes: Notes, licence: str = "") -> Piece:
        """Every (program, is_drum) of the notes becomes a part."""
        key = notes.program + 128 * notes.is_drum
        _, part = np.unique(key, return_inverse=True)
        return cls(id, notes, part, licence)

    def __getitem__(self, index: np.ndarray | slice) -> Piece:
        """The piece reduced to the notes that a mask, a slice or indices select."""
        return dataclasses.replace(self, notes=self.notes[index], part=self.part[index])


def content_key(piece: Piece) -> str:
    """A hash that is equal for the same music under another name, key, tempo or instrument.

    Made from the intervals of the melody's start (the highest part's first 16
    notes), so that two settings of one chorale melody count as the same music
    too; from all notes where there is no such melody.
    """
    pitched = piece[~piece.notes.is_drum]
    melody = _top_line(pitched)
    # A repeated or alternating note is an accompaniment, not a tune that names a piece.
    if len(melody) >= _MELODY_NOTES and len(set(np.diff(melody[:_MELODY_NOTES]).tolist())) >= 4:
        content = np.diff(melody[:_MELODY_NOTES])
    else:
        notes = piece.notes[np.lexsort((piece.notes.pitch, np.rint(piece.notes.onset_seconds * 100)))]
        lowest = pitched.notes.pitch.min() if len(pitched.notes) else 0
        content = np.where(notes.is_drum, notes.pitch + 256, notes.pitch - lowest)
    return hashlib.sha256(content.astype("<i4").tobytes()).hexdigest()


def _top_line(piece: Piece) -> np.ndarray:
    """int [num_onsets], the highest pitch at each onset of the part that is highest on average."""
    if not len(piece.notes):
        return np.zeros(0, np.int64)
    parts = np.unique(piece.part)
    means = [piece.notes.pitch[piece.part == part].mean() for part in parts]
    notes = piece[piece.part == parts[int(np.argmax(means))]].notes
    notes = notes[np.lexsort((-notes.pitch, notes.onset_seconds))]
    is_first = np.diff(notes.onset_seconds, prepend=-np.inf) > _SAME_ONSET_SECONDS
    return np.maximum.reduceat(notes.pitch, np.flatnonzero(is_first))


def assign_splits(
    pieces: Sequence[Piece], fractions: Mapping[str, float], *, required: Iterable[str] = ()
) -> dict[str, list[Piece]]:
    """Pieces by split; pieces of equal `content_key` share theirs.

    Where a piece goes depends on its content alone, not on the other pieces or
    on any seed, so that collections can be added without moving test music into
    training. The one exception is a `required` split that would stay empty: it
    gets the pieces whose hash is nearest.

    Args:
      pieces: all of them.
      fractions: split -> share of the music, in sum 1.
      required: splits that must not be empty.

    Raises:
      PieceError: when there are too few different pieces.
    """
    keys = {piece.id: content_key(piece) for piece in pieces}
    # The key's first 52 bits as a number in [0, 1).
    position = {key: int(key[:13], 16) / 16**13 for key in set(keys.values())}
    names = list(fractions)
    ends = np.cumsum(list(fractions.values()))
    split_of = {
        key: names[min(int(np.searchsorted(ends, value, side="right")), len(names) - 1)]
        for key, value in position.items()
    }
    for name in required:
        if name in split_of.values():
            continue
        middle = ends[names.index(name)] - fractions[name] / 2
        sizes = {other: list(split_of.values()).count(other) for other in names}
        spare = [key for key, split in split_of.items() if sizes[split] > 1]
        if not spare:
            raise PieceError(
                f"{len(position)} different pieces are too few for the splits {', '.join(names)}: "
                f"{name!r} stays empty; add music, or ask for no recordings of that split."
            )
        split_of[min(spare, key=lambda key: (abs(position[key] - middle), key))] = name
    return {name: [piece for piece in pieces if split_of[keys[piece.id]] == name] for name in names}


def save_pieces(path: Path, pieces: Sequence[Piece], skipped: Sequence[SkippedItem] = ()) -> None:
    """Writes one .npz file, atomically."""
    notes = Notes.concatenate([piece.notes for piece in pieces])
    arrays = {name: getattr(notes, name) for name in COLUMNS}
    arrays["part"] = np.concatenate([np.zeros(0, np.int32), *(piece.part for piece in pieces)])
    arrays["num_notes"] = np.array([len(piece.notes) for piece in pieces], np.int64)
    arrays["id"] = np.array([piece.id for piece in pieces], np.str_)
    arrays["licence"] = np.array([piece.licence for piece in pieces], np.str_)
    arrays["skipped_item"] = np.array([skip.item for skip in skipped], np.str_)
    arrays["skipped_reason"] = np.array([skip.reason for skip in skipped], np.str_)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)


def load_saved_pieces(path: Path) -> tuple[list[Piece], list[SkippedItem]]:
    """What `save_pieces` wrote.

    Raises:
      PieceError: when the file is missing or is not one.
    """
    try:
        with path.open("rb") as stream, np.load(stream) as file:
            arrays = {name: file[name] for name in file.files}
        notes = Notes(**{name: arrays[name] for name in COLUMNS})
        ends = np.cumsum(arrays["num_notes"])
        texts = zip(arrays["id"].tolist(), arrays["licence"].tolist(), strict=True)
        skips = zip(arrays["skipped_item"].tolist(), arrays["skipped_reason"].tolist(), strict=True)
    except (OSError, ValueError, KeyError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise PieceError(f"{path} holds no saved pieces ({error}); delete it and parse again.") from error
    pieces = [
        Piece(piece_id, notes[end - count : end], arrays["part"][end - count : end], licence)
        for (piece_id, licence), count, end in zip(texts, arrays["num_notes"], ends, strict=True)
    ]
    return pieces, [SkippedItem(item, reason) for item, reason in skips]
