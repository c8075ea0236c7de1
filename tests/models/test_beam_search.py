"""Beam search against an enumeration of every sequence."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from mt3.models import beam_search, cached_decoder
from mt3.models.decoding import generate

EOS = 1
VOCAB_SIZE = 4
MAX_TOKENS = 4


_fuse_weights = jax.jit(cached_decoder.fuse_weights, static_argnums=(0, 2))
_encode = jax.jit(cached_decoder.encode, static_argnums=0)


@pytest.fixture(scope="module")
def small(tiny_config, random_params):
    config = dataclasses.replace(tiny_config, vocab_size=VOCAB_SIZE)
    features = np.random.default_rng(0).normal(size=(4, 6, 12)).astype(np.float32)
    return config, random_params(config, seed=12), features


def _every_sequence():
    """All sequences of at most MAX_TOKENS that end, as rows padded with 0."""
    rows = []
    for length in range(MAX_TOKENS):
        for prefix in itertools.product([i for i in range(VOCAB_SIZE) if i != EOS], repeat=length):
            rows.append([*prefix, EOS] + [0] * (MAX_TOKENS - length - 1))
    return np.array(rows, np.int32)


def _scores(teacher_forced, config, params, features, sequences, length_penalty):
    """Score of each sequence for one segment's features [1, frames, input_features]."""
    previous = np.pad(sequences, ((0, 0), (1, 0)))[:, :-1]
    frames = np.repeat(features, len(sequences), axis=0)
    logits = teacher_forced(config, params, frames, previous)
    log_probs = np.asarray(jax.nn.log_softmax(logits))
    chosen = np.take_along_axis(log_probs, sequences[..., None], axis=-1)[..., 0]
    lengths = (sequences == EOS).argmax(axis=1) + 1
    totals = np.where(np.arange(MAX_TOKENS) < lengths[:, None], chosen, 0).sum(axis=1)
    return totals / ((5 + lengths) / 6) ** length_penalty


@pytest.mark.parametrize("length_penalty", [0.0, 0.6, 3.0])
def test_wide_enough_beam_finds_the_best_of_all_sequences(small, teacher_forced, length_penalty):
    config, params, features = small
    sequences = _every_sequence()
    tokens, log_probs = generate(
        config,
        params,
        features,
        max_tokens=MAX_TOKENS,
        beam_size=27,
        length_penalty=length_penalty,
        return_log_probs=True,
        cache_lengths=[2, MAX_TOKENS],
    )
    for segment, found, found_log_probs in zip(features, np.asarray(tokens), log_probs, strict=True):
        scores = _scores(teacher_forced, config, params, segment[None], sequences, length_penalty)
        np.testing.assert_array_equal(found, sequences[scores.argmax()])
        length = found.tolist().index(EOS) + 1
        score = np.sum(found_log_probs) / ((5 + length) / 6) ** length_penalty
        np.testing.assert_allclose(score, scores.max(), atol=1e-4)


def test_beam_finds_likelier_sequences_than_greedy(small):
    config, params, features = small
    options = {"max_tokens": MAX_TOKENS, "return_log_probs": True}
    tokens, greedy = generate(config, params, features, **options)
    _, beam = generate(config, params, features, beam_size=27, length_penalty=0.0, **options)
    gains = np.sum(beam, axis=1) - np.sum(greedy, axis=1)
    gains = gains[np.any(np.asarray(tokens) == EOS, axis=1)]
    assert np.all(gains > -1e-5)
    assert np.any(gains > 1e-3)


def test_beam_of_one_is_greedy(golden, golden_params, golden_config):
    features = golden["encoder_input_tokens"]
    tokens = generate(golden_config, golden_params, features, max_tokens=48, beam_size=1)
    np.testing.assert_array_equal(tokens, golden["beam1_tokens"])
    # The search itself, which `generate` does not enter for a beam of one.
    weights = _fuse_weights(golden_config, golden_params, 48)
    encoded = _encode(golden_config, golden_params, features)
    state = beam_search.initial_state(golden_config, len(features), 1, 48, 48)
    state = beam_search.advance(golden_config, weights, encoded, state, length_penalty=0.6, length=48)
    np.testing.assert_array_equal(beam_search.best(state)[0], golden["beam1_tokens"])


def test_a_segment_does_not_depend_on_its_batch(small):
    config, params, features = small
    options = {"max_tokens": 9, "beam_size": 3}
    together = np.asarray(generate(config, params, features, **options))
    for row, expected in enumerate(together):
        alone = generate(config, params, features[row : row + 1], **options)
        np.testing.assert_array_equal(alone[0], expected)


def test_stops_when_nothing_better_can_come(small):
    config, params, features = small
    weights = _fuse_weights(config, params, 200)
    encoded = _encode(config, params, features)
    state = beam_search.initial_state(config, len(features), 3, 200, 200)
    state = beam_search.advance(config, weights, encoded, state, length_penalty=0.0, length=200)
    assert bool(state.done)
    assert int(state.position) < 200
