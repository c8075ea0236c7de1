"""How fast log-mel spectrograms (milliseconds a batch) and rendering (times real time) are.

python scripts/benchmarks/audio.py
"""

import argparse
import functools
import time

import jax
import numpy as np

from mt3.audio import synthesis
from mt3.audio.spectrograms import SpectrogramConfig, log_mel, log_mel_numpy
from mt3.symbolic.notes import Notes

BATCHES = ((32, 64), (8, 256))  # segments, frames


def best_seconds(call, repeats):
    """The shortest of some calls, after one that compiles and loads."""
    call()
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return min(times)


def band(seconds, notes_per_second, seed):
    """A dense piece of eight instruments and drums."""
    rng = np.random.default_rng(seed)
    count = round(seconds * notes_per_second)
    onset = np.sort(rng.uniform(0, seconds, count))
    is_drum = rng.random(count) < 0.25
    return Notes(
        onset_seconds=onset,
        offset_seconds=onset + rng.uniform(0.1, 0.8, count),
        pitch=np.where(is_drum, rng.integers(35, 55, count), rng.integers(40, 80, count)),
        velocity=rng.integers(50, 120, count),
        program=np.where(is_drum, 0, rng.choice([0, 24, 33, 48, 56, 65, 73, 80], count)),
        is_drum=is_drum,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=30.0, help="length of the rendered piece")
    options = parser.parse_args()
    config = SpectrogramConfig()
    jitted = jax.jit(functools.partial(log_mel, config=config))
    for batch in BATCHES:
        frames = np.random.default_rng(0).normal(0, 0.1, (*batch, config.hop_samples)).astype(np.float32)
        on_device = jax.device_put(frames)
        jax_time = best_seconds(lambda x=on_device: jax.block_until_ready(jitted(x)), options.repeats)
        numpy_time = best_seconds(lambda x=frames: log_mel_numpy(x, config), options.repeats)
        print(
            f"log-mel of {batch[0]} segments of {batch[1]} frames: "
            f"{1e3 * jax_time:.1f} ms jitted on {jax.default_backend()}, {1e3 * numpy_time:.1f} ms in NumPy"
        )
    notes = band(options.seconds, notes_per_second=30, seed=0)
    for name, reason in synthesis.available_backends().items():
        if reason:
            print(reason)
            continue
        synthesizer = synthesis.make_synthesizer(backend=name)
        seconds = best_seconds(lambda s=synthesizer: s.render(notes), 3)
        print(f"rendering with {name}: {options.seconds / seconds:.0f} times real time at 16 kHz")


if __name__ == "__main__":
    main()
