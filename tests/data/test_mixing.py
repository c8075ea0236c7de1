"""Mixing: sizes, sums, merged tokens, and what is done when they are too many."""

import numpy as np
import pytest

from mt3.data import mixing
from mt3.data.preprocessors import SegmentConfig
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import EOS_ID, VocabularyConfig

TOKENIZER = Tokenizer(VocabularyConfig(1, program_granularity="full"))


def notes_of(program, num_notes, seed):
    """Notes of one instrument in the first two seconds, on the grid, none overlapping."""
    rng = np.random.default_rng(seed)
    onset_seconds = rng.choice(np.arange(0, 200, 2), num_notes, replace=False) / 100
    return Notes(
        onset_seconds,
        onset_seconds + 0.01,
        rng.integers(30, 90, num_notes),
        np.full(num_notes, 100),
        np.full(num_notes, program),
        np.zeros(num_notes, bool),
    ).sorted()


def examples(num_examples, num_notes=5, max_target_tokens=256):
    rng = np.random.default_rng(0)
    inputs = rng.integers(-32768, 32767, (num_examples, 256, 4)).astype(np.int16)
    notes = [notes_of(8 * index, num_notes, index) for index in range(num_examples)]
    targets = np.zeros((num_examples, max_target_tokens), np.int32)
    for row, one in zip(targets, notes, strict=True):
        target = TOKENIZER.encode(TOKENIZER.prepare(one), 0, 256)
        row[: len(target)] = target
    return inputs, targets, notes


IDS = (b"one", b"two", b"three")


@pytest.mark.parametrize("max_examples", [1, 2, 5, 8])
def test_sizes_are_uniform(max_examples):
    rng = np.random.default_rng(0)
    sizes = mixing.mix_sizes(mixing.batch_size(max_examples), max_examples, rng)
    assert sorted(sizes) == list(range(1, max_examples + 1))


@pytest.mark.parametrize("num_examples", [0, 1, 7, 35, 37, 100])
def test_sizes_use_up_any_number_of_examples(num_examples):
    sizes = mixing.mix_sizes(num_examples, 8, np.random.default_rng(0))
    assert sum(sizes) == num_examples
    assert all(1 <= size <= 8 for size in sizes)


def test_a_mix_has_the_sum_of_the_samples_and_the_notes_of_all():
    inputs, targets, notes = examples(10)
    config = SegmentConfig(TOKENIZER, max_target_tokens=256)
    ids = [b"%d" % index for index in range(10)]
    mixes = mixing.mix_segments(inputs, targets, ids, 4, np.random.default_rng(0), config)
    sizes = mixing.mix_sizes(10, 4, np.random.default_rng(0))
    assert len(mixes.inputs) == len(mixes.targets) == len(sizes) == 4
    assert mixes.inputs.dtype == np.int32
    first = 0
    for size, mixed, target in zip(sizes, mixes.inputs, mixes.targets, strict=True):
        np.testing.assert_array_equal(mixed, inputs[first : first + size].astype(int).sum(axis=0))
        decoded = TOKENIZER.decode([(0.0, target)]).notes
        assert len(decoded) == 5 * size
        expected = Notes.concatenate(notes[first : first + size]).sorted()
        np.testing.assert_allclose(decoded.sorted().onset_seconds, expected.onset_seconds, atol=1e-6)
        np.testing.assert_array_equal(decoded.sorted().program, expected.program)
        first += size
    assert b" + ".join(mixes.ids).split(b" + ") == ids
    assert [mixed.count(b"+") + 1 for mixed in mixes.ids] == sizes


def test_audio_in_floats_stays_so():
    inputs, targets, _ = examples(3)
    config = SegmentConfig(TOKENIZER, max_target_tokens=256)
    rng = np.random.default_rng
    whole = mixing.mix_segments(inputs, targets, IDS, 2, rng(0), config)
    floats = mixing.mix_segments(inputs.astype(np.float32) / 32768, targets, IDS, 2, rng(0), config)
    assert floats.inputs.dtype == np.float32
    np.testing.assert_array_equal(floats.inputs, whole.inputs.astype(np.float32) / 32768)
    np.testing.assert_array_equal(floats.targets, whole.targets)


def mix_three(rule):
    """One mix of three examples of which two fit into the bound."""
    inputs, targets, _ = examples(3, num_notes=15)
    lengths = [len(TOKENIZER.merge(list(targets[:count]))) for count in (1, 2, 3)]
    config = SegmentConfig(TOKENIZER, max_target_tokens=lengths[1], long_targets=rule)
    rng = next(
        np.random.default_rng(seed)
        for seed in range(100)
        if mixing.mix_sizes(3, 3, np.random.default_rng(seed)) == [3]
    )
    return inputs, targets, mixing.mix_segments(inputs, targets, IDS, 3, rng, config)


def test_truncate_cuts_the_tokens_of_a_mix():
    inputs, targets, mixes = mix_three("truncate")
    assert (mixes.num_too_long, mixes.num_dropped) == (1, 0)
    np.testing.assert_array_equal(mixes.inputs[0], inputs.astype(int).sum(axis=0))
    whole = TOKENIZER.merge(list(targets))
    length = np.count_nonzero(mixes.targets[0])
    assert mixes.targets[0, length - 1] == EOS_ID
    np.testing.assert_array_equal(mixes.targets[0, : length - 1], whole[: length - 1])


def test_drop_leaves_out_the_mix():
    _, _, mixes = mix_three("drop")
    assert mixes.ids == []
    assert (mixes.num_too_long, mixes.num_dropped) == (1, 1)
    assert mixes.inputs.shape == (0, 256, 4)


def test_resample_leaves_out_examples_until_the_mix_fits():
    inputs, targets, mixes = mix_three("resample")
    assert mixes.ids == [b"one + two"]
    assert (mixes.num_too_long, mixes.num_dropped) == (1, 0)
    np.testing.assert_array_equal(mixes.inputs[0], inputs[:2].astype(int).sum(axis=0))
    expected = TOKENIZER.merge(list(targets[:2]))
    np.testing.assert_array_equal(mixes.targets[0], expected)
