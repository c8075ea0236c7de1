"""Notes to events: once per recording, then cheap cuts for any segment.

`encode_notes` turns the notes of a recording into events on the time grid,
sorted, with their tokens; `segment_tokens` cuts a segment out and writes its
tokens, a fixed number of array operations however dense the music is.

Conventions (MT3's): times are rounded to the nearest step, halves to the even
one; a segment holds the events whose steps lie between the steps of its first
frame and of the frame after its last, both rounded down; events are in order of
time, at one time offsets before onsets, pitched before drums, then by program
and pitch. Drums have onsets only. The tie section lists what sounds before the
first event of the segment, by program and pitch.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mt3.symbolic.note_cleaning import trim_overlaps
from mt3.symbolic.notes import Notes
from mt3.symbolic.run_length import (
    ABSENT,
    BODY,
    NUM_COLUMNS,
    PROGRAM,
    STEP,
    VELOCITY,
    changes,
    tokens_needed,
    write_tokens,
)
from mt3.symbolic.vocabularies import (
    DEFAULT_VELOCITY,
    VocabularyConfig,
    build_codec,
    velocity_to_bin,
)


@dataclasses.dataclass(frozen=True, eq=False)
class TiedNotes:
    """What the tie sections of a recording need; pitched notes by onset.

    Attributes:
      onset_step, offset_step: int64 [num_notes].
      latest_offset_step: int64 [num_notes], running maximum of offset_step.
      rank: int64 [num_notes], position of each note by (program, pitch).
      tokens: int32 [num_notes, 2], program (or ABSENT) and pitch event.
    """

    onset_step: np.ndarray
    offset_step: np.ndarray
    latest_offset_step: np.ndarray
    rank: np.ndarray
    tokens: np.ndarray

    def sounding(self, step: int) -> np.ndarray:
        """int32 [num_sounding, 2]: notes struck before `step` and not ended before it."""
        # No note before `first` reaches the step, none from `last` on has begun.
        first = self.latest_offset_step.searchsorted(step)
        last = self.onset_step.searchsorted(step)
        if last <= first:
            return self.tokens[:0]
        active = np.flatnonzero(self.offset_step[first:last] >= step)
        active += first
        return self.tokens[active[self.rank[active].argsort()]]


@dataclasses.dataclass(frozen=True, eq=False)
class NoteEvents:
    """The events of a recording, ready to be cut into segments.

    Attributes:
      table: int32 [num_events, 4], see `run_length`; steps from the recording's start.
      needed: bool [num_events, 4], the tokens to write where the whole is one segment.
      steps: int64 [num_events], the steps once more, contiguous.
      next_program_event: int64 [num_events + 1], the first event from each on that
        names a program.
      ties: None where tie sections are not used.
    """

    table: np.ndarray
    needed: np.ndarray
    steps: np.ndarray
    next_program_event: np.ndarray
    ties: TiedNotes | None

    def __len__(self) -> int:
        return len(self.steps)


def encode_notes(
    notes: Notes, config: VocabularyConfig, *, ties: bool = True, onsets_only: bool = False
) -> NoteEvents:
    """The events of all notes of a recording.

    Args:
      notes: any; overlaps are trimmed first. Velocity 0 (unknown) counts as 100.
      config: the vocabulary.
      ties: prepare for tie sections.
      onsets_only: a pitch event per note, drums included, and nothing else.

    Raises:
      ValueError: for a pitch, velocity or program outside 0..127, an onset before 0
        or a time that is not finite.
    """
    _check(notes)
    notes = trim_overlaps(notes)
    notes = notes[np.lexsort((notes.pitch, *(() if onsets_only else (notes.program, notes.is_drum))))]
    pitched = notes[:0] if onsets_only else notes[~notes.is_drum]
    ends = pitched.replace(onset_seconds=pitched.offset_seconds)
    table = np.concatenate(
        [
            _event_table(ends, config, velocity=0),
            _event_table(notes, config, onsets_only=onsets_only),
        ]
    )
    table = table[np.argsort(np.concatenate([ends.onset_seconds, notes.onset_seconds]), kind="stable")]

    has_program = np.append(table[:, PROGRAM] != ABSENT, True)
    candidates = np.where(has_program, np.arange(len(table) + 1), len(table))
    return NoteEvents(
        table=table,
        needed=tokens_needed(table),
        steps=table[:, STEP].astype(np.int64),
        next_program_event=np.minimum.accumulate(candidates[::-1])[::-1],
        ties=_tied_notes(pitched, config) if ties else None,
    )


def _check(notes: Notes) -> None:
    for name in ("pitch", "velocity", "program"):
        values = getattr(notes, name)
        outside = (values < 0) | (values > 127)
        if outside.any():
            raise ValueError(
                f"{name} {values[outside][0]} is outside 0..127; correct or drop such notes before encoding."
            )
    for name in ("onset_seconds", "offset_seconds"):
        values = getattr(notes, name)
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds {values[~np.isfinite(values)][0]}; times must be finite.")
    if len(notes) and notes.onset_seconds.min() < 0:
        raise ValueError(
            f"A note starts at {notes.onset_seconds.min()} s; crop notes to start at 0 or later."
        )


def _to_steps(time_seconds: np.ndarray, config: VocabularyConfig) -> np.ndarray:
    return np.rint(time_seconds * config.steps_per_second).astype(np.int64)


def _event_table(
    notes: Notes, config: VocabularyConfig, *, velocity: int | None = None, onsets_only: bool = False
) -> np.ndarray:
    """int32 [num_notes, 4], an event per note at its onset; `velocity` replaces the notes' own."""
    codec = build_codec(config)
    table = np.full((len(notes), NUM_COLUMNS), ABSENT, np.int32)
    table[:, STEP] = _to_steps(notes.onset_seconds, config)
    table[:, BODY] = codec.encode("pitch", notes.pitch)
    if onsets_only:
        return table
    table[:, BODY] = np.where(notes.is_drum, codec.encode("drum", notes.pitch), table[:, BODY])
    known = np.where(notes.velocity > 0, notes.velocity, DEFAULT_VELOCITY) if velocity is None else velocity
    table[:, VELOCITY] = codec.encode("velocity", velocity_to_bin(known, config.num_velocity_bins))
    table[:, PROGRAM] = np.where(notes.is_drum, ABSENT, _program_tokens(notes, config))
    return table


def _program_tokens(notes: Notes, config: VocabularyConfig) -> np.ndarray:
    """int32 [num_notes], program events at the vocabulary's granularity, ABSENT if it has none."""
    if not config.granularity.has_program_events:
        return np.full(len(notes), ABSENT, np.int32)
    return build_codec(config).encode("program", config.granularity.program_map[notes.program])


def _tied_notes(notes: Notes, config: VocabularyConfig) -> TiedNotes:
    """Of pitched notes in order of program and pitch."""
    order = np.argsort(notes.onset_seconds, kind="stable")
    tokens = np.stack([_program_tokens(notes, config), build_codec(config).encode("pitch", notes.pitch)], 1)
    offset_step = _to_steps(notes.offset_seconds[order], config)
    return TiedNotes(
        onset_step=_to_steps(notes.onset_seconds[order], config),
        offset_step=offset_step,
        latest_offset_step=np.maximum.accumulate(offset_step),
        rank=order,
        tokens=tokens[order],
    )


def segment_tokens(
    events: NoteEvents, start_step: int, first: int, last: int, config: VocabularyConfig
) -> list[np.ndarray]:
    """Event ids of the segment that starts at `start_step` and holds events first..last - 1.

    Returns:
      Arrays of int32 to be concatenated.
    """
    tie_section, program = _tie_section(events.ties, start_step, config)
    if first == last:
        return tie_section
    table = events.table[first:last].copy()
    table[:, STEP] -= start_step
    needed = events.needed[first:last].copy()
    # What was redundant in the recording is not at the start of a segment, and the other way round.
    needed[0, STEP] = table[0, STEP] > 0
    needed[0, VELOCITY] = table[0, VELOCITY] != ABSENT
    setter = events.next_program_event[first] - first
    if setter < len(table):
        needed[setter, PROGRAM] = table[setter, PROGRAM] != program
    return [*tie_section, write_tokens(table, needed, config.max_shift_steps)]


def _tie_section(
    ties: TiedNotes | None, start_step: int, config: VocabularyConfig
) -> tuple[list[np.ndarray], int]:
    """Tokens of a tie section, and the program that holds after it."""
    if ties is None:
        return [], ABSENT
    sounding = ties.sounding(start_step)
    end = build_codec(config).encode("tie", [0])
    if not len(sounding):
        return [end], ABSENT
    needed = np.ones(sounding.shape, np.bool_)
    needed[:, 0] = changes(sounding[:, 0])
    return [sounding[needed], end], int(sounding[-1, 0])
