"""Times greedy decoding of MT3-small with random parameters, in tokens per second.

Every segment is decoded to its full length (the end of a sequence is made
unreachable), encoder included, compilation excluded. Beside the decoder as it
is stands the same code with a cache that has its full length from the start.
Their runs alternate, so that whatever else the machine does falls on both.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import time
from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from mt3.models.decoding import generate
from mt3.models.transformer import ACTIVATION_DTYPES, Transformer, TransformerConfig
from mt3.symbolic.vocabularies import EOS_ID

NUM_FRAMES = 256
NUM_MEL_BINS = 512


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, nargs="+", default=[8, 32], help="segments at once")
    parser.add_argument("--tokens", type=int, default=1024, help="tokens of each segment")
    parser.add_argument("--repeats", type=int, default=2, help="timed runs of each")
    parser.add_argument("--activation_dtype", default="float32", choices=ACTIVATION_DTYPES)
    arguments = parser.parse_args()
    config = dataclasses.replace(TransformerConfig(), activation_dtype=arguments.activation_dtype)
    params = random_params(config)
    print(
        f"MT3-small, random parameters, {config.activation_dtype}, {NUM_FRAMES} frames -> "
        f"{arguments.tokens} tokens a segment; {jax.devices()[0].device_kind}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}, jax {jax.__version__}"
    )
    for batch in arguments.batch:
        compare(config, params, batch, arguments.tokens, arguments.repeats)


def random_params(config: TransformerConfig) -> dict:
    """Initial parameters with which no sequence ends."""
    frames, tokens = jnp.zeros((1, 1, NUM_MEL_BINS)), jnp.zeros((1, 1), jnp.int32)
    params = nn.unbox(jax.jit(Transformer(config).init)(jax.random.key(0), frames, tokens))["params"]
    logits = params["decoder"]["logits_dense"]
    # A logit of 0 is never the largest of so many random ones.
    logits["kernel"] = logits["kernel"].at[:, EOS_ID].set(0.0)
    return params


def compare(config: TransformerConfig, params: dict, batch: int, max_tokens: int, repeats: int) -> None:
    """Prints the speed with the default growth of the cache and without growth."""
    features = np.random.default_rng(0).normal(size=(batch, NUM_FRAMES, NUM_MEL_BINS)).astype(np.float32)
    plans = {"growing cache": None, "full cache": [max_tokens]}
    seconds: dict[str, list[float]] = {name: [] for name in plans}
    for repeat in range(repeats + 1):
        for name, cache_lengths in plans.items():
            elapsed = timed(
                lambda lengths=cache_lengths: generate(
                    config, params, features, max_tokens=max_tokens, cache_lengths=lengths
                )
            )
            if repeat > 0:  # the first compiles
                seconds[name].append(elapsed)
    for name, runs in seconds.items():
        fastest, median = (batch * max_tokens / figure for figure in (min(runs), statistics.median(runs)))
        print(f"batch {batch:3d}  {name:14s} {median:7.0f} tokens/s median, {fastest:7.0f} best of {repeats}")


def timed(function: Callable[[], jax.Array]) -> float:
    start = time.perf_counter()
    tokens = np.asarray(function())
    elapsed = time.perf_counter() - start
    if not np.all(tokens != EOS_ID):
        raise RuntimeError("a segment ended early: its figure would not be of the full length")
    return elapsed


if __name__ == "__main__":
    main()
