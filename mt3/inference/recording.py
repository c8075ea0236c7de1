"""A recording on its way: cut into segments, whose tokens become notes in their order.

Segments may be decoded in any order; what is ahead of the first one missing waits.
Of the audio, no more than a block is held.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from mt3.audio.io import AudioError, resample, resample_blocks, stream_audio
from mt3.audio.spectrograms import split_frames
from mt3.inference.continuity import ContinuityOptions
from mt3.inference.note_assembly import NoteAssembler
from mt3.inference.transcription import Audio, Finished, Job, Progress, Transcription
from mt3.models.model import ModelSpec
from mt3.models.segment_decoding import DecodedSegment
from mt3.symbolic.vocabularies import EOS_ID


class Recording:
    """What is known so far of one recording."""

    def __init__(self, index: int, job: Job, spec: ModelSpec, continuity: ContinuityOptions) -> None:
        """Args:
        index: among the recordings of the caller.
        job: what it is.
        spec: of the model.
        continuity: how its segments are made to agree.
        """
        self.index, self.job = index, job
        self._spec = spec
        self._hop_frames = continuity.hop_frames(spec.input_frames)
        frames_per_second = spec.spectrogram.frames_per_second
        self._hop_seconds = self._hop_frames / frames_per_second
        self._assembler = NoteAssembler(spec.tokenizer, spec.segment_seconds, self._hop_seconds, continuity)
        self._num_samples = 0
        self._num_segments = 0
        self._is_cut = False  # whether these are all
        self._early: dict[int, DecodedSegment] = {}  # segments that others before them hold up
        self._num_assembled = 0
        self._num_events = 0
        self._truncated_segments = 0

    @property
    def is_done(self) -> bool:
        """Whether all segments are assembled."""
        return self._is_cut and self._num_assembled == self._num_segments

    def segments(self) -> Iterator[np.ndarray]:
        """Audio frames, float32 [input_frames, hop_samples], of one segment after the other.

        The last ones are padded with silence.

        Raises:
          AudioError: the audio cannot be read.
        """
        hop_samples = self._spec.spectrogram.hop_samples
        segment_samples = self._spec.input_frames * hop_samples
        step_samples = self._hop_frames * hop_samples
        for samples in _windows(self._counted_blocks(), segment_samples, step_samples):
            self._num_segments += 1
            yield split_frames(samples, hop_samples)
        self._is_cut = True

    def accept(self, segment: int, decoded: DecodedSegment) -> bool:
        """Takes what was heard in a segment; whether something new is known from the start on."""
        self._early[segment] = decoded
        before = self._num_assembled
        while (following := self._early.pop(self._num_assembled, None)) is not None:
            self._assembler.add(following.tokens, following.log_probs)
            has_end = len(following.tokens) > 0 and bool(following.tokens[-1] == EOS_ID)
            self._num_events += len(following.tokens) - has_end
            self._truncated_segments += not has_end
            self._num_assembled += 1
        return self._num_assembled > before

    def progress(self) -> Progress:
        """What has become final since the last time."""
        notes, confidence = self._assembler.take()
        decoded_seconds = self._num_assembled * self._hop_seconds
        if self._is_cut:
            decoded_seconds = min(decoded_seconds, self._duration_seconds)
        return Progress(self.index, decoded_seconds, notes, confidence)

    def finish(self) -> tuple[Progress, Finished]:
        """The last progress and the whole."""
        assembled = self._assembler.finish(self._duration_seconds)
        transcription = Transcription(
            notes=assembled.notes,
            confidence=assembled.confidence,
            invalid_events=assembled.invalid_events,
            dropped_events=assembled.dropped_events,
            num_events=self._num_events,
            truncated_segments=self._truncated_segments,
            duration_seconds=self._duration_seconds,
        )
        return self.progress(), Finished(self.index, transcription)

    @property
    def _duration_seconds(self) -> float:
        return self._num_samples / self._spec.spectrogram.sample_rate

    def _counted_blocks(self) -> Iterator[np.ndarray]:
        model_rate = self._spec.spectrogram.sample_rate
        for block in audio_blocks(self.job.audio, self.job.sample_rate, model_rate):
            self._num_samples += len(block)
            yield block


def audio_blocks(audio: Audio, sample_rate: int | None, model_rate: int) -> Iterator[np.ndarray]:
    """float32 mono blocks at the model's rate.

    Args:
      audio: a path, mono samples [num_samples] or blocks of them.
      sample_rate: of samples and blocks; the model's where it is None.
      model_rate: Hz.

    Raises:
      AudioError: the file cannot be read, or samples are not finite.
      ValueError: samples are not mono, or the rate is not positive.
    """
    if isinstance(audio, str | Path):
        yield from stream_audio(audio, model_rate)
        return
    rate = model_rate if sample_rate is None else sample_rate
    if not rate > 0:
        raise ValueError(f"sample_rate is {rate}: give samples a second, e.g. {model_rate}")
    if isinstance(audio, np.ndarray):
        yield resample(_checked(audio), rate, model_rate)
        return
    yield from resample_blocks(map(_checked, audio), rate, model_rate)


def _checked(samples: np.ndarray) -> np.ndarray:
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1:
        raise ValueError(f"samples have shape {samples.shape}: give mono audio [num_samples]")
    if not np.isfinite(samples).all():
        index = int(np.flatnonzero(~np.isfinite(samples))[0])
        raise AudioError(f"sample {index} is {samples[index]}: samples must be finite; set such ones to 0")
    return samples


def _windows(blocks: Iterable[np.ndarray], length: int, step: int) -> Iterator[np.ndarray]:
    """Windows of `length` samples, each `step` after the one before, until every sample is in one.

    The last is padded with silence.
    """
    pending = np.zeros(0, np.float32)
    num_new = 0  # of the samples pending, those that were in no window yet
    for block in blocks:
        pending = np.concatenate([pending, block])
        num_new += len(block)
        while len(pending) >= length:
            yield pending[:length]
            pending = pending[step:]
            num_new = min(num_new, max(0, len(pending) - (length - step)))
    if num_new:
        yield np.pad(pending, (0, length - len(pending)))
