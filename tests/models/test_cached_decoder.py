"""The decoder that steps against the one that sees whole sequences."""

import dataclasses

import jax
import numpy as np
import pytest

from mt3.models import cached_decoder

_fuse_weights = jax.jit(cached_decoder.fuse_weights, static_argnums=(0, 2))
_encode = jax.jit(cached_decoder.encode, static_argnums=0)
_step = jax.jit(cached_decoder.step, static_argnums=0)


def _stepped_logits(config, params, frames, tokens, cache_length):
    """Logits [rows, length, vocab], one `step` at a time, with the cache grown on the way."""
    weights = _fuse_weights(config, params, tokens.shape[1])
    encoded = _encode(config, params, frames)
    cache = cached_decoder.empty_cache(config, tokens.shape[0], cache_length)
    logits = []
    for position in range(tokens.shape[1]):
        if position == cache_length:
            cache = cached_decoder.resize_cache(cache, tokens.shape[1])
        row, cache = _step(
            config, weights, encoded, cache, tokens[:, position], np.full(len(tokens), position)
        )
        logits.append(row)
    return np.stack(logits, axis=1)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 2e-5), ("bfloat16", 0.15)])
def test_steps_give_the_teacher_forced_logits(tiny_config, random_params, teacher_forced, dtype, tolerance):
    config = dataclasses.replace(tiny_config, activation_dtype=dtype)
    params = random_params(config, seed=0)
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(3, 6, 12)).astype(np.float32)
    tokens = rng.integers(0, config.vocab_size, (3, 9)).astype(np.int32)
    expected = teacher_forced(config, params, frames, tokens)
    logits = _stepped_logits(config, params, frames, tokens, cache_length=4)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, rtol=0, atol=tolerance)


def test_rows_of_a_segment_share_its_frames(tiny_config, random_params, teacher_forced):
    params = random_params(tiny_config, seed=0)
    rng = np.random.default_rng(1)
    frames = rng.normal(size=(2, 6, 12)).astype(np.float32)
    tokens = rng.integers(0, tiny_config.vocab_size, (6, 5)).astype(np.int32)
    expected = teacher_forced(tiny_config, params, np.repeat(frames, 3, axis=0), tokens)
    logits = _stepped_logits(tiny_config, params, frames, tokens, cache_length=5)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=2e-5)
