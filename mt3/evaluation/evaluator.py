"""Scores a transcriber on recordings.

That gives an `EvaluationResult`: scores of every recording, means over
recordings, and by name what could not be scored. One broken recording does not
cost the others; with `strict` it stops the evaluation instead.

While a recording is transcribed, the next one is read, and earlier ones are
scored in worker processes. What `FinishedRecordings` finds finished is not
transcribed again, and not scored again unless other scores are asked for. The
result is the same whatever was finished before.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, runtime_checkable

import numpy as np
from tqdm import tqdm

from mt3.evaluation.finished import FinishedRecordings
from mt3.evaluation.metrics import PUBLISHED_METRICS, SEGMENT_SECONDS, event_rates
from mt3.evaluation.results import (
    EvaluationError,
    EvaluationResult,
    RecordingResult,
    Skipped,
    keep_notes,
    write_results,
)
from mt3.evaluation.scoring_pool import RECORDING_ERRORS, Outcome, ScoreOptions, ScoringPool, TrackLike
from mt3.symbolic.notes import Notes

_LOG = logging.getLogger(__name__)

Loaded = TypeVar("Loaded")

_REPORT_SECONDS = 60.0
_ROWS_PER_EXCHANGE = 64


class Recording(Protocol):
    """What is needed of a recording, such as `mt3.data.recordings.Recording`.

    It may have a `dataset` too: over the recordings of each there are means.
    """

    @property
    def id(self) -> str: ...

    @property
    def notes(self) -> Notes: ...

    def load_audio(self, sample_rate: int) -> np.ndarray:
        """Mono float32 [samples]."""
        ...


class Transcription(Protocol):
    """What is needed of a transcription, such as `DecodedNotes`.

    It may have `num_events` too: there are rates of invalid and of dropped events then.
    """

    @property
    def notes(self) -> Notes: ...

    @property
    def invalid_events(self) -> int: ...

    @property
    def dropped_events(self) -> int: ...


@runtime_checkable
class BatchTranscriber(Protocol):
    """Transcribes recordings as it likes, e.g. several together, such as `Transcriber`."""

    def transcribe_all(self, recordings: Iterable[np.ndarray]) -> Iterator[Transcription]:
        """Of mono float32 [samples] each, in their order."""
        ...


@dataclasses.dataclass(frozen=True)
class Fellows:
    """The processes among whom the recordings are shared out.

    Attributes:
      index: of this one, from 0; the first one writes the results.
      number: how many there are.
      exchange: gives all a JSON value of each, by their index.
    """

    index: int = 0
    number: int = 1
    exchange: Callable[[Any], list[Any]] = lambda value: [value]


ALONE = Fellows()


def evaluate(
    recordings: Iterable[Recording],
    transcribe: Callable[[np.ndarray], Transcription] | BatchTranscriber,
    *,
    sample_rate: int = 16000,
    onsets_only: bool = False,
    tracks: Iterable[TrackLike] | None = None,
    metrics: Sequence[str] = PUBLISHED_METRICS,
    segment_seconds: float = SEGMENT_SECONDS,
    workers: int = 0,
    strict: bool = False,
    output_directory: str | os.PathLike[str] | None = None,
    finished: FinishedRecordings | None = None,
    settings: Mapping[str, Any] | None = None,
    progress: bool = True,
    observe: Callable[[Recording, Notes], None] | None = None,
    fellows: Fellows = ALONE,
) -> EvaluationResult:
    """Transcribes recordings and scores them against their notes.

    Args:
      recordings: audio and notes, under ids of their own; read when their turn comes.
      transcribe: from mono float32 [samples] to notes, or what does it for many.
      sample_rate: that the samples shall have, in Hz.
      onsets_only: see `score`.
      tracks: see `score`.
      metrics: see `score`.
      segment_seconds: see `score`.
      workers: processes that score; 0 for none but this one.
      strict: the first recording that cannot be scored is an error.
      output_directory: for results.json, results.csv, transcriptions/ID.mid and
        .json, and references/ID.json.
      finished: what was finished in that directory before, and will be.
      settings: what else to keep in results.json: checkpoint, task and so on.
      progress: a bar on standard error, where that is a terminal.
      observe: is called with each recording that was transcribed and scored, and its estimate.
      fellows: the processes that share the work; all get the result.

    Raises:
      EvaluationError: no recording could be scored, with `strict` one could not, or two have one id.
    """
    directory = None if output_directory is None else Path(output_directory)
    options = ScoreOptions.of(
        onsets_only=onsets_only, tracks=tracks, metrics=metrics, segment_seconds=segment_seconds
    )
    total = len(recordings) if isinstance(recordings, Sized) else None
    total = None if total is None else len(range(fellows.index, total, fellows.number))
    # None: only where standard error is a terminal.
    bar = tqdm(total=total, desc="Evaluating", unit="recording", disable=None if progress else True)
    with bar, ScoringPool(options, workers) as pool:
        evaluation = _Evaluation(options, pool, directory, finished, strict, observe, bar)
        evaluation.run(_shared_out(recordings, fellows), transcribe, sample_rate)
    outcomes = _gather(evaluation.outcomes, fellows)
    result = EvaluationResult.of(
        [outcome for outcome in outcomes if isinstance(outcome, RecordingResult)],
        [outcome for outcome in outcomes if isinstance(outcome, Skipped)],
        {**(settings or {}), **options.settings()},
    )
    if directory is not None and fellows.index == 0:
        write_results(result, directory)
    return result


class _Job(NamedTuple):
    """A recording and its place among all."""

    place: int
    recording: Recording


class _Heard(NamedTuple):
    """A recording with its notes, on its way."""

    place: int
    id: str
    dataset: str
    reference: Notes
    observed: Recording | None = None  # kept where there is an observer: it may hold the audio
    estimate: Notes | None = None  # to be kept; None where it is already
    num_events: int = 0

    @classmethod
    def of(cls, job: _Job, reference: Notes, observed: Recording | None = None) -> _Heard:
        return cls(job.place, job.recording.id, getattr(job.recording, "dataset", ""), reference, observed)


class _Evaluation:
    """The recordings of one process: those on their way, and what became of the others."""

    def __init__(
        self,
        options: ScoreOptions,
        pool: ScoringPool,
        directory: Path | None,
        finished: FinishedRecordings | None,
        strict: bool,
        observe: Callable[[Recording, Notes], None] | None,
        bar: tqdm[Any],
    ) -> None:
        self.outcomes: dict[int, Outcome] = {}  # by place
        self._pool, self._directory, self._finished = pool, directory, finished
        self._strict, self._observe, self._bar = strict, observe, bar
        self._scoring = json.loads(json.dumps(dataclasses.asdict(options)))
        self._reported = time.monotonic()
        self._to_transcribe: deque[_Heard] = deque()
        self._to_score: deque[tuple[_Heard, Future[Outcome]]] = deque()

    def run(
        self,
        jobs: Iterable[_Job],
        transcribe: Callable[[np.ndarray], Transcription] | BatchTranscriber,
        sample_rate: int,
    ) -> None:
        """Fills `outcomes`."""
        audio = self._audio(jobs, sample_rate)
        if isinstance(transcribe, BatchTranscriber):
            estimates = transcribe.transcribe_all(audio)
        else:
            estimates = _one_by_one(transcribe, audio)
        for estimate in estimates:
            heard = self._to_transcribe.popleft()
            if isinstance(estimate, Exception):
                self._settle(heard.place, Skipped(heard.id, str(estimate)))
            else:
                counts = int(estimate.invalid_events), int(estimate.dropped_events)
                num_events = int(getattr(estimate, "num_events", 0))
                heard = heard._replace(estimate=estimate.notes, num_events=num_events)
                self._score(heard, estimate.notes, *counts)
            self._collect()
        self._collect(wait=True)

    def _audio(self, jobs: Iterable[_Job], sample_rate: int) -> Iterator[np.ndarray]:
        """Samples of each recording that is to be transcribed, which is put among those."""

        def load(job: _Job) -> tuple[Notes, np.ndarray]:
            return job.recording.notes, job.recording.load_audio(sample_rate)

        for job, loading in _one_ahead(load, self._unfinished(jobs)):
            try:
                reference, samples = loading.result()
            except RECORDING_ERRORS as error:
                self._settle(job.place, Skipped(job.recording.id, str(error)))
                continue
            observed = None if self._observe is None else job.recording
            self._to_transcribe.append(_Heard.of(job, reference, observed))
            yield samples

    def _unfinished(self, jobs: Iterable[_Job]) -> Iterator[_Job]:
        """Those that are to be transcribed; of the others, those that want other scores are scored."""
        for job in jobs:
            before = None if self._finished is None else self._finished.find(job.recording.id)
            if before is not None and before.scoring == self._scoring:
                self._settle(job.place, before.result)
            elif self._finished and before and (notes := self._finished.notes(job.recording.id)):
                reference, estimate = notes
                counts = before.result.invalid_events, before.result.dropped_events
                heard = _Heard.of(job, reference)._replace(num_events=before.result.num_events)
                self._score(heard, estimate, *counts)
            else:
                yield job

    def _score(self, heard: _Heard, estimate: Notes, invalid_events: int, dropped_events: int) -> None:
        future = self._pool.submit(heard.id, heard.reference, estimate, invalid_events, dropped_events)
        self._to_score.append((heard, future))

    def _collect(self, *, wait: bool = False) -> None:
        """Settles what is scored, in order: as far as it is, or all of it."""
        while self._to_score and (wait or self._to_score[0][1].done()):
            heard, future = self._to_score.popleft()
            outcome = future.result()
            if isinstance(outcome, RecordingResult):
                outcome = _completed(outcome, heard)
                self._keep(heard, outcome)
            self._settle(heard.place, outcome)

    def _keep(self, heard: _Heard, result: RecordingResult) -> None:
        if self._directory is not None and heard.estimate is not None:
            keep_notes(self._directory, heard.id, heard.reference, heard.estimate)
        if self._finished is not None:
            self._finished.keep(result, self._scoring)
        if heard.observed is not None and self._observe is not None and heard.estimate is not None:
            self._observe(heard.observed, heard.estimate)

    def _settle(self, place: int, outcome: Outcome) -> None:
        self.outcomes[place] = outcome
        self._bar.update()
        self._report()
        if isinstance(outcome, RecordingResult):
            return
        if self._strict:
            raise EvaluationError(f"{outcome.id}: {outcome.reason}")
        _LOG.warning("Skipped %s: %s", outcome.id, outcome.reason)

    def _report(self) -> None:
        """Now and then a line, for those who see no bar."""
        now = time.monotonic()
        if now - self._reported < _REPORT_SECONDS:
            return
        self._reported = now
        total = "" if self._bar.total is None else f" of {self._bar.total}"
        _LOG.info("Evaluated %d%s recordings", len(self.outcomes), total)


def _completed(result: RecordingResult, heard: _Heard) -> RecordingResult:
    """With what is not told by notes."""
    counts = result.invalid_events, result.dropped_events
    rates = event_rates(*counts, heard.num_events) if heard.num_events else {}
    return dataclasses.replace(
        result, scores={**result.scores, **rates}, dataset=heard.dataset, num_events=heard.num_events
    )


def _shared_out(recordings: Iterable[Recording], fellows: Fellows) -> Iterator[_Job]:
    """The recordings of this process."""
    ids = set()
    for place, recording in enumerate(recordings):
        if recording.id in ids:
            raise EvaluationError(f"Two recordings have the id {recording.id!r}; give them ids of their own.")
        ids.add(recording.id)
        if place % fellows.number == fellows.index:
            yield _Job(place, recording)


def _gather(outcomes: Mapping[int, Outcome], fellows: Fellows) -> list[Outcome]:
    """What became of all recordings, in their order."""
    kinds: dict[str, Callable[..., Outcome]] = {kind.__name__: kind for kind in (RecordingResult, Skipped)}
    rows = [
        (place, type(outcome).__name__, dataclasses.asdict(outcome)) for place, outcome in outcomes.items()
    ]
    # In pieces: what processes exchange goes through messages of limited size.
    rounds = -(-max(fellows.exchange(len(rows))) // _ROWS_PER_EXCHANGE)
    pieces = [rows[first * _ROWS_PER_EXCHANGE :][:_ROWS_PER_EXCHANGE] for first in range(rounds)]
    everybody = [row for piece in pieces for part in fellows.exchange(piece) for row in part]
    return [kinds[kind](**fields) for _, kind, fields in sorted(everybody, key=lambda row: row[0])]


def _one_by_one(
    transcribe: Callable[[np.ndarray], Transcription], recordings: Iterable[np.ndarray]
) -> Iterator[Transcription | Exception]:
    """Of each recording its transcription, or why there is none."""
    for samples in recordings:
        try:
            estimate = transcribe(samples)
        except RECORDING_ERRORS as error:
            estimate = error
        yield estimate


def _one_ahead(load: Callable[[_Job], Loaded], jobs: Iterable[_Job]) -> Iterator[tuple[_Job, Future[Loaded]]]:
    """Each job with what is loaded for it; the next one's is loaded meanwhile."""
    with ThreadPoolExecutor(1) as loader:
        waiting: deque[tuple[_Job, Future[Loaded]]] = deque()
        for job in jobs:
            waiting.append((job, loader.submit(load, job)))
            if len(waiting) > 1:
                yield waiting.popleft()
        yield from waiting
