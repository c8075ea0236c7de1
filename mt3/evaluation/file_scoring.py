"""Scores files of notes against files of notes, of any system.

Gives an `EvaluationResult`, as transcribing recordings does: scores of every
pair of files, means over pairs, and by name what could not be scored. One broken
file does not cost the others; with `strict` it stops the scoring instead.
"""

from __future__ import annotations

import collections
import dataclasses
import logging
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path

from tqdm import tqdm

from mt3.evaluation.metrics import PUBLISHED_METRICS
from mt3.evaluation.results import EvaluationError, EvaluationResult, RecordingResult, Skipped, write_results
from mt3.evaluation.scoring_pool import Outcome, ScoreOptions, ScoringPool, TrackLike
from mt3.inference.formats import FORMATS, READ_FORMATS, format_of
from mt3.processes import available_cores

_LOG = logging.getLogger(__name__)

# What could not be scored is said, up to this many; the results have all.
_MAX_WARNINGS = 20
# Starting a process takes as long as scoring about this many pairs.
_MIN_PAIRS_PER_WORKER = 8
# Pairs under way or waiting to be taken, per worker.
_PENDING_PER_WORKER = 8


def score_files(
    reference: str | os.PathLike[str],
    estimate: str | os.PathLike[str],
    *,
    onsets_only: bool = False,
    tracks: Iterable[TrackLike] | None = None,
    metrics: Sequence[str] = PUBLISHED_METRICS,
    strict: bool = False,
    reference_format: str | None = None,
    estimate_format: str | None = None,
    workers: int | None = None,
    output_directory: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> EvaluationResult:
    """Scores a file of notes against another, or the files of two folders.

    Files of a folder and its subfolders belong together where their names
    without suffix, and their subfolders, are the same; their formats may differ.
    Names that only one folder has are among `skipped`.

    Args:
      reference: a file that `read_notes` reads, or a folder of such files.
      estimate: the same.
      onsets_only: see `score`.
      tracks: see `score`.
      metrics: see `score`.
      strict: the first file that is broken or without a counterpart is an error.
      reference_format: a key of `FORMATS`: the files of the reference are read as, and in a
        folder are only those of, this format. By default, what their suffixes say.
      estimate_format: the same of the estimate.
      workers: processes that score; by default one a core where there are enough
        files, 0 for none but this one.
      output_directory: for results.json, results.csv and both sides' notes; see `keep_notes`.
      progress: a bar on standard error, where that is a terminal.

    Raises:
      EvaluationError: nothing could be scored; or, with `strict`, something could not.
      OSError: when a path does not exist, or `output_directory` cannot be written to.
    """
    options = ScoreOptions.of(onsets_only=onsets_only, tracks=tracks, metrics=metrics)
    directory = None if output_directory is None else Path(output_directory)
    sides = (_Side(Path(reference), reference_format), _Side(Path(estimate), estimate_format))
    pairs, unmatched = _pair_files(*sides)
    scored: list[RecordingResult] = []
    skipped: list[Skipped] = []
    formats = (sides[0].format, sides[1].format)
    for outcome in _outcomes(pairs, unmatched, options, formats, workers, directory, progress):
        if isinstance(outcome, RecordingResult):
            scored.append(outcome)
        elif strict:
            raise EvaluationError(f"{outcome.id}: {outcome.reason}")
        else:
            if len(skipped) < _MAX_WARNINGS:
                _LOG.warning("Skipped %s: %s", outcome.id, outcome.reason)
            skipped.append(outcome)
    if len(skipped) > _MAX_WARNINGS:
        _LOG.warning("Skipped %d more.", len(skipped) - _MAX_WARNINGS)
    settings = {"reference": str(reference), "estimate": str(estimate), **options.settings()}
    result = EvaluationResult.of(scored, skipped, settings)
    if directory is not None:
        write_results(result, directory)
    return result


@dataclasses.dataclass(frozen=True)
class _Side:
    """A file or folder, and the format of its files where that was said."""

    path: Path
    format: str | None = None

    def __post_init__(self) -> None:
        if self.format is not None:
            format_of(self.path, self.format)

    def files(self) -> dict[str, list[Path]]:
        """Path within the folder, without suffix -> files. Hidden files are left out."""
        entries = [FORMATS[name] for name in (READ_FORMATS if self.format is None else [self.format])]
        suffixes = {suffix for entry in entries for suffix in entry.suffixes}
        found: dict[str, list[Path]] = {}
        for path in sorted(self.path.rglob("*")):
            if path.suffix.lower() in suffixes and not path.name.startswith(".") and path.is_file():
                name = path.relative_to(self.path).with_suffix("").as_posix()
                found.setdefault(name, []).append(path)
        return found


def _outcomes(
    pairs: Mapping[str, tuple[Path, Path]],
    unmatched: Sequence[Skipped],
    options: ScoreOptions,
    formats: tuple[str | None, str | None],
    workers: int | None,
    directory: Path | None,
    progress: bool,
) -> Iterator[Outcome]:
    """What has no counterpart, then of each pair what became of it, in order."""
    yield from unmatched
    if workers is None:
        workers = min(available_cores(), len(pairs) // _MIN_PAIRS_PER_WORKER)
        workers = workers if workers > 1 else 0
    # None: only where standard error is a terminal.
    bar = tqdm(total=len(pairs), desc="Scoring", unit="recording", disable=None if progress else True)
    with bar, ScoringPool(options, min(workers, len(pairs))) as pool:
        pending: collections.deque[Future[Outcome]] = collections.deque()
        for name, paths in pairs.items():
            pending.append(pool.submit_files(name, *paths, formats=formats, output_directory=directory))
            if len(pending) > workers * _PENDING_PER_WORKER:
                yield pending.popleft().result()
                bar.update()
        for future in pending:
            yield future.result()
            bar.update()


def _pair_files(reference: _Side, estimate: _Side) -> tuple[dict[str, tuple[Path, Path]], list[Skipped]]:
    """Name -> paths of what belongs together, and what has no counterpart."""
    sides = (reference, estimate)
    for side in sides:
        if not side.path.exists():
            raise FileNotFoundError(f"{side.path} does not exist.")
    if reference.path.is_dir() != estimate.path.is_dir():
        raise EvaluationError(f"{reference.path} and {estimate.path} must be two files or two folders.")
    if not reference.path.is_dir():
        return {reference.path.stem: (reference.path, estimate.path)}, []
    references, estimates = (side.files() for side in sides)
    common = sorted(references.keys() & estimates.keys())
    if not common:
        found = " and ".join(
            f"{side.path} ({len(files)} files of notes{_for_example(files)})"
            for side, files in zip(sides, (references, estimates), strict=True)
        )
        raise EvaluationError(f"{found} have no name in common; a pair has one name but for its suffix.")
    unmatched = [
        Skipped(name, f"{(estimate if name in references else reference).path} has no such file of notes.")
        for name in sorted(references.keys() ^ estimates.keys())
    ]
    pairs = {name: (_only(references[name]), _only(estimates[name])) for name in common}
    return pairs, unmatched


def _for_example(files: Mapping[str, Sequence[Path]]) -> str:
    return f", such as {min(files)}" if files else ""


def _only(files: Sequence[Path]) -> Path:
    if len(files) > 1:
        raise EvaluationError(
            f"{files[0]} and {files[1]} have one name: keep one of them, or say which format to read."
        )
    return files[0]
