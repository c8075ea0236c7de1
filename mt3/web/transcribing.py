"""The thread that transcribes: all jobs share one model and its batches."""

from __future__ import annotations

import functools
import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mt3.inference import transcription
from mt3.web.jobs import Job, JobStore, State

if TYPE_CHECKING:
    from mt3.inference.transcriber import Transcriber

_LOG = logging.getLogger(__name__)

_BLOCK_SAMPLES = 1 << 18
_INTERLEAVE = 4  # recordings by turns, so that a short one need not wait for a long one


class TranscriptionThread:
    """Takes jobs from the store as the transcriber has room for them, and hands notes back."""

    def __init__(self, transcriber: Transcriber, store: JobStore) -> None:
        self._transcriber = transcriber
        self._store = store
        self._thread = threading.Thread(target=self._run, name="transcribing", daemon=True)
        self._active: dict[int, Job] = {}  # by their place among those of one `follow`

    def start(self) -> None:
        """Begins; returns at once."""
        self._thread.start()

    def stop(self, timeout_seconds: float) -> None:
        """Waits for the thread to end, as it does once the store is closed and what is in hand given up."""
        self._thread.join(timeout_seconds)

    def _run(self) -> None:
        self._warm_up()
        while not self._store.is_closed:
            try:
                self._follow()
            # The server outlives whatever one batch of recordings brings to light.
            except Exception:
                _LOG.exception("Transcribing failed")
                for job in self._active.values():
                    self._store.end(job, State.FAILED, f"{job.name} could not be transcribed: internal error")
            self._active.clear()

    def _warm_up(self) -> None:
        try:
            self._transcriber.warm_up(cancelled=lambda: self._store.is_closed)
        except transcription.Cancelled:
            pass
        # As below; the first recording may fare better, or will say so too.
        except Exception:
            _LOG.exception("Warming up failed")

    def _follow(self) -> None:
        """Transcribes until the store is closed."""
        for event in self._transcriber.follow(self._jobs(), interleave=_INTERLEAVE):
            job = self._active[event.index]
            match event:
                case transcription.Progress():
                    self._store.add_notes(job, event.decoded_seconds, event.notes, event.confidence)
                case transcription.Finished():
                    del self._active[event.index]
                    self._store.finish(job, event.transcription)
                case transcription.Failed():
                    del self._active[event.index]
                    self._store.end(job, State.FAILED, f"{job.name}: {event.error}")

    def _jobs(self) -> Iterator[transcription.Job | None]:
        """Jobs as they become ready; None where none is and others are being decoded."""
        index = 0
        while True:
            job = self._store.take(wait=not self._active)
            if job is not None:
                self._active[index] = job
                index += 1
                yield transcription.Job(
                    read_blocks(job.samples), cancelled=functools.partial(self._store.is_cancelled, job)
                )
            elif self._active:
                yield None
            else:
                return


def read_blocks(samples: Path) -> Iterator[np.ndarray]:
    """Blocks of a file of float32 samples."""
    try:
        with samples.open("rb") as file:
            while len(block := np.fromfile(file, np.float32, _BLOCK_SAMPLES)):
                yield block
    except FileNotFoundError:  # cancelled just now: as if it ended
        return
