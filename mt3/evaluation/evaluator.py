"""Scores a transcriber on recordings, or files of notes against files of notes.

Both ways give an `EvaluationResult`: scores of every recording, means over
recordings, and by name what could not be scored. One broken recording does not
cost the others; with `strict` it stops the evaluation instead.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import numpy as np
from tqdm import tqdm

from mt3.evaluation.metrics import PUBLISHED_METRICS, Track, lookup, score
from mt3.evaluation.results import EvaluationResult, RecordingResult, Skipped, write_results
from mt3.inference.formats import read_notes, write_notes
from mt3.symbolic.note_decoding import DecodedNotes
from mt3.symbolic.notes import Notes

_LOG = logging.getLogger(__name__)

# Unreadable audio, files or notes; anything else is a defect of the code and stops the evaluation.
_RECORDING_ERRORS = (ValueError, OSError)
_MIDI_SUFFIXES = (".mid", ".midi")
_TRANSCRIPTIONS = "transcriptions"

TrackLike = Track | Mapping[str, Any]


class EvaluationError(ValueError):
    """There is nothing that could be scored, or with `strict` something that could not."""


class Recording(Protocol):
    """What is needed of a recording, such as `mt3.data.recordings.Recording`."""

    @property
    def id(self) -> str: ...

    @property
    def notes(self) -> Notes: ...

    def load_audio(self, sample_rate: int) -> np.ndarray:
        """Mono float32 [samples]."""
        ...


class Transcription(Protocol):
    """What is needed of a transcription, such as `DecodedNotes`."""

    @property
    def notes(self) -> Notes: ...

    @property
    def invalid_events(self) -> int: ...

    @property
    def dropped_events(self) -> int: ...


class _Job(NamedTuple):
    """A recording to be scored; `run` gives its reference and estimate, and may fail."""

    id: str
    run: Callable[[], tuple[Notes, Transcription]]


def evaluate(
    recordings: Iterable[Recording],
    transcribe: Callable[[np.ndarray], Transcription],
    *,
    sample_rate: int = 16000,
    onsets_only: bool = False,
    tracks: Iterable[TrackLike] | None = None,
    metrics: Sequence[str] = PUBLISHED_METRICS,
    strict: bool = False,
    output_directory: str | os.PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
) -> EvaluationResult:
    """Transcribes recordings and scores them against their notes.

    Args:
      recordings: audio and notes, under ids of their own; read one at a time.
      transcribe: from mono float32 [samples] to notes.
      sample_rate: that the samples shall have, in Hz.
      onsets_only: see `score`.
      tracks: see `score`.
      metrics: see `score`.
      strict: the first recording that cannot be scored is an error.
      output_directory: for results.json, results.csv and transcriptions/ID.mid.
      settings: what else to keep in results.json: checkpoint, task and so on.
      progress: a bar on standard error, where that is a terminal.

    Raises:
      EvaluationError: no recording could be scored; or, with `strict`, one could not.
    """
    directory = None if output_directory is None else Path(output_directory)

    def jobs() -> Iterator[_Job]:
        for recording in recordings:
            yield _Job(
                recording.id, lambda own=recording: (own.notes, transcribe(own.load_audio(sample_rate)))
            )

    def keep(name: str, estimate: Notes) -> None:
        if directory is not None:
            folder = directory / _TRANSCRIPTIONS
            folder.mkdir(parents=True, exist_ok=True)
            write_notes(estimate, folder / f"{_file_name(name)}.mid")

    total = len(recordings) if isinstance(recordings, Sized) else None
    options = _score_options(onsets_only, tracks, metrics)
    result = _run(jobs(), total, options, strict=strict, progress=progress, settings=settings, keep=keep)
    if directory is not None:
        write_results(result, directory)
    return result


def score_files(
    reference: str | os.PathLike[str],
    estimate: str | os.PathLike[str],
    *,
    onsets_only: bool = False,
    tracks: Iterable[TrackLike] | None = None,
    metrics: Sequence[str] = PUBLISHED_METRICS,
    strict: bool = False,
    progress: bool = True,
) -> EvaluationResult:
    """Scores a file of notes against another, or the MIDI files of two folders.

    Files of a folder and its subfolders belong together where their names
    without suffix, and their subfolders, are the same. Names that only one
    folder has are among `skipped`.

    Args:
      reference: a file that `read_notes` reads, or a folder of MIDI files.
      estimate: the same.
      onsets_only: see `score`.
      tracks: see `score`.
      metrics: see `score`.
      strict: the first file that is broken or without a counterpart is an error.
      progress: a bar on standard error, where that is a terminal.

    Raises:
      EvaluationError: nothing could be scored; or, with `strict`, something could not.
      OSError: when a path does not exist.
    """
    pairs, unmatched = _pair_files(Path(reference), Path(estimate))
    if strict and unmatched:
        raise EvaluationError(f"{unmatched[0].id}: {unmatched[0].reason}")
    for skipped in unmatched:
        _LOG.warning("Skipped %s: %s", skipped.id, skipped.reason)

    def read(reference_path: Path, estimate_path: Path) -> tuple[Notes, Transcription]:
        return read_notes(reference_path), DecodedNotes(read_notes(estimate_path), 0, 0)

    jobs = (_Job(name, lambda paths=paths: read(*paths)) for name, paths in pairs.items())
    options = _score_options(onsets_only, tracks, metrics)
    settings = {"reference": str(reference), "estimate": str(estimate)}
    result = _run(jobs, len(pairs), options, strict=strict, progress=progress, settings=settings)
    return EvaluationResult(result.recordings, (*unmatched, *result.skipped), result.settings)


def _score_options(
    onsets_only: bool, tracks: Iterable[TrackLike] | None, metrics: Sequence[str]
) -> dict[str, Any]:
    """Arguments of `score`, checked once and not at the first recording."""
    for name in metrics:
        lookup(name)
    return {
        "onsets_only": onsets_only,
        "tracks": tuple(map(Track.of, tracks or ())),
        "metrics": tuple(metrics),
    }


def _run(
    jobs: Iterable[_Job],
    total: int | None,
    options: Mapping[str, Any],
    *,
    strict: bool,
    progress: bool,
    settings: Mapping[str, Any] | None,
    keep: Callable[[str, Notes], None] = lambda name, estimate: None,
) -> EvaluationResult:
    """Scores one job after another; `keep` gets each estimate that was scored."""
    scored: list[RecordingResult] = []
    skipped: list[Skipped] = []
    # None: only where standard error is a terminal.
    for job in tqdm(jobs, total=total, desc="Scoring", unit="recording", disable=None if progress else True):
        try:
            reference, estimate = job.run()
            scores = score(reference, estimate.notes, **options)
        except _RECORDING_ERRORS as error:
            if strict:
                raise EvaluationError(f"{job.id}: {error}") from error
            _LOG.warning("Skipped %s: %s", job.id, error)
            skipped.append(Skipped(job.id, str(error)))
            continue
        # Outside the try: a full disk is not the recording's fault.
        keep(job.id, estimate.notes)
        counts = (int(estimate.invalid_events), int(estimate.dropped_events))
        scored.append(RecordingResult(job.id, scores, len(reference), len(estimate.notes), *counts))
    if not scored:
        raise EvaluationError(
            f"None of {len(skipped)} recordings could be scored; {skipped[0].id}: {skipped[0].reason}"
            if skipped
            else "There are no recordings to score."
        )
    tracks = [track.name for track in options["tracks"]]
    settings = {**(settings or {}), "onsets_only": options["onsets_only"], "tracks": tracks}
    return EvaluationResult(tuple(scored), tuple(skipped), settings)


def _pair_files(reference: Path, estimate: Path) -> tuple[dict[str, tuple[Path, Path]], list[Skipped]]:
    """Name -> paths of what belongs together, and what has no counterpart."""
    for path in (reference, estimate):
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist.")
    if reference.is_dir() != estimate.is_dir():
        raise EvaluationError(f"{reference} and {estimate} must be two files or two folders.")
    if not reference.is_dir():
        return {reference.stem: (reference, estimate)}, []
    references, estimates = _midi_files(reference), _midi_files(estimate)
    common = sorted(references.keys() & estimates.keys())
    if not common:
        raise EvaluationError(
            f"{reference} ({len(references)} MIDI files) and {estimate} ({len(estimates)} MIDI files) "
            "have no name in common."
        )
    unmatched = [
        Skipped(name, f"{estimate if name in references else reference} has no such MIDI file.")
        for name in sorted(references.keys() ^ estimates.keys())
    ]
    return {name: (references[name], estimates[name]) for name in common}, unmatched


def _midi_files(folder: Path) -> dict[str, Path]:
    """Path within the folder, without suffix -> file. Hidden files are left out."""
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in _MIDI_SUFFIXES or path.name.startswith(".") or not path.is_file():
            continue
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise EvaluationError(f"{files[name]} and {path} have one name; keep one of them.")
        files[name] = path
    return files


def _file_name(id: str) -> str:
    """`id` with what a file name cannot hold, slashes above all, as %XX: one name an id."""
    return re.sub(r"[^\w .,()+=@-]", lambda match: f"%{ord(match.group()):02X}", id)
