"""Generates tokens from input features: greedily, by sampling, or by beam search.

The encoder runs once and so do the keys and values of its frames. The decoder
then takes one step a token under `lax.while_loop`, until every segment has
ended. The cache of earlier positions grows in stages, so that an early step
does not attend over the 1024 positions that the longest segment may need; each
stage is compiled on first use only, and segments that end early never pay for
the later ones.

What `generate` returns for a segment does not depend on the other segments of
its batch, nor on the stages, up to rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, TypeVar

import jax
import jax.numpy as jnp

from mt3.models import beam_search
from mt3.models.cached_decoder import (
    DecoderWeights,
    KeysValues,
    empty_cache,
    encode,
    fuse_weights,
    grow_cache,
    step,
)
from mt3.models.transformer import TransformerConfig
from mt3.symbolic.vocabularies import EOS_ID, PAD_ID

_CACHE_STEP = 128


def generate(
    config: TransformerConfig,
    params: Mapping[str, Any],
    features: jax.Array,
    *,
    max_tokens: int,
    temperature: float = 0.0,
    beam_size: int = 1,
    length_penalty: float = 0.6,
    rng: jax.Array | None = None,
    return_log_probs: bool = False,
    cache_lengths: Sequence[int] | None = None,
) -> Any:
    """Generates the tokens of a batch of segments. Not to be called under `jit`: it jits its parts.

    Args:
      config: sizes of the network.
      params: of the whole `Transformer`.
      features: [batch, frames, input_features].
      max_tokens: most tokens of a segment, its end included.
      temperature: 0 takes the most likely token; above, tokens are drawn from
        the logits divided by it, each segment with its own random stream.
      beam_size: above 1, beam search with so many hypotheses.
      length_penalty: of beam search; see `mt3.models.beam_search`.
      rng: needed when the temperature is above 0: a key, or one for each segment, [batch].
      return_log_probs: also return the log-probability of each token given
        those before it, as the network has it (at temperature 1).
      cache_lengths: increasing lengths of the cache to go through, the last at
        least `max_tokens`; `default_cache_lengths(max_tokens)` if None.

    Returns:
      int32 tokens [batch, max_tokens]: up to and with the end-of-sequence id 1,
      then 0. With `return_log_probs`, also float32 [batch, max_tokens], 0 after
      the end.

    Raises:
      ValueError: an option is out of its range, or two exclude each other.
    """
    _check_options(max_tokens, temperature, beam_size, length_penalty, rng)
    lengths = _checked_cache_lengths(max_tokens, cache_lengths)
    weights, encoded = _prepare(config, max_tokens, params, features)
    batch = features.shape[0]
    if beam_size > 1:
        state = beam_search.initial_state(config, batch, beam_size, max_tokens, lengths[0])
        advance = functools.partial(beam_search.advance, length_penalty=length_penalty)
        state = _run(lambda s, n: advance(config, weights, encoded, s, length=n), state, lengths)
        tokens, log_probs = beam_search.best(state)
    else:
        keys = None if temperature == 0.0 or rng is None else _segment_keys(rng, batch)
        state = _initial_state(config, batch, max_tokens, lengths[0])
        state = _run(
            lambda s, n: _advance(config, weights, encoded, s, keys, temperature, length=n), state, lengths
        )
        tokens, log_probs = state.tokens, state.log_probs
    return (tokens, log_probs) if return_log_probs else tokens


def default_cache_lengths(max_tokens: int) -> list[int]:
    """Cache lengths that grow by about half, in multiples of 128, up to `max_tokens`.

    More stages attend over fewer empty positions but compile longer.
    """
    lengths = [_CACHE_STEP]
    while lengths[-1] < max_tokens:
        lengths.append(lengths[-1] + max(_CACHE_STEP, lengths[-1] // 2 // _CACHE_STEP * _CACHE_STEP))
    return [*lengths[:-1], max_tokens]


class _Stoppable(Protocol):
    @property
    def done(self) -> jax.Array: ...


_State = TypeVar("_State", bound=_Stoppable)


def _run(advance: Callable[[_State, int], _State], state: _State, lengths: Sequence[int]) -> _State:
    """Advances through the stages until all has ended."""
    for length in lengths:
        state = advance(state, length)
        if length == lengths[-1] or bool(state.done):
            break
    return state


@functools.partial(jax.jit, static_argnames=("config", "max_tokens"))
def _prepare(
    config: TransformerConfig, max_tokens: int, params: Mapping[str, Any], features: jax.Array
) -> tuple[DecoderWeights, KeysValues]:
    return fuse_weights(config, params, max_tokens), encode(config, params, features)


class _SamplingState(NamedTuple):
    """One sequence a segment, [batch, ...], all at the same position."""

    position: jax.Array  # how many tokens there are
    previous: jax.Array  # [batch], the last of them
    tokens: jax.Array  # [batch, max_tokens]
    log_probs: jax.Array  # [batch, max_tokens]
    ended: jax.Array  # [batch]
    cache: KeysValues

    @property
    def done(self) -> jax.Array:
        return jnp.all(self.ended)


def _initial_state(config: TransformerConfig, batch: int, max_tokens: int, length: int) -> _SamplingState:
    return _SamplingState(
        position=jnp.int32(0),
        previous=jnp.zeros(batch, jnp.int32),
        tokens=jnp.zeros((batch, max_tokens), jnp.int32),
        log_probs=jnp.zeros((batch, max_tokens), jnp.float32),
        ended=jnp.zeros(batch, bool),
        cache=empty_cache(config, batch, length),
    )


@functools.partial(jax.jit, static_argnames=("config", "length"))
def _advance(
    config: TransformerConfig,
    weights: DecoderWeights,
    encoded: KeysValues,
    state: _SamplingState,
    keys: jax.Array | None,
    temperature: jax.Array | float,
    *,
    length: int,
) -> _SamplingState:
    """Generates up to position `length`, or until every segment has ended."""

    def take_step(state: _SamplingState) -> _SamplingState:
        logits, cache = step(config, weights, encoded, state.cache, state.previous, state.position)
        chosen = _choose(logits, keys, state.position, temperature)
        log_prob = jnp.take_along_axis(jax.nn.log_softmax(logits), chosen[:, None], axis=-1)[:, 0]
        chosen = jnp.where(state.ended, PAD_ID, chosen)
        log_prob = jnp.where(state.ended, 0.0, log_prob)
        return _SamplingState(
            position=state.position + 1,
            previous=chosen,
            tokens=jax.lax.dynamic_update_index_in_dim(state.tokens, chosen, state.position, axis=1),
            log_probs=jax.lax.dynamic_update_index_in_dim(state.log_probs, log_prob, state.position, axis=1),
            ended=state.ended | (chosen == EOS_ID),
            cache=cache,
        )

    state = state._replace(cache=grow_cache(state.cache, length))
    return jax.lax.while_loop(lambda s: (s.position < length) & ~s.done, take_step, state)


def _choose(
    logits: jax.Array, keys: jax.Array | None, position: jax.Array, temperature: jax.Array | float
) -> jax.Array:
    """The next token of each segment, int32 [batch]: the most likely, or with `keys` a drawn one."""
    if keys is None:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)

    def draw(key: jax.Array, row: jax.Array) -> jax.Array:
        return jax.random.categorical(jax.random.fold_in(key, position), row / temperature)

    return jax.vmap(draw)(keys, logits).astype(jnp.int32)


def _segment_keys(rng: jax.Array, batch: int) -> jax.Array:
    """A random stream a segment, the same whatever the size of its batch."""
    if rng.ndim == 1:
        return rng
    return jax.vmap(functools.partial(jax.random.fold_in, rng))(jnp.arange(batch))


def _check_options(
    max_tokens: int, temperature: float, beam_size: int, length_penalty: float, rng: jax.Array | None
) -> None:
    if max_tokens < 1:
        raise ValueError(f"max_tokens is {max_tokens}: give at least 1")
    if not 0.0 <= temperature < float("inf"):
        raise ValueError(f"temperature is {temperature}: give a number of at least 0")
    if beam_size < 1:
        raise ValueError(f"beam_size is {beam_size}: give at least 1")
    if length_penalty < 0.0:
        raise ValueError(f"length_penalty is {length_penalty}: give a number of at least 0")
    if temperature > 0.0 and beam_size > 1:
        raise ValueError(f"temperature is {temperature} and beam_size {beam_size}: use one or the other")
    if temperature > 0.0 and rng is None:
        raise ValueError(f"temperature is {temperature} without a random key: give rng=jax.random.key(seed)")


def _checked_cache_lengths(max_tokens: int, lengths: Sequence[int] | None) -> list[int]:
    if lengths is None:
        return default_cache_lengths(max_tokens)
    needed = [length for length in lengths if length < max_tokens] + [max_tokens]
    if not lengths or min(lengths) < 1 or sorted(set(lengths)) != list(lengths) or lengths[-1] < max_tokens:
        raise ValueError(
            f"cache_lengths are {list(lengths)}: give increasing positive lengths, "
            f"the last at least max_tokens ({max_tokens})"
        )
    return needed
