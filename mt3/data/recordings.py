"""The `Recording` type: what every dataset source yields and every consumer reads.

A recording is its notes, already in memory, and a reference to its audio, which
is decoded (or rendered) only when `load_audio` is called: lists of recordings
are cheap. Everything specific to one dataset ends in the source that makes them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import numpy as np

from mt3.audio import io
from mt3.audio.block_encoding import encode_blocks
from mt3.symbolic.notes import Notes

# How records keep audio: FLAC is exact for 16-bit samples at about half the size.
AUDIO_FORMATS = ("flac", "pcm16")


class Audio(Protocol):
    """A reference to audio."""

    def load(self, sample_rate: int) -> np.ndarray:
        """Mono float32 [samples] in [-1, 1] at `sample_rate`."""
        ...


@dataclasses.dataclass(frozen=True)
class AudioFile:
    """Audio in a file of any format that `mt3.audio.io` decodes.

    Attributes:
      source: its path, or a member of an archive.
    """

    source: io.AudioSource

    def load(self, sample_rate: int) -> np.ndarray:
        return io.load_audio(self.source, sample_rate)

    def stream(self, sample_rate: int) -> Iterator[np.ndarray]:
        """The same in blocks, in bounded memory."""
        return io.stream_audio(self.source, sample_rate)


@dataclasses.dataclass(frozen=True, eq=False)
class SampledAudio:
    """Mono samples, float32 [samples] in [-1, 1]."""

    samples: np.ndarray
    sample_rate: int

    def load(self, sample_rate: int) -> np.ndarray:
        if sample_rate == self.sample_rate:
            return self.samples
        return io.resample(self.samples, self.sample_rate, sample_rate)


@dataclasses.dataclass(frozen=True)
class EncodedAudio:
    """Mono 16-bit audio as bytes.

    Attributes:
      data: a FLAC file, or little-endian 16-bit samples.
      format: one of `AUDIO_FORMATS`.
      sample_rate: in Hz.
      num_samples: length, known without decoding.
    """

    data: bytes = dataclasses.field(repr=False)
    format: str
    sample_rate: int
    num_samples: int

    def __post_init__(self) -> None:
        if self.format not in AUDIO_FORMATS:
            raise ValueError(f"Audio format {self.format!r} is unknown; choose one of {AUDIO_FORMATS}.")

    @classmethod
    def encode(cls, samples: np.ndarray, sample_rate: int, audio_format: str = "flac") -> EncodedAudio:
        """Of float32 [samples] in [-1, 1], rounded to 16 bits."""
        encoded = (
            io.encode_pcm16(samples) if audio_format == "pcm16" else io.encode_flac(samples, sample_rate)
        )
        return cls(encoded, audio_format, sample_rate, len(samples))

    @classmethod
    def of(cls, audio: Audio, sample_rate: int, audio_format: str = "flac") -> EncodedAudio:
        """Of any audio; of an `AudioFile` block by block, so that memory holds the encoding alone."""
        if isinstance(audio, EncodedAudio):
            return audio
        if isinstance(audio, AudioFile):
            encoded, num_samples = encode_blocks(audio.stream(sample_rate), sample_rate, audio_format)
            return cls(encoded, audio_format, sample_rate, num_samples)
        return cls.encode(audio.load(sample_rate), sample_rate, audio_format)

    def load(self, sample_rate: int) -> np.ndarray:
        if self.format == "flac":
            return io.load_audio(self.data, sample_rate)
        return SampledAudio(io.decode_pcm16(self.data), self.sample_rate).load(sample_rate)


@dataclasses.dataclass(frozen=True)
class DeferredAudio:
    """Audio that is made when it is asked for, each time anew.

    Attributes:
      make: returns the samples; must give the same each time.
    """

    make: Callable[[], SampledAudio]

    def load(self, sample_rate: int) -> np.ndarray:
        return self.make().load(sample_rate)


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """Audio with its notes.

    Attributes:
      id: unique within the dataset.
      notes: what sounds, times from the start of the audio.
      audio: a reference; see `load_audio`.
      dataset: name of the dataset.
      split: "train", "validation" or "test".
      licence: of audio and labels, in words; empty when unknown.
      extra: the dataset's own fields, plain values that JSON can hold.
    """

    id: str
    notes: Notes
    audio: Audio
    dataset: str = ""
    split: str = ""
    licence: str = ""
    extra: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    def load_audio(self, sample_rate: int = 16000) -> np.ndarray:
        """Mono float32 [samples] in [-1, 1] at `sample_rate`, decoded now."""
        return self.audio.load(sample_rate)
