"""Collections of pieces by name: music21's corpus, folders and zips of MIDI files, saved pieces.

`load_pieces` parses a collection once, in parallel processes, and keeps the
result in a cache directory under a name that changes with the files. A file
that cannot be read is reported by name and left out, or fails with `strict`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import logging
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from mt3.data import parallel, scores
from mt3.data.manifests import SkippedItem
from mt3.data.pieces import PIECES_VERSION, Piece, PieceError, load_saved_pieces, save_pieces
from mt3.files import cache_directory
from mt3.symbolic.conversions import MidiError, read_midi

MIDI_SUFFIXES = (".mid", ".midi")


@dataclasses.dataclass(frozen=True)
class _File:
    """One file to parse.

    Attributes:
      name: its id, also what errors call it.
      path: of the file, or of the zip that holds it.
      member: its name inside the zip.
      collection: the score collection it belongs to; empty for MIDI files.
      version: changes when the content does.
    """

    name: str
    path: Path
    member: str = ""
    collection: str = ""
    version: str = ""


def load_pieces(
    collections: Sequence[str],
    *,
    cache_dir: Path | str | None = None,
    workers: int = 0,
    strict: bool = False,
) -> tuple[list[Piece], list[SkippedItem]]:
    """The pieces of several collections, and what could not be read.

    Args:
      collections: each a name of `scores.COLLECTIONS`, a folder (searched
        through) or a .zip of MIDI files, a MIDI file, or an .npz of `save_pieces`.
      cache_dir: for parsed pieces; by default `cache_directory()`.
      workers: processes that parse; 0 parses in this one.
      strict: fail at the first file that cannot be read.

    Raises:
      PieceError: for an unknown collection or one without music; with `strict`,
        for a file that cannot be read.
    """
    pieces: list[Piece] = []
    skipped: list[SkippedItem] = []
    for collection in collections:
        found, failed = _load_collection(collection, Path(cache_dir or cache_directory()), workers)
        for skip in failed:
            if strict:
                raise PieceError(f"{skip.item}: {skip.reason}")
            logging.getLogger(__name__).info("Skipped %s: %s", skip.item, skip.reason)
        if not found:
            raise PieceError(f"{collection} holds no music that can be read; name another collection.")
        pieces += found
        skipped += failed
    return _with_unique_ids(pieces), skipped


def _load_collection(collection: str, cache_dir: Path, workers: int) -> tuple[list[Piece], list[SkippedItem]]:
    path = Path(collection)
    if path.suffix == ".npz":
        return load_saved_pieces(path)
    files = _list_files(collection)
    label = collection if collection in scores.COLLECTIONS else path.stem
    cached = cache_dir / f"pieces-{label}-{_digest(files)}.npz"
    if cached.exists():
        # A damaged cache is no reason to stop: parse anew.
        with contextlib.suppress(PieceError):
            return load_saved_pieces(cached)
    pieces: list[Piece] = []
    skipped: list[SkippedItem] = []
    for found, failed in parallel.ordered_map(
        _parse, files, workers=workers, description=f"Reading {label}", chunk_size=4
    ):
        pieces += found
        skipped += failed
    save_pieces(cached, pieces, skipped)
    return pieces, skipped


def _parse(file: _File) -> tuple[list[Piece], list[SkippedItem]]:
    try:
        if file.collection:
            return scores.parse_score(file.collection, file.path), []
        notes = read_midi(_read_member(file) if file.member else file.path)
    except (PieceError, MidiError, OSError, zipfile.BadZipFile) as error:
        return [], [SkippedItem(file.name, str(error))]
    if not len(notes):
        return [], [SkippedItem(file.name, "it has no notes")]
    return [Piece.from_notes(file.name, notes)], []


def _read_member(file: _File) -> bytes:
    with zipfile.ZipFile(file.path) as archive:
        return archive.read(file.member)


def _list_files(collection: str) -> list[_File]:
    path = Path(collection)
    if collection in scores.COLLECTIONS:
        version = scores.corpus_version()
        return [
            _File(found.name, found, collection=collection, version=version)
            for found in scores.score_files(collection)
        ]
    if path.is_dir():
        found = sorted(file for file in path.rglob("*") if file.suffix.lower() in MIDI_SUFFIXES)
        return [_midi_file(file.relative_to(path).as_posix(), file) for file in found]
    if path.suffix.lower() in MIDI_SUFFIXES and path.is_file():
        return [_midi_file(path.name, path)]
    if path.is_file() and zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = sorted(archive.infolist(), key=lambda member: member.filename)
        return [
            _File(member.filename, path, member=member.filename, version=f"{member.CRC:08x}")
            for member in members
            if Path(member.filename).suffix.lower() in MIDI_SUFFIXES
        ]
    raise PieceError(
        f"The collection {collection!r} is unknown; name a folder or zip of MIDI files, "
        f"an .npz of saved pieces, or one of {', '.join(scores.COLLECTIONS)}."
    )


def _midi_file(name: str, path: Path) -> _File:
    status = path.stat()
    return _File(name, path, version=f"{status.st_size}-{status.st_mtime_ns}")


def _digest(files: Iterable[_File]) -> str:
    lines = [f"{PIECES_VERSION}", *(f"{file.path}:{file.name}:{file.version}" for file in files)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _with_unique_ids(pieces: list[Piece]) -> list[Piece]:
    """Pieces of several folders may have one name: number the later ones."""
    seen: dict[str, int] = {}
    unique = []
    for piece in pieces:
        seen[piece.id] = count = seen.get(piece.id, 0) + 1
        unique.append(piece if count == 1 else dataclasses.replace(piece, id=f"{piece.id}~{count}"))
    return unique
