"""midirenderer as a backend of `mt3.audio.synthesis`.

The wheel turns a SoundFont's and a MIDI file's bytes into a 48 kHz stereo WAV
file, with limits that are measured and met here:
  * 64 voices at most, the quietest dropped beyond that; a layered string
    program spends eight voices a note. A performance is therefore split into
    parts of at most eight sounding notes, which are rendered alone and summed.
  * 15 pitched channels and one for drums: a part has no more instruments.
  * 16-bit samples that clip: a part that does is rendered again, softer.
  * reverb and chorus always on: the sends of all channels and of the
    SoundFont's instruments are set to zero.
  * 2.13 times as loud as FluidSynth at its default gain (median over the
    General MIDI programs of TimGM6mb; 80 % of them within 2.03 to 2.28).
"""

from __future__ import annotations

import heapq
import importlib
import io
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import soundfile
import soxr

from mt3.audio import soundfonts

if TYPE_CHECKING:
    from mt3.audio.synthesis import Performance

_SAMPLE_RATE = 48000
_LOUDNESS = 2.13  # of this synthesizer, relative to FluidSynth
_NOTES_PER_PART = 8
_RELEASE_SECONDS = 0.3  # a note is counted as sounding for this much longer
_PITCHED_CHANNELS = (*range(9), *range(10, 16))
_DRUM_CHANNEL = 9
# MIDI channel volumes to try until nothing clips; amplitude goes with (volume / 100) ** 2.
_CHANNEL_VOLUMES = (100, 50, 25, 12)
_TICKS_PER_SECOND = 24000
_VOLUME, _REVERB_SEND, _CHORUS_SEND = 7, 91, 93  # MIDI controllers


def check() -> str | None:
    """None where midirenderer can be used, else why not and the remedy."""
    try:
        importlib.import_module("midirenderer")
    except ImportError as error:
        return f"midirenderer cannot be used ({error}); `pip install midirenderer`."
    return None


class Backend:
    """midirenderer with one SoundFont."""

    def __init__(self, soundfont: Path):
        self._module: Any = importlib.import_module("midirenderer")
        self._path = soundfont
        self._soundfont = soundfonts.dry_soundfont_bytes(soundfont)

    def play(self, performance: Performance, num_samples: int, sample_rate: int) -> np.ndarray:
        """float32 [num_samples], mono."""
        end_seconds = num_samples / sample_rate
        total = np.zeros(round(end_seconds * _SAMPLE_RATE), np.float32)
        for rows in _parts(performance):
            part = self._render(performance, rows, end_seconds)
            total[: len(part)] += part[: len(total)]
        samples = soxr.resample(total / _LOUDNESS, _SAMPLE_RATE, sample_rate, "HQ")
        return np.pad(samples, (0, max(0, num_samples - len(samples))))[:num_samples].astype(np.float32)

    def _render(self, performance: Performance, rows: np.ndarray, end_seconds: float) -> np.ndarray:
        """One part, float32 mono at 48 kHz, not clipped."""
        for volume in _CHANNEL_VOLUMES:
            midi = _midi_file(performance, rows, volume, end_seconds)
            try:
                wave = self._module.render_wave_from(self._soundfont, midi)
            except (ValueError, RuntimeError) as error:
                raise soundfonts.SoundFontError(
                    f"midirenderer cannot play SoundFont {self._path} ({error}); use another file."
                ) from error
            samples, _ = soundfile.read(io.BytesIO(wave), dtype="int16", always_2d=True)
            if not samples.size or -32767 <= samples.min() <= samples.max() < 32767:
                break
        return samples.mean(axis=1, dtype=np.float32) * np.float32((100 / volume) ** 2 / 32768)


def _parts(performance: Performance) -> Iterator[np.ndarray]:
    """The rows of each part: few sounding notes, few instruments, all drums together.

    Drums stay together because notes of a kit may choke one another (hi-hats).
    """
    is_drum = np.array([bank == soundfonts.PERCUSSION_BANK for bank, _ in performance.instruments])
    pitched = np.flatnonzero(~is_drum[performance.channel])
    drums = np.flatnonzero(is_drum[performance.channel])
    if len(drums):
        yield drums
    layer = _voice_slots(performance, pitched) // _NOTES_PER_PART
    group = performance.channel[pitched] // len(_PITCHED_CHANNELS)
    for key in np.unique(np.stack([layer, group], axis=1), axis=0):
        yield pitched[(layer == key[0]) & (group == key[1])]


def _voice_slots(performance: Performance, rows: np.ndarray) -> np.ndarray:
    """int [rows]: for each note the lowest number that no note still sounding has."""
    onset = performance.onset_seconds[rows].tolist()
    end = (performance.offset_seconds[rows] + _RELEASE_SECONDS).tolist()
    sounding: list[tuple[float, int]] = []  # (end, slot), the earliest end first
    free: list[int] = []
    slots = np.zeros(len(rows), np.int64)
    for index in range(len(rows)):  # rows are ordered by onset
        while sounding and sounding[0][0] <= onset[index]:
            heapq.heappush(free, heapq.heappop(sounding)[1])
        slot = heapq.heappop(free) if free else len(sounding)
        heapq.heappush(sounding, (end[index], slot))
        slots[index] = slot
    return slots


def _midi_file(performance: Performance, rows: np.ndarray, volume: int, end_seconds: float) -> bytes:
    """A MIDI file (format 0) of some rows, with effects off and the channels' volume set.

    Not `mt3.symbolic.conversions.write_midi`: that writes notes for other
    programs to read, this a performance with controllers.
    """
    present = sorted(set(performance.channel[rows].tolist()))
    pitched = iter(_PITCHED_CHANNELS)
    midi_channel = np.zeros(len(performance.instruments), np.int64)
    messages: list[tuple[int, bytes]] = [(0, b"\xff\x51\x03" + (1_000_000).to_bytes(3, "big"))]
    for channel in present:
        bank, program = performance.instruments[channel]
        number = _DRUM_CHANNEL if bank == soundfonts.PERCUSSION_BANK else next(pitched)
        midi_channel[channel] = number
        messages.append((0, bytes([0xC0 | number, program])))
        for controller, value in ((_VOLUME, volume), (_REVERB_SEND, 0), (_CHORUS_SEND, 0)):
            messages.append((0, bytes([0xB0 | number, controller, value])))
    messages += _note_messages(performance, rows, midi_channel)
    messages.append((max(round(end_seconds * _TICKS_PER_SECOND), messages[-1][0]), b"\xff\x2f\x00"))
    track = bytearray()
    now = 0
    for tick, message in messages:
        track += _variable_length(tick - now) + message
        now = tick
    header = b"MThd" + struct.pack(">IHHH", 6, 0, 1, _TICKS_PER_SECOND)
    return header + b"MTrk" + struct.pack(">I", len(track)) + bytes(track)


def _note_messages(
    performance: Performance, rows: np.ndarray, midi_channel: np.ndarray
) -> list[tuple[int, bytes]]:
    """(tick, note-on or note-off message), in time; note-offs come first."""
    start = np.rint(performance.onset_seconds[rows] * _TICKS_PER_SECOND).astype(np.int64)
    end = np.rint(performance.offset_seconds[rows] * _TICKS_PER_SECOND).astype(np.int64)
    tick = np.concatenate([end, start])
    velocity = np.concatenate([np.zeros(len(rows), np.int64), performance.velocity[rows]])
    status = np.where(velocity > 0, 0x90, 0x80) | np.tile(midi_channel[performance.channel[rows]], 2)
    message = np.stack([status, np.tile(performance.key[rows], 2), velocity], axis=1).astype(np.uint8)
    order = np.lexsort((velocity > 0, tick))
    return [(t, m.tobytes()) for t, m in zip(tick[order].tolist(), message[order], strict=True)]


def _variable_length(number: int) -> bytes:
    """MIDI's variable-length quantity: seven bits a byte, the highest first."""
    digits = [number & 0x7F]
    while number := number >> 7:
        digits.append(0x80 | (number & 0x7F))
    return bytes(reversed(digits))
