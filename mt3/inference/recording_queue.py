"""Recordings on their way: from jobs to segments, and from decoded segments to events."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from pathlib import Path

import jax
import numpy as np

from mt3.inference.continuity import ContinuityOptions
from mt3.inference.recording import Recording
from mt3.inference.transcription import Cancelled, Event, Failed, Job
from mt3.models.model import ModelSpec
from mt3.models.segment_decoding import DecodedSegment, Segment, SegmentDecoder


class RecordingQueue:
    """The recordings of one call of a transcriber."""

    def __init__(
        self,
        spec: ModelSpec,
        continuity: ContinuityOptions,
        jobs: Iterable[Job | None],
        *,
        interleave: int = 1,
        key: jax.Array | None = None,
    ) -> None:
        """Args:
        spec: of the model.
        continuity: how segments are made to agree.
        jobs: see `mt3.inference.transcriber.Transcriber.follow`.
        interleave: recordings that are read in turn, segment by segment.
        key: the random stream of all segments, where tokens are drawn.
        """
        if interleave < 1:
            raise ValueError(f"interleave is {interleave}: give at least 1")
        self._spec, self._continuity, self._interleave, self._key = spec, continuity, interleave, key
        self._jobs: Iterator[Job | None] | None = iter(jobs)
        self._num_jobs = 0
        self._read: deque[tuple[Recording, Iterator[np.ndarray]]] = deque()  # in turn
        self._counts: dict[int, int] = {}  # segments handed out, by recording
        self._under_way: dict[int, Recording] = {}
        self._failed: list[Failed] = []

    @property
    def has_more(self) -> bool:
        """Whether there are, or may come, more segments."""
        return self._jobs is not None or bool(self._read)

    def take(self, number: int) -> list[Segment]:
        """Up to so many segments."""
        segments: list[Segment] = []
        is_waiting = True  # whether jobs may be waiting
        while len(segments) < number:
            if is_waiting and len(self._read) < self._interleave:
                is_waiting = self._open_next()
            elif self._read:
                segments.extend(self._next_segment())
            else:
                break
        return segments

    def accept(self, decoded: DecodedSegment) -> Iterator[Event]:
        """What follows from a decoded segment."""
        index, segment = decoded.name
        recording = self._under_way.get(index)
        if recording is not None and recording.accept(segment, decoded) and not recording.is_done:
            yield recording.progress()

    def finished(self) -> Iterator[Event]:
        """The recordings that have become complete."""
        for recording in [own for own in self._under_way.values() if own.is_done]:
            self._forget(recording.index)
            yield from recording.finish()

    def give_up(self, decoder: SegmentDecoder | None) -> Iterator[Event]:
        """The recordings that cannot be read or are cancelled."""
        for index, recording in self._under_way.items():
            if recording.job.cancelled():
                name = recording.job.audio if isinstance(recording.job.audio, str | Path) else "the recording"
                self._failed.append(Failed(index, Cancelled(f"{name} was cancelled")))
        failed, self._failed = self._failed, []
        if not failed:
            return
        indices = {failure.index for failure in failed}
        if decoder is not None:
            names = {(index, segment) for index in indices for segment in range(self._counts.get(index, 0))}
            decoder.drop(names)
        for index in indices:
            self._forget(index)
        yield from failed

    def _open_next(self) -> bool:
        """Begins the next job; whether there may be more."""
        if self._jobs is None:
            return False
        try:
            job = next(self._jobs)
        except StopIteration:
            self._jobs = None
            return False
        if job is not None:
            recording = Recording(self._num_jobs, job, self._spec, self._continuity)
            self._num_jobs += 1
            self._under_way[recording.index] = recording
            self._read.append((recording, recording.segments()))
        return job is not None

    def _next_segment(self) -> list[Segment]:
        """The next segment of the recording whose turn it is, if it has one."""
        recording, segments = self._read.popleft()
        try:
            inputs = next(segments, None)
        except (OSError, ValueError) as error:
            self._failed.append(Failed(recording.index, error))
            return []
        if inputs is None:
            return []
        self._read.append((recording, segments))
        number = self._counts.get(recording.index, 0)
        self._counts[recording.index] = number + 1
        # A random stream a segment, by its place in its recording.
        key = None if self._key is None else jax.random.fold_in(self._key, number)
        return [Segment((recording.index, number), inputs, key=key)]

    def _forget(self, index: int) -> None:
        self._under_way.pop(index, None)
        self._counts.pop(index, None)
        self._read = deque(entry for entry in self._read if entry[0].index != index)
