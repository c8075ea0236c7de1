"""Audio files to mono float samples and back.

Decodes what libsndfile knows (WAV, FLAC, MP3, OGG, AIFF) block by block, mixes
down and resamples, so that a recording of any length can be streamed in bounded
memory; a whole file is the same blocks joined. Every file that cannot be used
in full (missing, empty, another format, cut short, damaged, not a number, at a
rate that nothing is recorded at, a named pipe) is an `AudioError` of one line with
the remedy, never a shorter or wrong signal. (One exception: an MP3 file that does
not state its length cannot be seen to be cut short.) What a header claims costs no
memory: blocks are bounded whatever the rate and the number of channels.
"""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile
import soxr

from mt3 import files
from mt3.audio.opening import (
    CUT_SHORT_REMEDY,
    UNKNOWN_SAMPLES,
    AudioError,
    AudioSource,
    OpenableFile,
    check_sample_rate,
    damaged,
    open_audio,
    source_name,
)

__all__ = [
    "AudioError",
    "AudioInfo",
    "AudioSource",
    "OpenableFile",
    "audio_info",
    "decode_pcm16",
    "encode_flac",
    "encode_pcm16",
    "load_audio",
    "resample",
    "resample_blocks",
    "stream_audio",
    "to_integers",
    "write_audio",
]

_QUALITY = "HQ"  # soxr's: flat to 0.91 of the lower Nyquist frequency, aliases below 20-bit noise
_FULL_SCALE = 32768
# What write_audio makes of a suffix, and how samples of so many bits are stored.
_FORMATS = {".wav": "WAV", ".flac": "FLAC", ".ogg": "OGG", ".mp3": "MP3"}
_LOSSLESS_SUBTYPES = {
    ("WAV", 16): "PCM_16",
    ("WAV", 24): "PCM_24",
    ("WAV", 32): "FLOAT",
    ("FLAC", 16): "PCM_16",
    ("FLAC", 24): "PCM_24",
}
_WRITE_SAMPLES = 1 << 16  # at a time: libsndfile's Vorbis encoder overflows the stack on long ones
# Numbers of all channels that are decoded at a time: 16 MB.
_MAX_DECODED = 1 << 22
# Beyond, no scale of samples explains them (2**31 is the largest in use), and their powers overflow float32.
_MAX_MAGNITUDE = 1e10


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
      container: "WAV", "FLAC", "MP3", "OGG", ...
      encoding: "PCM_16", "VORBIS", ...
      sample_rate: Hz.
      channels: number of channels.
      num_samples: samples a channel.
    """

    container: str
    encoding: str
    sample_rate: int
    channels: int
    num_samples: int

    @property
    def duration_seconds(self) -> float:
        return self.num_samples / self.sample_rate


def audio_info(source: AudioSource) -> AudioInfo:
    """The header of an audio file, without decoding it (but for MP3 files that do not state their length).

    Raises:
      AudioError: as `load_audio`, as far as a header tells.
    """
    with open_audio(source) as file:
        num_samples = file.frames
        if num_samples == UNKNOWN_SAMPLES:
            num_samples = sum(len(block) for block in _decode(file, source_name(source), 1 << 18))
        return AudioInfo(
            container=file.format,
            encoding=file.subtype,
            sample_rate=file.samplerate,
            channels=file.channels,
            num_samples=num_samples,
        )


def load_audio(source: AudioSource, sample_rate: int = 16000) -> np.ndarray:
    """A whole recording.

    Args:
      source: a path, the bytes of an audio file, or an `OpenableFile`.
      sample_rate: of the result, Hz.

    Returns:
      float32 [samples], mono (the mean of the channels), full scale at -1 and 1,
      which resampled peaks can exceed a little.

    Raises:
      AudioError: when the file is missing, empty, no audio, no ordinary file, cut
        short, damaged, without samples, at a rate outside 1 kHz to 10 MHz, or has
        samples that are not finite or beyond 1e10.
    """
    return np.concatenate(list(stream_audio(source, sample_rate)))


def stream_audio(
    source: AudioSource, sample_rate: int = 16000, block_seconds: float = 10.0
) -> Iterator[np.ndarray]:
    """A recording block by block; joined, the blocks equal `load_audio`.

    Holds about one block in memory. A file that cannot be opened is reported at
    once; damage further in is reported when it is reached.

    Yields:
      float32 [round(block_seconds * sample_rate)], mono; the last may be shorter.

    Raises:
      AudioError: as `load_audio`.
    """
    if sample_rate < 1:
        raise ValueError(f"sample_rate is {sample_rate}; it must be at least 1 Hz.")
    block_samples = round(block_seconds * sample_rate)
    if block_samples < 1:
        raise ValueError(f"block_seconds is {block_seconds}; a block must hold at least one sample.")
    file = open_audio(source)
    most = max(1, _MAX_DECODED // file.channels)
    decoded = _decode(file, source_name(source), min(round(block_seconds * file.samplerate) or 1, most))
    resampled = _resample_stream(decoded, file.samplerate, sample_rate)
    return _not_empty(_rebuffer(resampled, block_samples), source_name(source), sample_rate)


def resample(samples: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """float32 [samples] or [samples, channels] at another sample rate.

    Raises:
      AudioError: for a rate outside `opening.MIN_SAMPLE_RATE`..`opening.MAX_SAMPLE_RATE`, except
        where both are the same.
    """
    samples = np.asarray(samples, np.float32)
    if from_rate == to_rate:
        return samples
    check_sample_rate("audio", from_rate)
    check_sample_rate("resampled audio", to_rate)
    return soxr.resample(samples, from_rate, to_rate, _QUALITY)


def resample_blocks(blocks: Iterable[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    """The same for a recording that comes in blocks, in memory for a few of them.

    Args:
      blocks: float [samples], mono, of any lengths.
      from_rate: of the blocks, Hz.
      to_rate: of the result, Hz.

    Returns:
      An iterator of float32 [samples] of other lengths; joined, they equal the resampled whole.

    Raises:
      AudioError: at once for a rate as in `resample`; when it is reached, for a sample that is
        not finite or a block that is not [samples].
    """
    if from_rate != to_rate:
        check_sample_rate("audio", from_rate)
        check_sample_rate("resampled audio", to_rate)
    return _resample_stream(_checked_blocks(blocks, from_rate), from_rate, to_rate)


def write_audio(
    path: str | os.PathLike[str], samples: np.ndarray, sample_rate: int, *, bits: int = 16
) -> None:
    """Writes an audio file; the suffix chooses the format. The file appears whole or not at all.

    Args:
      path: ends in .wav, .flac, .ogg or .mp3; its folder must exist.
      samples: float [samples] or [samples, channels]; beyond [-1, 1] they are
        clipped, except in 32-bit WAV files.
      sample_rate: Hz.
      bits: of WAV (16, 24, 32: float) and FLAC files (16, 24).

    Raises:
      AudioError: for another suffix, bits, no samples, or samples that are not finite.
    """
    path = Path(path)
    container = _FORMATS.get(path.suffix.lower())
    if container is None:
        raise AudioError(f"{path} has an unknown suffix; choose one of {', '.join(_FORMATS)}.")
    files.write_bytes(path, _encode(samples, sample_rate, container, bits, str(path)))


def encode_flac(samples: np.ndarray, sample_rate: int, *, bits: int = 16) -> bytes:
    """A FLAC file as bytes, clipped at full scale; `load_audio` reads it back within half a step.

    Raises:
      AudioError: for no samples, or samples that are not finite.
    """
    return _encode(samples, sample_rate, "FLAC", bits, "audio to encode as FLAC")


def encode_pcm16(samples: np.ndarray) -> bytes:
    """float [samples] -> 16-bit little-endian integers, clipped at full scale.

    Raises:
      AudioError: for samples that are not finite.
    """
    _check_finite(np.asarray(samples), "audio to encode as PCM", 0, None)
    return to_integers(samples, 16).astype("<i2").tobytes()


def decode_pcm16(content: bytes) -> np.ndarray:
    """The inverse of `encode_pcm16`: float32 [samples]."""
    return np.frombuffer(content, "<i2").astype(np.float32) / np.float32(_FULL_SCALE)


def _decode(file: soundfile.SoundFile, name: str, block_samples: int) -> Iterator[np.ndarray]:
    """The samples, mixed down: float32 [up to block_samples] each. Closes the file."""
    done = 0
    with file:
        while done < file.frames:
            expected = min(block_samples, file.frames - done)
            try:
                block = file.read(expected, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise damaged(name, error) from error
            if len(block) < expected and file.frames != UNKNOWN_SAMPLES:
                # At the end of a file cut short, and at a damaged part of an Ogg file.
                raise AudioError(
                    f"{name} is damaged or cut short {(done + len(block)) / file.samplerate:.1f} s into its "
                    f"{file.frames / file.samplerate:.1f} s; {CUT_SHORT_REMEDY}"
                )
            with np.errstate(over="ignore"):  # of absurd samples, which the check reports
                mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
            _check_finite(mono, name, done, file.samplerate)
            done += len(block)
            yield mono
            if len(block) < expected:
                break


def _checked_blocks(blocks: Iterable[np.ndarray], sample_rate: int) -> Iterator[np.ndarray]:
    done = 0
    for block in blocks:
        block = np.asarray(block, np.float32)
        if block.ndim != 1:
            raise AudioError(f"A block of audio has shape {block.shape}; it must be [samples], mono.")
        _check_finite(block, "audio", done, sample_rate)
        done += len(block)
        for start in range(0, len(block), _MAX_DECODED):
            yield block[start : start + _MAX_DECODED]


def _resample_stream(blocks: Iterator[np.ndarray], from_rate: int, to_rate: int) -> Iterator[np.ndarray]:
    if from_rate == to_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality=_QUALITY)
    for block in blocks:
        yield stream.resample_chunk(block)
    yield stream.resample_chunk(np.zeros(0, np.float32), last=True)


def _rebuffer(blocks: Iterator[np.ndarray], block_samples: int) -> Iterator[np.ndarray]:
    """The same samples in blocks of one length, but for the last."""
    parts: list[np.ndarray] = []
    num_samples = 0
    for block in blocks:
        parts.append(block)
        num_samples += len(block)
        if num_samples >= block_samples:
            joined = np.concatenate(parts)
            end = num_samples - num_samples % block_samples
            for start in range(0, end, block_samples):
                yield joined[start : start + block_samples]
            parts, num_samples = [joined[end:]], num_samples - end
    if num_samples:
        yield np.concatenate(parts)


def _not_empty(blocks: Iterator[np.ndarray], name: str, sample_rate: int) -> Iterator[np.ndarray]:
    first = next(blocks, None)
    if first is None:
        raise AudioError(f"{name} is shorter than a sample at {sample_rate} Hz; record it again.")
    yield first
    yield from blocks


def _encode(samples: np.ndarray, sample_rate: int, container: str, bits: int, name: str) -> bytes:
    samples = np.asarray(samples)
    if samples.ndim not in (1, 2) or not samples.size:
        raise AudioError(
            f"{name}: samples have shape {samples.shape}; they must be [samples] or [samples, channels], "
            "at least one."
        )
    _check_finite(samples, name, 0, sample_rate)
    subtype = None
    if any(container == lossless for lossless, _ in _LOSSLESS_SUBTYPES):
        subtype = _LOSSLESS_SUBTYPES.get((container, bits))
        if subtype is None:
            choices = [str(known) for lossless, known in _LOSSLESS_SUBTYPES if lossless == container]
            raise AudioError(f"{name}: {container} files have {' or '.join(choices)} bits here, not {bits}.")
    # libsndfile multiplies by 32767 and divides by 32768; integers of our own come back as they went.
    data = to_integers(samples, bits) if subtype in ("PCM_16", "PCM_24") else samples.astype(np.float32)
    content = io.BytesIO()
    channels = 1 if data.ndim == 1 else data.shape[1]
    try:
        with soundfile.SoundFile(content, "w", sample_rate, channels, subtype, format=container) as file:
            for start in range(0, len(data), _WRITE_SAMPLES):
                file.write(data[start : start + _WRITE_SAMPLES])
    except soundfile.LibsndfileError as error:
        raise AudioError(
            f"{name}: {container} cannot hold {channels} channels at {sample_rate} Hz; choose .wav or .flac."
        ) from error
    return content.getvalue()


def to_integers(samples: np.ndarray, bits: int) -> np.ndarray:
    """Samples rounded to `bits` bits and clipped; int16, or int32 with the value in the upper 24 bits."""
    scale = 2 ** (bits - 1)
    # float32 has 24 bits: enough for 16, and twice as fast as float64.
    samples = np.asarray(samples, np.float32 if bits == 16 else np.float64)
    integers = np.clip(np.rint(samples * samples.dtype.type(scale)), -scale, scale - 1)
    return integers.astype(np.int16) if bits == 16 else integers.astype(np.int32) * 2 ** (32 - bits)


def _check_finite(samples: np.ndarray, name: str, first_sample: int, sample_rate: int | None) -> None:
    finite = np.abs(samples) <= _MAX_MAGNITUDE  # not so for NaN
    if finite.all():
        return
    row = int(np.argwhere(~finite)[0][0])
    index = first_sample + row
    when = f" (at {index / sample_rate:.3f} s)" if sample_rate else ""
    value = samples[row][~finite[row]][0] if samples.ndim > 1 else samples[row]
    raise AudioError(f"{name}: sample {index}{when} is {value}; export it again, or set such samples to 0.")
