"""Event streams in run-length form: reading, writing, thinning out, merging.

A stream of a segment is a list of event ids. Time is told by shift events,
counted from the start of the segment (not from the event before): a shift of
several steps replaces that many single ones. Program and velocity events set a
state that holds until it is set again, so repeating the state says nothing and
is left out. A segment may open with its tie section: the (program, pitch)
events of notes that sound on from before, closed by a tie event.

In between, events are rows of a table, int32 [num_events, 4], whose columns are
the tokens that an event may need in the order in which they are written:
shift, program, velocity and the pitch, drum or tie itself. `ABSENT` stands for
a token that an event never needs.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mt3.symbolic.event_codec import Codec

STEP, PROGRAM, VELOCITY, BODY = range(4)
NUM_COLUMNS = 4
ABSENT = -1


def changes(column: np.ndarray) -> np.ndarray:
    """Mask of the present values of a column that differ from the present one before."""
    present = np.flatnonzero(column != ABSENT)
    values = column[present]
    mask = np.zeros(len(column), np.bool_)
    mask[present[:1]] = True
    mask[present[1:]] = values[1:] != values[:-1]
    return mask


def tokens_needed(table: np.ndarray, *, remove_redundant: bool = True) -> np.ndarray:
    """Mask over an event table, bool [num_events, 4]: the tokens to write.

    Args:
      table: events in order of their steps.
      remove_redundant: leave out programs and velocities that are the current state.
    """
    needed = np.ones(table.shape, np.bool_)
    needed[:1, STEP] = table[:1, STEP] > 0
    needed[1:, STEP] = table[1:, STEP] > table[:-1, STEP]
    for column in (PROGRAM, VELOCITY):
        values = table[:, column]
        needed[:, column] = changes(values) if remove_redundant else values != ABSENT
    return needed


def write_tokens(table: np.ndarray, needed: np.ndarray, max_shift_steps: int) -> np.ndarray:
    """The event ids of a table, int32 [num_tokens].

    Args:
      table: events in order of their steps, which count from the segment's start.
      needed: see `tokens_needed`.
      max_shift_steps: larger steps take several shift events.
    """
    # Shifts come first among the events (see vocabularies.build_codec), so a step is its own id.
    tokens = table[needed]
    if not len(table) or table[-1, STEP] <= max_shift_steps:
        return tokens
    is_shift = np.nonzero(needed)[1] == STEP
    copies = np.where(is_shift, -(-tokens // max_shift_steps), 1)
    last = np.cumsum(copies) - 1
    expanded = np.full(last[-1] + 1, max_shift_steps, np.int32)
    expanded[last] = np.where(is_shift, tokens - (copies - 1) * max_shift_steps, tokens)
    return expanded


@dataclasses.dataclass(frozen=True, eq=False)
class ParsedStreams:
    """The events of several streams, one stream after the other.

    Attributes:
      table: int32 [num_events, 4]; the state is spelled out for every event.
      track: int64 [num_events], the stream an event comes from.
      is_tied: bool [num_events], whether it belongs to a tie section (the tie event does not).
      is_tie: bool [num_events], whether it is a tie event.
    """

    table: np.ndarray
    track: np.ndarray
    is_tied: np.ndarray
    is_tie: np.ndarray


def read_streams(streams: Sequence[np.ndarray], codec: Codec) -> ParsedStreams:
    """Events of run-length encoded streams (the inverse of `write_tokens`).

    Args:
      streams: event ids [num_tokens] each. Programs and velocities that no
        event follows are dropped, and so are ids that are no events.
      codec: of `vocabularies.build_codec`.
    """
    tokens = np.concatenate([np.asarray(stream, np.int32) for stream in streams] or [np.zeros(0, np.int32)])
    lengths = np.array([len(stream) for stream in streams], np.int64)
    track = np.repeat(np.arange(len(streams)), lengths)
    start = np.repeat(np.cumsum(lengths) - lengths, lengths)
    kind = codec.decode(tokens)[0]
    shift, pitch, velocity, tie, program, drum = (
        kind == codec.kind_index(name) for name in ("shift", "pitch", "velocity", "tie", "program", "drum")
    )
    body = np.flatnonzero(pitch | drum | tie)
    table = np.empty((len(body), NUM_COLUMNS), np.int32)
    table[:, STEP] = _steps(tokens, shift, start)[body]
    table[:, PROGRAM] = np.where(pitch[body], _state(tokens, program, start)[body], ABSENT)
    table[:, VELOCITY] = np.where(tie[body], ABSENT, _state(tokens, velocity, start)[body])
    table[:, BODY] = tokens[body]

    first_tie = np.full(len(streams), -1)
    ties = np.flatnonzero(tie)[::-1]
    first_tie[track[ties]] = ties  # the first of each stream is assigned last
    return ParsedStreams(table, track[body], body < first_tie[track[body]], tie[body])


def _steps(tokens: np.ndarray, shift: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Step of every token: the sum of the run of shifts that it ends or follows."""
    position = np.arange(len(tokens))
    total = np.cumsum(np.where(shift, tokens, 0))
    run_start = position == start
    run_start[1:] |= shift[1:] & ~shift[:-1]
    before = np.where(run_start, total - np.where(shift, tokens, 0), 0)
    return total - np.maximum.accumulate(before)


def _state(tokens: np.ndarray, is_setter: np.ndarray, start: np.ndarray) -> np.ndarray:
    """The last setter up to every token of its stream, ABSENT before the first."""
    last = np.maximum.accumulate(np.where(is_setter, np.arange(len(tokens)), -1))
    return np.where(last >= start, tokens[last], ABSENT)


def merge_streams(
    streams: Sequence[np.ndarray],
    codec: Codec,
    *,
    remove_redundant: bool = True,
    join_ties: bool = True,
) -> np.ndarray:
    """One stream with the events of several, for a mix of their audio.

    Events of one step follow each other in the order of the streams, those at
    the start of the segment in the reverse order, as published.

    Args:
      streams: run-length encoded event ids, without special tokens.
      codec: of `vocabularies.build_codec`.
      remove_redundant: leave out programs and velocities that are the current state.
      join_ties: write one tie section for all, in order of program and pitch,
        without repetitions. The published code leaves every stream its own,
        one after the other, so that all but the first decode into onsets of
        notes that were not struck.

    Returns:
      Event ids, int32 [num_tokens].
    """
    parsed = read_streams(streams, codec)
    table, step = parsed.table, parsed.table[:, STEP].astype(np.int64)
    by_track = np.where(step == 0, -parsed.track, parsed.track)
    order = np.argsort(step * (2 * len(streams) + 1) + by_track, kind="stable")
    if join_ties and parsed.is_tie.any():
        order = order[~(parsed.is_tied | parsed.is_tie)[order]]
        tied, tie_event = table[parsed.is_tied], table[parsed.is_tie][:1]
        by_program = tied[:, PROGRAM].astype(np.int64) * codec.num_classes + tied[:, BODY]
        tied = tied[np.unique(by_program, return_index=True)[1]]
        table = np.concatenate([tied, tie_event, table[order]])
    else:
        table = table[order]
    needed = tokens_needed(table, remove_redundant=remove_redundant)
    return write_tokens(table, needed, codec.ranges[codec.kind_index("shift")].max_value)
