"""The jobs of the server: one a recording, from its upload until its results are forgotten.

`JobStore` alone changes jobs, under one lock, so that threads (reading,
transcribing) and the event loop may share it. Coroutines that follow a job are
woken by each change.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import enum
import secrets
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mt3.inference.transcription import Transcription
from mt3.symbolic.notes import Notes
from mt3.web.limits import Limits
from mt3.web.note_events import note_event
from mt3.web.refusals import Refusal

_RETRY_SECONDS = 10


class State(enum.StrEnum):
    """Where a job stands; the last three are final."""

    WAITING = "waiting"
    READING = "reading"
    TRANSCRIBING = "transcribing"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


_QUEUED = (State.WAITING, State.READING)
_FINAL = (State.DONE, State.FAILED, State.CANCELLED)


@dataclasses.dataclass(eq=False)
class Job:
    """One recording. Read freely; changed by `JobStore` alone.

    Attributes:
      id: cannot be guessed: who knows it may read and cancel the job.
      name: what the client calls the recording, fit to be shown.
      client: its address.
      upload, samples: files, each there only as long as it is needed.
      batches: `notes` events so far, as JSON.
      streamed: the notes in them.
      transcription: when done.
      is_read: whether the samples are there.
      deadline: when transcribing must be over, by the store's clock.
      ended: when the state became final, by the store's clock.
      listeners: events that changes set.
    """

    id: str
    name: str
    client: str
    upload: Path
    samples: Path
    state: State = State.WAITING
    error: str | None = None
    duration_seconds: float | None = None
    decoded_seconds: float = 0.0
    num_notes: int = 0
    batches: list[str] = dataclasses.field(default_factory=list)
    streamed: list[Notes] = dataclasses.field(default_factory=list)
    transcription: Transcription | None = None
    is_read: bool = False
    deadline: float = float("inf")
    ended: float | None = None
    listeners: set[asyncio.Event] = dataclasses.field(default_factory=set)

    @property
    def is_final(self) -> bool:
        return self.state in _FINAL


class JobStore:
    """All jobs, in the order in which they came."""

    def __init__(self, limits: Limits, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """Args:
        limits: how many jobs there may be, and for how long.
        folder: for uploads and samples.
        clock: seconds.
        """
        self.limits = limits
        self.folder = folder
        self.loop: asyncio.AbstractEventLoop | None = None  # of the coroutines that listen
        self._clock = clock
        self._jobs: dict[str, Job] = {}
        self._uploading: Counter[str] = Counter()
        self._changed = threading.Condition(threading.RLock())
        self._is_closed = False

    @property
    def is_closed(self) -> bool:
        """Whether nothing is taken any more."""
        return self._is_closed

    # Jobs come.

    @contextlib.contextmanager
    def place(self, client: str) -> Iterator[None]:
        """Holds a place among the client's jobs while it uploads.

        Raises:
          Refusal: there is none, for this client or for all.
        """
        with self._changed:
            if self._is_closed:
                raise Refusal(503, "the server is being stopped")
            unfinished = Counter(job.client for job in self._jobs.values() if not job.is_final)
            unfinished.update(self._uploading)
            for number, most, whose in (
                (unfinished[client], self.limits.jobs_per_client, "your"),
                (unfinished.total(), self.limits.jobs, "the server's"),
            ):
                if number >= most:
                    raise Refusal(
                        429,
                        f"{number} of {whose} recordings are not done yet, of at most {most}; "
                        "wait for one of them or cancel it",
                        retry_seconds=_RETRY_SECONDS,
                    )
            self._uploading[client] += 1
        try:
            yield
        finally:
            with self._changed:
                self._uploading[client] -= 1
                self._uploading += Counter()  # forgets clients without any

    def new_upload(self) -> Path:
        """A file name for an upload."""
        return self.folder / f"{secrets.token_hex(16)}.upload"

    def add(self, name: str, client: str, upload: Path) -> Job:
        """A job for an upload that is complete; it waits to be read."""
        job = Job(secrets.token_urlsafe(16), name, client, upload, upload.with_suffix(".samples"))
        with self._changed:
            self._jobs[job.id] = job
            if self._is_closed:
                self._end(job, State.CANCELLED, "the server was stopped")
        return job

    def get(self, id: str) -> Job:
        """Raises:
        Refusal: there is none, or no more.
        """
        with self._changed:
            job = self._jobs.get(id)
        if job is None:
            raise Refusal(404, "there is no such job, or its results are no longer kept")
        return job

    def jobs(self) -> list[Job]:
        """All that are not forgotten."""
        with self._changed:
            return list(self._jobs.values())

    def holds(self, job: Job) -> bool:
        """Whether the job is not forgotten."""
        with self._changed:
            return job.id in self._jobs

    # Jobs move on.

    def start_reading(self, job: Job) -> bool:
        """Whether the job still wants to be read."""
        with self._changed:
            if job.is_final:
                return False
            job.state = State.READING
            self._tell(job)
            return True

    def finish_reading(self, job: Job, duration_seconds: float) -> None:
        """The samples are there; the job waits for the model."""
        with self._changed:
            job.upload.unlink(missing_ok=True)
            if job.is_final:
                job.samples.unlink(missing_ok=True)
                return
            job.state, job.duration_seconds, job.is_read = State.WAITING, duration_seconds, True
            self._tell(job)

    def take(self, *, wait: bool) -> Job | None:
        """The next job to transcribe; None where none is ready (with `wait`: when the store is closed)."""
        with self._changed:
            while not self._is_closed:
                for job in self._jobs.values():
                    if job.state == State.WAITING and job.is_read:
                        job.state = State.TRANSCRIBING
                        job.deadline = self._clock() + self.limits.job_seconds
                        self._tell_all()
                        return job
                if not wait:
                    break
                self._changed.wait()
            return None

    def is_cancelled(self, job: Job) -> bool:
        """Whether transcribing the job should be given up; ends it where its time is over."""
        if not job.is_final and self._clock() > job.deadline:
            minutes = self.limits.job_seconds / 60
            self.end(
                job, State.FAILED, f"{job.name} took longer than {minutes:.3g} minutes; cut it into parts"
            )
        return job.is_final

    def add_notes(self, job: Job, decoded_seconds: float, notes: Notes, confidence: np.ndarray) -> None:
        """Notes that became final."""
        event = note_event(decoded_seconds, notes, confidence) if len(notes) else None
        with self._changed:
            if job.is_final:
                return
            job.decoded_seconds = min(decoded_seconds, job.duration_seconds or decoded_seconds)
            if event is not None:
                job.batches.append(event)
                job.streamed.append(notes)
                job.num_notes += len(notes)
            self._tell(job)

    def finish(self, job: Job, transcription: Transcription) -> None:
        """The job is done. Where its notes are not those that were streamed, they come anew."""
        notes = transcription.notes
        event = None
        if Notes.concatenate(job.streamed).sorted() != notes.sorted():
            event = note_event(transcription.duration_seconds, notes, transcription.confidence, replaces=True)
        with self._changed:
            if job.is_final:
                return
            if event is not None:
                job.batches.append(event)
            job.streamed.clear()
            job.transcription, job.num_notes = transcription, len(notes)
            job.decoded_seconds = transcription.duration_seconds
            self._end(job, State.DONE, None)

    # Jobs end.

    def end(self, job: Job, state: State, error: str | None) -> None:
        """Gives a job a final state, unless it has one."""
        with self._changed:
            if not job.is_final:
                self._end(job, state, error)

    def forget(self, job: Job) -> None:
        """Cancels a job where it is not done, and drops it."""
        with self._changed:
            self.end(job, State.CANCELLED, None)
            self._jobs.pop(job.id, None)

    def expire(self) -> list[Job]:
        """Drops the jobs whose results have been kept long enough, and says which."""
        with self._changed:
            ended = [job for job in self._jobs.values() if job.ended is not None]
            oldest = self._clock() - 60 * self.limits.kept_minutes
            too_many = max(0, len(ended) - self.limits.kept_jobs)
            by_end = sorted(ended, key=lambda job: job.ended or 0.0)
            dropped = [job for n, job in enumerate(by_end) if n < too_many or (job.ended or 0.0) < oldest]
            for job in dropped:
                del self._jobs[job.id]
            return dropped

    def close(self) -> None:
        """Cancels what is not done; takes nothing any more."""
        with self._changed:
            self._is_closed = True
            for job in self._jobs.values():
                self.end(job, State.CANCELLED, "the server was stopped")
            self._changed.notify_all()

    def _end(self, job: Job, state: State, error: str | None) -> None:
        job.state, job.error, job.ended = state, error, self._clock()
        job.samples.unlink(missing_ok=True)
        # A reader may have the upload open: it goes all the same.
        job.upload.unlink(missing_ok=True)
        self._tell_all()

    # Jobs are followed.

    def snapshot(self, job: Job) -> dict[str, Any]:
        """What clients are told of a job: JSON values.

        {"id", "name", "state", "position" (among those that wait, from 1, or null),
        "duration_seconds" (null until it is known), "decoded_seconds", "num_notes",
        "error" (null where there is none)}
        """
        with self._changed:
            return {
                "id": job.id,
                "name": job.name,
                "state": job.state.value,
                "position": self._position(job),
                "duration_seconds": job.duration_seconds,
                "decoded_seconds": round(job.decoded_seconds, 3),
                "num_notes": job.num_notes,
                "error": job.error,
            }

    @contextlib.contextmanager
    def listening(self, job: Job) -> Iterator[asyncio.Event]:
        """An event of the loop that is set by each change of the job."""
        event = asyncio.Event()
        with self._changed:
            job.listeners.add(event)
        try:
            yield event
        finally:
            with self._changed:
                job.listeners.discard(event)

    def _position(self, job: Job) -> int | None:
        """Its place among those that wait, from 1; None where it does not."""
        if job.state not in _QUEUED:
            return None
        queue = [other.id for other in self._jobs.values() if other.state in _QUEUED]
        return queue.index(job.id) + 1 if job.id in queue else None

    def _tell_all(self) -> None:
        """Of a change that moves others up."""
        for job in self._jobs.values():
            if job.listeners:
                self._tell(job)
        self._changed.notify_all()

    def _tell(self, job: Job) -> None:
        self._changed.notify_all()
        if self.loop is not None and not self.loop.is_closed():
            for event in job.listeners:
                self.loop.call_soon_threadsafe(event.set)
