"""Audio files to mono float samples and back.

Decodes what libsndfile knows (WAV, FLAC, MP3, OGG, AIFF) block by block, mixes
down and resamples, so that a recording of any length can be streamed in bounded
memory; a whole file is the same blocks joined. Every file that cannot be used
in full (missing, empty, another format, cut short, damaged, not a number) is an
`AudioError` of one line with the remedy, never a shorter or wrong signal. (One
exception: an MP3 file that does not state its length cannot be seen to be cut short.)
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import soundfile
import soxr

from mt3 import files

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
_UNKNOWN_SAMPLES = 2**63 - 1  # libsndfile's word for "until it ends"
_UNRECOGNISED = 1  # libsndfile's error code for a format that it does not know
# Headers written before the length was known (ffmpeg, sox into a pipe) declare about this many bytes or more.
_UNKNOWN_LENGTH_BYTES = 0x7FFF0000
# What libsndfile's log says of a file that ends before its header says.
_CUT_SHORT = re.compile(r"\b(?:data|SSND) : (\d+) \(should be (\d+)\)")

_CUT_SHORT_REMEDY = "fetch it again, or save what is left: ffmpeg -i FILE out.wav"


class OpenableFile(Protocol):
    """A file that has no path of its own, such as a member of an archive; `str()` names it."""

    @property
    def size(self) -> int: ...

    def open(self) -> BinaryIO: ...


AudioSource = str | os.PathLike[str] | bytes | OpenableFile


class AudioError(ValueError):
    """Audio that cannot be used; the message names the file and the remedy."""


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
    with _open(source) as file:
        num_samples = file.frames
        if num_samples == _UNKNOWN_SAMPLES:
            num_samples = sum(len(block) for block in _decode(file, _name(source), 1 << 18))
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
      AudioError: when the file is missing, empty, no audio, cut short, damaged,
        without samples, or has samples that are not finite.
    """
    samples = np.concatenate([np.zeros(0, np.float32), *stream_audio(source, sample_rate)])
    if not len(samples):
        raise AudioError(f"{_name(source)} is shorter than a sample at {sample_rate} Hz; record it again.")
    return samples


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
    file = _open(source)
    decoded = _decode(file, _name(source), round(block_seconds * file.samplerate) or 1)
    return _rebuffer(_resample_stream(decoded, file.samplerate, sample_rate), block_samples)


def resample(samples: np.ndarray, from_rate: float, to_rate: float) -> np.ndarray:
    """float32 [samples] or [samples, channels] at another sample rate."""
    samples = np.asarray(samples, np.float32)
    return samples if from_rate == to_rate else soxr.resample(samples, from_rate, to_rate, _QUALITY)


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


def _name(source: AudioSource) -> str:
    return f"audio of {len(source)} bytes" if isinstance(source, bytes) else str(source)


def _open(source: AudioSource) -> soundfile.SoundFile:
    """The opened file, or an AudioError that says what is wrong with it."""
    name = _name(source)
    handle: Any
    if isinstance(source, bytes):
        size, handle = len(source), io.BytesIO(source)
    elif not isinstance(source, str | os.PathLike):
        size, handle = source.size, _Uncomplaining(source.open())
    else:
        path = Path(source)
        if not path.exists():
            raise AudioError(f"{name} does not exist; check the path.")
        if path.is_dir():
            raise AudioError(f"{name} is a folder; name the audio files in it.")
        size, handle = path.stat().st_size, path
    if size == 0:
        raise AudioError(f"{name} is an empty file; fetch or export it again.")
    try:
        file = soundfile.SoundFile(handle)
    except soundfile.LibsndfileError as error:
        if error.code == _UNRECOGNISED:
            output = f"{Path(source).stem}.wav" if isinstance(source, str | os.PathLike) else "out.wav"
            raise AudioError(
                f"{name} is no WAV, FLAC, MP3 or OGG file; convert it, for example: ffmpeg -i FILE {output}"
            ) from error
        raise _damaged(name, error) from error
    problem = _header_problem(file, source)
    if problem:
        file.close()
        raise AudioError(f"{name} {problem}")
    if file.format == "MP3" and not _mp3_states_length(source):
        file.close()
        return _open_pipe(source)
    return file


def _damaged(name: str, error: Exception) -> AudioError:
    reason = str(error).rsplit(": ", 1)[-1].rstrip(".")
    return AudioError(f"{name} is damaged or cut short ({reason}); {_CUT_SHORT_REMEDY}")


def _header_problem(file: soundfile.SoundFile, source: AudioSource) -> str | None:
    """What is wrong with an opened file, in words to put after its name."""
    for declared, present in _CUT_SHORT.findall(file.extra_info):
        if int(present) < int(declared) < _UNKNOWN_LENGTH_BYTES:
            return f"is cut short: {present} of {declared} bytes of samples; {_CUT_SHORT_REMEDY}"
    if file.format == "OGG" and not _ogg_ends(source):
        return f"is cut short: its last page is missing; {_CUT_SHORT_REMEDY}"
    if file.frames == 0:
        return "holds no samples; record or export it again."
    return None


def _ogg_ends(source: AudioSource) -> bool:
    """Whether an Ogg file's last page is marked as the last (RFC 3533: bit 2 of its sixth byte)."""
    longest_page = 65307
    with _binary(source) as file:
        file.seek(max(0, file.seek(0, io.SEEK_END) - longest_page))
        tail = file.read()
    at = tail.rfind(b"OggS")
    return at >= 0 and len(tail) > at + 5 and bool(tail[at + 5] & 4)


def _mp3_states_length(source: AudioSource) -> bool:
    """Whether the first MPEG frame is a Xing or VBRI header, which counts the frames."""
    with _binary(source) as file:
        head = file.read(10)
        if head[:3] == b"ID3":  # an ID3v2 tag comes first; its size has seven bits a byte
            file.seek(10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)))
        head = file.read(8192)
    return any(tag in head for tag in (b"Xing", b"Info", b"VBRI"))


def _open_pipe(source: AudioSource) -> soundfile.SoundFile:
    """The file through a pipe, so that libsndfile reads to its end.

    Of a file that it can seek in and that states no length, libsndfile
    estimates one from the first frame's bit rate and stops there, which can be
    after a quarter of a file of variable bit rate.
    """
    read_end, write_end = os.pipe()

    def feed() -> None:
        # The reader may stop early.
        with (
            contextlib.suppress(BrokenPipeError),
            os.fdopen(write_end, "wb") as pipe,
            _binary(source) as file,
        ):
            while block := file.read(1 << 16):
                pipe.write(block)

    threading.Thread(target=feed, daemon=True).start()
    return soundfile.SoundFile(read_end, closefd=True)


def _binary(source: AudioSource) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return Path(source).open("rb") if isinstance(source, str | os.PathLike) else source.open()


class _Uncomplaining:
    """A file whose damaged part ends it: libsndfile reports that, and cannot pass on exceptions."""

    def __init__(self, file: BinaryIO) -> None:
        self.seek, self.tell, self._file = file.seek, file.tell, file

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError:
            return b""


def _decode(file: soundfile.SoundFile, name: str, block_samples: int) -> Iterator[np.ndarray]:
    """The samples, mixed down: float32 [up to block_samples] each. Closes the file."""
    done = 0
    with file:
        while done < file.frames:
            expected = min(block_samples, file.frames - done)
            try:
                block = file.read(expected, dtype="float32", always_2d=True)
            except soundfile.SoundFileError as error:
                raise _damaged(name, error) from error
            if len(block) < expected and file.frames != _UNKNOWN_SAMPLES:
                # At the end of a file cut short, and at a damaged part of an Ogg file.
                raise AudioError(
                    f"{name} is damaged or cut short {(done + len(block)) / file.samplerate:.1f} s into its "
                    f"{file.frames / file.samplerate:.1f} s; {_CUT_SHORT_REMEDY}"
                )
            mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1)
            _check_finite(mono, name, done, file.samplerate)
            done += len(block)
            yield mono
            if len(block) < expected:
                break


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
    pending = np.zeros(0, np.float32)
    for block in blocks:
        pending = np.concatenate([pending, block])
        while len(pending) >= block_samples:
            yield pending[:block_samples]
            pending = pending[block_samples:]
    if len(pending):
        yield pending


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
    finite = np.isfinite(samples)
    if finite.all():
        return
    row = int(np.argwhere(~finite)[0][0])
    index = first_sample + row
    when = f" (at {index / sample_rate:.3f} s)" if sample_rate else ""
    value = samples[row][~finite[row]][0] if samples.ndim > 1 else samples[row]
    raise AudioError(f"{name}: sample {index}{when} is {value}; export it again, or set such samples to 0.")
