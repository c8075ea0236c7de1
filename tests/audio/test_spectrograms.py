"""Log-mel spectrograms: the published numbers, in JAX and in NumPy, for any configuration."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mt3.audio.spectrograms import (
    SpectrogramConfig,
    _hann_window,
    log_mel,
    log_mel_numpy,
    mel_matrix,
    split_frames,
)

GOLDEN = Path(__file__).parents[1] / "golden" / "spectrogram.npz"
CONFIG = SpectrogramConfig()
OTHER_CONFIGS = [
    SpectrogramConfig(num_mel_bins=256, hop_samples=256, fft_size=1024),
    SpectrogramConfig(sample_rate=22050, num_mel_bins=229, hop_samples=512, mel_low_hz=30, mel_high_hz=11025),
    SpectrogramConfig(num_mel_bins=80, hop_samples=100, fft_size=998, mel_low_hz=0, mel_high_hz=8000),
    SpectrogramConfig(num_mel_bins=128, hop_samples=256, fft_size=128),
]
VERSIONS = pytest.mark.parametrize("version", [log_mel, log_mel_numpy])


@pytest.fixture(autouse=True)
def _on_the_cpu():
    """The quietest golden bins hold rounding errors, which differ between kinds of device."""
    with jax.default_device(jax.devices("cpu")[0]):
        yield


def golden():
    with np.load(GOLDEN) as arrays:
        names = sorted(key.removeprefix("audio/") for key in arrays if key.startswith("audio/"))
        return {name: (arrays[f"audio/{name}"], arrays[f"logmel/{name}"]) for name in names}


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(0, 0.1, shape).astype(np.float32)


def direct_log_mel(samples, config):
    """The definition, in float64, frame by frame and filter by filter."""
    size, hop = config.fft_size, config.hop_samples
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
    rows = []
    for start in range(0, len(samples), hop):
        seen = samples[start : start + size].astype(np.float64)
        rows.append(np.abs(np.fft.rfft(np.pad(seen, (0, size - len(seen))) * window)) @ mel_matrix(config))
    return np.log(np.where(np.array(rows) <= 0, 1e-5, rows))


@VERSIONS
@pytest.mark.parametrize("name", golden())
def test_golden(version, name):
    samples, expected = golden()[name]
    actual = np.asarray(version(split_frames(samples, CONFIG.hop_samples), CONFIG))
    assert actual.shape == expected.shape
    assert actual.dtype == np.float32
    audible = expected > -9
    assert np.abs(actual - expected)[audible].max(initial=0) <= 1e-3
    floor = np.log(np.float32(1e-5))
    assert np.array_equal(np.abs(actual - floor) < 1e-6, np.abs(expected - floor) < 1e-6)


@VERSIONS
@pytest.mark.parametrize("config", [CONFIG, *OTHER_CONFIGS])
def test_the_definition_for_other_configurations(version, config):
    samples = noise(20 * config.hop_samples + 17)
    actual = version(split_frames(samples, config.hop_samples), config)
    assert actual.shape == (21, config.num_mel_bins)
    # A float32 transform: exact to some parts in a million.
    np.testing.assert_allclose(actual, direct_log_mel(samples, config), atol=2e-3)


@pytest.mark.parametrize("config", [CONFIG, *OTHER_CONFIGS])
def test_both_versions_agree(config):
    frames = noise((2, 3, 30, config.hop_samples))
    np.testing.assert_allclose(log_mel(frames, config), log_mel_numpy(frames, config), atol=1e-4)


@VERSIONS
def test_leading_axes_are_batched(version):
    frames = noise((2, 3, 20, CONFIG.hop_samples))
    batched = np.asarray(version(frames, CONFIG))
    for index in np.ndindex(2, 3):
        np.testing.assert_allclose(batched[index], version(frames[index], CONFIG), atol=1e-5)
    assert version(frames[:0], CONFIG).shape == (0, 3, 20, CONFIG.num_mel_bins)


def test_jitted_and_in_half_precision():
    frames = noise((2, 16, CONFIG.hop_samples))
    jitted = jax.jit(log_mel, static_argnums=1)
    np.testing.assert_allclose(jitted(frames, CONFIG), log_mel(frames, CONFIG), atol=1e-4)
    half = jitted(jnp.asarray(frames, jnp.bfloat16), CONFIG)
    assert half.dtype == jnp.float32
    assert np.isfinite(half).all()


def test_gradients_are_finite_even_in_silence():
    frames = np.concatenate([np.zeros((20, CONFIG.hop_samples)), noise((20, CONFIG.hop_samples))])
    gradient = jax.grad(lambda x: log_mel(x, CONFIG).sum())(jnp.asarray(frames, jnp.float32))
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() > 0


def test_a_sine_peaks_in_its_filter():
    seconds = np.arange(32000) / CONFIG.sample_rate
    mel_edges = np.linspace(*(np.log1p(np.array([CONFIG.mel_low_hz, CONFIG.mel_high_hz]) / 700)), 514)
    centres = 700 * np.expm1(mel_edges[1:-1])
    for hertz in (261.63, 1000.0, 5000.0):
        frames = split_frames(np.sin(2 * np.pi * hertz * seconds), CONFIG.hop_samples)
        peak = np.argmax(log_mel_numpy(frames, CONFIG)[50])
        assert abs(centres[peak] - hertz) < 8  # one bin of the transform


def test_the_window_is_the_hann_window():
    for size in (2048, 1024, 998):
        exact = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(size) / size)
        assert _hann_window(size).dtype == np.float32
        assert np.abs(_hann_window(size) - exact).max() < 3e-7


def test_filters_are_triangles_that_add_up_to_one():
    weights = mel_matrix(CONFIG)
    assert weights.shape == (1025, 512)
    assert weights.min() == 0
    assert not weights[0].any()
    hertz = np.linspace(0, 8000, 1025)
    edges = 700 * np.expm1(np.linspace(*np.log1p(np.array([20, 7600]) / 700), 514))
    inside = (hertz > edges[1]) & (hertz < edges[-2])
    np.testing.assert_allclose(weights[inside].sum(axis=1), 1.0)


def test_split_frames():
    assert split_frames(np.arange(6), 3).tolist() == [[0, 1, 2], [3, 4, 5]]
    assert split_frames(np.arange(4), 3).tolist() == [[0, 1, 2], [3, 0, 0]]
    assert split_frames(np.zeros(0, np.float32), 128).shape == (0, 128)
    with pytest.raises(ValueError, match=r"\[samples\], got shape \(2, 3\)"):
        split_frames(np.zeros((2, 3)), 3)


@VERSIONS
def test_frames_of_another_length_are_refused(version):
    with pytest.raises(ValueError, match=r"shape \(10, 64\); they must be \[\.\.\., num_frames, 128\]"):
        version(np.zeros((10, 64), np.float32), CONFIG)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"hop_samples": 0}, "hop_samples is 0"),
        ({"fft_size": 1023}, "fft_size is 1023"),
        ({"mel_high_hz": 9000.0}, "20.0 to 9000.0 Hz"),
        ({"mel_low_hz": 7600.0}, "must rise"),
    ],
)
def test_configurations_that_describe_nothing(values, message):
    with pytest.raises(ValueError, match=message):
        SpectrogramConfig(**values)


def test_frames_per_second():
    assert CONFIG.frames_per_second == 125.0
