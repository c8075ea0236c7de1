"""Training batches from rendered music without end, without TensorFlow, without files.

Worker processes arrange and render excerpts of pieces (*clips*), and cut, mix
and tokenise segments of them. Clips come in *generations* of equal size: at each
step segments are drawn from a few live generations, and every so many steps the
oldest makes room for a new one, so that a clip serves a declared number of
segments. A clip is a function of (seed, generation, index), a batch of (seed,
step): whatever the number of workers, however often a run was interrupted, step
1000 sees the same batch.
"""

from __future__ import annotations

import dataclasses
import hashlib
import logging
import shutil
import tempfile
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np

from mt3.audio import io
from mt3.data import mixing, parallel
from mt3.data.augmentation import AugmentationConfig
from mt3.data.batches import make_batch
from mt3.data.pieces import Piece, PieceError
from mt3.data.preprocessors import Chunk, SegmentConfig, pack_notes, sample_segments, unpack_notes
from mt3.data.sources.synth import SynthConfig, SynthJob, mix_stems, render_stems, split_pieces
from mt3.symbolic.note_cleaning import trim_overlaps
from mt3.symbolic.tokenizer import Tokenizer

# First numbers of the seeds: clips apart from prepared recordings, draws apart from both.
_CLIP_KEY = 3
_PIECE, _DRAW, _SEGMENT = 11, 12, 13
# Pieces tried for a clip, and rounds of drawing for a batch, before giving up.
_MAX_TRIES = 50
# Batches under way per worker, and at least.
_BATCHES_PER_WORKER, _MIN_BATCHES = 2, 4

Batch = dict[str, np.ndarray]


class StreamError(RuntimeError):
    """A stream that cannot go on; the message says why and the remedy."""


class ClipId(NamedTuple):
    """Which clip: the index within its generation."""

    generation: int
    index: int


def varied_music() -> SynthConfig:
    """Music for training: short excerpts, varied in all ways that keep the labels true."""
    return SynthConfig(
        instrumentation="random",
        transpose_semitones=(-5, 6),
        tempo_factors=(0.7, 1.3),
        max_seconds=20.0,
        drop_part_probability=0.1,
        octave_probability=0.1,
        double_probability=0.1,
        augmentation=AugmentationConfig(),
    )


@dataclasses.dataclass(frozen=True)
class StreamConfig:
    """What batches are made of.

    Attributes:
      music: of the clips; its `max_seconds` is their length, its seed the stream's.
      segments: how segments are cut and tokenised.
      batch_size: examples of a batch.
      max_examples_per_mix: most clips that sound together in one example.
      clips_per_generation: clips that are replaced together.
      live_generations: generations that a batch draws from.
      segments_per_clip: how often a clip is drawn on average before it is
        replaced. The price of a segment is that of a clip divided by this.
      target_buckets: see `batches.make_batch`.
      split: whose pieces are played.

    Raises:
      ValueError: for values out of range or that do not fit each other.
    """

    music: SynthConfig = dataclasses.field(default_factory=varied_music)
    segments: SegmentConfig = dataclasses.field(default_factory=lambda: SegmentConfig(Tokenizer()))
    batch_size: int = 64
    max_examples_per_mix: int = 1
    clips_per_generation: int = 128
    live_generations: int = 4
    segments_per_clip: int = 16
    target_buckets: tuple[int, ...] = ()
    split: str = "train"

    def __post_init__(self) -> None:
        for name in (
            "batch_size",
            "max_examples_per_mix",
            "clips_per_generation",
            "live_generations",
            "segments_per_clip",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        frames_per_second = self.music.sample_rate / self.segments.hop_samples
        if frames_per_second != self.segments.tokenizer.frames_per_second:
            raise ValueError(
                f"{self.music.sample_rate} Hz in frames of {self.segments.hop_samples} samples are "
                f"{frames_per_second} frames per second; the tokenizer counts "
                f"{self.segments.tokenizer.frames_per_second}."
            )

    @property
    def num_segments(self) -> int:
        """Segments drawn for a batch."""
        num_groups = -(-self.batch_size // self.max_examples_per_mix)
        return num_groups * mixing.batch_size(self.max_examples_per_mix)

    @property
    def steps_per_generation(self) -> int:
        """Steps after which the oldest live generation is replaced."""
        return max(1, round(self.segments_per_clip * self.clips_per_generation / self.num_segments))


@dataclasses.dataclass(frozen=True)
class StreamCounts:
    """What happened to the segments of batches.

    Attributes:
      batches: that were made.
      too_long: targets that exceeded the bound when first made.
      dropped: segments or mixes left out for that.
    """

    batches: int = 0
    too_long: int = 0
    dropped: int = 0

    def __add__(self, other: StreamCounts) -> StreamCounts:
        return StreamCounts(
            *(a + b for a, b in zip(dataclasses.astuple(self), dataclasses.astuple(other), strict=True))
        )


def drawn_clips(config: StreamConfig, step: int, attempt: int = 0) -> list[ClipId]:
    """The clips that the segments of a batch come from; each at most once where there are enough.

    `attempt` counts the rounds of drawing, of which there is one unless
    segments are dropped.
    """
    rng = np.random.default_rng([_DRAW, config.music.seed, step, attempt + 1])
    num_clips = config.live_generations * config.clips_per_generation
    numbers = rng.choice(num_clips, config.num_segments, replace=config.num_segments > num_clips)
    first = step // config.steps_per_generation
    generation, index = np.divmod(numbers, config.clips_per_generation)
    return [ClipId(first + g, i) for g, i in zip(generation.tolist(), index.tolist(), strict=True)]


def render_clip(config: StreamConfig, pieces: Sequence[Piece], clip: ClipId) -> Chunk:
    """A clip: an excerpt of a random piece, arranged, rendered, augmented.

    Raises:
      PieceError: when the configuration's bounds leave too few notes of piece after piece.
    """
    reason = ""
    for attempt in range(1, _MAX_TRIES + 1):
        key = (_CLIP_KEY, *clip, attempt)
        rng = np.random.default_rng([_PIECE, config.music.seed, *key])
        job = SynthJob(config.music, pieces[int(rng.integers(len(pieces)))], config.split, key)
        try:
            stems = render_stems(job)
        except PieceError as error:
            reason = f"{job.piece.id}: {error}"
            continue
        notes, samples = mix_stems(job, stems, range(len(stems.notes)))
        samples = np.frombuffer(io.encode_pcm16(samples), "<i2")
        padding = -len(samples) % config.segments.hop_samples
        return Chunk(job.piece.id, 0, np.pad(samples, (0, padding)), trim_overlaps(notes))
    raise PieceError(f"{_MAX_TRIES} pieces in turn gave no clip; the last: {reason}.")


def assemble_batch(
    config: StreamConfig, step: int, load_clip: Callable[[ClipId], Chunk]
) -> tuple[Batch, StreamCounts]:
    """The batch of a step, from the clips that `drawn_clips` says.

    Raises:
      StreamError: when the rule for long targets leaves too few segments.
    """
    examples: list[Mapping[str, np.ndarray]] = []
    counts = StreamCounts(batches=1)
    for attempt in range(_MAX_TRIES):
        rng = np.random.default_rng([_SEGMENT, config.music.seed, step, attempt + 1])
        found, counted = _draw_examples(config, drawn_clips(config, step, attempt), load_clip, rng)
        examples += found
        counts += counted
        if len(examples) >= config.batch_size:
            batch = make_batch(
                examples[: config.batch_size],
                input_frames=config.segments.segment_frames,
                max_target_tokens=config.segments.max_target_tokens,
                target_buckets=config.target_buckets,
            )
            return batch, counts
    raise StreamError(
        f"Step {step}: only {len(examples)} of {config.batch_size} examples have targets of at most "
        f"{config.segments.max_target_tokens} tokens; raise max_target_tokens or truncate long targets."
    )


def _draw_examples(
    config: StreamConfig,
    clips: Sequence[ClipId],
    load_clip: Callable[[ClipId], Chunk],
    rng: np.random.Generator,
) -> tuple[list[Mapping[str, np.ndarray]], StreamCounts]:
    """One segment of each clip, mixed as configured."""
    drawn = [sample_segments(load_clip(clip), 1, rng, config.segments) for clip in clips]
    inputs = np.concatenate([segments.inputs for segments in drawn])
    targets = np.concatenate([segments.targets for segments in drawn])
    if config.max_examples_per_mix > 1 and len(inputs):
        mixes = mixing.mix_segments(inputs, targets, config.max_examples_per_mix, rng, config.segments)
        inputs, targets = mixes.inputs, mixes.targets
        drawn.append(mixes)
    counts = StreamCounts(
        too_long=sum(segments.num_too_long for segments in drawn),
        dropped=sum(segments.num_dropped for segments in drawn),
    )
    return [{"inputs": row, "targets": target} for row, target in zip(inputs, targets, strict=True)], counts


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

    A file holds two int64 (bytes of notes, bytes of audio), the notes, the
    16-bit samples; of the samples only what a segment needs is read.
    """

    config: StreamConfig
    pieces: Sequence[Piece]
    folder: Path

    def path(self, clip: ClipId) -> Path:
        return self.folder / f"{clip.generation}-{clip.index}.clip"

    def render(self, clip: ClipId) -> None:
        chunk = render_clip(self.config, self.pieces, clip)
        notes = pack_notes(chunk.notes)
        header = np.array([len(notes), chunk.samples.nbytes], "<i8")
        temporary = self.path(clip).with_suffix(".tmp")
        temporary.write_bytes(header.tobytes() + notes + chunk.samples.astype("<i2").tobytes())
        temporary.replace(self.path(clip))

    def load(self, clip: ClipId) -> Chunk:
        if not self.path(clip).exists():
            # Not foreseen: a round of drawing after dropped segments.
            return render_clip(self.config, self.pieces, clip)
        with self.path(clip).open("rb") as file:
            num_notes, num_samples = np.frombuffer(file.read(16), "<i8").tolist()
            notes = unpack_notes(file.read(num_notes))
            samples = np.memmap(file, "<i2", "r", offset=16 + num_notes, shape=(num_samples // 2,))
        return Chunk("", 0, samples, notes)


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
        self._executor = parallel.make_executor(workers, _start_worker, (clips,))
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
            pieces = split_pieces(config.music, cache_dir=cache_dir, workers=workers)[0][config.split]
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
    digest = hashlib.sha256(repr(config).encode())
    for piece in pieces:
        digest.update(f"{piece.id} {len(piece.notes)}".encode())
    return digest.hexdigest()[:16]
