"""Training batches from rendered music without end, without TensorFlow.

Worker processes render clips and make batches ahead of time (see `clips` for
what those are). It promises: a batch depends on the configuration, the music and
the step alone, whatever the number of workers and however often a run was
interrupted; no process and no file is left behind.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
import tempfile
import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, Self

import numpy as np

from mt3.data.clips import (
    Batch,
    ClipId,
    StreamConfig,
    StreamCounts,
    StreamError,
    assemble_batch,
    drawn_clips,
    render_clip,
    varied_music,
)
from mt3.data.pieces import Piece, PieceError
from mt3.data.preprocessors import Chunk, pack_notes, unpack_notes
from mt3.data.sources.synth import split_pieces
from mt3.processes import make_executor

__all__ = ["StreamConfig", "StreamCounts", "StreamError", "SyntheticStream", "varied_music"]

# Batches under way per worker, and at least.
_BATCHES_PER_WORKER, _MIN_BATCHES = 2, 4


class _MemoryClips:
    """Clips of this process, rendered when they are first asked for."""

    def __init__(self, config: StreamConfig, pieces: Sequence[Piece]) -> None:
        self._config, self._pieces = config, pieces
        self._clips: dict[ClipId, Chunk] = {}

    def load(self, clip: ClipId) -> Chunk:
        if clip not in self._clips:
            self._clips[clip] = render_clip(self._config, self._pieces, clip)
        return self._clips[clip]

    def forget_before(self, generation: int) -> None:
        self._clips = {clip: chunk for clip, chunk in self._clips.items() if clip.generation >= generation}


@dataclasses.dataclass(frozen=True)
class _SpooledClips:
    """Clips in a folder that the workers share.

    A file holds three int64 (bytes of id, of notes, of audio), the id, the notes,
    the 16-bit samples; of the samples only what a segment needs is read.
    """

    config: StreamConfig
    pieces: Sequence[Piece]
    folder: Path

    def path(self, clip: ClipId) -> Path:
        return self.folder / f"{clip.generation}-{clip.index}.clip"

    def render(self, clip: ClipId) -> None:
        chunk = render_clip(self.config, self.pieces, clip)
        parts = chunk.id.encode(), pack_notes(chunk.notes), chunk.samples.astype("<i2").tobytes()
        header = np.array([len(part) for part in parts], "<i8")
        temporary = self.path(clip).with_suffix(".tmp")
        temporary.write_bytes(b"".join((header.tobytes(), *parts)))
        temporary.replace(self.path(clip))

    def load(self, clip: ClipId) -> Chunk:
        if not self.path(clip).exists():
            # Not foreseen: a round of drawing after dropped segments.
            return render_clip(self.config, self.pieces, clip)
        with self.path(clip).open("rb") as file:
            num_id, num_notes, num_samples = np.frombuffer(file.read(24), "<i8").tolist()
            name, notes = file.read(num_id).decode(), unpack_notes(file.read(num_notes))
            samples = np.memmap(file, "<i2", "r", offset=file.tell(), shape=(num_samples // 2,))
        return Chunk(name, 0, samples, notes)


# What a worker process was started with.
_worker_clips: _SpooledClips | None = None


def _start_worker(clips: _SpooledClips) -> None:
    global _worker_clips
    _worker_clips = clips


def _render_in_worker(clip: ClipId) -> None:
    assert _worker_clips is not None
    _worker_clips.render(clip)


def _assemble_in_worker(step: int) -> tuple[Batch, StreamCounts]:
    assert _worker_clips is not None
    return assemble_batch(_worker_clips.config, step, _worker_clips.load)


@dataclasses.dataclass
class _Planned:
    """A batch under way: what it waits for, then its result."""

    step: int
    renders: list[Future[None]]
    result: Future[tuple[Batch, StreamCounts]] | None = None


class _Workers:
    """Makes batches ahead of time in worker processes.

    The spool holds the clips of the steps under way; clips of older generations
    are deleted. `close` ends the workers and removes the spool.
    """

    def __init__(self, config: StreamConfig, pieces: Sequence[Piece], workers: int) -> None:
        self._config = config
        self._lookahead = max(_MIN_BATCHES, _BATCHES_PER_WORKER * workers)
        self._folder = Path(tempfile.mkdtemp(prefix="mt3-stream-"))
        clips = _SpooledClips(config, pieces, self._folder)
        self._spool = clips
        self._executor = make_executor(workers, _start_worker, (clips,))
        self._renders: dict[ClipId, Future[None]] = {}
        self._planned: deque[_Planned] = deque()
        self.close = weakref.finalize(self, _shut_down, self._executor, self._folder)

    def batch(self, step: int) -> tuple[Batch, StreamCounts]:
        """The batch of `step`; cheapest when steps are asked for in order."""
        try:
            if not (self._planned and self._planned[0].step == step):
                self._forget_plan()
            self._plan(step)
            head = self._planned[0]
            while head.result is None:
                wait(head.renders)
                self._submit_ready()
            result = head.result.result()
        except BrokenProcessPool as error:
            raise StreamError(
                "A worker process of the stream died, perhaps for want of memory; resume the run "
                "with fewer workers or shorter clips."
            ) from error
        self._planned.popleft()
        self._plan(step + 1)
        return result

    def _plan(self, first_step: int) -> None:
        """Looks ahead: asks for the clips of the coming steps, and for batches whose clips are there."""
        next_step = self._planned[-1].step + 1 if self._planned else first_step
        self._forget_before(first_step // self._config.steps_per_generation)
        for step in range(next_step, first_step + self._lookahead):
            clips = dict.fromkeys(drawn_clips(self._config, step))
            self._planned.append(_Planned(step, [self._render(clip) for clip in clips]))
        self._submit_ready()

    def _render(self, clip: ClipId) -> Future[None]:
        if clip not in self._renders:
            self._renders[clip] = self._executor.submit(_render_in_worker, clip)
        return self._renders[clip]

    def _submit_ready(self) -> None:
        for planned in self._planned:
            if planned.result is None and all(render.done() for render in planned.renders):
                for render in planned.renders:
                    render.result()  # raises what went wrong
                planned.result = self._executor.submit(_assemble_in_worker, planned.step)

    def _forget_plan(self) -> None:
        """After a jump to another step; clips that are there or under way stay."""
        for planned in self._planned:
            if planned.result is not None:
                planned.result.cancel()
        self._planned.clear()

    def _forget_before(self, generation: int) -> None:
        # No step under way is older than the first planned one.
        for clip in [clip for clip in self._renders if clip.generation < generation]:
            self._renders.pop(clip).cancel()
            self._spool.path(clip).unlink(missing_ok=True)


def _shut_down(executor: ProcessPoolExecutor, folder: Path) -> None:
    executor.shutdown(wait=True, cancel_futures=True)
    shutil.rmtree(folder, ignore_errors=True)


class _InProcess:
    """Makes batches when they are asked for, in this process."""

    def __init__(self, config: StreamConfig, pieces: Sequence[Piece]) -> None:
        self._config = config
        self._clips = _MemoryClips(config, pieces)

    def batch(self, step: int) -> tuple[Batch, StreamCounts]:
        self._clips.forget_before(step // self._config.steps_per_generation)
        return assemble_batch(self._config, step, self._clips.load)

    def close(self) -> None:
        self._clips.forget_before(np.iinfo(np.int64).max)


class SyntheticStream(Iterator[Batch]):
    """Batches without end; also a context manager that closes itself.

    `get_state` and `set_state` resume it exactly: what is lost is only the
    rendering of the live clips.
    """

    def __init__(
        self,
        config: StreamConfig,
        *,
        workers: int = 0,
        pieces: Sequence[Piece] | None = None,
        cache_dir: Path | str | None = None,
        start_step: int = 0,
    ) -> None:
        """Starts the stream.

        Args:
          config: what batches are made of.
          workers: processes that make them; 0 for none but this one.
          pieces: the music; by default that of `config.music` in `config.split`.
          cache_dir: for parsed pieces.
          start_step: of the first batch.

        Raises:
          PieceError: when there is no music.
        """
        if pieces is None:
            splits, skipped = split_pieces(config.music, cache_dir=cache_dir, workers=workers)
            pieces = splits[config.split]
            for skip in skipped:
                logging.getLogger(__name__).warning("Skipped %s: %s", skip.item, skip.reason)
        if not pieces:
            raise PieceError(f"No music is left for split {config.split!r}; name more collections.")
        self._fingerprint = _fingerprint(config, pieces)
        self._step = start_step
        self._counts = StreamCounts()
        self._maker = _Workers(config, pieces, workers) if workers > 0 else _InProcess(config, pieces)

    @property
    def counts(self) -> StreamCounts:
        """Of the batches returned since the start or the last `set_state`."""
        return self._counts

    def __next__(self) -> Batch:
        batch, counts = self._maker.batch(self._step)
        self._step += 1
        self._counts += counts
        return batch

    def get_state(self) -> dict[str, Any]:
        """What `set_state` needs to go on from here; plain values."""
        return {"step": self._step, "fingerprint": self._fingerprint}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes on where another stream of the same configuration was; warns in the log if it differs."""
        if state.get("fingerprint", self._fingerprint) != self._fingerprint:
            logging.getLogger(__name__).warning(
                "The stream's configuration or music has changed since the checkpoint: "
                "batches differ from those of an uninterrupted run."
            )
        self._step = int(state["step"])
        self._counts = StreamCounts()

    def close(self) -> None:
        """Ends the workers and removes their files; may be called twice."""
        self._maker.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def _fingerprint(config: StreamConfig, pieces: Sequence[Piece]) -> str:
    # Of all shards alike: one state resumes them all.
    digest = hashlib.sha256(repr(dataclasses.replace(config, shard_index=0)).encode())
    for piece in pieces:
        digest.update(f"{piece.id} {len(piece.notes)}".encode())
    return digest.hexdigest()[:16]
