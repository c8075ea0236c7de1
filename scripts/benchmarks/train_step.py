"""Times updates of training: seconds a step, tokens a second, utilisation, memory, and the wait for input.

On whatever backend there is, each figure in a process of its own:

steps     networks x batch sizes x target lengths, every target full. MFU is the share
          of the device's peak that the model's operations take (`mt3.models.flops`); where
          the peak is not known (CPUs), of what one product of matrices reaches just before.
variants  the largest network at the first batch size and the longest target, with other
          settings of `ComputeConfig`; their steps alternate, and their ratios are printed.
targets   batches of targets as long as music makes them, cut to buckets and not cut.
input     a real run of the largest network from a cache, by `mt3.training.loop.train`:
          the share of its time that it waits for batches, as it reports it itself.

Music for `targets` are MIDI files (`--midi`, a folder or a zip), of which a few segments
each are merged into an example; without any, random notes of pieces of different density.

python scripts/benchmarks/train_step.py
"""

from __future__ import annotations

import argparse
import concurrent.futures
import dataclasses
import json
import multiprocessing
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from music import random_notes
from targets import FRAMES, TOKENIZER, target_lengths

from mt3.data.batches import make_batch
from mt3.data.cache import cache_chunks
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import EncodedAudio, Recording
from mt3.data.seqio_batches import SeqioBatches
from mt3.models.compute import ComputeConfig
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.transformer import TransformerConfig
from mt3.training.loop import train
from mt3.training.optimizers import OptimizerConfig, build_optimizer
from mt3.training.step import init_state, jit_train_step
from mt3.training.throughput import peak_flops_per_second

# As in configs/parts/network_*.gin.
NETWORKS = {
    "tiny": TransformerConfig(
        emb_dim=128, num_heads=4, head_dim=32, mlp_dim=256, num_encoder_layers=2, num_decoder_layers=2
    ),
    "small": TransformerConfig(),
}
VARIANTS = {
    "as it is": ComputeConfig(),
    "whole attention": ComputeConfig(attention="einsum"),
    "scanned layers": ComputeConfig(scan_layers=True),
    "remat full": ComputeConfig(remat="full"),
    "remat projections": ComputeConfig(remat="projections"),
}


def main() -> None:
    arguments = parse_arguments()
    sections = {"steps": steps, "variants": variants, "targets": targets, "input": real_run}
    for name in arguments.sections:
        print(f"-- {name}", flush=True)
        sections[name](arguments)


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sections", nargs="+", default=["steps", "variants", "targets", "input"])
    parser.add_argument("--network", nargs="+", default=["tiny", "small"], choices=sorted(NETWORKS))
    parser.add_argument("--batch", type=int, nargs="+", default=[2, 8])
    parser.add_argument("--tokens", type=int, nargs="+", default=[256, 512, 1024], help="also the buckets")
    parser.add_argument("--activation_dtype", default="float32")
    parser.add_argument("--accumulation", type=int, default=1, help="microbatches of a step")
    parser.add_argument("--attention", default=ComputeConfig().attention)
    parser.add_argument("--remat", default=ComputeConfig().remat)
    parser.add_argument("--repeats", type=int, default=4, help="timed steps of each")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--midi", type=Path, help="a folder or a zip of MIDI files")
    parser.add_argument("--mix", type=int, default=2, help="segments merged into an example")
    parser.add_argument("--steps", type=int, default=24, help="of the real run")
    return parser.parse_args()


def in_a_process(function: Callable[..., Any], *values: Any) -> Any:
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *values).result()


def model_of(network: str, arguments: argparse.Namespace, compute: ComputeConfig | None = None):
    sizes = dataclasses.replace(NETWORKS[network], activation_dtype=arguments.activation_dtype)
    compute = compute or ComputeConfig(attention=arguments.attention, remat=arguments.remat)
    return TranscriptionModel(ModelSpec(network=sizes), compute)


class Stepper:
    """A model that is trained on made-up batches."""

    def __init__(self, model: TranscriptionModel, accumulation: int = 1) -> None:
        self.model = model
        optimizer = build_optimizer(OptimizerConfig())
        self._state = jax.jit(lambda rng: init_state(model, optimizer, rng))(jax.random.key(0))
        self._step = jit_train_step(model=model, optimizer=optimizer, accumulation_steps=accumulation)

    def seconds(self, batch: dict[str, np.ndarray]) -> float:
        """Of one step; the first of a shape compiles."""
        start = time.perf_counter()
        self._state, metrics = self._step(self._state, batch)
        jax.block_until_ready((self._state, metrics))
        return time.perf_counter() - start


def batch_of(lengths: Sequence[int], bucket: int | Sequence[int]) -> dict[str, np.ndarray]:
    """Noise and random tokens; `bucket` is the target axis, or the choices for it."""
    rng = np.random.default_rng(0)
    examples = [
        {
            "inputs": rng.normal(0, 0.1, (FRAMES, 128)).astype(np.float32),
            "targets": rng.integers(3, TOKENIZER.num_embeddings, length).astype(np.int32),
        }
        for length in lengths
    ]
    buckets = [bucket] if isinstance(bucket, int) else bucket
    return make_batch(
        examples, input_frames=FRAMES, max_target_tokens=max(buckets), target_buckets=tuple(buckets)
    )


def peak_flops() -> float:
    """Operations a second that the device can do; on a CPU what a product of matrices reaches now."""
    known = peak_flops_per_second(jax.devices()[0].device_kind)
    if known:
        return known
    left, right = jnp.ones((2048, 512)), jnp.ones((512, 1024))
    product = jax.jit(jnp.dot)
    times = []
    for _ in range(20):
        start = time.perf_counter()
        product(left, right).block_until_ready()
        times.append(time.perf_counter() - start)
    return 2 * 2048 * 512 * 1024 / min(times)


def peak_memory_gib() -> float:
    """Of the device, or of this process where they share memory."""
    stats = jax.devices()[0].memory_stats()
    if stats and "peak_bytes_in_use" in stats:
        return stats["peak_bytes_in_use"] / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


# --- steps ---


def steps(arguments: argparse.Namespace) -> None:
    print(in_a_process(describe_machine))
    print("network  batch  tokens  s a step (median, best)  tokens/s   MFU    peak GiB  first step s")
    for network in arguments.network:
        for batch in arguments.batch:
            for tokens in arguments.tokens:
                row = in_a_process(time_steps, network, batch, tokens, arguments)
                print(f"{network:8s} {batch:5d} {tokens:7d}  {row}", flush=True)


def describe_machine() -> str:
    device = jax.devices()[0]
    return (
        f"{device.device_kind}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, "
        f"jax {jax.__version__}, peak {peak_flops() / 1e12:.3g} Tflop/s"
    )


def time_steps(network: str, batch_size: int, tokens: int, arguments: argparse.Namespace) -> str:
    peak = peak_flops()
    stepper = Stepper(model_of(network, arguments), arguments.accumulation)
    batch = batch_of([tokens] * batch_size, tokens)
    first = stepper.seconds(batch)
    times = [stepper.seconds(batch) for _ in range(arguments.repeats)]
    median, best = statistics.median(times), min(times)
    utilisation = stepper.model.training_flops(batch) / median / peak
    return (
        f"{median:12.3f} {best:10.3f} {batch_size * tokens / median:10.0f}  {utilisation:6.1%} "
        f"{peak_memory_gib():9.2f} {first:9.1f}"
    )


# --- variants ---


def variants(arguments: argparse.Namespace) -> None:
    network, batch, tokens = arguments.network[-1], arguments.batch[0], max(arguments.tokens)
    print(f"{network}, batch {batch}, {tokens} tokens; s a step (best), times as long as the first, peak GiB")
    times = in_a_process(time_variants, network, batch, tokens, arguments)
    for name, best in times.items():
        memory = in_a_process(memory_of_variant, network, batch, tokens, name, arguments)
        print(f"{name:18s} {best:8.3f} {best / times[arguments.variants[0]]:7.2f} {memory:9.2f}", flush=True)


def time_variants(network: str, batch_size: int, tokens: int, arguments: argparse.Namespace) -> dict:
    batch = batch_of([tokens] * batch_size, tokens)
    steppers = {
        name: Stepper(model_of(network, arguments, VARIANTS[name]), arguments.accumulation)
        for name in arguments.variants
    }
    for stepper in steppers.values():
        stepper.seconds(batch)
    rounds = [
        {name: stepper.seconds(batch) for name, stepper in steppers.items()} for _ in range(arguments.repeats)
    ]
    return {name: min(times[name] for times in rounds) for name in steppers}


def memory_of_variant(
    network: str, batch_size: int, tokens: int, name: str, arguments: argparse.Namespace
) -> float:
    stepper = Stepper(model_of(network, arguments, VARIANTS[name]), arguments.accumulation)
    batch = batch_of([tokens] * batch_size, tokens)
    for _ in range(2):
        stepper.seconds(batch)
    return peak_memory_gib()


# --- targets ---


def targets(arguments: argparse.Namespace) -> None:
    lengths = np.array(list(target_lengths(arguments.midi, arguments.mix)))
    lengths = np.minimum(lengths, max(arguments.tokens))
    percentiles = ", ".join(f"{value:.0f}" for value in np.percentile(lengths, [50, 90, 99]))
    print(
        f"{arguments.midi or 'random notes'}, {arguments.mix} segments an example: {len(lengths)} targets "
        f"of {lengths.mean():.0f} tokens on average, percentiles 50, 90, 99: {percentiles}"
    )
    network = arguments.network[-1]
    for batch_size in arguments.batch:
        print(in_a_process(time_targets, network, batch_size, lengths, arguments), flush=True)


def time_targets(network: str, batch_size: int, lengths: np.ndarray, arguments: argparse.Namespace) -> str:
    """The mean over random batches, by the time of a step with each bucket."""
    buckets = sorted(arguments.tokens)
    stepper = Stepper(model_of(network, arguments), arguments.accumulation)
    full = {bucket: batch_of([bucket] * batch_size, bucket) for bucket in buckets}
    for batch in full.values():
        stepper.seconds(batch)
    rounds = [
        {bucket: stepper.seconds(batch) for bucket, batch in full.items()} for _ in range(arguments.repeats)
    ]
    seconds = {bucket: statistics.median(times[bucket] for times in rounds) for bucket in buckets}
    rng = np.random.default_rng(0)
    longest = rng.choice(lengths, (2000, batch_size)).max(axis=1)
    of_batch = np.array(buckets)[np.searchsorted(buckets, longest)]
    mean = np.mean([seconds[bucket] for bucket in of_batch.tolist()])
    shares = ", ".join(f"{bucket}: {np.mean(of_batch == bucket):.0%}" for bucket in buckets)
    return (
        f"{network}, batch {batch_size}: {mean:.3f} s a step in buckets, {seconds[buckets[-1]]:.3f} without, "
        f"{mean / seconds[buckets[-1]]:.2f} times (wanted: at most 0.5); batches by bucket {shares}"
    )


# --- input ---


def real_run(arguments: argparse.Namespace) -> None:
    network, batch_size = arguments.network[-1], arguments.batch[0]
    with tempfile.TemporaryDirectory() as directory:
        in_a_process(make_cache, directory)
        values = in_a_process(run, network, batch_size, directory, arguments)
    print(
        f"{network}, batch {batch_size}, up to {arguments.mix} segments an example, from the cache, "
        f"{arguments.steps} steps: waits for input {values['train/input_wait_share']:.2%} of the time "
        f"(wanted: under 2 %), {values['train/steps_per_second']:.3f} steps/s, "
        f"{values['train/tokens_per_second']:.0f} tokens/s without padding"
    )


def make_cache(directory: str) -> None:
    rng = np.random.default_rng(0)
    with RecordWriter(directory, "synth", "train") as writer:
        for index in range(8):
            seconds = 120.0
            audio = rng.normal(0, 0.05, int(seconds * 16000)).astype(np.float32)
            notes = random_notes(rng, seconds, rng.lognormal(np.log(12), 0.4))
            audio_file = EncodedAudio.encode(audio, 16000)
            writer.write(Recording(f"piece{index}", notes, audio_file, "synth", "train"))
    cache_chunks(directory, Path(directory, "cache"), workers=0)


def run(network: str, batch_size: int, directory: str, arguments: argparse.Namespace) -> dict[str, float]:
    model = model_of(network, arguments)
    batches = SeqioBatches(
        model.spec,
        task="synth_notes_ties_vb1_train",
        split="train",
        batch_size=batch_size,
        data_dir=directory,
        cache_dir=str(Path(directory, "cache")),
        max_examples_per_mix=arguments.mix,
        target_buckets=tuple(sorted({*arguments.tokens, model.spec.max_target_tokens})),
    )
    run_dir = Path(directory, "run")
    with batches:
        train(
            model,
            batches,
            num_steps=arguments.steps,
            run_dir=run_dir,
            metrics_period_steps=arguments.steps,
            progress=False,
            tensorboard=False,
        )
    return json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])


if __name__ == "__main__":
    main()
