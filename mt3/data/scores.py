"""Real music from music21's corpus, which installs from the package index.

`COLLECTIONS` names the parts of the corpus that parse cleanly. music21 is
imported when a score is parsed, not before; its own caches are not used, so
that nothing is written outside this package's cache.

How a score is read: at sounding pitch, ties joined, grace notes played just
before the beat, chord symbols and unpitched notes silent, repeats played once,
tempo from metronome marks where there are any.
"""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
import importlib.util
import warnings
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mt3.data.pieces import Piece, PieceError
from mt3.symbolic.notes import Notes

_GRACE_QUARTERS = 0.125
_VELOCITY = 80
# Offsets are sums of fractions of a quarter note, in floating point.
_SAME_TIME_QUARTERS = 1e-4
_LICENCE = "score: music21 corpus, composition out of copyright, encoding as its license.txt says"
_NON_COMMERCIAL = "score: Essen folk song database in music21's corpus, non-commercial use only"


@dataclasses.dataclass(frozen=True)
class ScoreCollection:
    """A part of the corpus.

    Attributes:
      patterns: of the files, below the corpus folder.
      quarters_per_minute: tempo where a score names none.
      program: General MIDI program of all parts; None takes each score's own.
      min_parts: scores of fewer parts are left out.
      licence: of the scores, in words; goes into every record and manifest.
    """

    patterns: tuple[str, ...]
    quarters_per_minute: float
    program: int | None
    min_parts: int = 1
    licence: str = _LICENCE


_ESSEN_FILES = (
    *("altdeu", "ballad", "boehme", "dva", "erk", "fink", "folkHaydn"),
    *("han", "irl", "kinder", "lot", "lux", "zuccal"),
)

COLLECTIONS: dict[str, ScoreCollection] = {
    # Four-part chorales; a few have instruments beside the voices.
    "bach_chorales": ScoreCollection(("bach/*.mxl",), 80.0, 52, min_parts=4),
    # Movements of Haydn, Mozart and Beethoven.
    "string_quartets": ScoreCollection(
        (
            "haydn/*/*.mxl",
            "mozart/k155/*.mxl",
            "mozart/k156/*.mxl",
            "mozart/k458/*.mxl",
            "mozart/k80/*.mxl",
            "beethoven/opus*/*.mxl",
            "beethoven/opus*.mxl",
        ),
        100.0,
        None,
        min_parts=4,
    ),
    # One voice: some 8000 European and Chinese songs (first parsed, they take minutes). The files
    # left out are tests and variants of others.
    "folk_songs": ScoreCollection(
        tuple(f"essenFolksong/{name}*.abc" for name in _ESSEN_FILES),
        110.0,
        73,
        licence=_NON_COMMERCIAL,
    ),
    # One voice: dance tunes of Ryan's Mammoth Collection (1883).
    "fiddle_tunes": ScoreCollection(("ryansMammoth/*.abc",), 120.0, 40),
}


def score_files(collection: str) -> list[Path]:
    """The files of a collection, sorted.

    Raises:
      PieceError: when music21 is not installed.
    """
    spec = importlib.util.find_spec("music21")
    if spec is None or not spec.submodule_search_locations:
        raise PieceError(
            f"The collection {collection!r} needs music21; `pip install music21`, or name MIDI files."
        )
    root = Path(next(iter(spec.submodule_search_locations))) / "corpus"
    return sorted(path for pattern in COLLECTIONS[collection].patterns for path in root.glob(pattern))


def corpus_version() -> str:
    """The version of the installed music21."""
    return importlib.metadata.version("music21")


def parse_score(collection: str, path: Path) -> list[Piece]:
    """The pieces of one file; a file of tunes holds many.

    Raises:
      PieceError: when music21 cannot parse the file.
    """
    music21 = importlib.import_module("music21")
    try:
        # Remarks about the engraving (overfull measures and such), not about errors.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parsed = music21.converter.parse(path, forceSource=True, storePickle=False)
    # What music21 and the parsers below it raise on scores they do not understand.
    except (
        music21.exceptions21.Music21Exception,
        zipfile.BadZipFile,
        SyntaxError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
    ) as error:
        raise PieceError(f"{path.name}: music21 cannot parse it ({error})") from error
    scores = list(parsed.scores) if isinstance(parsed, music21.stream.Opus) else [parsed]
    name = f"{collection}/{_name(path, collection)}"
    ids = [name] if len(scores) == 1 else [f"{name}-{index:04d}" for index in range(1, len(scores) + 1)]
    pieces = [
        _to_piece(score, piece_id, COLLECTIONS[collection])
        for piece_id, score in zip(ids, scores, strict=True)
    ]
    return [piece for piece in pieces if piece is not None]


def _name(path: Path, collection: str) -> str:
    """Folders below the composer's and the file's name, joined: opus74no1-movement2."""
    depth = max(pattern.count("/") for pattern in COLLECTIONS[collection].patterns)
    folders = path.parts[path.parts.index("corpus") + 2 : -1] if "corpus" in path.parts and depth > 1 else ()
    return "-".join((*folders, path.stem))


def _to_piece(score: Any, piece_id: str, collection: ScoreCollection) -> Piece | None:
    """None where the score has no notes or too few parts."""
    score.toSoundingPitch(inPlace=True)
    parts = list(score.parts) or [score]
    columns = [_part_notes(part) for part in parts]
    if sum(len(rows) > 0 for rows in columns) < collection.min_parts:
        return None
    rows = np.concatenate(columns)
    programs = [_program(part, collection) for part in parts]
    part_index = np.repeat(np.arange(len(parts)), [len(column) for column in columns])
    seconds = _to_seconds(rows[:, :2], _tempos(score), collection.quarters_per_minute)
    notes = Notes(
        onset_seconds=seconds[:, 0],
        offset_seconds=seconds[:, 1],
        pitch=rows[:, 2],
        velocity=np.full(len(rows), _VELOCITY),
        program=np.array(programs)[part_index],
        is_drum=np.zeros(len(rows), np.bool_),
    )
    return Piece(piece_id, notes, part_index, licence=collection.licence)


def _program(part: Any, collection: ScoreCollection) -> int:
    if collection.program is not None:
        return collection.program
    instrument = part.getInstrument(returnDefault=False)
    program = getattr(instrument, "midiProgram", None)
    return 0 if program is None else int(program)


def _part_notes(part: Any) -> np.ndarray:
    """float64 [num_notes, 3]: onset and offset in quarters, pitch; ties joined."""
    rows: list[list[float]] = []
    open_ties: dict[int, int] = {}  # pitch -> row that a tie leads on from
    graces: list[int] = []
    for onset, duration, is_grace, pitch, tie in _sounding(part):
        if is_grace:
            graces.append(pitch)
            continue
        rows += _grace_rows(graces, onset)
        graces = []
        joined = open_ties.pop(pitch, None) if tie in ("stop", "continue") else None
        if joined is not None and abs(rows[joined][1] - onset) < _SAME_TIME_QUARTERS:
            rows[joined][1] = onset + duration
            row = joined
        else:
            row = len(rows)
            rows.append([onset, onset + duration, pitch])
        if tie in ("start", "continue"):
            open_ties[pitch] = row
    return np.array(rows, np.float64).reshape(-1, 3)


def _sounding(part: Any) -> Iterator[tuple[float, float, bool, int, str | None]]:
    """(onset, duration in quarters, is a grace note, pitch, kind of tie) of what is to be played."""
    for element in part.flatten().notes:
        if "Harmony" in element.classes or "NoChord" in element.classes:
            continue  # a chord symbol: it names what others play
        for member in element.notes if "Chord" in element.classes else [element]:
            if not hasattr(member, "pitch"):
                continue  # unpitched percussion
            is_grace, duration = bool(element.duration.isGrace), float(element.quarterLength)
            if (is_grace or duration > 0) and 0 <= member.pitch.midi <= 127:
                tie = member.tie.type if member.tie is not None else None
                yield float(element.offset), duration, is_grace, int(member.pitch.midi), tie


def _grace_rows(pitches: Sequence[int], beat: float) -> list[list[float]]:
    """Rows of grace notes in quick succession up to `beat`; those before the start are left out."""
    starts = [beat - (len(pitches) - index) * _GRACE_QUARTERS for index in range(len(pitches))]
    return [
        [start, start + _GRACE_QUARTERS, pitch]
        for start, pitch in zip(starts, pitches, strict=True)
        if start >= 0
    ]


def _tempos(score: Any) -> list[tuple[float, float]]:
    """(offset in quarters, quarters per minute) of the metronome marks, in order."""
    marks = score.flatten().getElementsByClass("MetronomeMark")
    tempos = {float(mark.offset): mark.getQuarterBPM() for mark in marks}
    return sorted((offset, float(tempo)) for offset, tempo in tempos.items() if tempo)


def _to_seconds(
    quarters: np.ndarray, tempos: Sequence[tuple[float, float]], quarters_per_minute: float
) -> np.ndarray:
    """Times in quarters as seconds under a tempo that changes in steps."""
    if not tempos or tempos[0][0] > 0:
        tempos = [(0.0, quarters_per_minute), *tempos]
    offset, tempo = np.array(tempos, np.float64).T
    at_change = np.concatenate([[0.0], np.cumsum(np.diff(offset) * 60.0 / tempo[:-1])])
    segment = np.searchsorted(offset, quarters, side="right") - 1
    return at_change[segment] + (quarters - offset[segment]) * 60.0 / tempo[segment]
