"""Greedy decoding and sampling: right tokens, early stop, one compilation a shape."""

import itertools

import jax
import numpy as np
import pytest

from mt3.models import row_decoding
from mt3.models.decoding import default_cache_lengths, generate

EOS = 1


@pytest.fixture(scope="module")
def ending(tiny_config, random_params):
    """Parameters and features whose greedy sequences end at different lengths."""
    params = random_params(tiny_config, seed=15)
    features = np.random.default_rng(0).normal(size=(12, 6, 12)).astype(np.float32)
    return params, features


def _lengths(tokens):
    """Tokens of each row up to and with its end, or all where it has none."""
    ends = tokens == EOS
    return np.where(ends.any(axis=1), ends.argmax(axis=1) + 1, tokens.shape[1])


def test_greedy_tokens_equal_the_published(golden, golden_params, golden_config):
    tokens = generate(golden_config, golden_params, golden["encoder_input_tokens"], max_tokens=48)
    np.testing.assert_array_equal(tokens, golden["greedy_tokens"])


def test_growing_the_cache_changes_nothing(golden, golden_params, golden_config):
    tokens = generate(
        golden_config, golden_params, golden["encoder_input_tokens"], max_tokens=48, cache_lengths=[5, 16, 64]
    )
    np.testing.assert_array_equal(tokens, golden["greedy_tokens"])


def test_sequences_end_once_and_are_padded(tiny_config, ending):
    tokens, log_probs = map(np.asarray, generate(tiny_config, *ending, max_tokens=30, return_log_probs=True))
    lengths = _lengths(tokens)
    assert tokens.dtype == np.int32
    assert len(set(lengths)) > 2
    assert 30 in lengths
    after_end = np.arange(30) >= lengths[:, None]
    np.testing.assert_array_equal(tokens[after_end], 0)
    np.testing.assert_array_equal(log_probs[after_end], 0)
    assert np.all(log_probs[~after_end] < 0)


def test_log_probs_are_those_of_teacher_forcing(tiny_config, ending, teacher_forced):
    params, features = ending
    tokens, log_probs = generate(tiny_config, params, features, max_tokens=30, return_log_probs=True)
    tokens = np.asarray(tokens)
    previous = np.pad(tokens, ((0, 0), (1, 0)))[:, :-1]
    logits = teacher_forced(tiny_config, params, features, previous)
    expected = np.take_along_axis(np.asarray(jax.nn.log_softmax(logits)), tokens[..., None], axis=-1)[..., 0]
    counts = np.arange(30) < _lengths(tokens)[:, None]
    np.testing.assert_allclose(np.asarray(log_probs)[counts], expected[counts], atol=1e-4)
    greedy = np.asarray(logits).argmax(axis=-1)
    np.testing.assert_array_equal(tokens[counts], greedy[counts])


def test_a_segment_does_not_depend_on_its_batch(tiny_config, ending):
    params, features = ending
    together = np.asarray(generate(tiny_config, params, features, max_tokens=30))
    for row in (0, 5):
        alone = generate(tiny_config, params, features[row : row + 1], max_tokens=30)
        np.testing.assert_array_equal(alone[0], together[row])


def test_max_tokens_cuts(tiny_config, ending):
    long = np.asarray(generate(tiny_config, *ending, max_tokens=30))
    short = np.asarray(generate(tiny_config, *ending, max_tokens=7))
    np.testing.assert_array_equal(short, long[:, :7])


def test_stops_when_every_segment_has_ended(tiny_config, ending, monkeypatch):
    params, features = ending
    everything = np.asarray(generate(tiny_config, params, features, max_tokens=30))
    ends = np.flatnonzero((everything == EOS).any(axis=1))
    assert len(ends) > 1
    positions = []
    advance = row_decoding.advance

    def record(*args):
        state = advance(*args)
        positions.append(int(state.positions.max()))
        return state

    monkeypatch.setattr(row_decoding, "advance", record)
    stages = [10, 20, 29, 30]
    tokens = generate(tiny_config, params, features[ends], max_tokens=30, cache_lengths=stages)
    longest = _lengths(everything[ends]).max()
    np.testing.assert_array_equal(tokens, everything[ends])
    assert positions[-1] == longest < 30
    assert len(positions) == np.searchsorted(stages, longest) + 1


def test_compiles_once_a_shape(tiny_config, ending, monkeypatch):
    params, features = ending
    traced = []
    step = row_decoding.step
    monkeypatch.setattr(row_decoding, "step", lambda *args: traced.append(args[4].shape) or step(*args))
    options = {"max_tokens": 31, "cache_lengths": [31]}  # a shape of this test's own
    generate(tiny_config, params, features, **options)
    assert len(traced) == 1
    generate(tiny_config, params, features[::-1], **options)
    assert len(traced) == 1
    generate(tiny_config, params, features[:5], **options)
    assert traced == [(12,), (5,)]
    # One more for sampling; its temperature may change freely.
    for temperature in (0.5, 2.0):
        generate(tiny_config, params, features, temperature=temperature, rng=jax.random.key(0), **options)
    assert len(traced) == 3


def test_sampling_at_low_temperature_is_greedy(tiny_config, ending):
    greedy = generate(tiny_config, *ending, max_tokens=30)
    sampled = generate(tiny_config, *ending, max_tokens=30, temperature=1e-5, rng=jax.random.key(0))
    np.testing.assert_array_equal(sampled, greedy)


def test_samples_follow_the_distribution(tiny_config, ending, teacher_forced):
    params, features = ending
    count, temperature = 4000, 1.5
    one = np.repeat(features[:1], count, axis=0)
    drawn = generate(tiny_config, params, one, max_tokens=1, temperature=temperature, rng=jax.random.key(3))
    logits = teacher_forced(tiny_config, params, features[:1], np.zeros((1, 1), np.int32))
    expected = np.asarray(jax.nn.softmax(logits[0, 0] / temperature))
    observed = np.bincount(np.asarray(drawn)[:, 0], minlength=tiny_config.vocab_size) / count
    assert np.all(np.abs(observed - expected) < 5 * np.sqrt(expected * (1 - expected) / count) + 1e-3)


def test_a_segments_samples_depend_on_key_and_place_alone(tiny_config, ending):
    params, features = ending

    def sample(seed, batch):
        rng = jax.random.key(seed)
        return np.asarray(
            generate(tiny_config, params, features[:batch], max_tokens=12, temperature=1.0, rng=rng)
        )

    np.testing.assert_array_equal(sample(0, 12)[:5], sample(0, 5))
    assert np.any(sample(0, 5) != sample(1, 5))


@pytest.mark.parametrize("max_tokens", [1, 128, 129, 300, 1024, 5000])
def test_default_cache_lengths(max_tokens):
    lengths = default_cache_lengths(max_tokens)
    assert lengths[-1] == max_tokens
    assert all(length % 128 == 0 for length in lengths[:-1])
    for shorter, longer in itertools.pairwise(lengths):
        assert shorter < longer <= shorter + max(128, shorter // 2)


def test_default_cache_lengths_of_the_published_limit():
    assert default_cache_lengths(1024) == [128, 256, 384, 512, 768, 1024]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1.0"),
        ({"temperature": 1.0}, "without a random key"),
        ({"beam_size": 0}, "beam_size is 0"),
        ({"beam_size": 2, "length_penalty": -0.5}, "length_penalty is -0.5"),
        ({"beam_size": 2, "temperature": 1.0}, "one or the other"),
        ({"cache_lengths": []}, "cache_lengths are"),
        ({"cache_lengths": [8, 4]}, "cache_lengths are"),
        ({"cache_lengths": [2, 3]}, "at least max_tokens"),
    ],
)
def test_refuses_options_that_make_no_sense(tiny_config, ending, options, message):
    with pytest.raises(ValueError, match=message):
        generate(tiny_config, *ending, **{"max_tokens": 5, **options})
