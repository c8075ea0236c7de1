"""What the endless stream consists of, as pure functions: clips, draws, batches.

A *clip* is an arranged, rendered excerpt of a piece. Clips come in *generations*
of equal size: at each step segments are drawn from a few live generations, and
every so many steps the oldest makes room for a new one, so that a clip serves a
declared number of segments. A clip is a function of (seed, generation, index), a
batch of (seed, step). Where several processes share batches, each has its own
clips and draws, and its part of a batch is a function of (seed, step, shard).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mt3.audio import io
from mt3.data import mixing
from mt3.data.augmentation import AugmentationConfig
from mt3.data.batches import EXAMPLE_ID, make_batch
from mt3.data.pieces import Piece, PieceError
from mt3.data.preprocessors import Chunk, SegmentConfig, sample_segments
from mt3.data.sources.synth import SynthConfig, SynthJob, mix_stems, render_stems
from mt3.symbolic.note_cleaning import trim_overlaps
from mt3.symbolic.tokenizer import Tokenizer

# First numbers of the seeds: clips apart from prepared recordings, draws apart from both.
_CLIP_KEY = 3
_PIECE, _DRAW, _SEGMENT = 11, 12, 13
# Pieces tried for a clip, and rounds of drawing for a batch, before giving up.
_MAX_TRIES = 50
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
      shard_index: which part of each batch is made ...
      num_shards: ... of how many, each of batch_size / num_shards examples, and with
        clips of its own.

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
    shard_index: int = 0
    num_shards: int = 1

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
        if self.num_shards < 1 or self.batch_size % self.num_shards:
            raise ValueError(
                f"batch_size is {self.batch_size} for {self.num_shards} shards; give a multiple of them."
            )
        if not 0 <= self.shard_index < self.num_shards:
            raise ValueError(f"shard_index is {self.shard_index}; it must be in 0..{self.num_shards - 1}.")
        frames_per_second = self.music.sample_rate / self.segments.hop_samples
        if frames_per_second != self.segments.tokenizer.frames_per_second:
            raise ValueError(
                f"{self.music.sample_rate} Hz in frames of {self.segments.hop_samples} samples are "
                f"{frames_per_second} frames per second; the tokenizer counts "
                f"{self.segments.tokenizer.frames_per_second}."
            )

    @property
    def rows(self) -> int:
        """Examples of this part of a batch."""
        return self.batch_size // self.num_shards

    @property
    def shard_key(self) -> tuple[int, ...]:
        """What a shard's random numbers have in their seeds beside those of a whole batch."""
        return (self.shard_index + 1,) if self.num_shards > 1 else ()

    @property
    def num_segments(self) -> int:
        """Segments drawn for a batch, or for this part of it."""
        num_groups = -(-self.rows // self.max_examples_per_mix)
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
    rng = np.random.default_rng([_DRAW, config.music.seed, step, attempt + 1, *config.shard_key])
    num_clips = config.live_generations * config.clips_per_generation
    numbers = rng.choice(num_clips, config.num_segments, replace=config.num_segments > num_clips)
    first = step // config.steps_per_generation
    generation, index = np.divmod(numbers, config.clips_per_generation)
    index += config.shard_index * config.clips_per_generation
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
        name = f"{job.piece.id} (clip {clip.generation}-{clip.index})"
        return Chunk(name, 0, np.pad(samples, (0, padding)), trim_overlaps(notes))
    raise PieceError(f"{_MAX_TRIES} pieces in turn gave no clip; the last: {reason}.")


def assemble_batch(
    config: StreamConfig, step: int, load_clip: Callable[[ClipId], Chunk]
) -> tuple[Batch, StreamCounts]:
    """The batch of a step, from the clips that `drawn_clips` says.

    Raises:
      StreamError: when the rule for long targets leaves too few segments.
    """
    examples: list[Mapping[str, Any]] = []
    counts = StreamCounts(batches=1)
    for attempt in range(_MAX_TRIES):
        rng = np.random.default_rng([_SEGMENT, config.music.seed, step, attempt + 1, *config.shard_key])
        found, counted = _draw_examples(config, drawn_clips(config, step, attempt), load_clip, rng)
        examples += found
        counts += counted
        if len(examples) >= config.rows:
            batch = make_batch(
                examples[: config.rows],
                input_frames=config.segments.segment_frames,
                max_target_tokens=config.segments.max_target_tokens,
                target_buckets=config.target_buckets,
            )
            return batch, counts
    raise StreamError(
        f"Step {step}: only {len(examples)} of {config.rows} examples have targets of at most "
        f"{config.segments.max_target_tokens} tokens; raise max_target_tokens or truncate long targets."
    )


def _draw_examples(
    config: StreamConfig,
    clips: Sequence[ClipId],
    load_clip: Callable[[ClipId], Chunk],
    rng: np.random.Generator,
) -> tuple[list[Mapping[str, Any]], StreamCounts]:
    """One segment of each clip, mixed as configured."""
    drawn = [sample_segments(load_clip(clip), 1, rng, config.segments) for clip in clips]
    inputs = np.concatenate([segments.inputs for segments in drawn])
    targets = np.concatenate([segments.targets for segments in drawn])
    ids = [segment_id for segments in drawn for segment_id in segments.ids]
    if config.max_examples_per_mix > 1 and len(inputs):
        mixes = mixing.mix_segments(inputs, targets, ids, config.max_examples_per_mix, rng, config.segments)
        inputs, targets, ids = mixes.inputs, mixes.targets, mixes.ids
        drawn.append(mixes)
    counts = StreamCounts(
        too_long=sum(segments.num_too_long for segments in drawn),
        dropped=sum(segments.num_dropped for segments in drawn),
    )
    examples = [
        {"inputs": row, "targets": target, EXAMPLE_ID: segment_id}
        for row, target, segment_id in zip(inputs, targets, ids, strict=True)
    ]
    return examples, counts
