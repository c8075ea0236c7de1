"""Log-mel spectrograms of audio frames, in JAX for the jitted step and in NumPy for the host.

The numbers are those of the published MT3 features: frame i is the Hann-windowed
`fft_size` samples from sample i * hop_samples on, zeros after the end of the
segment; magnitudes of their Fourier transform; triangular mel filters; natural
logarithm, with log(1e-5) where a filter is exactly silent. Both versions run one
code and agree to rounding.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.fft

_FLOOR = 1e-5  # stands for an exact zero under the logarithm
_MEL_BLOCK_BINS = 128


@dataclasses.dataclass(frozen=True)
class SpectrogramConfig:
    """The log-mel features of a model; the defaults are MT3's.

    Attributes:
      sample_rate: of the audio, Hz.
      hop_samples: samples from one frame to the next.
      num_mel_bins: filters, evenly spaced in mel.
      fft_size: samples that a frame looks at, from its start on.
      mel_low_hz, mel_high_hz: where the lowest filter begins and the highest ends.

    Raises:
      ValueError: for values that describe no spectrogram.
    """

    sample_rate: int = 16000
    hop_samples: int = 128
    num_mel_bins: int = 512
    fft_size: int = 2048
    mel_low_hz: float = 20.0
    mel_high_hz: float = 7600.0

    def __post_init__(self) -> None:
        for name in ("sample_rate", "hop_samples", "num_mel_bins"):
            if getattr(self, name) < 1:
                raise ValueError(f"SpectrogramConfig.{name} is {getattr(self, name)}; it must be at least 1.")
        if self.fft_size < 2 or self.fft_size % 2:
            raise ValueError(f"SpectrogramConfig.fft_size is {self.fft_size}; it must be even, at least 2.")
        if not 0 <= self.mel_low_hz < self.mel_high_hz <= self.sample_rate / 2:
            raise ValueError(
                f"SpectrogramConfig: the mel filters span {self.mel_low_hz} to {self.mel_high_hz} Hz; "
                f"they must rise and lie within 0 to {self.sample_rate / 2} Hz, half the sample rate."
            )

    @property
    def frames_per_second(self) -> float:
        """125.0 with the defaults."""
        return self.sample_rate / self.hop_samples


def split_frames(samples: np.ndarray, hop_samples: int) -> np.ndarray:
    """Audio frames of a recording: [samples] -> [ceil(samples / hop_samples), hop_samples].

    The last frame is filled up with zeros; whole frames get no extra one.
    """
    samples = np.asarray(samples)
    if samples.ndim != 1:
        raise ValueError(f"split_frames needs mono samples of shape [samples], got shape {samples.shape}.")
    return np.pad(samples, (0, -len(samples) % hop_samples)).reshape(-1, hop_samples)


def log_mel(frames: jax.Array | np.ndarray, config: SpectrogramConfig) -> jax.Array:
    """Log-mel spectrogram of audio frames, jittable (`config` is static), differentiable.

    Args:
      frames: float [..., num_frames, hop_samples], consecutive audio frames of
        one segment each; leading axes are batched.
      config: the features.

    Returns:
      float32 [..., num_frames, num_mel_bins].

    Raises:
      ValueError: when the last axis is not config.hop_samples long.
    """
    return _log_mel(jnp.asarray(frames, jnp.float32), config, _JAX)


def log_mel_numpy(frames: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    """`log_mel` on the host, without JAX: for input pipelines that store features."""
    return _log_mel(np.asarray(frames, np.float32), config, _NUMPY)


class _Arrays(NamedTuple):
    """The array functions in which the two versions differ."""

    numpy: Any
    rfft: Any
    matmul: Any


# TPUs and GPUs round the factors of a matrix product to fewer bits unless told otherwise.
_JAX = _Arrays(jnp, jnp.fft.rfft, functools.partial(jnp.matmul, precision=jax.lax.Precision.HIGHEST))
# SciPy transforms in float32, with the rounding of XLA's and TensorFlow's CPU transform; numpy.fft does not.
_NUMPY = _Arrays(np, scipy.fft.rfft, np.matmul)


def _log_mel(frames: Any, config: SpectrogramConfig, arrays: _Arrays) -> Any:
    magnitudes = arrays.numpy.abs(
        arrays.rfft(_windows(frames, config, arrays) * _hann_window(config.fft_size))
    )
    # A filter covers few of the transform's bins: by blocks of filters that is
    # a quarter of the multiplications of one large matrix product.
    mel = arrays.numpy.concatenate(
        [
            arrays.matmul(magnitudes[..., first : first + len(weights)], weights)
            for first, weights in _mel_blocks(config)
        ],
        axis=-1,
    )
    return arrays.numpy.log(arrays.numpy.where(mel <= 0, np.float32(_FLOOR), mel))


def _windows(frames: Any, config: SpectrogramConfig, arrays: _Arrays) -> Any:
    """[..., num_frames, hop_samples] -> [..., num_frames, fft_size]: what each frame looks at."""
    if frames.ndim < 2 or frames.shape[-1] != config.hop_samples:
        raise ValueError(
            f"Audio frames have shape {frames.shape}; they must be [..., num_frames, {config.hop_samples}], "
            "as split_frames makes them."
        )
    num_frames = frames.shape[-2]
    hops = -(-config.fft_size // config.hop_samples)
    padded = arrays.numpy.pad(frames, [(0, 0)] * (frames.ndim - 2) + [(0, hops - 1), (0, 0)])
    rows = np.arange(num_frames)[:, None] + np.arange(hops)
    windows = padded[..., rows, :].reshape(*frames.shape[:-1], hops * config.hop_samples)
    return windows[..., : config.fft_size]


@functools.cache
def _mel_blocks(config: SpectrogramConfig) -> tuple[tuple[int, np.ndarray], ...]:
    """The filters in blocks: (first bin, float32 [bins, filters]), with the bins that a block covers."""
    matrix = mel_matrix(config).astype(np.float32)
    blocks = []
    for start in range(0, config.num_mel_bins, _MEL_BLOCK_BINS):
        weights = matrix[:, start : start + _MEL_BLOCK_BINS]
        covered = np.flatnonzero(weights.any(axis=1))
        first, end = (covered[0], covered[-1] + 1) if len(covered) else (0, 1)
        blocks.append((int(first), weights[first:end]))
    return tuple(blocks)


def mel_matrix(config: SpectrogramConfig) -> np.ndarray:
    """float64 [fft_size // 2 + 1, num_mel_bins]: the weight of each transform bin in each filter.

    Triangles in mel, mel(f) = 1127 ln(1 + f / 700) (O'Shaughnessy; the form that HTK uses),
    each from the centre of the filter before it to that of the one after it; the
    constant bin counts in none. Filters narrower than a bin may be empty.
    """
    hertz = np.linspace(0.0, config.sample_rate / 2, config.fft_size // 2 + 1)
    mel = 1127 * np.log1p(hertz / 700)[:, None]
    low, high = (1127 * np.log1p(edge / 700) for edge in (config.mel_low_hz, config.mel_high_hz))
    edges = np.linspace(low, high, config.num_mel_bins + 2)
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    return weights


@functools.cache
def _hann_window(size: int) -> np.ndarray:
    """float32 [size]: the periodic Hann window, bit for bit that of the published features.

    Its rounding is heard: next to a loud partial, quiet bins hold nothing but
    the window's rounding errors, 140 dB below. Therefore the cosine is worked out in
    single precision step by step (quarter turns off, then minimax polynomials),
    which no library's or machine's own cosine can be relied on to repeat.
    """
    half = np.float32(0.5)
    angle = np.float32(2 * np.pi) * np.arange(size, dtype=np.float32) / np.float32(size)
    quarters = np.rint(angle * np.float32(2 / np.pi))
    for part in (
        -1.57079601287841796875,
        -3.1391647326017846e-07,
        -5.390302529957765e-15,
    ):  # -pi / 2 in three
        angle = quarters * np.float32(part) + angle
    square = angle * angle
    cosine = _polynomial(
        square, (2.4372266125283204e-05, -0.00138865201734006405, 0.04166661947965622, -0.5, 1)
    )
    sine = _polynomial(square, (-0.0001959234114083703, 0.008332687365561685, -0.16666662029822983))
    sine = sine * square * angle + angle
    turned = np.where(quarters % 2 == 0, cosine, sine)
    window = half - half * np.where((quarters + 1) % 4 >= 2, -turned, turned)
    window.flags.writeable = False
    return window


def _polynomial(x: np.ndarray, coefficients: tuple[float, ...]) -> np.ndarray:
    """Horner's rule in float32, the highest power first."""
    value = np.float32(coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + np.float32(coefficient)
    return np.asarray(value, np.float32)
