"""Mixes of the stems of a track, in blocks: what any number of mixes costs is each stem decoded once.

Stems that always sound together are a group. Groups are summed and resampled,
then added up for each mix and encoded as they come, so that memory holds a few
seconds of each stem and the encoded mixes, however long the track is. (Of a
compressed tar it also holds the stems' files, as they are in it.)
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Iterator, Sequence

import numpy as np
import soxr

from mt3.audio.block_encoding import BlockEncoder
from mt3.audio.io import AudioSource, audio_info, stream_audio
from mt3.data.file_tree import ArchiveMember
from mt3.data.recordings import EncodedAudio

# The same as mt3.audio.io's, so that a mix of one stem is that stem.
_QUALITY = "HQ"


def mix_stems(
    groups: Sequence[Sequence[AudioSource]],
    mixes: Sequence[Sequence[int]],
    sample_rate: int = 16000,
    audio_format: str = "flac",
    *,
    block_seconds: float = 10.0,
) -> list[EncodedAudio]:
    """Encodes mixes of stems; all have the length of the longest stem of all groups.

    Stems of one sample rate are summed first and resampled then. If their rates
    differ, each stem is resampled by itself. Sums beyond full scale are clipped.

    Args:
      groups: audio of the stems of each group, mixed down to mono.
      mixes: for each mix, which groups it consists of.
      sample_rate: of the mixes, Hz.
      audio_format: one of `mt3.data.recordings.AUDIO_FORMATS`.
      block_seconds: how much of each stem is decoded at a time; the result does not depend on it.

    Returns:
      One encoded mix for each of `mixes`.

    Raises:
      AudioError: for a stem that cannot be used, by name.
      OSError: for a damaged archive.
    """
    held = [[_quickly_readable(stem) for stem in group] for group in groups]
    rates = {audio_info(stem).sample_rate for group in held for stem in group}
    from_rate = rates.pop() if len(rates) == 1 else sample_rate
    sums = _sum_groups(held, from_rate, block_seconds)
    # Resampling is linear: it is done before or after the mixing, whichever has fewer signals.
    if len(groups) <= len(mixes):
        mixed = _add_up(_resample(sums, len(groups), from_rate, sample_rate), mixes)
    else:
        mixed = _resample(_add_up(sums, mixes), len(mixes), from_rate, sample_rate)
    encoders = [BlockEncoder(sample_rate, audio_format) for _ in mixes]
    for blocks in mixed:
        for encoder, block in zip(encoders, blocks, strict=True):
            encoder.write(block)
    return [
        EncodedAudio(encoder.finish(), audio_format, sample_rate, encoder.num_samples) for encoder in encoders
    ]


@dataclasses.dataclass(frozen=True)
class _HeldFile:
    """A file in memory under its own name."""

    name: str
    content: bytes

    @property
    def size(self) -> int:
        return len(self.content)

    def open(self) -> io.BytesIO:
        return io.BytesIO(self.content)

    def __str__(self) -> str:
        return self.name


def _quickly_readable(stem: AudioSource) -> AudioSource:
    """The stem, or, of a compressed tar, its bytes.

    There each change from one stem to another can cost the decompression of megabytes.
    """
    if isinstance(stem, ArchiveMember) and stem.index:
        return _HeldFile(str(stem), stem.read_bytes())
    return stem


def _sum_groups(
    groups: Sequence[Sequence[AudioSource]], sample_rate: int, block_seconds: float
) -> Iterator[list[np.ndarray]]:
    """Blocks of all groups' sums side by side, each float32 [samples], until the longest stem ends."""
    streams = [[stream_audio(stem, sample_rate, block_seconds) for stem in group] for group in groups]
    while True:
        blocks = [[next(stream, None) for stream in group] for group in streams]
        num_samples = max((len(block) for group in blocks for block in group if block is not None), default=0)
        if not num_samples:
            return
        yield [_sum_padded(group, num_samples) for group in blocks]


def _sum_padded(blocks: Sequence[np.ndarray | None], num_samples: int) -> np.ndarray:
    """The sum of blocks that may have ended, as float32 [num_samples]."""
    present = [block for block in blocks if block is not None]
    if len(present) == 1 and len(present[0]) == num_samples:
        return present[0]
    total = np.zeros(num_samples, np.float32)
    for block in present:
        total[: len(block)] += block
    return total


def _add_up(blocks: Iterator[list[np.ndarray]], mixes: Sequence[Sequence[int]]) -> Iterator[list[np.ndarray]]:
    """Signals side by side -> mixes side by side. Always added in the order given, for equal last bits."""
    for signals in blocks:
        yield [functools.reduce(np.add, [signals[member] for member in mix]) for mix in mixes]


def _resample(
    blocks: Iterator[list[np.ndarray]], num_signals: int, from_rate: int, to_rate: int
) -> Iterator[list[np.ndarray]]:
    """The signals at another sample rate, a resampler each."""
    if from_rate == to_rate:
        yield from blocks
        return
    streams = [
        soxr.ResampleStream(from_rate, to_rate, 1, dtype="float32", quality=_QUALITY)
        for _ in range(num_signals)
    ]
    for signals in blocks:
        yield [stream.resample_chunk(block) for stream, block in zip(streams, signals, strict=True)]
    yield [stream.resample_chunk(np.zeros(0, np.float32), last=True) for stream in streams]
