"""Audio in, notes out: a checkpoint applied to recordings of any length.

The audio is read in blocks and cut into the model's segments, which are decoded
side by side; a place that a segment leaves is taken by the next one, of whichever
recording. Only notes are kept, so memory does not grow with the audio.
Evaluation, the command line and the page transcribe through this same path.
What is heard in a segment depends neither on what is decoded beside it nor on
the devices, up to rounding.

A transcriber may be used by several threads at a time: what a call needs is its own.
"""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Sharding

from mt3.inference.continuity import ContinuityOptions, recommended_continuity
from mt3.inference.recording_queue import RecordingQueue
from mt3.inference.transcription import (
    Audio,
    Event,
    Failed,
    Finished,
    Job,
    Progress,
    Transcription,
    never,
)
from mt3.models.loading import NO_HINTS, ModelHints, load_model
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.segment_decoding import DecoderSettings, SegmentDecoder
from mt3.models.token_constraints import ConstraintConfig
from mt3.symbolic.instrument_names import map_instruments

_IDLE_SECONDS = 0.01

# What the weights of a network may be kept in -> the activation type (None: the
# network's own) and whether the decoder's kernels are rounded to 8 bits.
WEIGHTS: dict[str, tuple[str | None, bool]] = {
    "float32": (None, False),
    "bfloat16": ("bfloat16", False),
    "int8": (None, True),
}


@dataclasses.dataclass(frozen=True)
class DecodingOptions:
    """How tokens are chosen; see `mt3.models.decoding.generate`.

    Attributes:
      max_tokens: most tokens of a segment; None for the model's own limit.
      temperature: 0 takes the likeliest token, above it samples.
      beam_size: hypotheses kept; 1 is greedy.
      seed: of the sampling.
      weights: a key of `WEIGHTS`: "float32", "bfloat16" (which computes in it too) or
        "int8" (the decoder's kernels; computes as it would otherwise).
    """

    max_tokens: int | None = None
    temperature: float = 0.0
    beam_size: int = 1
    seed: int = 0
    weights: str = "float32"

    def __post_init__(self) -> None:
        if self.weights not in WEIGHTS:
            raise ValueError(f"weights is {self.weights!r}: choose one of {', '.join(WEIGHTS)}")


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
        batch_segments: int = 16,
        decoding: DecodingOptions = DecodingOptions(),
        continuity: ContinuityOptions | None = None,
        batch_sharding: Sharding | None = None,
    ) -> None:
        """Args:
        spec: the model's spec.
        params: its parameters, as `TranscriptionModel.init` lays them out.
        batch_segments: segments decoded side by side, by each part that batches are cut into.
        decoding: how tokens are chosen.
        continuity: how segments are made to agree; None for what is recommended for the model
          (`recommended_continuity`), `ContinuityOptions()` for decoding as published.
        batch_sharding: cuts batches up, along their first axis, between devices of
          this process, on which the parameters then must be; None for one device.

        Raises:
          ValueError: options exclude each other, or the model cannot do what they ask.
        """
        if batch_segments < 1:
            raise ValueError(f"batch_segments is {batch_segments}: give at least 1")
        self.spec = spec
        self.params = params
        self.batch_segments = batch_segments
        self.decoding = decoding
        self.continuity = continuity or recommended_continuity(
            ties=spec.tokenizer.ties, beam_size=decoding.beam_size
        )
        self._batch_sharding = batch_sharding
        self._num_parts = 1 if batch_sharding is None else _num_parts(batch_sharding)
        activation_dtype, quantize = WEIGHTS[decoding.weights]
        self._model = TranscriptionModel(_with_activations(spec, activation_dtype))
        self._settings = DecoderSettings(
            max_tokens=decoding.max_tokens or spec.max_target_tokens,
            temperature=decoding.temperature,
            beam_size=decoding.beam_size,
            constraint=_constraint(spec, self.continuity),
            quantize=quantize,
        )
        self._prepared: Any = None
        self._preparing = threading.Lock()

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
        cancelled: Callable[[], bool] = never,
    ) -> Transcription:
        """Transcribes one recording.

        Args:
          audio: a path, mono samples [num_samples] or blocks of them.
          sample_rate: of samples and blocks; the model's own where it is left out.
          progress: called now and then with the seconds decoded so far.
          cancelled: asked now and then whether to give up.

        Raises:
          AudioError: the audio cannot be read.
          Cancelled: the caller wished so.
        """
        for event in self.follow([Job(audio, sample_rate, cancelled)]):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                return event.transcription
            if progress is not None:
                progress(event.decoded_seconds)
        raise RuntimeError("a recording ended without a result")

    def warm_up(self, cancelled: Callable[[], bool] = never) -> None:
        """Compiles what the first segments need, which the first recording would else wait for.

        Raises:
          Cancelled: see `transcribe`.
        """
        # One segment more than fit side by side, so that one of them takes another's place.
        hop_samples = self.continuity.hop_frames(self.spec.input_frames) * self.spec.spectrogram.hop_samples
        self.transcribe(np.zeros((self._largest_batch + 1) * hop_samples, np.float32), cancelled=cancelled)

    def stream(
        self, audio: Audio, sample_rate: int | None = None, cancelled: Callable[[], bool] = never
    ) -> Iterator[Progress]:
        """Transcribes one recording and gives its notes as soon as they are final.

        Together they are those of `transcribe`, but for what is known at the end
        only (`ContinuityOptions.smooth_programs`).

        Args and errors: see `transcribe`.
        """
        for event in self.follow([Job(audio, sample_rate, cancelled)]):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Progress):
                yield event

    def transcribe_all(self, recordings: Iterable[Audio]) -> Iterator[Transcription]:
        """Transcribes recordings in their order; segments of several share a batch.

        All batches have one size, the last one being filled up, so that no shape of
        a batch tells what else was transcribed. Of the recordings, one is read at a time.

        Args:
          recordings: see `Job.audio`, at the model's rate where they are samples;
            read while earlier ones are transcribed.

        Raises:
          AudioError: a file cannot be read.
        """
        early: dict[int, Transcription] = {}
        following = 0
        for event in self.follow(map(Job, recordings), fixed_shapes=True):
            if isinstance(event, Failed):
                raise event.error
            if isinstance(event, Finished):
                early[event.index] = event.transcription
            while following in early:
                yield early.pop(following)
                following += 1

    def follow(
        self, jobs: Iterable[Job | None], *, interleave: int = 1, fixed_shapes: bool = False
    ) -> Generator[Event, None, None]:
        """Transcribes recordings and tells what happens as it happens.

        Args:
          jobs: read when there is room for more segments. None stands for "none is
            waiting just now": it is asked again after the next round of decoding, so
            that recordings can be added meanwhile.
          interleave: recordings that are read in turn, segment by segment; 1 finishes
            the first one first, more let nobody wait for a long one.
          fixed_shapes: see `transcribe_all`.

        Yields:
          For every recording any number of `Progress`, then `Finished` or `Failed`.
        """
        key = jax.random.key(self.decoding.seed) if self.decoding.temperature > 0 else None
        queue = RecordingQueue(self.spec, self.continuity, jobs, interleave=interleave, key=key)
        decoder: SegmentDecoder | None = None
        while True:
            segments = queue.take(self._largest_batch if decoder is None else decoder.room)
            yield from queue.give_up(decoder)
            if segments:
                if decoder is None:
                    decoder = self._decoder(None if queue.has_more else len(segments), fixed_shapes)
                decoder.add(segments)
            if decoder is not None and not decoder.is_empty:
                for decoded in decoder.advance(more_waiting=queue.has_more):
                    yield from queue.accept(decoded)
            yield from queue.finished()
            if not queue.has_more and (decoder is None or decoder.is_empty):
                return
            if not segments and (decoder is None or decoder.is_empty):
                time.sleep(_IDLE_SECONDS)

    @property
    def _largest_batch(self) -> int:
        return self.batch_segments * self._num_parts

    def _decoder(self, num_segments: int | None, fixed_shapes: bool) -> SegmentDecoder:
        """Of full size; where there are no more than so many segments, of a power of two that holds them."""
        size = self._largest_batch
        if num_segments is not None and not fixed_shapes:
            of_a_part = -(-num_segments // self._num_parts)
            size = min(size, self._num_parts << (of_a_part - 1).bit_length())
        settings = dataclasses.replace(self._settings, fixed_shapes=fixed_shapes)
        sharding, num_parts = self._batch_sharding, self._num_parts
        return self._model.make_decoder(self._prepare(), settings, size, sharding, num_parts)

    def _prepare(self) -> Any:
        with self._preparing:
            if self._prepared is None:
                self._prepared = self._model.prepare_decoding(
                    self.params, self._settings, self._batch_sharding
                )
            return self._prepared


def _with_activations(spec: ModelSpec, activation_dtype: str | None) -> ModelSpec:
    if activation_dtype is None:
        return spec
    network = dataclasses.replace(spec.network, activation_dtype=activation_dtype)
    return dataclasses.replace(spec, network=network)


def _constraint(spec: ModelSpec, continuity: ContinuityOptions) -> ConstraintConfig | None:
    """What `continuity` asks of the decoder, if anything."""
    instruments = continuity.instruments
    if instruments is None and not continuity.grammar:
        return None
    if instruments is not None:
        instruments = map_instruments(instruments, spec.tokenizer.vocabulary.program_granularity)
    return ConstraintConfig.from_tokenizer(
        spec.tokenizer,
        spec.network.vocab_size,
        segment_seconds=spec.segment_seconds,
        grammar=continuity.grammar,
        programs=None if instruments is None else instruments.programs,
        drums=True if instruments is None else instruments.drums,
    )


def _num_parts(sharding: Sharding) -> int:
    """Into how many parts the first axis of an array is cut."""
    indices = sharding.devices_indices_map((len(sharding.device_set),)).values()
    return len({(index[0].start, index[0].stop) for index in indices})
