"""Everything behind the requests: jobs, the processes and threads that work on them, their files."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from mt3.audio.io import AudioError
from mt3.web.audio_reader import AudioReader, ReadingCancelled
from mt3.web.downloads import ResultFiles, offered_downloads
from mt3.web.jobs import Job, JobStore, State
from mt3.web.limits import Limits
from mt3.web.transcribing import TranscriptionThread

if TYPE_CHECKING:
    from mt3.inference.transcriber import Transcriber

_LOG = logging.getLogger(__name__)

_STOP_SECONDS = 10.0
_EXPIRE_SECONDS = 5.0
_WRITERS = 2


class Service:
    """What the requests of an app act on.

    Attributes:
      store: the jobs.
      limits: of jobs and of uploads.
      downloads: formats of results, by name.
      model_name: what the page calls the model.
    """

    def __init__(self, transcriber: Transcriber, limits: Limits, folder: Path, model_name: str) -> None:
        """Args:
        transcriber: used by one thread alone.
        limits: what is taken on.
        folder: empty and private; the caller removes it.
        model_name: for people.
        """
        self.limits = limits
        self.model_name = model_name
        self.downloads = offered_downloads()
        self.store = JobStore(limits, folder)
        self._files = ResultFiles(folder)
        self._reader = AudioReader(transcriber.spec.spectrogram.sample_rate, limits)
        # Of their own, so that uploads are not kept waiting by scores and pictures.
        self._writers = ThreadPoolExecutor(_WRITERS, thread_name_prefix="writing")
        self._being_written: dict[tuple[str, str], asyncio.Future[Path]] = {}
        self._readers = ThreadPoolExecutor(limits.readers, thread_name_prefix="reading")
        self._transcribing = TranscriptionThread(transcriber, self.store)

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Works on jobs; at the end all are given up and no process or thread is left."""
        self.store.loop = asyncio.get_running_loop()
        self._transcribing.start()
        expiring = asyncio.create_task(self._expire())
        try:
            yield
        finally:
            expiring.cancel()
            self.store.close()
            await asyncio.to_thread(self._stop)

    def submit(self, job: Job) -> None:
        """Has a new job's upload read, in its turn."""
        self._readers.submit(self._read, job)

    async def result(self, job: Job, format: str) -> Path:
        """The file of a job's result.

        Raises:
          Refusal: see `ResultFiles.path`.
        """
        key = (job.id, format)
        if key not in self._being_written:
            loop = asyncio.get_running_loop()
            writing = loop.run_in_executor(self._writers, self._files.path, job, self.downloads[format])
            self._being_written[key] = writing
            writing.add_done_callback(lambda _: self._being_written.pop(key))
        # Who asks twice, or goes away, neither starts it twice nor ends it for others.
        path = await asyncio.shield(self._being_written[key])
        if not self.store.holds(job):  # forgotten meanwhile
            await asyncio.to_thread(self._files.remove, job)
        return path

    async def forget(self, job: Job) -> None:
        """Cancels a job and drops all of it."""
        self.store.forget(job)
        await asyncio.to_thread(self._files.remove, job)

    def _read(self, job: Job) -> None:
        store = self.store
        if not store.start_reading(job):
            return
        try:
            seconds = self._reader.read(job.upload, job.samples, job.name, functools.partial(_is_final, job))
        except ReadingCancelled:
            return
        except AudioError as error:
            store.end(job, State.FAILED, str(error))
        # Of a thread pool's work, nobody would hear: no job may stay as it is.
        except Exception:
            _LOG.exception("Reading failed")
            store.end(job, State.FAILED, f"{job.name} could not be read: internal error")
        else:
            store.finish_reading(job, seconds)

    async def _expire(self) -> None:
        while True:
            await asyncio.sleep(min(_EXPIRE_SECONDS, 15 * self.limits.kept_minutes))
            for job in self.store.expire():
                await asyncio.to_thread(self._files.remove, job)

    def _stop(self) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._writers.shutdown(wait=False, cancel_futures=True)
        self._reader.close()
        self._transcribing.stop(_STOP_SECONDS)


def _is_final(job: Job) -> bool:
    return job.is_final
