"""Segments that share rows, against the same segments decoded together or alone."""

import dataclasses
import itertools

import jax
import numpy as np
import pytest

from mt3.models import segment_decoding
from mt3.models.decoding import generate
from mt3.models.segment_decoding import (
    ENCODER_BATCH,
    BatchDecoder,
    ContinuousDecoder,
    DecoderSettings,
    Segment,
    make_decoder,
    prepare,
)

EOS = 1
MAX_TOKENS = 30


@pytest.fixture(scope="module")
def ending(tiny_config, random_params):
    """Parameters and features whose greedy sequences end at different lengths."""
    params = random_params(tiny_config, seed=15)
    features = np.random.default_rng(0).normal(size=(24, 6, 12)).astype(np.float32)
    return params, features


def to_features(inputs):
    return inputs


def decoder_of(config, params, num_segments, **options):
    settings = DecoderSettings(max_tokens=MAX_TOKENS, **options)
    return make_decoder(prepare(config, params, to_features, settings), settings, num_segments)


def decode_all(decoder, segments):
    """(name -> tokens, name -> log_probs, how many were under way each round); adds as there is room."""
    waiting, tokens, log_probs, rounds = list(segments), {}, {}, []
    while waiting or not decoder.is_empty:
        room = decoder.room
        if waiting[:room]:
            decoder.add(waiting[:room])
            waiting = waiting[room:]
        ended = decoder.advance(more_waiting=bool(waiting))
        rounds.append(len(ended))
        for segment in ended:
            assert segment.name not in tokens
            tokens[segment.name], log_probs[segment.name] = segment.tokens, segment.log_probs
    return tokens, log_probs, rounds


def as_segments(features, **options):
    return [Segment(number, own, **options) for number, own in enumerate(features)]


def without_padding(row):
    ends = np.flatnonzero(row == EOS)
    return row[: ends[0] + 1] if len(ends) else row


@pytest.mark.parametrize("num_rows", [1, 5])
def test_continuous_batches_equal_a_whole_batch(tiny_config, ending, num_rows):
    params, features = ending
    expected, expected_probs = generate(
        tiny_config, params, features, max_tokens=MAX_TOKENS, return_log_probs=True
    )
    decoder = decoder_of(tiny_config, params, num_rows)
    assert isinstance(decoder, ContinuousDecoder)
    tokens, log_probs, rounds = decode_all(decoder, as_segments(features))
    assert sorted(tokens) == list(range(len(features)))
    for number, row in enumerate(np.asarray(expected)):
        np.testing.assert_array_equal(tokens[number], without_padding(row))
        probs = np.asarray(expected_probs)[number, : len(tokens[number])]
        np.testing.assert_allclose(log_probs[number], probs, atol=1e-4)
    # They did not wait for each other.
    assert len(rounds) > len(features) / num_rows or num_rows == 1


def test_a_row_does_not_depend_on_its_neighbours_at_all(tiny_config, ending):
    """Not even in rounding: which segments follow in which row changes nothing."""
    params, features = ending
    seen = []
    for order in (range(24), reversed(range(24)), [5]):
        segments = [Segment(number, features[number]) for number in order]
        tokens, log_probs, _ = decode_all(decoder_of(tiny_config, params, 4, fixed_shapes=True), segments)
        seen.append((tokens[5], log_probs[5]))
    for tokens, log_probs in seen[1:]:
        np.testing.assert_array_equal(tokens, seen[0][0])
        np.testing.assert_array_equal(log_probs, seen[0][1])


def test_caches_grow_and_shrink_with_the_longest_row(tiny_config, ending):
    params, features = ending
    settings = DecoderSettings(max_tokens=300)
    silent = jax.tree.map(np.array, params)
    silent["decoder"]["logits_dense"]["kernel"][:, EOS] = 0.0  # never the likeliest
    prepared = prepare(tiny_config, silent, to_features, settings)
    decoder = make_decoder(prepared, settings, 2)
    limits = [300, 20, 140, 30]
    segments = [Segment(number, features[number], limit) for number, limit in enumerate(limits)]
    lengths = []
    advance = decoder.advance

    def watched(**options):
        ended = advance(**options)
        lengths.append(decoder._state.cache.keys[0].shape[2])
        return ended

    decoder.advance = watched
    tokens, _, _ = decode_all(decoder, segments)
    assert [len(tokens[number]) for number in range(4)] == limits
    grown = [length for length, _ in itertools.groupby(lengths)]
    assert grown[:3] == [128, 256, 300]
    whole = np.asarray(generate(tiny_config, silent, features[:4], max_tokens=300))
    for number, limit in enumerate(limits):
        np.testing.assert_array_equal(tokens[number], whole[number, :limit])


def test_room_counts_what_is_under_way(tiny_config, ending):
    params, features = ending
    decoder = decoder_of(tiny_config, params, 3)
    assert decoder.room == ENCODER_BATCH
    decoder.add(as_segments(features[:ENCODER_BATCH]))
    assert decoder.room == 0
    assert decoder.advance(more_waiting=True)
    assert decoder.room == 0  # one of those that wait took the place


def test_dropped_segments_are_not_heard_of(tiny_config, ending):
    params, features = ending
    decoder = decoder_of(tiny_config, params, 2)
    decoder.add(as_segments(features[:6]))
    decoder.drop({0, 4})
    tokens, _, _ = decode_all(decoder, [])
    assert sorted(tokens) == [1, 2, 3, 5]
    assert decoder.is_empty


def test_sampling_depends_on_a_segments_key_alone(tiny_config, ending):
    params, features = ending
    keys = jax.random.split(jax.random.key(3), len(features))
    segments = [Segment(n, own, key=keys[n]) for n, own in enumerate(features)]
    seen = [
        decode_all(decoder_of(tiny_config, params, rows, temperature=1.0), segments)[0] for rows in (2, 5)
    ]
    for number in range(len(features)):
        np.testing.assert_array_equal(seen[0][number], seen[1][number])
    expected = generate(tiny_config, params, features, max_tokens=MAX_TOKENS, temperature=1.0, rng=keys)
    np.testing.assert_array_equal(seen[0][7], without_padding(np.asarray(expected)[7]))


@pytest.mark.parametrize("fixed_shapes", [False, True])
def test_beam_search_decodes_whole_batches(tiny_config, ending, fixed_shapes):
    params, features = ending
    decoder = decoder_of(tiny_config, params, 4, beam_size=2, fixed_shapes=fixed_shapes)
    assert isinstance(decoder, BatchDecoder)
    tokens, _, rounds = decode_all(decoder, as_segments(features[:11]))
    assert rounds == [4, 4, 3]
    expected = generate(tiny_config, params, features[:11], max_tokens=MAX_TOKENS, beam_size=2)
    for number, row in enumerate(np.asarray(expected)):
        np.testing.assert_array_equal(tokens[number], without_padding(row))


@pytest.mark.parametrize(
    ("num_segments", "batch_size", "num_parts", "size"),
    [(1, 8, 1, 1), (3, 8, 1, 4), (5, 8, 1, 8), (5, 6, 1, 6), (3, 8, 4, 4), (5, 8, 4, 8)],
)
def test_batches_are_filled_up_to_powers_of_two(
    tiny_config, ending, monkeypatch, num_segments, batch_size, num_parts, size
):
    params, features = ending
    sizes = []

    def generate(config, params, features, **options):
        sizes.append(len(features))
        return np.full((len(features), 3), EOS), np.zeros((len(features), 3))

    monkeypatch.setattr(segment_decoding, "generate", generate)
    settings = DecoderSettings(max_tokens=3, beam_size=2)
    prepared = prepare(tiny_config, params, to_features, settings)
    decoder = BatchDecoder(prepared, settings, batch_size, None, num_parts)
    decoder.add(as_segments(features[:num_segments]))
    assert len(decoder.advance(more_waiting=False)) == num_segments
    assert sizes == [size]


def test_eight_bit_kernels_are_near(tiny_config, ending):
    params, features = ending
    exact = generate(tiny_config, params, features, max_tokens=1, return_log_probs=True)
    rounded = generate(tiny_config, params, features, max_tokens=1, return_log_probs=True, quantize=True)
    same = np.asarray(exact[0]) == np.asarray(rounded[0])
    assert same.mean() > 0.9
    difference = np.abs(np.asarray(exact[1]) - np.asarray(rounded[1]))[same]
    assert 0 < difference.max() < 0.1


def test_options_that_exclude_each_other_are_refused():
    with pytest.raises(ValueError, match="one or the other"):
        DecoderSettings(max_tokens=5, beam_size=2, temperature=0.5)
    assert dataclasses.replace(DecoderSettings(max_tokens=5), temperature=0.5).temperature == 0.5
