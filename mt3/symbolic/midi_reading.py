"""MIDI files to notes.

Conventions: channel 10 is drums. A note-off, or a note-on of velocity 0, ends
every sounding note of its key that started earlier (so do pretty_midi and with
it the labels of the published datasets); a note that is never ended lasts to
the end of its track; a note without length is dropped. The program of a note is
the one set in its own track and channel, or, if that track sets none, the one
set for the channel by any track.
"""

from __future__ import annotations

import dataclasses
import io
import os
import struct
from collections.abc import Iterable
from pathlib import Path
from typing import Any, BinaryIO

import mido
import numpy as np
from mido.midifiles.meta import KeySignatureError

from mt3.symbolic.note_cleaning import PedalChanges, apply_sustain
from mt3.symbolic.notes import Notes

DRUM_CHANNEL = 9
SUSTAIN_CONTROLLER = 64
_DEFAULT_TEMPO_MICROSECONDS = 500_000  # per quarter note

MidiSource = str | os.PathLike[str] | bytes | BinaryIO


class MidiError(ValueError):
    """A file that cannot be read as MIDI; the message names it."""


@dataclasses.dataclass
class _Track:
    """What was read of one track; ticks count from its start."""

    # onset_tick, offset_tick, pitch, velocity, channel, own program or -1
    notes: list[tuple[int, int, int, int, int, int]] = dataclasses.field(default_factory=list)
    # tick, value, channel
    pedals: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    # tick, program, channel
    programs: list[tuple[int, int, int]] = dataclasses.field(default_factory=list)
    # tick, microseconds per quarter
    tempos: list[tuple[int, int]] = dataclasses.field(default_factory=list)


def read_midi(source: MidiSource, *, apply_sustain: bool = True) -> Notes:
    """The notes of a MIDI file, sorted; none where it has none.

    Args:
      source: a path, the bytes of a file, or a binary file object.
      apply_sustain: lengthen notes by the sustain pedal.

    Raises:
      MidiError: for what is not a MIDI file, or a broken one.
      OSError: for a path that cannot be read.
    """
    name, content = _read(source)
    if not content:
        raise MidiError(f"{name} is empty; a MIDI file starts with 'MThd'.")
    if not content.startswith(b"MThd"):
        raise MidiError(f"{name} is not a MIDI file: it does not start with 'MThd'.")
    try:
        midi = mido.MidiFile(file=io.BytesIO(content), clip=True)
        tracks = [_read_track(track) for track in midi.tracks]
    # What mido raises on broken content; none of it comes from the file system here.
    except (OSError, EOFError, ValueError, LookupError, TypeError, struct.error, KeySignatureError) as error:
        reason = str(error) or type(error).__name__
        raise MidiError(f"{name} is a broken MIDI file ({reason}); export it anew.") from error
    if midi.ticks_per_beat == 0:
        raise MidiError(f"{name} is a broken MIDI file (0 ticks per quarter note); export it anew.")
    return _to_notes(midi, tracks, sustained=apply_sustain)


def _read(source: MidiSource) -> tuple[str, bytes]:
    """A name for messages, and the content."""
    if isinstance(source, bytes | bytearray | memoryview):
        return "The MIDI data", bytes(source)
    if isinstance(source, str | os.PathLike):
        return str(source), Path(source).read_bytes()
    return str(getattr(source, "name", "The MIDI data")), source.read()


def _read_track(messages: Iterable[Any]) -> _Track:
    track = _Track()
    tick = 0
    program: dict[int, int] = {}
    sounding: dict[tuple[int, int], list[tuple[int, int, int]]] = {}
    for message in messages:
        tick += message.time
        kind = message.type
        if kind in ("note_on", "note_off"):
            key = (message.channel, message.note)
            if kind == "note_on" and message.velocity:
                own_program = program.get(message.channel, -1)
                sounding.setdefault(key, []).append((tick, message.velocity, own_program))
            elif key in sounding:
                _end_notes(track, key, sounding, tick)
        elif kind == "program_change":
            program[message.channel] = message.program
            track.programs.append((tick, message.program, message.channel))
        elif kind == "control_change" and message.control == SUSTAIN_CONTROLLER:
            track.pedals.append((tick, message.value, message.channel))
        elif kind == "set_tempo":
            track.tempos.append((tick, message.tempo))
    for key in list(sounding):
        _end_notes(track, key, sounding, tick)
    return track


def _end_notes(
    track: _Track,
    key: tuple[int, int],
    sounding: dict[tuple[int, int], list[tuple[int, int, int]]],
    tick: int,
) -> None:
    """Ends what sounds of a key; a note struck at this very tick goes on if it replaces another."""
    channel, pitch = key
    struck = sounding.pop(key)
    earlier = [note for note in struck if note[0] < tick]
    for onset_tick, velocity, program in earlier:
        track.notes.append((onset_tick, tick, pitch, velocity, channel, program))
    if earlier and len(earlier) < len(struck):
        sounding[key] = struck[len(earlier) :]


def _to_notes(midi: mido.MidiFile, tracks: list[_Track], *, sustained: bool) -> Notes:
    rows, track_index = _rows([track.notes for track in tracks], 6)
    onset_tick, offset_tick, pitch, velocity, channel, program = rows.T
    is_drum = channel == DRUM_CHANNEL
    program = np.where(program < 0, _channel_programs(tracks, onset_tick, channel), program)
    notes = Notes(
        onset_seconds=_to_seconds(midi, tracks, onset_tick, track_index),
        offset_seconds=_to_seconds(midi, tracks, offset_tick, track_index),
        pitch=pitch,
        velocity=velocity,
        program=np.where(is_drum, 0, program),
        is_drum=is_drum,
    )
    if sustained:
        instrument = _instruments(track_index, channel, program)
        pedals, pedal_track = _rows([track.pedals for track in tracks], 3)
        pedal_seconds = _to_seconds(midi, tracks, pedals[:, 0], pedal_track)
        pedal = _assign_pedals(pedals, pedal_track, pedal_seconds, instrument, track_index, channel)
        notes = apply_sustain(notes, pedal, instrument)
    return notes.sorted()


def _rows(parts: list[list[tuple[int, ...]]], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of all tracks, int64 [num_rows, width], and the track of each."""
    rows = [row for part in parts for row in part]
    track = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    return np.array(rows, np.int64).reshape(-1, width), track


def _channel_programs(tracks: list[_Track], tick: np.ndarray, channel: np.ndarray) -> np.ndarray:
    """The last program that any track set for each channel up to each tick; 0 before."""
    changes, _ = _rows([track.programs for track in tracks], 3)
    programs = np.zeros(len(tick), np.int64)
    for one in np.unique(changes[:, 2]):
        mine = changes[changes[:, 2] == one]
        mine = mine[np.argsort(mine[:, 0], kind="stable")]
        here = channel == one
        last = np.searchsorted(mine[:, 0], tick[here], side="right")
        programs[here] = np.append(0, mine[:, 1])[last]
    return programs


def _to_seconds(
    midi: mido.MidiFile, tracks: list[_Track], tick: np.ndarray, track_index: np.ndarray
) -> np.ndarray:
    """Seconds of ticks by the tempo map, which all tracks of a file share unless it is of type 2."""
    if midi.ticks_per_beat < 0:  # SMPTE time: frames per second (negated) and ticks per frame
        frames_per_second, ticks_per_frame = -(midi.ticks_per_beat >> 8), midi.ticks_per_beat & 0xFF
        return tick / (frames_per_second * max(ticks_per_frame, 1))
    if midi.type != 2:
        return _tempo_seconds([t for track in tracks for t in track.tempos], midi.ticks_per_beat, tick)
    seconds = np.zeros(len(tick))
    for index, track in enumerate(tracks):
        mine = track_index == index
        seconds[mine] = _tempo_seconds(track.tempos, midi.ticks_per_beat, tick[mine])
    return seconds


def _tempo_seconds(tempos: list[tuple[int, int]], ticks_per_beat: int, tick: np.ndarray) -> np.ndarray:
    changes = np.array([(0, _DEFAULT_TEMPO_MICROSECONDS), *sorted(tempos, key=lambda t: t[0])], np.int64)
    start_tick, microseconds = changes.T
    # Integers up to the last division: no error builds up over thousands of changes.
    start = np.concatenate(([0], np.cumsum(np.diff(start_tick) * microseconds[:-1])))
    part = np.searchsorted(start_tick, tick, side="right") - 1
    return (start[part] + (tick - start_tick[part]) * microseconds[part]) / (ticks_per_beat * 1e6)


def _instruments(track_index: np.ndarray, channel: np.ndarray, program: np.ndarray) -> np.ndarray:
    """Which notes share a pedal: those of one channel, in tracks that use it for the same programs.

    The pedal belongs to the channel, and hands of a pianist are often two tracks
    of one channel. But files with more instruments than channels use a channel
    for several, each in its own track, and those do not share it.
    """
    labels: dict[tuple[int, tuple[int, ...]], int] = {}
    instrument = np.zeros(len(channel), np.int64)
    for one_track, one_channel in np.unique(np.stack([track_index, channel], 1), axis=0):
        mine = (track_index == one_track) & (channel == one_channel)
        key = (int(one_channel), tuple(np.unique(program[mine]).tolist()))
        instrument[mine] = labels.setdefault(key, len(labels))
    return instrument


def _assign_pedals(
    pedals: np.ndarray,
    pedal_track: np.ndarray,
    pedal_seconds: np.ndarray,
    instrument: np.ndarray,
    note_track: np.ndarray,
    note_channel: np.ndarray,
) -> PedalChanges:
    """Pedal changes of the instruments they act on: their own track's, else all of their channel."""
    users = np.unique(np.stack([note_track, note_channel, instrument], 1), axis=0)
    selected, targets = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for track, channel in np.unique(np.stack([pedal_track, pedals[:, 2]], 1), axis=0):
        mine = np.flatnonzero((pedal_track == track) & (pedals[:, 2] == channel))
        on_channel = users[users[:, 1] == channel]
        own = on_channel[on_channel[:, 0] == track]
        for target in np.unique((own if len(own) else on_channel)[:, 2]):
            selected.append(mine)
            targets.append(np.full(len(mine), target))
    index = np.concatenate(selected)
    return PedalChanges.from_controller(pedal_seconds[index], pedals[index, 1], np.concatenate(targets))
