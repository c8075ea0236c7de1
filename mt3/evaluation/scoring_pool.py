"""Scores recordings in worker processes.

    with ScoringPool(ScoreOptions.of(metrics=["onset"]), workers=4) as pool:
        futures = [pool.submit(id, reference, estimate) for ...]
        results = [future.result() for future in futures]

A recording that cannot be scored is a `Skipped` in place of a `RecordingResult`;
the others go on. Workers import neither JAX nor TensorFlow, ignore Ctrl-C (the
process that submits handles it) and end with that process, however it ends.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from mt3.evaluation.metrics import PUBLISHED_METRICS, SEGMENT_SECONDS, Track, expand, score
from mt3.evaluation.results import EvaluationError, RecordingResult, Skipped, keep_notes
from mt3.inference.formats import read_notes
from mt3.processes import make_executor
from mt3.symbolic.notes import Notes

# Unreadable files and notes; anything else is a defect of the code and stops the scoring.
RECORDING_ERRORS = (ValueError, OSError)

Outcome = RecordingResult | Skipped
TrackLike = Track | Mapping[str, Any]
# Of a reference and an estimate: keys of `mt3.inference.formats.FORMATS`, or None for what suffixes say.
Formats = tuple[str | None, str | None]


@dataclasses.dataclass(frozen=True)
class ScoreOptions:
    """How recordings are scored; see `mt3.evaluation.metrics.score`.

    Attributes:
      onsets_only: the estimate has neither offsets nor velocities worth judging.
      tracks: instruments to score on their own as well.
      metrics: names of metrics or of groups of them.
      segment_seconds: of the segments that estimates were made in.
    """

    onsets_only: bool = False
    tracks: tuple[Track, ...] = ()
    metrics: tuple[str, ...] = PUBLISHED_METRICS
    segment_seconds: float = SEGMENT_SECONDS

    @classmethod
    def of(
        cls,
        *,
        onsets_only: bool = False,
        tracks: Iterable[TrackLike] | None = None,
        metrics: Sequence[str] = PUBLISHED_METRICS,
        segment_seconds: float = SEGMENT_SECONDS,
    ) -> ScoreOptions:
        """From what users give, checked now and not at the first recording.

        Raises:
          ValueError: a metric is unknown, or a track is none.
        """
        return cls(onsets_only, tuple(map(Track.of, tracks or ())), expand(metrics), segment_seconds)

    def settings(self) -> dict[str, Any]:
        """JSON values for the settings of an `EvaluationResult`."""
        return {
            "onsets_only": self.onsets_only,
            "tracks": [track.name for track in self.tracks],
            "metrics": list(self.metrics),
        }


def score_recording(
    id: str,
    reference: Notes,
    estimate: Notes,
    options: ScoreOptions,
    *,
    invalid_events: int = 0,
    dropped_events: int = 0,
) -> Outcome:
    """The scores of one recording, or why there are none."""
    try:
        scores = score(
            reference,
            estimate,
            onsets_only=options.onsets_only,
            tracks=options.tracks,
            metrics=options.metrics,
            segment_seconds=options.segment_seconds,
        )
    except RECORDING_ERRORS as error:
        return Skipped(id, str(error))
    return RecordingResult(id, scores, len(reference), len(estimate), invalid_events, dropped_events)


def score_pair(
    id: str,
    reference_path: Path,
    estimate_path: Path,
    options: ScoreOptions,
    *,
    formats: Formats = (None, None),
    output_directory: Path | None = None,
) -> Outcome:
    """The same of two files of notes; what was scored is kept in `output_directory`.

    Args:
      id: of the recording.
      reference_path: see `read_notes`.
      estimate_path: the same.
      options: how to score.
      formats: of the reference and of the estimate, where suffixes do not say.
      output_directory: see `keep_notes`.

    Raises:
      OSError: `output_directory` cannot be written to.
    """
    try:
        reference, estimate = (
            read_notes(path, format)
            for path, format in zip((reference_path, estimate_path), formats, strict=True)
        )
    except RECORDING_ERRORS as error:
        return Skipped(id, str(error))
    outcome = score_recording(id, reference, estimate, options)
    # Outside the try: a full disk is not the recording's fault.
    if output_directory is not None and isinstance(outcome, RecordingResult):
        keep_notes(output_directory, id, reference, estimate)
    return outcome


class ScoringPool:
    """A context manager; leaving it by an exception gives up what has not begun."""

    def __init__(self, options: ScoreOptions, workers: int) -> None:
        """
        Args:
          options: of all recordings.
          workers: processes; 0 to score in this one, while submitting.
        """
        if workers < 0:
            raise ValueError(f"workers is {workers}; it must be at least 0 (none but this process).")
        self._options = options
        self._executor = make_executor(workers) if workers else None

    def submit(
        self,
        id: str,
        reference: Notes,
        estimate: Notes,
        invalid_events: int = 0,
        dropped_events: int = 0,
    ) -> Future[Outcome]:
        """Scores one recording; see `score_recording`."""
        return self._start(
            functools.partial(
                score_recording,
                id,
                reference,
                estimate,
                self._options,
                invalid_events=invalid_events,
                dropped_events=dropped_events,
            )
        )

    def submit_files(
        self,
        id: str,
        reference_path: Path,
        estimate_path: Path,
        *,
        formats: Formats = (None, None),
        output_directory: Path | None = None,
    ) -> Future[Outcome]:
        """Reads and scores two files; see `score_pair`."""
        return self._start(
            functools.partial(
                score_pair,
                id,
                reference_path,
                estimate_path,
                self._options,
                formats=formats,
                output_directory=output_directory,
            )
        )

    def _start(self, task: Callable[[], Outcome]) -> Future[Outcome]:
        outcome: Future[Outcome] = Future()
        if self._executor is None:
            outcome.set_result(task())
            return outcome
        try:
            self._executor.submit(task).add_done_callback(functools.partial(_pass_on, outcome))
        except BrokenProcessPool as error:
            raise _killed() from error
        return outcome

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._executor is not None:
            self._executor.shutdown(wait=True, cancel_futures=kind is not None)


def _pass_on(outcome: Future[Outcome], done: Future[Outcome]) -> None:
    """What became of a task in a worker, with one clear line where the worker was killed."""
    if done.cancelled():
        outcome.cancel()
        outcome.set_running_or_notify_cancel()
        return
    error = done.exception()
    if isinstance(error, BrokenProcessPool):
        outcome.set_exception(_killed())
    elif error is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(done.result())


def _killed() -> EvaluationError:
    return EvaluationError(
        "A process that scores was killed, perhaps for lack of memory; use fewer workers (0: none but this "
        "process)."
    )
