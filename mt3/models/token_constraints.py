"""Which tokens may follow which: decoding under a grammar and a list of instruments.

Pure functions on a `ConstraintState`, one row a segment, for use inside a jitted
loop: before a token is chosen, `allowed` says what may be; after it, `advance`
takes it in. Two things can be asked for, alone or together:

Grammar. A row can only write what the tokenizer could have written: the tie section
first (programs and pitches, each note once), then events in order of time up to the
segment's end, each told by shifts, a program, a velocity and a pitch or drum in this
order, as far as they are needed; notes end only if they were declared tied or struck
before in the segment; the end comes after an event. `mt3.symbolic.note_decoding` counts
nothing of that as invalid or dropped, but for what a segment alone cannot know: whether
the notes that it ties, or without tie sections ends first, sounded before. There is
always a token that is allowed, and no row can go on for ever without events.

Instruments. Programs outside of a list cannot be chosen, notes cannot fall to one
because no program was named yet, and drums can be excluded.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import (
    EOS_ID,
    NUM_PITCHES,
    NUM_PROGRAMS,
    NUM_SPECIAL_IDS,
    VocabularyConfig,
    build_codec,
)

_UNKNOWN = -1  # of programs and velocities that the segment has not named
_ENDLESS = 1 << 30
# What the last token was: a shift, program or velocity wants an event to follow.
_EVENT, _SHIFT, _PROGRAM, _VELOCITY = range(4)


@dataclasses.dataclass(frozen=True)
class ConstraintConfig:
    """What is asked for; hashable.

    Attributes:
      vocabulary: which events there are.
      ties: segments open with a tie section.
      onsets_only: pitches and shifts are all that there is.
      vocab_size: of the network's output, at least the special ids and the events.
      grammar: whether only well-formed segments can be written.
      programs: the program events that may be chosen, at the vocabulary's granularity
        (see `instrument_names.map_instruments`); None for all.
      drums: whether drum events may be chosen.
      segment_steps: length of a segment in steps of time, for the grammar; None for
        no end.

    Raises:
      ValueError: for a setting out of range, or if no note could be written at all.
    """

    vocabulary: VocabularyConfig
    ties: bool
    onsets_only: bool
    vocab_size: int
    grammar: bool = False
    programs: tuple[int, ...] | None = None
    drums: bool = True
    segment_steps: int | None = None

    def __post_init__(self) -> None:
        needed = NUM_SPECIAL_IDS + build_codec(self.vocabulary).num_classes
        if self.vocab_size < needed:
            raise ValueError(f"vocab_size is {self.vocab_size}; the vocabulary needs at least {needed}.")
        if self.segment_steps is not None and self.segment_steps < 1:
            raise ValueError(f"segment_steps is {self.segment_steps}; it must be at least 1.")
        outside = [program for program in self.programs or () if not 0 <= program < NUM_PROGRAMS]
        if outside:
            raise ValueError(f"Program {outside[0]} is outside 0..{NUM_PROGRAMS - 1}.")
        if self.onsets_only and (self.programs is not None or not self.drums):
            raise ValueError("The model writes onsets only and tells no instruments apart; name none.")
        if not self.permitted_programs.any() and not self.drums:
            raise ValueError("No instrument is left that the model can write; name at least one of its own.")

    @classmethod
    def from_tokenizer(
        cls,
        tokenizer: Tokenizer,
        vocab_size: int,
        *,
        segment_seconds: float,
        grammar: bool = False,
        programs: tuple[int, ...] | None = None,
        drums: bool = True,
    ) -> ConstraintConfig:
        """For what a tokenizer writes about segments of `segment_seconds`; the rest as above."""
        # Segments begin at whole steps, rounded down: some are a step longer, none shorter.
        segment_steps = int(segment_seconds * tokenizer.vocabulary.steps_per_second + 1e-6)
        return cls(
            vocabulary=tokenizer.vocabulary,
            ties=tokenizer.ties,
            onsets_only=tokenizer.onsets_only,
            vocab_size=vocab_size,
            grammar=grammar,
            programs=programs,
            drums=drums,
            segment_steps=max(1, segment_steps),
        )

    @property
    def is_needed(self) -> bool:
        """Whether anything is excluded."""
        return self.grammar or self.programs is not None or not self.drums

    @property
    def has_program_events(self) -> bool:
        return self.vocabulary.granularity.has_program_events and not self.onsets_only

    @functools.cached_property
    def permitted_programs(self) -> np.ndarray:
        """bool [128]; where there are no program events, all notes are of program 0."""
        permitted = np.zeros(NUM_PROGRAMS, np.bool_)
        permitted[slice(None) if self.programs is None else list(self.programs)] = True
        if not self.has_program_events:
            permitted[1:] = False
        return permitted


class ConstraintState(NamedTuple):
    """What each row has written so far, [rows, ...]."""

    program: jax.Array  # int32, in force; or _UNKNOWN
    velocity: jax.Array  # int32, bin in force; or _UNKNOWN
    step: jax.Array  # int32, of the last event, from the segment's start
    run: jax.Array  # int32, sum of the shifts since; 0 if there are none
    position: jax.Array  # int32, sum of the last run: the step of what comes next
    last: jax.Array  # int32, what the last token was
    in_ties: jax.Array  # bool, the tie section has not ended
    sounding: jax.Array  # bool [rows, programs, 128]: declared tied or struck, and not ended
    first_program: jax.Array  # int32, in force at the start of a segment
    opens_with_ties: jax.Array  # bool, the same for every row


def initial_state(config: ConstraintConfig, num_rows: int) -> ConstraintState:
    """All rows at the start of a segment."""
    # Without a grammar, what sounds need not be known. A decoder of events begins with program 0.
    num_programs = 0 if not config.grammar else NUM_PROGRAMS if config.has_program_events else 1
    first_program = _UNKNOWN if config.grammar and config.has_program_events else 0
    state = ConstraintState(
        program=jnp.zeros(num_rows, jnp.int32),
        velocity=jnp.zeros(num_rows, jnp.int32),
        step=jnp.zeros(num_rows, jnp.int32),
        run=jnp.zeros(num_rows, jnp.int32),
        position=jnp.zeros(num_rows, jnp.int32),
        last=jnp.zeros(num_rows, jnp.int32),
        in_ties=jnp.zeros(num_rows, jnp.bool_),
        sounding=jnp.zeros((num_rows, num_programs, NUM_PITCHES), jnp.bool_),
        first_program=jnp.full(num_rows, first_program, jnp.int32),
        opens_with_ties=jnp.full(num_rows, config.ties, jnp.bool_),
    )
    return restart(state, jnp.ones(num_rows, jnp.bool_))


def restart(state: ConstraintState, rows: jax.Array) -> ConstraintState:
    """The state in which `rows`, bool [rows], begin a new segment."""
    return state._replace(
        program=jnp.where(rows, state.first_program, state.program),
        velocity=jnp.where(rows, _UNKNOWN, state.velocity),
        step=jnp.where(rows, 0, state.step),
        run=jnp.where(rows, 0, state.run),
        position=jnp.where(rows, 0, state.position),
        last=jnp.where(rows, _EVENT, state.last),
        in_ties=jnp.where(rows, state.opens_with_ties, state.in_ties),
        # Without a tie section, any note may have sounded before.
        sounding=jnp.where(rows[:, None, None], ~state.opens_with_ties[:, None, None], state.sounding),
    )


def allowed(config: ConstraintConfig, state: ConstraintState) -> jax.Array:
    """bool [rows, vocab_size]: the ids that may come next."""
    return _grammatical(config, state) if config.grammar else _of_instruments(config, state)


def advance(config: ConstraintConfig, state: ConstraintState, tokens: jax.Array) -> ConstraintState:
    """The state after `tokens`, int32 [rows]; ids that are no events leave a row's state alone."""
    codec = build_codec(config.vocabulary)
    all_kinds, all_values = codec.decode(np.arange(config.vocab_size) - NUM_SPECIAL_IDS)
    kind, value = jnp.asarray(all_kinds)[tokens], jnp.asarray(all_values)[tokens]
    shift, pitch, velocity, tie, program, drum = (
        kind == codec.kind_index(name) for name in ("shift", "pitch", "velocity", "tie", "program", "drum")
    )
    other = pitch | velocity | tie | program | drum
    # Events that go back in time do nothing; a program would not be in force. Grammar allows none.
    in_order = state.position >= state.step
    run = jnp.where(shift, state.run + value, jnp.where(other, 0, state.run))
    state = state._replace(
        program=jnp.where(program & in_order, value, state.program),
        step=jnp.where(other & in_order, state.position, state.step),
        run=run,
        position=jnp.where(shift, run, state.position),
    )
    if not config.grammar:
        return state
    last = jnp.select([shift, program, velocity, other], [_SHIFT, _PROGRAM, _VELOCITY, _EVENT], state.last)
    rows = jnp.arange(len(tokens))
    slot = jnp.maximum(state.program, 0), jnp.where(pitch, value, 0)
    sounds = jnp.where(pitch, state.in_ties | (state.velocity != 0), state.sounding[rows, *slot])
    return state._replace(
        velocity=jnp.where(velocity, value, state.velocity),
        last=last.astype(jnp.int32),
        in_ties=state.in_ties & ~tie,
        sounding=state.sounding.at[rows, *slot].set(sounds),
    )


def _of_instruments(config: ConstraintConfig, state: ConstraintState) -> jax.Array:
    """Everything but events of excluded instruments."""
    permitted = jnp.asarray(config.permitted_programs)
    rows = len(state.program)
    if config.programs is None:
        return _all_ids(config, rows, True, {"drum": config.drums})
    by_kind = {"pitch": permitted[state.program][:, None], "program": permitted, "drum": config.drums}
    return _all_ids(config, rows, True, by_kind)


def _grammatical(config: ConstraintConfig, state: ConstraintState) -> jax.Array:
    """What the tokenizer could write next."""
    last, in_ties, body = state.last, state.in_ties, ~state.in_ties
    pitched, drums = bool(config.permitted_programs.any()), config.drums
    if config.onsets_only:
        shifts = body[:, None] & _shifts(config, state)
        complete = (state.run == 0) | (state.run > state.step)
        by_kind = {"shift": shifts, "pitch": complete[:, None]}
        return _all_ids(config, len(last), False, by_kind, end=last == _EVENT)

    known = (state.program >= 0) & pitched
    in_time = body & ((state.run == 0) | (state.run > state.step))
    sounding = jnp.take_along_axis(
        state.sounding, jnp.maximum(state.program, 0)[:, None, None], axis=1
    ).squeeze(1)
    ended_or_struck = (state.velocity > 0)[:, None] | ((state.velocity == 0)[:, None] & sounding)
    pitches = jnp.where(in_ties[:, None], ~sounding, in_time[:, None] & ended_or_struck)

    # A velocity must leave something that can follow it.
    takes_velocity = in_time & (last != _VELOCITY)
    strikes = takes_velocity & (known | (drums & (last != _PROGRAM)))
    ends = takes_velocity & known & sounding.any(axis=1)
    velocities = jnp.where(
        jnp.arange(config.vocabulary.num_velocity_bins + 1) == 0, ends[:, None], strikes[:, None]
    )

    takes_program = (in_ties | in_time) & (last != _PROGRAM) & (last != _VELOCITY)
    programs = jnp.asarray(config.permitted_programs & config.has_program_events)
    by_kind = {
        "shift": (body & (last != _PROGRAM) & (last != _VELOCITY))[:, None] & _shifts(config, state),
        "pitch": known[:, None] & pitches,
        "velocity": velocities,
        "tie": in_ties[:, None],
        "program": takes_program[:, None] & programs,
        "drum": (in_time & (state.velocity > 0) & (last != _PROGRAM) & drums)[:, None],
    }
    return _all_ids(config, len(last), False, by_kind, end=body & (last == _EVENT))


def _shifts(config: ConstraintConfig, state: ConstraintState) -> jax.Array:
    """bool [rows, shifts]: runs that end after the last event, not beyond the segment's end.

    All shifts of a run but the last are the largest, so that the next can go on from there.
    """
    largest = config.vocabulary.max_shift_steps
    end = _ENDLESS if config.segment_steps is None else config.segment_steps
    values = jnp.arange(largest + 1)
    total = state.run[:, None] + values
    goes_on = (total > state.step[:, None]) | (values == largest)
    has_room = (state.run % largest == 0) & (state.step < end)
    return (values > 0) & goes_on & (total <= end) & has_room[:, None]


def _all_ids(
    config: ConstraintConfig,
    rows: int,
    others: bool,
    by_kind: Mapping[str, jax.Array | bool],
    end: jax.Array | bool = True,
) -> jax.Array:
    """bool [rows, vocab_size] of the answers for the ids of each kind; `others` for all the rest."""
    codec = build_codec(config.vocabulary)
    num_after = config.vocab_size - NUM_SPECIAL_IDS - codec.num_classes
    ends = jnp.broadcast_to(jnp.asarray(end), rows)[:, None]
    special = [ends if id_ == EOS_ID else others for id_ in range(NUM_SPECIAL_IDS)]
    sizes = [*[1] * NUM_SPECIAL_IDS, *(events.num_values for events in codec.ranges), num_after]
    parts = [*special, *(by_kind.get(kind, others) for kind in codec.kinds), others]
    return jnp.concatenate(
        [jnp.broadcast_to(jnp.asarray(part), (rows, size)) for part, size in zip(parts, sizes, strict=True)],
        axis=1,
    )
