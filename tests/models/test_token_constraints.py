"""Constrained decoding: what is generated decodes without complaint, and what is right stays possible."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt3.models.decoding import generate
from mt3.models.token_constraints import ConstraintConfig, advance, allowed, initial_state, restart
from mt3.symbolic.note_decoding import decode_segments
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import (
    EOS_ID,
    NUM_SPECIAL_IDS,
    PAD_ID,
    VocabularyConfig,
    build_codec,
    map_programs,
    vocabulary_size,
)

ROWS = 12
MAX_TOKENS = 100
NUM_FRAMES = 256
SEGMENT_SECONDS = NUM_FRAMES / 125


def _tokenizer(granularity="full", velocity_bins=1, max_shift_seconds=10, **settings):
    vocabulary = VocabularyConfig(velocity_bins, 100, max_shift_seconds, granularity)
    return Tokenizer(vocabulary, **settings)


# Every branch of the rules: programs or none, levels of velocity, segments longer than the longest
# shift (100 steps of 204), no ties, onsets only.
TOKENIZERS = {
    "ties": _tokenizer(velocity_bins=127, max_shift_seconds=1),
    "no_ties": _tokenizer("flat", velocity_bins=5, ties=False),
    "onsets_only": _tokenizer("flat", ties=False, onsets_only=True, max_shift_seconds=1),
}
PUBLISHED = _tokenizer()
ALL = list(range(128))


def _config(tokenizer, *, grammar=True, **instruments):
    size = vocabulary_size(tokenizer.vocabulary) + 5
    return ConstraintConfig.from_tokenizer(
        tokenizer, size, segment_seconds=SEGMENT_SECONDS, grammar=grammar, **instruments
    )


def _ids(tokenizer, *events):
    """Target ids of ("kind", value) pairs."""
    codec = tokenizer.codec
    return [int(codec.encode(kind, value)) + NUM_SPECIAL_IDS for kind, value in events]


def _first_ids(config):
    """Bounds of the ids of each kind, those of special ids before and of extra ones after them."""
    ends = itertools.accumulate(events.num_values for events in build_codec(config.vocabulary).ranges)
    return np.array([0, *range(1, NUM_SPECIAL_IDS + 1), *(end + NUM_SPECIAL_IDS for end in ends)])


@functools.partial(jax.jit, static_argnames="config")
def _generate(config, logits):
    """Likeliest tokens for logits [num_tokens, rows, ids], and whether any was allowed."""

    def take(state, now):
        possible = allowed(config, state)
        tokens = jnp.argmax(jnp.where(possible, now, -jnp.inf), axis=-1)
        return advance(config, state, tokens), (tokens, possible.any(axis=-1))

    return jax.lax.scan(take, initial_state(config, logits.shape[1]), logits)[1]


def _logits(config, seed):
    """Of a network that knows nothing.

    It prefers kinds of tokens, each row others, or shifts would outweigh all.
    """
    random = np.random.default_rng(seed)
    kinds = np.searchsorted(_first_ids(config), np.arange(config.vocab_size), side="right")
    bias = 2 * random.normal(size=(ROWS, kinds.max() + 1))[:, kinds]
    noise = random.gumbel(size=(MAX_TOKENS, ROWS, config.vocab_size))
    return (bias + noise).astype(np.float32)


def _up_to_end(tokens):
    ends = np.flatnonzero(tokens == EOS_ID)
    return tokens[: ends[0]] if len(ends) else tokens


def _struck_before(tokenizer, tokens):
    """Target ids of a segment that strikes every note that `tokens` could mean by a pitch."""
    kinds, values = tokenizer.codec.decode(tokens - NUM_SPECIAL_IDS)
    program, keys = 0, set()
    for kind, value in zip(kinds, values, strict=True):
        if tokenizer.codec.kinds[kind] == "program":
            program = int(value)
        elif tokenizer.codec.kinds[kind] == "pitch":
            keys.add((program, int(value)))
    events = [("tie", 0)] * tokenizer.ties + [("velocity", 1)]
    for program, pitch in sorted(keys):
        events += [("program", program), ("pitch", pitch)]
    return np.array(_ids(tokenizer, *events))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_grammar_leaves_nothing_invalid(name):
    tokenizer = TOKENIZERS[name]
    config = _config(tokenizer)

    @settings(deadline=None, max_examples=5)
    @given(seed=st.integers(0, 2**31 - 1))
    def check(seed):
        all_tokens, possible = map(np.asarray, _generate(config, _logits(config, seed)))
        assert possible.all()
        for tokens in all_tokens.T:
            tokens = _up_to_end(tokens)
            start, end = 204, 408
            segments = [(start, tokens - NUM_SPECIAL_IDS)]
            if not tokenizer.onsets_only:
                segments.insert(0, (0, _struck_before(tokenizer, tokens) - NUM_SPECIAL_IDS))
            segments.append((end, np.array(_ids(tokenizer, ("shift", 0))) - NUM_SPECIAL_IDS))
            decoded = decode_segments(
                segments, tokenizer.vocabulary, ties=tokenizer.ties, onsets_only=tokenizer.onsets_only
            )
            assert (decoded.invalid_events, decoded.dropped_events) == (0, 0)

    check()


def test_without_grammar_much_is_invalid():
    """The test above can fail: what is written without a grammar does."""
    tokenizer = TOKENIZERS["ties"]
    logits = _logits(_config(tokenizer, grammar=False), seed=0)
    segments = [(0, _up_to_end(tokens) - NUM_SPECIAL_IDS) for tokens in logits.argmax(axis=-1).T]
    assert sum(decode_segments([one], tokenizer.vocabulary).invalid_events for one in segments) > 100


@st.composite
def _notes(draw):
    """Notes within two segments, on a fine grid so that some start, end or follow each other together."""
    number = draw(st.integers(0, 25))
    random = np.random.default_rng(draw(st.integers(0, 2**31 - 1)))
    onset = random.integers(0, 400, number) / 100 + random.choice([0, 0.004, 0.0049], number)
    return Notes(
        onset_seconds=onset,
        offset_seconds=onset + random.choice([0.003, 0.01, 0.05, 0.5, 3.0], number),
        pitch=random.integers(58, 63, number),
        velocity=random.integers(1, 128, number),
        program=random.choice([0, 1, 33, 40], number),
        is_drum=random.random(number) < 0.3,
    )


@functools.partial(jax.jit, static_argnames="config")
def _follow(config, tokens):
    """Whether each of `tokens`, int [num_tokens, rows], was allowed where it stands."""

    def take(state, now):
        possible = jnp.take_along_axis(allowed(config, state), now[:, None], axis=1)[:, 0]
        return advance(config, state, now), possible

    return jax.lax.scan(take, initial_state(config, tokens.shape[1]), tokens)[1]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_all_that_the_tokenizer_writes_is_allowed(name):
    tokenizer = TOKENIZERS[name]
    config = _config(tokenizer)
    granularity = tokenizer.vocabulary.program_granularity

    @settings(deadline=None, max_examples=25)
    @given(notes=_notes(), other=_notes())
    def check(notes, other):
        notes, other = (
            part.replace(program=map_programs(part.program, granularity)) for part in (notes, other)
        )
        starts = [0, 100, NUM_FRAMES]
        segments = tokenizer.encode_segments(tokenizer.prepare(notes), starts, NUM_FRAMES)
        if tokenizer.ties:  # two instruments that share no note, as mixing joins them
            parts = (notes[notes.program == 0], other[other.program == 40])
            encoded = [
                tokenizer.encode_segments(tokenizer.prepare(part), starts, NUM_FRAMES) for part in parts
            ]
            segments += [tokenizer.merge(pair) for pair in zip(*encoded, strict=True)]
        tokens = np.full((256, 6), PAD_ID)
        for row, ids in enumerate(segments):
            tokens[: len(ids), row] = ids
        possible = np.asarray(_follow(config, tokens))
        assert possible[tokens != PAD_ID].all()

    check()


@pytest.mark.parametrize(
    ("programs", "drums", "grammar"),
    [((0, 33), False, True), ((), True, True), ((40,), True, False), (None, False, False)],
)
def test_only_the_instruments_asked_for_are_heard(programs, drums, grammar):
    tokenizer = TOKENIZERS["ties"]
    config = _config(tokenizer, grammar=grammar, programs=programs, drums=drums)
    generated = [_generate(config, _logits(config, seed)) for seed in range(4)]
    assert np.all([possible for _, possible in generated])
    segments = [
        (10_000 * index, _up_to_end(tokens) - NUM_SPECIAL_IDS)
        for index, tokens in enumerate(np.concatenate([tokens for tokens, _ in generated], axis=1).T)
    ]
    # Without a grammar, few come out of their tie sections, and many go back in time.
    notes = decode_segments(segments, tokenizer.vocabulary, ties=grammar).notes
    heard = set(notes[~notes.is_drum].program)
    assert notes.is_drum.any() == drums
    assert programs is None or heard <= set(programs)
    if grammar:
        assert heard == set(programs)


@functools.partial(jax.jit, static_argnames="config")
def _allowed(config, state):
    return allowed(config, state)


@functools.partial(jax.jit, static_argnames="config")
def _advance(config, state, tokens):
    return advance(config, state, tokens)


def _possible(tokenizer, events, **instruments):
    """Kinds and values that may follow `events`, and whether the end may."""
    config = _config(tokenizer, **instruments)
    state = initial_state(config, 1)
    for token in _ids(tokenizer, *events):
        assert bool(_allowed(config, state)[0, token]), events
        state = _advance(config, state, jnp.array([token]))
    ids = np.flatnonzero(_allowed(config, state)[0])
    kinds, values = tokenizer.codec.decode(ids[ids >= NUM_SPECIAL_IDS] - NUM_SPECIAL_IDS)
    assert (kinds >= 0).all() or not config.grammar
    by_kind = {}
    for kind, value in zip(kinds[kinds >= 0].tolist(), values[kinds >= 0].tolist(), strict=True):
        by_kind.setdefault(tokenizer.codec.kinds[kind], []).append(value)
    assert config.grammar == (set(ids[ids < NUM_SPECIAL_IDS]) <= {EOS_ID})
    return by_kind, EOS_ID in ids


TIED = [("program", 5), ("pitch", 60), ("tie", 0)]
STRUCK = [*TIED, ("shift", 10), ("program", 7), ("velocity", 1), ("pitch", 70)]


@pytest.mark.parametrize(
    ("events", "expected", "may_end"),
    [
        ([], {"program": ALL, "tie": [0]}, False),
        (TIED[:1], {"pitch": ALL, "tie": [0]}, False),
        (TIED[:2], {"program": ALL, "pitch": ALL[:60] + ALL[61:], "tie": [0]}, False),
        # No pitch before a velocity; one that ends is there to be had, as a note of program 5 sounds.
        (TIED, {"program": ALL, "velocity": [0, 1], "shift": list(range(1, 205))}, True),
        ([("tie", 0)], {"program": ALL, "velocity": [1], "shift": list(range(1, 205))}, True),
        ([*TIED, ("velocity", 0)], {"pitch": [60]}, False),
        ([*TIED, ("velocity", 1)], {"pitch": ALL, "drum": ALL}, False),
        # Ended, it cannot end again.
        (
            [*TIED, ("velocity", 0), ("pitch", 60)],
            {"program": ALL, "velocity": [1], "shift": list(range(1, 205))},
            True,
        ),
        ([*TIED, ("shift", 204)], {"program": ALL, "velocity": [0, 1]}, False),
        ([*TIED, ("shift", 10), ("program", 7)], {"velocity": [1]}, False),
        # Time goes on from step 10; shifts count from the start of the segment.
        (
            STRUCK,
            {
                "program": ALL,
                "velocity": [0, 1],
                "pitch": ALL,
                "drum": ALL,
                "shift": list(range(11, 205)),
            },
            True,
        ),
        ([*STRUCK, ("velocity", 0)], {"pitch": [70]}, False),
        ([*STRUCK, ("program", 5)], {"velocity": [0, 1], "pitch": ALL}, False),
    ],
)
def test_what_may_follow(events, expected, may_end):
    assert _possible(PUBLISHED, events) == (expected, may_end)


def test_runs_of_shifts_lead_past_the_last_event():
    tokenizer = TOKENIZERS["onsets_only"]  # shifts of 100 at most, 204 steps
    at_150 = [("shift", 100), ("shift", 50), ("pitch", 60)]
    assert _possible(tokenizer, at_150) == ({"shift": [100], "pitch": ALL}, True)
    assert _possible(tokenizer, [*at_150, ("shift", 100)]) == ({"shift": list(range(51, 101))}, False)
    full = [("shift", 100), ("shift", 100)]
    assert _possible(tokenizer, full) == ({"shift": [1, 2, 3, 4], "pitch": ALL}, False)
    at_end = [*full, ("shift", 4), ("pitch", 60)]
    assert _possible(tokenizer, at_end) == ({"pitch": ALL}, True)


def test_notes_fall_to_no_excluded_program_before_one_is_named():
    tokenizer = PUBLISHED
    before = _possible(tokenizer, [], grammar=False, programs=(33,))[0]
    assert before["program"] == [33]
    assert "pitch" not in before
    assert before["drum"] == ALL
    assert _possible(tokenizer, [("program", 33)], grammar=False, programs=(33,))[0]["pitch"] == ALL
    assert _possible(tokenizer, [], grammar=False, programs=(0, 33))[0]["pitch"] == ALL


def test_ends_and_padding_change_nothing_and_rows_restart_alone():
    config = _config(PUBLISHED)
    start = initial_state(config, 3)
    state = start
    for token in _ids(PUBLISHED, *STRUCK):
        state = _advance(config, state, jnp.full(3, token))
    later = _advance(config, state, jnp.array([EOS_ID, PAD_ID, config.vocab_size - 1]))
    for before, after in zip(state, later, strict=True):
        np.testing.assert_array_equal(before, after)
    fresh = restart(state, jnp.array([False, True, False]))
    for before, after, first in zip(state, fresh, start, strict=True):
        np.testing.assert_array_equal(after[1], first[1])
        np.testing.assert_array_equal(after[::2], before[::2])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vocab_size": 100}, "vocab_size is 100; the vocabulary needs at least"),
        ({"programs": (128,)}, r"Program 128 is outside 0\.\.127"),
        ({"segment_steps": 0}, "segment_steps is 0"),
        ({"programs": (), "drums": False}, "No instrument is left"),
        ({"vocabulary": VocabularyConfig(), "programs": (5,), "drums": False}, "No instrument is left"),
        ({"onsets_only": True, "ties": False, "drums": False}, "writes onsets only"),
    ],
)
def test_settings_that_are_refused(changes, message):
    vocabulary = VocabularyConfig(program_granularity="full")
    settings = {"vocabulary": vocabulary, "ties": True, "onsets_only": False, "vocab_size": 1600}
    with pytest.raises(ValueError, match=message):
        ConstraintConfig(**{**settings, **changes})


def test_a_network_writes_only_what_is_allowed(random_params, tiny_config):
    """Through the decoder itself, with tokens drawn."""
    tokenizer = TOKENIZERS["ties"]
    network = dataclasses.replace(tiny_config, vocab_size=tokenizer.num_embeddings)
    constraint = ConstraintConfig.from_tokenizer(
        tokenizer,
        network.vocab_size,
        segment_seconds=SEGMENT_SECONDS,
        grammar=True,
        programs=(0, 33),
        drums=False,
    )
    params = random_params(network, seed=3)
    features = np.random.default_rng(0).normal(size=(3, 6, 12)).astype(np.float32)
    drawn = {"temperature": 1.0, "rng": jax.random.key(0)}
    tokens = np.asarray(generate(network, params, features, max_tokens=64, constraint=constraint, **drawn))
    possible = np.asarray(_follow(constraint, tokens.T)).T
    assert possible[tokens != PAD_ID].all()
    assert (tokens != PAD_ID).sum() > 20
