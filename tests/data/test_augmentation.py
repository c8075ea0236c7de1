"""Equaliser, reverberation, noise and level."""

import numpy as np
import pytest

from mt3.data.augmentation import NO_AUGMENTATION, AugmentationConfig, augment, set_peak

RATE = 16000
OFF = {"equaliser_db": 0.0, "reverb_probability": 0.0, "noise_probability": 0.0, "peak_db": (0.0, 0.0)}


def sine(frequency, seconds=1.0):
    return np.sin(2 * np.pi * frequency * np.arange(round(seconds * RATE)) / RATE).astype(np.float32)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_no_augmentation_changes_the_level_only():
    samples = sine(440) * 3.7
    result = augment(samples, RATE, NO_AUGMENTATION, rng())
    assert np.abs(result).max() == pytest.approx(10 ** (-3 / 20), rel=1e-5)
    np.testing.assert_allclose(result, samples * (result[100] / samples[100]), atol=1e-5)


def test_level_is_within_its_bounds():
    for seed in range(10):
        result = augment(sine(440), RATE, AugmentationConfig(), rng(seed))
        assert result.dtype == np.float32
        assert result.shape == (RATE,)
        assert -12.01 <= 20 * np.log10(np.abs(result).max()) <= -0.99


def test_silence_stays_silence():
    silence = np.zeros(RATE, np.float32)
    config = AugmentationConfig(reverb_probability=1.0, noise_probability=1.0)
    np.testing.assert_array_equal(augment(silence, RATE, config, rng()), silence)
    assert augment(silence[:0], RATE, config, rng()).shape == (0,)
    np.testing.assert_array_equal(set_peak(silence, -3.0), silence)


def test_equaliser_changes_the_balance_and_moves_no_onset():
    samples = np.zeros(2 * RATE, np.float32)
    samples[RATE:] = sine(200) + sine(3000)
    config = AugmentationConfig(**{**OFF, "equaliser_db": 8.0})
    ratios = []
    for seed in range(6):
        result = augment(samples, RATE, config, rng(seed))
        spectrum = np.abs(np.fft.rfft(result[RATE:]))
        ratios.append(20 * np.log10(spectrum[200] / spectrum[3000]))
        # Nothing is heard 10 ms before the onset, all of it 10 ms after it.
        early = np.square(result[: RATE - 160]).mean()
        assert early < 1e-3 * np.square(result[RATE + 160 :]).mean()
    assert np.std(ratios) > 3.0


def test_reverberation_rings_on_and_decays():
    samples = np.zeros(2 * RATE, np.float32)
    samples[:100] = 1.0
    config = AugmentationConfig(
        **{**OFF, "reverb_probability": 1.0, "reverb_seconds": (1.0, 1.0), "reverb_db": (-10.0, -10.0)}
    )
    result = augment(samples, RATE, config, rng())
    level = [np.square(result[start : start + 1600]).mean() for start in range(800, 13000, 4000)]
    decay_db = -np.diff(10 * np.log10(level))
    # 60 dB a second are 15 dB in each 4000 samples; the treble goes a little faster.
    assert np.all((decay_db > 12) & (decay_db < 20))
    assert np.square(result[RATE + 1000 :]).max() < 1e-6


def test_reverberation_has_the_energy_asked_for():
    impulse = np.zeros(2 * RATE, np.float32)
    impulse[0] = 1.0
    config = AugmentationConfig(
        **{**OFF, "reverb_probability": 1.0, "reverb_seconds": (0.5, 0.5), "reverb_db": (-10.0, -10.0)}
    )
    result = augment(impulse, RATE, config, rng())
    assert 10 * np.log10(np.square(result[1:]).sum() / result[0] ** 2) == pytest.approx(-10.0, abs=0.05)


def test_noise_has_the_level_asked_for():
    config = AugmentationConfig(**{**OFF, "noise_probability": 1.0, "signal_to_noise_db": (20.0, 20.0)})
    samples = sine(440, 2.0)
    result = augment(samples, RATE, config, rng())
    fitted = samples * (result @ samples) / (samples @ samples)
    ratio = np.square(fitted).mean() / np.square(result - fitted).mean()
    assert 10 * np.log10(ratio) == pytest.approx(20.0, abs=0.3)


def test_the_same_seed_gives_the_same_sound():
    config = AugmentationConfig(reverb_probability=1.0, noise_probability=1.0)
    first, again, other = (augment(sine(440), RATE, config, rng(seed)) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("changes", [{"peak_db": (-3.0, 1.0)}, {"reverb_seconds": (0.0, 1.0)}])
def test_values_out_of_range_are_refused(changes):
    with pytest.raises(ValueError, match="above 0"):
        AugmentationConfig(**changes)
