"""Generates tokens from input features: greedily, by sampling, or by beam search.

The encoder runs once and so do the keys and values of its frames. The decoder
then takes one step a token under `lax.while_loop`, until every segment has
ended. The cache of earlier positions grows in stages, so that an early step
does not attend over the 1024 positions that the longest segment may need; each
stage is compiled on first use only, and segments that end early never pay for
the later ones. Here all segments of a batch begin together and wait for the
longest; `mt3.models.segment_decoding` gives the places of those that have ended
to others.

What `generate` returns for a segment does not depend on the other segments of
its batch, nor on the stages, up to rounding.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from mt3.models import beam_search, row_decoding
from mt3.models.beam_search import BeamState
from mt3.models.cached_decoder import DecoderWeights, KeysValues, encode, fuse_weights
from mt3.models.row_decoding import RowState, TokenChoice
from mt3.models.token_constraints import ConstraintConfig
from mt3.models.transformer import TransformerConfig

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
    constraint: ConstraintConfig | None = None,
    quantize: bool = False,
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
      constraint: which tokens may follow which; not for beam search.
      quantize: keep the decoder's kernels in 8 bits.

    Returns:
      int32 tokens [batch, max_tokens]: up to and with the end-of-sequence id 1,
      then 0. With `return_log_probs`, also float32 [batch, max_tokens], 0 after
      the end.

    Raises:
      ValueError: an option is out of its range, or two exclude each other.
    """
    check_options(max_tokens, temperature, beam_size, length_penalty, rng is not None, constraint)
    lengths = _checked_cache_lengths(max_tokens, cache_lengths)
    weights, encoded = _prepare(config, max_tokens, quantize, params, features)
    batch = features.shape[0]
    if beam_size > 1:
        state = beam_search.initial_state(config, batch, beam_size, max_tokens, lengths[0])
        advance = functools.partial(beam_search.advance, length_penalty=length_penalty)
        state = _search(lambda s, n: advance(config, weights, encoded, s, length=n), state, lengths)
        tokens, log_probs = beam_search.best(state)
    else:
        choice = TokenChoice(temperature > 0.0, constraint)
        keys = None if temperature == 0.0 or rng is None else segment_keys(rng, batch)
        state = _start(config, choice, encoded, keys, max_tokens=max_tokens, length=lengths[0])
        state = _generate_rows(config, choice, weights, state, temperature, lengths)
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


def _search(
    advance: Callable[[BeamState, int], BeamState], state: BeamState, lengths: Sequence[int]
) -> BeamState:
    """Beam search through the stages, until all is done."""
    for length in lengths:
        state = advance(state, length)
        if length == lengths[-1] or bool(state.done):
            break
    return state


def _generate_rows(
    config: TransformerConfig,
    choice: TokenChoice,
    weights: DecoderWeights,
    state: RowState,
    temperature: float,
    lengths: Sequence[int],
) -> RowState:
    """All rows from their start through the stages, until all have ended."""
    for length in lengths:
        if length != lengths[0]:
            state = row_decoding.resize_rows(state, length)
        state = row_decoding.advance(config, choice, weights, state, temperature, lengths[-1], 0)
        if length == lengths[-1] or not bool(state.running.any()):
            break
    return state


@functools.partial(jax.jit, static_argnames=("config", "max_tokens", "quantize"))
def _prepare(
    config: TransformerConfig, max_tokens: int, quantize: bool, params: Mapping[str, Any], features: jax.Array
) -> tuple[DecoderWeights, KeysValues]:
    weights = fuse_weights(config, params, max_tokens, quantize=quantize)
    return weights, encode(config, params, features)


@functools.partial(jax.jit, static_argnames=("config", "choice", "max_tokens", "length"))
def _start(
    config: TransformerConfig,
    choice: TokenChoice,
    encoded: KeysValues,
    keys: jax.Array | None,
    *,
    max_tokens: int,
    length: int,
) -> RowState:
    limits = jnp.full(len(encoded.keys[0]), max_tokens, jnp.int32)
    return row_decoding.start_rows(
        config, choice, encoded, limits, keys, max_tokens=max_tokens, length=length
    )


def segment_keys(rng: jax.Array, batch: int) -> jax.Array:
    """A random stream a segment, the same whatever the size of its batch."""
    if rng.ndim == 1:
        return rng
    return jax.vmap(functools.partial(jax.random.fold_in, rng))(jnp.arange(batch))


def check_options(
    max_tokens: int,
    temperature: float,
    beam_size: int,
    length_penalty: float,
    has_rng: bool,
    constraint: ConstraintConfig | None = None,
) -> None:
    """Raises a ValueError for options of `generate` out of range, or that exclude each other."""
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
    if temperature > 0.0 and not has_rng:
        raise ValueError(f"temperature is {temperature} without a random key: give rng=jax.random.key(seed)")
    if constraint is not None and beam_size > 1:
        raise ValueError(f"beam_size is {beam_size} with constrained tokens: use one or the other")


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
