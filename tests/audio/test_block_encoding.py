"""Encoding block by block: the same audio as encoding at once, and the same errors."""

import numpy as np
import pytest

from mt3.audio.block_encoding import BlockEncoder, encode_blocks
from mt3.audio.io import AudioError, decode_pcm16, encode_flac, encode_pcm16, load_audio

RATE = 16000


def noise(num_samples, scale=0.4):
    return np.random.default_rng(0).normal(0, scale, num_samples).astype(np.float32)


@pytest.mark.parametrize("block_samples", [1, 1000, 50000])
@pytest.mark.parametrize("audio_format", ["flac", "pcm16"])
def test_blocks_are_the_whole(block_samples, audio_format):
    samples = noise(3000 if block_samples == 1 else 50001)  # beyond full scale here and there
    blocks = (samples[start : start + block_samples] for start in range(0, len(samples), block_samples))
    encoded, num_samples = encode_blocks(blocks, RATE, audio_format)
    assert num_samples == len(samples)
    decoded = load_audio(encoded, RATE) if audio_format == "flac" else decode_pcm16(encoded)
    at_once = decode_pcm16(encode_pcm16(samples))
    np.testing.assert_array_equal(decoded, at_once)
    np.testing.assert_array_equal(load_audio(encode_flac(samples, RATE), RATE), at_once)


def test_equal_blocks_give_equal_bytes():
    samples = noise(40000)
    assert encode_blocks([samples], RATE) == encode_blocks([samples], RATE)


def test_nothing_to_encode():
    with pytest.raises(AudioError, match="no samples"):
        encode_blocks([], RATE)
    with pytest.raises(AudioError, match="no samples"):
        encode_blocks([noise(0)], RATE, "pcm16")


def test_samples_that_are_no_numbers_are_refused():
    encoder = BlockEncoder(RATE)
    encoder.write(noise(10))
    with pytest.raises(AudioError, match="not finite after sample 10"):
        encoder.write(np.array([0.0, np.nan], np.float32))
