"""Notes as sound: rendered with a SoundFont, alone or on the right of the recording.

Rendered and written in stretches of a minute: memory does not grow with the length.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mt3.inference.formats.documents import NoteDocument
from mt3.symbolic.notes import Notes

_STRETCH_SECONDS = 60.0
_RELEASE_SECONDS = 2.0  # what is rendered after a note
_LONGEST_NOTE_SECONDS = 60.0  # longer ones end there; what rings in a SoundFont for so long is rare
_PEAK = 0.89  # of full scale: -1 dB
_MAX_WAV_BYTES = 2**32 - 2**16  # sizes in a WAV file have 32 bits


def write_rendering(document: NoteDocument, path: Path) -> None:
    """Writes the notes as a mono WAV file of 16 bits, as long as the recording, the peak at -1 dB.

    Raises:
      SynthesisError, SoundFontError: where the notes cannot be rendered.
    """
    with tempfile.TemporaryFile() as file:
        num_samples, peak = _keep(file, _rendered(document))
        scale = _PEAK / max(peak, 1e-6)
        _write_wav(path, (block[:, None] * scale for block in _kept(file)), 1, document, num_samples)


def write_comparison(document: NoteDocument, path: Path) -> None:
    """Writes a stereo WAV file: the recording on the left, the notes on the right, about equally loud.

    Raises:
      AudioError: where the recording cannot be read.
      SynthesisError, SoundFontError: where the notes cannot be rendered.
    """
    from mt3.audio.io import stream_audio

    if document.audio is None:
        raise ValueError("A comparison needs the recording; name the audio file.")
    rate = document.options.sample_rate
    with tempfile.TemporaryFile() as left, tempfile.TemporaryFile() as right:
        peaks, powers, lengths = [], [], []
        for file, blocks in (
            (left, stream_audio(document.audio, rate, _STRETCH_SECONDS)),
            (right, _rendered(document)),
        ):
            total = _Power()
            length, peak = _keep(file, total.counted(blocks))
            peaks.append(peak)
            powers.append(total.power)
            lengths.append(length)
        # Equal power, as far as neither side is clipped by it.
        scale = np.array([1.0, np.sqrt(powers[0] / powers[1]) if min(powers) > 0 else 1.0])
        scale *= _PEAK / max(float((scale * peaks).max()), 1e-6)
        num_samples = max(lengths)
        pairs = zip(_padded(left, num_samples), _padded(right, num_samples), strict=True)
        _write_wav(path, (np.stack(pair, 1) * scale for pair in pairs), 2, document, num_samples)


class _Power:
    """The mean square of blocks that pass by."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0

    @property
    def power(self) -> float:
        return self._sum / max(self._count, 1)

    def counted(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self._sum += float(np.square(block, dtype=np.float64).sum())
            self._count += len(block)
            yield block


def _rendered(document: NoteDocument) -> Iterator[np.ndarray]:
    """The notes' sound, float32 blocks of a minute, up to the end of the recording.

    What begins in a stretch is rendered as a whole; what rings beyond its end is added to the next.
    """
    from mt3.audio.synthesis import SHORTEST_NOTE_SECONDS, make_synthesizer

    options = document.options
    synthesizer = make_synthesizer(options.soundfont, options.sample_rate)
    notes = _separated(document.notes, SHORTEST_NOTE_SECONDS)
    end = document.end_seconds if document.duration_seconds else document.end_seconds + _RELEASE_SECONDS
    total = max(round(end * options.sample_rate), 1)
    length = round(_STRETCH_SECONDS * options.sample_rate)
    stretch = np.floor(notes.onset_seconds / _STRETCH_SECONDS)
    ringing = np.zeros(0, np.float32)
    for number in range(-(-total // length)):
        own = notes[stretch == number].shift(-number * _STRETCH_SECONDS)
        sound = np.zeros(0, np.float32)
        if len(own):
            sound = synthesizer.render(own, duration_seconds=own.end_seconds + _RELEASE_SECONDS)
        mixed = np.zeros(max(len(sound), len(ringing), length), np.float32)
        mixed[: len(sound)] += sound
        mixed[: len(ringing)] += ringing
        ringing = mixed[length:]
        yield mixed[: min(length, total - number * length)]


def _separated(notes: Notes, shortest_seconds: float) -> Notes:
    """Sorted notes from 0 s on of which none sounds on past the next of its key and instrument."""
    notes = notes[notes.offset_seconds >= 0].sorted()
    onset = np.maximum(notes.onset_seconds, 0.0)
    offset = np.clip(notes.offset_seconds, onset + shortest_seconds, onset + _LONGEST_NOTE_SECONDS)
    order = np.lexsort((onset, notes.pitch, notes.program, notes.is_drum))
    earlier, later = order[:-1], order[1:]
    same = np.ones(len(earlier), bool)
    for column in (notes.pitch, notes.program, notes.is_drum):
        same &= column[earlier] == column[later]
    earlier, later = earlier[same], later[same]
    offset[earlier] = np.minimum(offset[earlier], np.maximum(onset[later], onset[earlier] + shortest_seconds))
    return notes.replace(onset_seconds=onset, offset_seconds=offset)


def _keep(file: Any, blocks: Iterable[np.ndarray]) -> tuple[int, float]:
    """Puts blocks into a file; how many samples they are, and the highest."""
    num_samples, peak = 0, 0.0
    for block in blocks:
        file.write(block.astype("<f4").tobytes())
        num_samples += len(block)
        peak = max(peak, float(np.abs(block).max(initial=0.0)))
    return num_samples, peak


_BLOCK_SAMPLES = 1 << 18


def _kept(file: Any) -> Iterator[np.ndarray]:
    """The samples again."""
    file.seek(0)
    while content := file.read(4 * _BLOCK_SAMPLES):
        yield np.frombuffer(content, "<f4")


def _padded(file: Any, num_samples: int) -> Iterator[np.ndarray]:
    """The samples again, with silence up to a length, all blocks but the last of one size."""
    file.seek(0)
    for first in range(0, num_samples, _BLOCK_SAMPLES):
        size = min(_BLOCK_SAMPLES, num_samples - first)
        block = np.frombuffer(file.read(4 * size), "<f4")
        yield np.pad(block, (0, size - len(block)))


def _write_wav(
    path: Path, blocks: Iterable[np.ndarray], channels: int, document: NoteDocument, num_samples: int
) -> None:
    """Writes blocks [samples, channels]; what a WAV file is too small for becomes RF64."""
    import soundfile

    from mt3.audio.io import to_integers

    rate = document.options.sample_rate
    container = "WAV" if 2 * channels * num_samples < _MAX_WAV_BYTES else "RF64"
    with soundfile.SoundFile(path, "w", rate, channels, "PCM_16", format=container) as file:
        for block in blocks:
            file.write(to_integers(block, 16))
