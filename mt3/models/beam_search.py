"""Beam search over the cached decoder.

Each segment keeps `beam_size` live hypotheses and the `beam_size` best ended
ones. A hypothesis scores its log-probability divided by
`((5 + tokens) / 6) ** length_penalty` (Wu et al. 2016, equation 14). The
search of a segment stops when no continuation of a live hypothesis can still
score better than its best ended one. If none has ended within the limit of
tokens, the most likely live hypothesis is the result.
"""

from __future__ import annotations

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mt3.models.cached_decoder import DecoderWeights, KeysValues, empty_cache, resize_cache, step
from mt3.models.transformer import TransformerConfig
from mt3.symbolic.vocabularies import EOS_ID


class Hypotheses(NamedTuple):
    """Token sequences with their scores, the best first; a score of -inf marks an empty place."""

    tokens: jax.Array  # int32 [batch, beam, max_tokens]
    log_probs: jax.Array  # float32 [batch, beam, max_tokens], of each token
    scores: jax.Array  # float32 [batch, beam]: of live ones summed log_probs, of ended ones with the penalty


class BeamState(NamedTuple):
    """The search at one position of all segments."""

    position: jax.Array
    live: Hypotheses
    ended: Hypotheses
    cache: KeysValues  # rows: the live hypotheses of the first segment, of the second, ...
    done: jax.Array


def initial_state(
    config: TransformerConfig, batch: int, beam_size: int, max_tokens: int, length: int
) -> BeamState:
    """One empty live hypothesis a segment, and a cache for `length` tokens."""
    empty = Hypotheses(
        tokens=jnp.zeros((batch, beam_size, max_tokens), jnp.int32),
        log_probs=jnp.zeros((batch, beam_size, max_tokens), jnp.float32),
        scores=jnp.full((batch, beam_size), -jnp.inf, jnp.float32),
    )
    return BeamState(
        position=jnp.int32(0),
        live=empty._replace(scores=empty.scores.at[:, 0].set(0.0)),
        ended=empty,
        cache=empty_cache(config, batch * beam_size, length),
        done=jnp.bool_(False),
    )


@functools.partial(jax.jit, static_argnames=("config", "length"))
def advance(
    config: TransformerConfig,
    weights: DecoderWeights,
    encoded: KeysValues,
    state: BeamState,
    *,
    length_penalty: jax.Array | float,
    length: int,
) -> BeamState:
    """Searches up to position `length`, or until every segment is done."""

    def take_step(state: BeamState) -> BeamState:
        previous = jax.lax.dynamic_index_in_dim(
            state.live.tokens, jnp.maximum(state.position - 1, 0), axis=2, keepdims=False
        )
        batch, beam_size = state.live.scores.shape
        positions = jnp.full(batch * beam_size, state.position)
        logits, cache = step(config, weights, encoded, state.cache, previous.reshape(-1), positions)
        log_probs = jax.nn.log_softmax(logits).reshape(batch, beam_size, -1)
        return _select(state._replace(cache=cache), log_probs, length_penalty)

    state = state._replace(cache=resize_cache(state.cache, length))
    return jax.lax.while_loop(lambda s: (s.position < length) & ~s.done, take_step, state)


def best(state: BeamState) -> tuple[jax.Array, jax.Array]:
    """Tokens and their log-probabilities, [batch, max_tokens], of each segment's best hypothesis."""
    has_ended = jnp.isfinite(state.ended.scores[:, :1])
    tokens = jnp.where(has_ended, state.ended.tokens[:, 0], state.live.tokens[:, 0])
    log_probs = jnp.where(has_ended, state.ended.log_probs[:, 0], state.live.log_probs[:, 0])
    return tokens, log_probs


def _select(state: BeamState, log_probs: jax.Array, length_penalty: jax.Array | float) -> BeamState:
    """Extends the live hypotheses by the best next tokens, given [batch, beam, vocab]."""
    extended, parents = _extend(state.live, log_probs, state.position)
    is_end = jax.lax.dynamic_index_in_dim(extended.tokens, state.position, axis=2, keepdims=False) == EOS_ID
    beam_size = log_probs.shape[1]
    live_scores = jnp.where(is_end, -jnp.inf, extended.scores)
    live, kept = _top(extended._replace(scores=live_scores), beam_size)
    penalty = _penalty(state.position + 1, length_penalty)
    end_scores = jnp.where(is_end, extended.scores / penalty, -jnp.inf)
    candidates = jax.tree.map(
        lambda a, b: jnp.concatenate([a, b], axis=1), state.ended, extended._replace(scores=end_scores)
    )
    ended, _ = _top(candidates, beam_size)
    # Log-probabilities only fall as a hypothesis grows, and the penalty helps longer ones most.
    attainable = live.scores[:, 0] / _penalty(live.tokens.shape[-1], length_penalty)
    return BeamState(
        position=state.position + 1,
        live=live,
        ended=ended,
        cache=_pick_rows(state.cache, _pick(parents, kept)),
        done=jnp.all(attainable <= ended.scores[:, 0]),
    )


def _extend(live: Hypotheses, log_probs: jax.Array, position: jax.Array) -> tuple[Hypotheses, jax.Array]:
    """The 2 * beam best continuations by one token, and the hypothesis that each comes from.

    At most `beam` of them end here (one a hypothesis), so that `beam` live ones remain.
    """
    batch, beam_size, vocab_size = log_probs.shape
    totals = (live.scores[..., None] + log_probs).reshape(batch, -1)
    scores, flat = jax.lax.top_k(totals, 2 * beam_size)
    parents = flat // vocab_size
    token_log_probs = jnp.take_along_axis(log_probs.reshape(batch, -1), flat, axis=1)

    def append(sequences: jax.Array, new: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_index_in_dim(_pick(sequences, parents), new, position, axis=2)

    tokens = append(live.tokens, (flat % vocab_size).astype(jnp.int32))
    return Hypotheses(tokens, append(live.log_probs, token_log_probs), scores), parents


def _top(hypotheses: Hypotheses, count: int) -> tuple[Hypotheses, jax.Array]:
    """The best so many of each segment, and their indices [batch, count]."""
    _, indices = jax.lax.top_k(hypotheses.scores, count)
    return jax.tree.map(lambda x: _pick(x, indices), hypotheses), indices


def _pick(x: jax.Array, indices: jax.Array) -> jax.Array:
    """From [batch, beam, ...] the entries [batch, n, ...] at indices [batch, n]."""
    return x[jnp.arange(x.shape[0])[:, None], indices]


def _pick_rows(cache: KeysValues, parents: jax.Array) -> KeysValues:
    """The cache of rows that continue the hypotheses `parents` [batch, beam]."""
    batch, beam_size = parents.shape
    rows = (jnp.arange(batch)[:, None] * beam_size + parents).reshape(-1)
    return jax.tree.map(lambda x: x[rows], cache)


def _penalty(num_tokens: Any, length_penalty: jax.Array | float) -> jax.Array:
    return ((5.0 + jnp.asarray(num_tokens, jnp.float32)) / 6.0) ** length_penalty
