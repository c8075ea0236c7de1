"""Batches: layout, padding, shifting, buckets, and what does not fit."""

import numpy as np
import pytest

from mt3.data import batches


def example(num_frames, tokens, dtype=np.float32):
    rng = np.random.default_rng(num_frames)
    return {
        "inputs": (rng.uniform(-1, 1, (num_frames, 4)) * (1000 if dtype != np.float32 else 1)).astype(dtype),
        "targets": np.array(tokens, np.int32),
    }


def test_make_batch_pads_shifts_and_weighs():
    batch = batches.make_batch(
        [example(3, [7, 8, 1]), example(2, [9, 1])], input_frames=3, max_target_tokens=4
    )
    np.testing.assert_array_equal(batch["decoder_target_tokens"], [[7, 8, 1, 0], [9, 1, 0, 0]])
    np.testing.assert_array_equal(batch["decoder_input_tokens"], [[0, 7, 8, 1], [0, 9, 1, 0]])
    np.testing.assert_array_equal(batch["decoder_loss_weights"], [[1, 1, 1, 0], [1, 1, 0, 0]])
    np.testing.assert_array_equal(batch["inputs"][1, 2], np.zeros(4))
    np.testing.assert_array_equal(batch["inputs"][0], example(3, [])["inputs"])
    assert {name: value.dtype for name, value in batch.items()} == {
        "inputs": np.float32,
        "decoder_input_tokens": np.int32,
        "decoder_target_tokens": np.int32,
        "decoder_loss_weights": np.float32,
    }


def test_make_batch_keeps_ids():
    examples = [example(1, [1]) | {"example_id": name} for name in (b"a\0", b"")]
    batch = batches.make_batch(examples, input_frames=1, max_target_tokens=1)
    assert batch["example_ids"].tolist() == [b"a\0", b""]


@pytest.mark.parametrize("dtype", [np.int16, np.int32])
def test_integer_audio_is_read_as_16_bit_pcm(dtype):
    samples = np.array([[-32768, 0, 16384]], dtype)
    np.testing.assert_array_equal(batches.to_float_audio(samples), [[-1.0, 0.0, 0.5]])
    assert batches.to_float_audio(samples).dtype == np.float32


def test_float_audio_is_kept():
    samples = np.array([[0.25, -2.0]], np.float32)
    assert batches.to_float_audio(samples) is samples


@pytest.mark.parametrize(("num_tokens", "length"), [(0, 4), (4, 4), (5, 8), (9, 12), (12, 12)])
def test_bucket_length(num_tokens, length):
    assert batches.bucket_length(num_tokens, (16, 4, 8), max_tokens=12) == length


def test_buckets_cut_only_the_target_axis():
    batch = batches.make_batch(
        [example(3, [7, 8, 1]), example(3, [9, 1])],
        input_frames=8,
        max_target_tokens=16,
        target_buckets=(4, 8),
    )
    assert batch["inputs"].shape == (2, 8, 4)
    for name in batches.TARGET_FEATURES:
        assert batch[name].shape == (2, 4)
    np.testing.assert_array_equal(batch["decoder_target_tokens"], [[7, 8, 1, 0], [9, 1, 0, 0]])


@pytest.mark.parametrize(
    ("examples", "message"),
    [
        ([], "at least one example"),
        ([example(9, [1])], "9 frames; the batch holds 8"),
        ([example(8, [5] * 16 + [1])], "17 tokens; the batch holds 16.*long-target rule"),
    ],
)
def test_what_does_not_fit_is_named(examples, message):
    with pytest.raises(ValueError, match=message):
        batches.make_batch(examples, input_frames=8, max_target_tokens=16)
