"""Rows of tokens that are generated side by side, each at a position of its own.

The device's part of decoding: pure functions on a `RowState`. A row that has
ended can be given another segment while the others go on, so that nobody waits
for the slowest. A row's tokens do not depend on what the other rows hold, nor
on when it began; on CPUs not even in rounding, as long as there are equally many
rows and all lengths of the cache are multiples of 128.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mt3.models.cached_decoder import DecoderWeights, KeysValues, empty_cache, resize_cache, step
from mt3.models.token_constraints import (
    ConstraintConfig,
    ConstraintState,
    allowed,
    initial_state,
    restart,
)
from mt3.models.token_constraints import advance as advance_constraint
from mt3.models.transformer import TransformerConfig
from mt3.symbolic.vocabularies import EOS_ID


class RowState(NamedTuple):
    """Everything about the rows, [rows, ...]."""

    positions: jax.Array  # int32: how many tokens there are
    limits: jax.Array  # int32: how many there may be
    running: jax.Array  # bool: whether there are more to come
    previous: jax.Array  # int32: the last token
    tokens: jax.Array  # int32 [rows, max_tokens], 0 where there are none
    log_probs: jax.Array  # float32 [rows, max_tokens], of these
    keys: jax.Array | None  # random streams, where tokens are drawn
    constraint: ConstraintState | None
    cache: KeysValues
    encoded: KeysValues


class TokenChoice(NamedTuple):
    """How the next token is chosen; hashable, a choice a compilation."""

    sampled: bool = False  # or else the likeliest
    constraint: ConstraintConfig | None = None


def start_rows(
    config: TransformerConfig,
    choice: TokenChoice,
    encoded: KeysValues,
    limits: jax.Array,
    keys: jax.Array | None,
    *,
    max_tokens: int,
    length: int,
) -> RowState:
    """Rows at the start of segments.

    Args:
      config: sizes of the network.
      choice: how tokens are chosen.
      encoded: of each row; see `cached_decoder.encode`.
      limits: int32 [rows], most tokens of each; a row with 0 is idle.
      keys: [rows], random streams, where `choice.sampled`.
      max_tokens: the largest limit that there will be.
      length: of the cache.
    """
    num_rows = len(limits)
    constraint = None if choice.constraint is None else initial_state(choice.constraint, num_rows)
    return RowState(
        positions=jnp.zeros(num_rows, jnp.int32),
        limits=limits,
        running=limits > 0,
        previous=jnp.zeros(num_rows, jnp.int32),
        tokens=jnp.zeros((num_rows, max_tokens), jnp.int32),
        log_probs=jnp.zeros((num_rows, max_tokens), jnp.float32),
        keys=keys,
        constraint=constraint,
        cache=empty_cache(config, num_rows, length),
        encoded=encoded,
    )


@functools.partial(jax.jit, donate_argnames=("state",))
def refill_row(
    state: RowState,
    row: jax.Array | int,
    encoded: KeysValues,
    index: jax.Array | int,
    limit: jax.Array | int,
    key: jax.Array | None,
) -> RowState:
    """A row begins segment number `index` of `encoded`; what it held before is forgotten.

    `state` is used up.
    """

    def put(rows: jax.Array, segments: jax.Array) -> jax.Array:
        one = jax.lax.dynamic_slice_in_dim(segments, index, 1, axis=0)
        return jax.lax.dynamic_update_slice_in_dim(rows, one, row, axis=0)

    constraint = state.constraint
    if constraint is not None:
        constraint = restart(constraint, jnp.arange(len(state.limits)) == row)
    return state._replace(
        positions=state.positions.at[row].set(0),
        limits=state.limits.at[row].set(limit),
        running=state.running.at[row].set(limit > 0),
        previous=state.previous.at[row].set(0),
        tokens=state.tokens.at[row].set(0),
        log_probs=state.log_probs.at[row].set(0.0),
        keys=state.keys if state.keys is None or key is None else state.keys.at[row].set(key),
        constraint=constraint,
        # The cache needs no clearing: a position is written before it is seen.
        encoded=jax.tree.map(put, state.encoded, encoded),
    )


def resize_rows(state: RowState, length: int) -> RowState:
    """With a cache of another length, beyond the position of every running row."""
    return state._replace(cache=_resized(state.cache, length=length))


_resized = jax.jit(resize_cache, static_argnames=("length",))


@functools.partial(jax.jit, static_argnames=("config", "choice"), donate_argnames=("state",))
def advance(
    config: TransformerConfig,
    choice: TokenChoice,
    weights: DecoderWeights,
    state: RowState,
    temperature: jax.Array | float,
    max_steps: jax.Array | int,
    at_most_running: jax.Array | int,
) -> RowState:
    """Takes steps until the cache is full, so many have been taken, or no more than so many rows run.

    Args:
      config: sizes of the network.
      choice: how tokens are chosen.
      weights: see `cached_decoder.fuse_weights`.
      state: is used up.
      temperature: where `choice.sampled`: tokens are drawn from the logits divided by it.
      max_steps: most tokens that a row gains.
      at_most_running: 0 to go on until all have ended.
    """
    length = state.cache.keys[0].shape[2]

    def goes_on(carry: tuple[jax.Array, RowState]) -> jax.Array:
        steps, state = carry
        has_room = jnp.max(jnp.where(state.running, state.positions, 0)) < length
        return (steps < max_steps) & has_room & (jnp.sum(state.running) > at_most_running)

    def take_step(carry: tuple[jax.Array, RowState]) -> tuple[jax.Array, RowState]:
        steps, state = carry
        logits, cache = step(config, weights, state.encoded, state.cache, state.previous, state.positions)
        chosen, constraint = _choose(choice, logits, state, temperature)
        chosen_logits = jnp.take_along_axis(logits, chosen[:, None], axis=-1)[:, 0]
        log_probs = chosen_logits - jax.nn.logsumexp(logits, axis=-1)
        return steps + 1, _append(state, chosen, log_probs)._replace(cache=cache, constraint=constraint)

    return jax.lax.while_loop(goes_on, take_step, (jnp.int32(0), state))[1]


def _choose(
    choice: TokenChoice, logits: jax.Array, state: RowState, temperature: jax.Array | float
) -> tuple[jax.Array, ConstraintState | None]:
    """The next token of each row, int32 [rows], and the constraint after it."""
    constraint = state.constraint
    if choice.constraint is not None and constraint is not None:
        logits = jnp.where(allowed(choice.constraint, constraint), logits, -jnp.inf)
    if choice.sampled and state.keys is not None:
        draw = jax.vmap(functools.partial(_draw, temperature))
        chosen = draw(state.keys, state.positions, logits)
    else:
        chosen = jnp.argmax(logits, axis=-1)
    chosen = chosen.astype(jnp.int32)
    if choice.constraint is not None and constraint is not None:
        constraint = advance_constraint(choice.constraint, constraint, chosen)
    return chosen, constraint


def _draw(temperature: Any, key: jax.Array, position: jax.Array, logits: jax.Array) -> jax.Array:
    return jax.random.categorical(jax.random.fold_in(key, position), logits / temperature)


def _append(state: RowState, chosen: jax.Array, log_probs: jax.Array) -> RowState:
    """Running rows gain a token."""
    rows = jnp.arange(len(chosen))
    # Past the end for rows that do not run: such writes are dropped.
    places = jnp.where(state.running, state.positions, state.tokens.shape[1])
    positions = state.positions + state.running
    return state._replace(
        positions=positions,
        running=state.running & (chosen != EOS_ID) & (positions < state.limits),
        previous=chosen,
        tokens=state.tokens.at[rows, places].set(chosen, mode="drop"),
        log_probs=state.log_probs.at[rows, places].set(log_probs, mode="drop"),
    )
