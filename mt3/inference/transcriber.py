"""Audio in, notes out: a checkpoint applied to recordings of any length.

The audio is read in blocks and cut into the model's segments, which are
decoded in batches; only their tokens are kept until the notes are put
together, so memory does not grow with the audio. Evaluation and the command
line transcribe through this same path. Batches may be cut up between devices.
What is heard in a segment depends neither on its batch nor on the devices, up
to rounding.
"""

from __future__ import annotations

import dataclasses
import functools
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Sharding

from mt3.audio.io import resample, stream_audio
from mt3.audio.spectrograms import log_mel, split_frames
from mt3.models.loading import NO_HINTS, ModelHints, load_model
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.symbolic.notes import Notes
from mt3.symbolic.vocabularies import EOS_ID

Audio = str | Path | np.ndarray
Item = TypeVar("Item")


@dataclasses.dataclass(frozen=True)
class Transcription:
    """What a transcriber heard in one recording.

    Attributes:
      notes: in order of onset, none after the end of the audio.
      invalid_events: tokens that could not follow those before them.
      dropped_events: tokens ignored because their time had passed.
      num_events: tokens in all, those above among them, ends of segments not.
      truncated_segments: segments whose tokens ran into the limit without an
        end; their last notes may be missing.
      duration_seconds: length of the audio.
    """

    notes: Notes
    invalid_events: int
    dropped_events: int
    num_events: int
    truncated_segments: int
    duration_seconds: float


@dataclasses.dataclass(frozen=True)
class DecodingOptions:
    """How tokens are chosen; see `mt3.models.decoding.generate`.

    Attributes:
      max_tokens: most tokens of a segment; None for the model's own limit.
      temperature: 0 takes the likeliest token, above it samples.
      beam_size: hypotheses kept; 1 is greedy.
      seed: of the sampling.
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    beam_size: int = 1
    seed: int = 0


class _Segment(NamedTuple):
    """A stretch of a recording."""

    index: int  # in the recording
    frames: np.ndarray  # [input_frames, hop_samples]


class Transcriber:
    """A model with its parameters, ready to transcribe.

    >>> transcriber = Transcriber.from_checkpoint("runs/quickstart")  # doctest: +SKIP
    >>> notes = transcriber.transcribe("song.mp3").notes  # doctest: +SKIP
    """

    def __init__(
        self,
        spec: ModelSpec,
        params: Any,
        *,
        batch_segments: int = 8,
        decoding: DecodingOptions = DecodingOptions(),
        batch_sharding: Sharding | None = None,
    ) -> None:
        """Args:
        spec: the model's spec.
        params: its parameters, as `TranscriptionModel.init` lays them out.
        batch_segments: segments decoded together, by each part that batches are cut into.
        decoding: how tokens are chosen.
        batch_sharding: cuts batches up, along their first axis, between devices of
          this process, on which the parameters then must be; None for one device.
        """
        if batch_segments < 1:
            raise ValueError(f"batch_segments is {batch_segments}: give at least 1")
        self.spec = spec
        self.params = params
        self.batch_segments = batch_segments
        self.decoding = decoding
        self._batch_sharding = batch_sharding
        self._num_parts = 1 if batch_sharding is None else _num_parts(batch_sharding)
        self._model = TranscriptionModel(spec)

    @classmethod
    def from_checkpoint(cls, path: str | Path, hints: ModelHints = NO_HINTS, **options: Any) -> Transcriber:
        """A transcriber from a run's directory (its best checkpoint), or a checkpoint of any format.

        Args:
          path: see `mt3.models.loading.load_model`.
          hints: what is known of a model that does not say it itself.
          **options: the other arguments of a transcriber.

        Raises:
          CheckpointError: there is no checkpoint, it is damaged, or does not fit its spec.
        """
        return cls(*load_model(path, hints), **options)

    def transcribe(
        self,
        audio: Audio,
        sample_rate: int | None = None,
        progress: Callable[[float], None] | None = None,
    ) -> Transcription:
        """Transcribes a file or samples.

        Args:
          audio: a path, or mono samples [num_samples].
          sample_rate: of the samples; the model's own where it is left out.
          progress: called after every batch with the seconds decoded so far.

        Raises:
          AudioError: the file cannot be read.
        """
        heard = _Heard()
        segments = self._segments(heard.counted(self._blocks(audio, sample_rate)))
        for batch in _batched(segments, self._largest_batch):
            heard.tokens.extend(self._decode(batch))
            if progress is not None:
                progress(len(heard.tokens) * self.spec.segment_seconds)
        return self._assemble(heard)

    def transcribe_all(self, recordings: Iterable[Audio]) -> Iterator[Transcription]:
        """Transcribes recordings in their order; segments of several share a batch.

        All batches have one size, the last one being filled up, so that no shape of
        a batch tells what else was transcribed. Of the recordings, one is in memory.

        Args:
          recordings: a path or mono samples [num_samples] at the model's rate each;
            read while earlier ones are transcribed.

        Raises:
          AudioError: a file cannot be read.
        """
        waiting: deque[_Heard] = deque()

        def segments() -> Iterator[tuple[_Heard, _Segment]]:
            for audio in recordings:
                heard = _Heard()
                waiting.append(heard)
                for segment in self._segments(heard.counted(self._blocks(audio, None))):
                    heard.num_segments += 1
                    yield heard, segment
                heard.is_whole = True

        for batch in _batched(segments(), self._largest_batch):
            tokens = self._decode([segment for _, segment in batch], fill_up=True)
            for (heard, _), own in zip(batch, tokens, strict=True):
                heard.tokens.append(own)
            while waiting and waiting[0].is_done:
                yield self._assemble(waiting.popleft())
        yield from map(self._assemble, waiting)

    @property
    def _largest_batch(self) -> int:
        return self.batch_segments * self._num_parts

    def _blocks(self, audio: Audio, sample_rate: int | None) -> Iterable[np.ndarray]:
        model_rate = self.spec.spectrogram.sample_rate
        if isinstance(audio, str | Path):
            return stream_audio(audio, model_rate)
        samples = np.asarray(audio, np.float32)
        if samples.ndim != 1:
            raise ValueError(f"samples have shape {samples.shape}: give mono audio [num_samples]")
        return [resample(samples, sample_rate or model_rate, model_rate)]

    def _segments(self, blocks: Iterable[np.ndarray]) -> Iterator[_Segment]:
        """The segments of a recording, the last one padded with silence."""
        hop_samples = self.spec.spectrogram.hop_samples
        segment_samples = self.spec.input_frames * hop_samples
        pending, index = np.zeros(0, np.float32), 0
        for block in blocks:
            pending = np.concatenate([pending, block])
            whole = len(pending) // segment_samples * segment_samples
            for start in range(0, whole, segment_samples):
                yield _Segment(index, split_frames(pending[start : start + segment_samples], hop_samples))
                index += 1
            pending = pending[whole:]
        if len(pending):
            pending = np.pad(pending, (0, segment_samples - len(pending)))
            yield _Segment(index, split_frames(pending, hop_samples))

    def _decode(self, batch: list[_Segment], *, fill_up: bool = False) -> list[np.ndarray]:
        """Token ids of each segment.

        The batch is padded: to a power of two for each part, so that few shapes are
        compiled, or to the largest size.
        """
        size = self._largest_batch if fill_up else self._padded_size(len(batch))
        frames = np.zeros((size, *batch[0].frames.shape), np.float32)
        frames[: len(batch)] = [segment.frames for segment in batch]
        inputs = (
            jnp.asarray(frames)
            if self._batch_sharding is None
            else jax.device_put(frames, self._batch_sharding)
        )
        if self.spec.input_kind == "log_mel":
            inputs = _log_mel(self.spec)(inputs)
        options = self.decoding
        tokens = self._model.generate(
            self.params,
            inputs,
            max_tokens=options.max_tokens or self.spec.max_target_tokens,
            temperature=options.temperature,
            beam_size=options.beam_size,
            rng=self._keys(batch, size) if options.temperature > 0 else None,
        )
        return list(np.asarray(tokens)[: len(batch)])

    def _padded_size(self, num_segments: int) -> int:
        of_a_part = -(-num_segments // self._num_parts)
        return self._num_parts * min(self.batch_segments, 1 << (of_a_part - 1).bit_length())

    def _keys(self, batch: list[_Segment], size: int) -> jax.Array:
        """A random stream a segment, by its place in its recording."""
        indices = [segment.index for segment in batch] + [0] * (size - len(batch))
        return jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(self.decoding.seed), jnp.array(indices))

    def _assemble(self, heard: _Heard) -> Transcription:
        tokens = heard.tokens
        duration_seconds = heard.num_samples / self.spec.spectrogram.sample_rate
        starts = np.arange(len(tokens)) * self.spec.segment_seconds
        decoded = self.spec.tokenizer.decode(list(zip(starts.tolist(), tokens, strict=True)))
        return Transcription(
            notes=decoded.notes.crop(0.0, duration_seconds).sorted(),
            invalid_events=decoded.invalid_events,
            dropped_events=decoded.dropped_events,
            num_events=sum(map(_num_events, tokens)),
            truncated_segments=sum(EOS_ID not in segment for segment in tokens),
            duration_seconds=duration_seconds,
        )


class _Heard:
    """What is known so far of a recording that is being transcribed."""

    def __init__(self) -> None:
        self.num_samples = 0
        self.num_segments = 0
        self.is_whole = False  # whether these are all
        self.tokens: list[np.ndarray] = []

    @property
    def is_done(self) -> bool:
        """Whether all segments are decoded."""
        return self.is_whole and len(self.tokens) == self.num_segments

    def counted(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Counts samples on their way past."""
        for block in blocks:
            self.num_samples += len(block)
            yield block


def _num_events(tokens: np.ndarray) -> int:
    ends = np.flatnonzero(tokens == EOS_ID)
    return int(ends[0]) if len(ends) else len(tokens)


def _num_parts(sharding: Sharding) -> int:
    """Into how many parts the first axis of an array is cut."""
    indices = sharding.devices_indices_map((len(sharding.device_set),)).values()
    return len({(index[0].start, index[0].stop) for index in indices})


@functools.cache
def _log_mel(spec: ModelSpec) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(functools.partial(log_mel, config=spec.spectrogram))


def _batched(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    batch: list[Item] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
