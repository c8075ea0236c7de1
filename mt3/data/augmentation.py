"""What rooms, microphones and mixing desks do to a sound: equaliser, reverberation, noise, level.

Pure functions of samples and a generator; none moves an onset, so that labels
stay true. Reverberation rings on after the offsets, as it does in rooms.
"""

from __future__ import annotations

import dataclasses

import numpy as np
from scipy import fft


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
    """Bounds of the random choices; pairs are (lowest, highest).

    Attributes:
      equaliser_db: standard deviation of the gain at each of `equaliser_bands`.
      equaliser_bands: points of the equaliser's curve, evenly spaced in pitch
        from 60 Hz to the highest frequency.
      reverb_probability: of any reverberation.
      reverb_seconds: time in which it decays by 60 dB.
      reverb_db: its energy relative to the dry sound.
      noise_probability: of any noise.
      signal_to_noise_db: of the noise's level.
      peak_db: level of the highest sample, relative to full scale; at most 0.
    """

    equaliser_db: float = 3.0
    equaliser_bands: int = 8
    reverb_probability: float = 0.5
    reverb_seconds: tuple[float, float] = (0.2, 1.5)
    reverb_db: tuple[float, float] = (-25.0, -8.0)
    noise_probability: float = 0.3
    signal_to_noise_db: tuple[float, float] = (25.0, 60.0)
    peak_db: tuple[float, float] = (-12.0, -1.0)

    def __post_init__(self) -> None:
        if self.peak_db[1] > 0:
            raise ValueError(f"peak_db is {self.peak_db}; above 0 dB the audio would be clipped.")
        if self.reverb_seconds[0] <= 0:
            raise ValueError(f"reverb_seconds is {self.reverb_seconds}; it must be above 0.")


# Clean sound at one level.
NO_AUGMENTATION = AugmentationConfig(
    equaliser_db=0.0, reverb_probability=0.0, noise_probability=0.0, peak_db=(-3.0, -3.0)
)


def augment(
    samples: np.ndarray, sample_rate: int, config: AugmentationConfig, rng: np.random.Generator
) -> np.ndarray:
    """Equaliser, reverberation and noise as drawn, then the level.

    Args:
      samples: float32 [num_samples], not silent beyond what is to stay silent.
      sample_rate: in Hz.
      config: bounds.
      rng: makes the choices; draws the same numbers whatever `samples` holds.

    Returns:
      float32 [num_samples] in [-1, 1].
    """
    curve_db = rng.normal(0.0, config.equaliser_db, config.equaliser_bands)
    reverb = _impulse_response(sample_rate, config, rng)
    if config.equaliser_db > 0 or len(reverb) > 1:
        samples = _filter(samples, sample_rate, curve_db, reverb)
    samples = _add_noise(samples, config, rng)
    return set_peak(samples, rng.uniform(*config.peak_db))


def set_peak(samples: np.ndarray, peak_db: float) -> np.ndarray:
    """Scaled so that the highest absolute sample lies at `peak_db` below full scale; silence stays."""
    peak = float(np.abs(samples).max(initial=0.0))
    if peak == 0.0:
        return samples.astype(np.float32)
    return (samples * (10 ** (peak_db / 20) / peak)).astype(np.float32)


def _filter(
    samples: np.ndarray, sample_rate: int, curve_db: np.ndarray, impulse_response: np.ndarray
) -> np.ndarray:
    """Equaliser (without any delay) and reverberation in one pass."""
    # Zero phase means ringing both ways: the end wraps around, so leave room there too.
    size = fft.next_fast_len(len(samples) + len(impulse_response) + sample_rate // 10, real=True)
    spectrum = np.asarray(fft.rfft(samples.astype(np.float32), size))
    frequency = fft.rfftfreq(size, 1 / sample_rate)
    bands = np.geomspace(60.0, sample_rate / 2, len(curve_db))
    gain_db = np.interp(np.log(np.maximum(frequency, 1.0)), np.log(bands), curve_db)
    spectrum *= (10 ** (gain_db / 20)).astype(np.float32)
    if len(impulse_response) > 1:
        spectrum *= np.asarray(fft.rfft(impulse_response, size))
    return np.asarray(fft.irfft(spectrum, size))[: len(samples)]


def _impulse_response(sample_rate: int, config: AugmentationConfig, rng: np.random.Generator) -> np.ndarray:
    """float32: a unit impulse, then exponentially decaying noise that loses its treble.

    The usual statistical model of a room's late reverberation (Moorer 1979).
    """
    is_on = rng.random() < config.reverb_probability
    seconds = rng.uniform(*config.reverb_seconds)
    energy = 10 ** (rng.uniform(*config.reverb_db) / 10)
    delay = round(rng.uniform(0.005, 0.03) * sample_rate)
    tail_seed = rng.integers(1 << 32)
    if not is_on:
        return np.ones(1, np.float32)
    time_seconds = np.arange(round(seconds * sample_rate)) / sample_rate
    noise = np.random.default_rng(tail_seed).normal(0.0, 1.0, len(time_seconds))
    # Averaging neighbours halves the treble; later sound has met more walls.
    smooth = (noise + np.roll(noise, 1) + np.roll(noise, 2)) / 3
    progress = time_seconds / seconds
    tail = (noise * (1 - progress) + smooth * progress) * 10 ** (-3 * progress)
    tail *= np.sqrt(energy / np.sum(tail**2))
    return np.concatenate([[1.0], np.zeros(delay), tail]).astype(np.float32)


def _add_noise(samples: np.ndarray, config: AugmentationConfig, rng: np.random.Generator) -> np.ndarray:
    """White or darker noise, relative to the mean power of the sound."""
    is_on = rng.random() < config.noise_probability
    signal_to_noise_db = rng.uniform(*config.signal_to_noise_db)
    darkness = rng.uniform(0.0, 0.95)
    noise_seed = rng.integers(1 << 32)
    power = float(np.mean(np.square(samples, dtype=np.float64))) if len(samples) else 0.0
    if not is_on or power == 0.0:
        return samples
    noise = np.random.default_rng(noise_seed).normal(0.0, 1.0, len(samples))
    noise[1:] += darkness * noise[:-1]
    noise *= np.sqrt(power / 10 ** (signal_to_noise_db / 10) / np.mean(noise**2))
    return samples + noise.astype(np.float32)
