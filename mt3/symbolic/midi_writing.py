"""Notes to MIDI files that any player and any reader understands.

A track per instrument, named by General MIDI, each on its own channel, drums on
channel 10. Reading such a file gives the same notes, to half a tick (0.25 ms).
Times are beats of 120 per minute: the music's own beat is not known.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import BinaryIO

import mido
import numpy as np

from mt3 import files
from mt3.symbolic.general_midi import program_name
from mt3.symbolic.midi_reading import DRUM_CHANNEL
from mt3.symbolic.notes import Notes
from mt3.symbolic.vocabularies import DEFAULT_VELOCITY

# With the tempo 2000 ticks a second, of which 10 ms steps and 8 ms frames are whole multiples.
TICKS_PER_BEAT = 1000
TEMPO_MICROSECONDS = 500_000
TICKS_PER_SECOND = TICKS_PER_BEAT * 1_000_000 // TEMPO_MICROSECONDS

_MELODIC_CHANNELS = tuple(channel for channel in range(16) if channel != DRUM_CHANNEL)


def write_midi(notes: Notes, target: str | os.PathLike[str] | BinaryIO) -> None:
    """Writes notes as a MIDI file of type 1; a path is replaced in one step, or not at all.

    Notes last at least a tick; velocity 0 (unknown) is written as 100. Notes of
    one instrument that overlap on one pitch go to tracks of their own. More than
    15 pitched programs share channels: there every note is preceded by a change
    to its program.

    Args:
      notes: any, starting at 0 or later.
      target: a path, or a binary file object.

    Raises:
      ValueError: for notes that MIDI cannot express: before 0 s, not finite, or out of 0..127.
      OSError: where the path cannot be written.
    """
    content = io.BytesIO()
    _midi_file(notes).save(file=content)
    if not isinstance(target, str | os.PathLike):
        target.write(content.getvalue())
        return
    files.write_bytes(Path(target), content.getvalue())


def _midi_file(notes: Notes) -> mido.MidiFile:
    _check(notes)
    midi = mido.MidiFile(type=1, ticks_per_beat=TICKS_PER_BEAT, charset="utf-8")
    midi.tracks.append(
        mido.MidiTrack(
            [
                mido.MetaMessage("set_tempo", tempo=TEMPO_MICROSECONDS),
                mido.MetaMessage("time_signature", numerator=4, denominator=4),
                mido.MetaMessage("end_of_track"),
            ]
        )
    )
    notes = notes.sorted()
    # Drums have no program here: all of them are one instrument.
    notes = notes.replace(program=np.where(notes.is_drum, 0, notes.program))
    instruments = notes.instruments
    num_melodic = sum(not is_drum for _, is_drum in instruments)
    for index, (program, is_drum) in enumerate(instruments):
        own = notes[(notes.program == program) & (notes.is_drum == is_drum)]
        channel = DRUM_CHANNEL if is_drum else _MELODIC_CHANNELS[index % len(_MELODIC_CHANNELS)]
        is_shared = not is_drum and num_melodic > len(_MELODIC_CHANNELS)
        ticks = _ticks(own)
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


def _ticks(notes: Notes) -> np.ndarray:
    """int64 [num_notes, 2], onset and offset; at least a tick apart."""
    onset = np.rint(notes.onset_seconds * TICKS_PER_SECOND).astype(np.int64)
    offset = np.rint(notes.offset_seconds * TICKS_PER_SECOND).astype(np.int64)
    return np.stack([onset, np.maximum(offset, onset + 1)], 1)


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
