"""Notes to MIDI files that any player and any reader understands.

A track per instrument, named by General MIDI, each on its own channel, drums on
channel 10. Reading such a file gives the same notes, to half a tick (0.25 ms).
Times are beats of 120 per minute where the music's own beat is not known; with a
`BeatGrid`, beats and measures are the music's, and a map of tempi gives each note the
time that it had.
"""

from __future__ import annotations

import dataclasses
import io
import os
from pathlib import Path
from typing import BinaryIO

import mido
import numpy as np

from mt3 import files
from mt3.symbolic.beats import BeatGrid
from mt3.symbolic.general_midi import program_name
from mt3.symbolic.midi_reading import DRUM_CHANNEL
from mt3.symbolic.notes import Notes
from mt3.symbolic.vocabularies import DEFAULT_VELOCITY

# With the tempo 2000 ticks a second, of which 10 ms steps and 8 ms frames are whole multiples.
TICKS_PER_BEAT = 1000
TEMPO_MICROSECONDS = 500_000
TICKS_PER_SECOND = TICKS_PER_BEAT * 1_000_000 // TEMPO_MICROSECONDS

_MELODIC_CHANNELS = tuple(channel for channel in range(16) if channel != DRUM_CHANNEL)


def write_midi(
    notes: Notes, target: str | os.PathLike[str] | BinaryIO, *, beats: BeatGrid | None = None
) -> None:
    """Writes notes as a MIDI file of type 1; a path is replaced in one step, or not at all.

    Notes last at least a tick; velocity 0 (unknown) is written as 100. Notes of
    one instrument that overlap on one pitch go to tracks of their own. More than
    15 pitched programs share channels: there every note is preceded by a change
    to its program.

    Args:
      notes: any, starting at 0 or later.
      target: a path, or a binary file object.
      beats: the music's beats; None for none.

    Raises:
      ValueError: for notes that MIDI cannot express: before 0 s, not finite, or out of 0..127.
      OSError: where the path cannot be written.
    """
    content = io.BytesIO()
    _midi_file(notes, beats).save(file=content)
    if not isinstance(target, str | os.PathLike):
        target.write(content.getvalue())
        return
    files.write_bytes(Path(target), content.getvalue())


def _midi_file(notes: Notes, beats: BeatGrid | None) -> mido.MidiFile:
    _check(notes)
    midi = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT, charset="utf-8")
    tempo_map = _STEADY if beats is None else _tempo_map(beats)
    midi.tracks.append(_tempo_track(tempo_map))
    notes = notes.sorted()
    # Drums have no program here: all of them are one instrument.
    notes = notes.replace(program=np.where(notes.is_drum, 0, notes.program))
    instruments = notes.instruments
    num_melodic = sum(not is_drum for _, is_drum in instruments)
    for index, (program, is_drum) in enumerate(instruments):
        own = notes[(notes.program == program) & (notes.is_drum == is_drum)]
        channel = DRUM_CHANNEL if is_drum else _MELODIC_CHANNELS[index % len(_MELODIC_CHANNELS)]
        is_shared = not is_drum and num_melodic > len(_MELODIC_CHANNELS)
        ticks = _ticks(own, tempo_map)
        lane = _lanes(ticks, own.pitch)
        for one in range(lane.max() + 1):
            here = lane == one
            midi.tracks.append(_track(own[here], ticks[here], program, channel, is_shared))
    return midi


def _check(notes: Notes) -> None:
    if len(notes) and not (np.isfinite(notes.offset_seconds).all() and notes.onset_seconds.min() >= 0):
        raise ValueError("MIDI needs finite times from 0 s on; crop the notes to start at 0.")
    for name in ("pitch", "velocity", "program"):
        values = getattr(notes, name)
        outside = (values < 0) | (values > 127)
        if outside.any():
            raise ValueError(f"{name} {values[outside][0]} is outside MIDI's 0..127.")


@dataclasses.dataclass(frozen=True, eq=False)
class _TempoMap:
    """Tempi, each from a beat of the file on.

    Attributes:
      tempo_microseconds: int64 [num_tempi], length of a beat.
      start_beat: int64 [num_tempi], from 0 on.
      signatures: (first beat, beats of a measure), from beat 0 on.
    """

    tempo_microseconds: np.ndarray
    start_beat: np.ndarray
    signatures: tuple[tuple[int, int], ...]

    @property
    def start_microseconds(self) -> np.ndarray:
        """int64 [num_tempi]"""
        return np.cumsum(np.append(0, np.diff(self.start_beat) * self.tempo_microseconds[:-1]))


_STEADY = _TempoMap(np.array([TEMPO_MICROSECONDS]), np.zeros(1, np.int64), ((0, 4),))
# A beat of MIDI is at most 2^24 - 1 microseconds long.
_LONGEST_BEAT_SECONDS = 16.0


def _tempo_map(beats: BeatGrid) -> _TempoMap:
    """The file begins at 0 s with a beat of its own, and then has a tempo for every beat.

    Raises:
      ValueError: for beats that are too far apart for MIDI.
    """
    seconds, first = beats.beat_seconds, beats.first_downbeat
    # What is before the first beat is filled with beats about as long, at least one of half the length.
    period = seconds[1] - seconds[0]
    skipped = int(np.searchsorted(seconds, period / 2))
    seconds = seconds[skipped:] if len(seconds) > skipped + 1 else period * np.arange(1, 3)
    num_lead = max(round(seconds[0] / period), 1)
    starts = np.concatenate([np.linspace(0, seconds[0], num_lead, endpoint=False), seconds])
    if np.diff(starts).max() > _LONGEST_BEAT_SECONDS:
        raise ValueError(
            f"A beat lasts {np.diff(starts).max():.1f} s; in MIDI {_LONGEST_BEAT_SECONDS} s at most: "
            "write without a tempo map."
        )
    # Each tempo is rounded so that errors do not add up.
    tempo = np.diff(np.rint(starts * 1e6).astype(np.int64))
    changes = np.append(True, np.diff(tempo) != 0)
    per_measure = beats.beats_per_measure
    pickup = (first - skipped + num_lead) % per_measure
    signatures = ((0, pickup), (pickup, per_measure)) if pickup else ((0, per_measure),)
    return _TempoMap(tempo[changes], np.flatnonzero(changes), signatures)


def _tempo_track(tempo_map: _TempoMap) -> mido.MidiTrack:
    messages = [
        (beat, mido.MetaMessage("time_signature", numerator=numerator, denominator=4))
        for beat, numerator in tempo_map.signatures
    ]
    messages += [
        (beat, mido.MetaMessage("set_tempo", tempo=tempo))
        for beat, tempo in zip(
            tempo_map.start_beat.tolist(), tempo_map.tempo_microseconds.tolist(), strict=True
        )
    ]
    track, now = mido.MidiTrack(), 0
    for beat, message in sorted(messages, key=lambda one: one[0]):
        track.append(message.copy(time=(beat - now) * TICKS_PER_BEAT))
        now = beat
    track.append(mido.MetaMessage("end_of_track"))
    return track


def _ticks(notes: Notes, tempo_map: _TempoMap) -> np.ndarray:
    """int64 [num_notes, 2], onset and offset; at least a tick apart."""
    microseconds = np.stack([notes.onset_seconds, notes.offset_seconds], 1) * 1e6
    start = tempo_map.start_microseconds
    part = np.searchsorted(start, microseconds, side="right") - 1
    within = (microseconds - start[part]) / tempo_map.tempo_microseconds[part]
    ticks = np.rint((tempo_map.start_beat[part] + within) * TICKS_PER_BEAT).astype(np.int64)
    ticks[:, 1] = np.maximum(ticks[:, 1], ticks[:, 0] + 1)
    return ticks


def _lanes(ticks: np.ndarray, pitch: np.ndarray) -> np.ndarray:
    """int64 [num_notes], tracks on which no two notes of a pitch overlap, as few as can be.

    Notes are in order of onset; in a lane a note-off would end all notes of its key.
    """
    ends: dict[int, list[int]] = {}
    lanes = []
    for (onset, offset), key in zip(ticks.tolist(), pitch.tolist(), strict=True):
        busy_until = ends.setdefault(key, [])
        lane = next((index for index, end in enumerate(busy_until) if end <= onset), len(busy_until))
        busy_until[lane : lane + 1] = [offset]
        lanes.append(lane)
    return np.array(lanes, np.int64)


def _track(notes: Notes, ticks: np.ndarray, program: int, channel: int, is_shared: bool) -> mido.MidiTrack:
    is_drum = channel == DRUM_CHANNEL
    track = mido.MidiTrack([mido.MetaMessage("track_name", name=program_name(program, is_drum))])
    change = mido.Message("program_change", program=program, channel=channel)
    if not is_shared:
        track.append(change)
    velocity = np.where(notes.velocity > 0, notes.velocity, DEFAULT_VELOCITY)
    # Offsets (velocity 0) come before onsets at the same tick.
    events = [
        (tick, 0, pitch) for tick, pitch in zip(ticks[:, 1].tolist(), notes.pitch.tolist(), strict=True)
    ]
    events += zip(ticks[:, 0].tolist(), velocity.tolist(), notes.pitch.tolist(), strict=True)
    now = 0
    for tick, loudness, pitch in sorted(events):
        if is_shared and loudness:
            track.append(change.copy(time=tick - now))
            now = tick
        kind = "note_on" if loudness else "note_off"
        message = mido.Message(kind, note=pitch, velocity=loudness, channel=channel, time=tick - now)
        track.append(message)
        now = tick
    track.append(mido.MetaMessage("end_of_track"))
    return track
