"""Audio in, notes out: a checkpoint applied to recordings of any length.

The audio is read in blocks and cut into the model's segments, which are
decoded in batches; only their tokens are kept until the notes are put
together, so memory does not grow with the audio. Evaluation and the command
line transcribe through this same path.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mt3.audio.io import resample, stream_audio
from mt3.audio.spectrograms import log_mel, split_frames
from mt3.models.loading import NO_HINTS, ModelHints, load_model
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.symbolic.notes import Notes
from mt3.symbolic.vocabularies import EOS_ID

Audio = str | Path | np.ndarray


@dataclasses.dataclass(frozen=True)
class Transcription:
    """What a transcriber heard in one recording.

    Attributes:
      notes: in order of onset, none after the end of the audio.
      invalid_events: tokens that could not follow those before them.
      dropped_events: tokens ignored because their time had passed.
      truncated_segments: segments whose tokens ran into the limit without an
        end; their last notes may be missing.
      duration_seconds: length of the audio.
    """

    notes: Notes
    invalid_events: int
    dropped_events: int
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
    ) -> None:
        """Args:
        spec: the model's spec.
        params: its parameters, as `TranscriptionModel.init` lays them out.
        batch_segments: segments decoded together.
        decoding: how tokens are chosen.
        """
        if batch_segments < 1:
            raise ValueError(f"batch_segments is {batch_segments}: give at least 1")
        self.spec = spec
        self.params = params
        self.batch_segments = batch_segments
        self.decoding = decoding
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
        length = _Length()
        segments = self._segments(length.counted(self._blocks(audio, sample_rate)))
        tokens: list[np.ndarray] = []
        for batch in _batched(segments, self.batch_segments):
            tokens.extend(self._decode(batch))
            if progress is not None:
                progress(len(tokens) * self.spec.segment_seconds)
        return self._assemble(tokens, length.samples / self.spec.spectrogram.sample_rate)

    def _blocks(self, audio: Audio, sample_rate: int | None) -> Iterable[np.ndarray]:
        model_rate = self.spec.spectrogram.sample_rate
        if isinstance(audio, str | Path):
            return stream_audio(audio, model_rate)
        samples = np.asarray(audio, np.float32)
        if samples.ndim != 1:
            raise ValueError(f"samples have shape {samples.shape}: give mono audio [num_samples]")
        return [resample(samples, sample_rate or model_rate, model_rate)]

    def _segments(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Audio frames [input_frames, hop_samples] of each segment, the last one padded with silence."""
        hop_samples = self.spec.spectrogram.hop_samples
        segment_samples = self.spec.input_frames * hop_samples
        pending = np.zeros(0, np.float32)
        for block in blocks:
            pending = np.concatenate([pending, block])
            whole = len(pending) // segment_samples * segment_samples
            for start in range(0, whole, segment_samples):
                yield split_frames(pending[start : start + segment_samples], hop_samples)
            pending = pending[whole:]
        if len(pending):
            yield split_frames(np.pad(pending, (0, segment_samples - len(pending))), hop_samples)

    def _decode(self, batch: list[np.ndarray]) -> list[np.ndarray]:
        """Token ids of each segment; the batch is padded to a power of two, so few shapes are compiled."""
        size = min(self.batch_segments, 1 << (len(batch) - 1).bit_length())
        frames = np.zeros((size, *batch[0].shape), np.float32)
        frames[: len(batch)] = batch
        inputs = jnp.asarray(frames)
        if self.spec.input_kind == "log_mel":
            inputs = _log_mel(self.spec)(inputs)
        options = self.decoding
        tokens = self._model.generate(
            self.params,
            inputs,
            max_tokens=options.max_tokens or self.spec.max_target_tokens,
            temperature=options.temperature,
            beam_size=options.beam_size,
            rng=jax.random.key(options.seed) if options.temperature > 0 else None,
        )
        return list(np.asarray(tokens)[: len(batch)])

    def _assemble(self, tokens: list[np.ndarray], duration_seconds: float) -> Transcription:
        starts = np.arange(len(tokens)) * self.spec.segment_seconds
        decoded = self.spec.tokenizer.decode(list(zip(starts.tolist(), tokens, strict=True)))
        return Transcription(
            notes=decoded.notes.crop(0.0, duration_seconds).sorted(),
            invalid_events=decoded.invalid_events,
            dropped_events=decoded.dropped_events,
            truncated_segments=sum(EOS_ID not in segment for segment in tokens),
            duration_seconds=duration_seconds,
        )


class _Length:
    """Counts samples on their way past."""

    def __init__(self) -> None:
        self.samples = 0

    def counted(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self.samples += len(block)
            yield block


@functools.cache
def _log_mel(spec: ModelSpec) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(functools.partial(log_mel, config=spec.spectrogram))


def _batched(segments: Iterable[np.ndarray], size: int) -> Iterator[list[np.ndarray]]:
    batch: list[np.ndarray] = []
    for segment in segments:
        batch.append(segment)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch
