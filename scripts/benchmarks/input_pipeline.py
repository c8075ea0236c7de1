"""Times the training input path after the cache, in examples per second per core.

Makes a temporary dataset (noise, and random notes: 6 programs and drums, 30 a
second), caches its chunks as TFRecords, and reads batches back through the same
`SeqioBatches` that training uses: 256 frames, 1024 targets. Each figure comes
from processes of their own that are bound to one core (and to two) before
TensorFlow starts. Reads come from disk through the system's file cache. Where
other programs use the cores too, the figure per second of processor time says
what the path costs.

python scripts/benchmarks/input_pipeline.py
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from music import PROGRAMS, random_notes

from mt3.data.cache import cache_chunks
from mt3.data.preprocessors import CHUNK_FRAMES
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import EncodedAudio, Recording
from mt3.models.model import ModelSpec
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

NOTES_PER_SECOND = 30
SECONDS_PER_RECORDING = 16 * CHUNK_FRAMES / 125
BATCH_SIZE = 32
TASK = "synth_notes_ties_vb1_train"
# The published pipeline on the same kind of machine, and what is asked of this one.
PUBLISHED = {1: 44, 8: 2}
REQUIRED = {1: 1500, 8: 300}
# A step of 256 examples in 0.2 s, fed by a host of 8 cores.
HOST_CORES = 8
STEP_EXAMPLES_PER_SECOND = 256 / 0.2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recordings", type=int, default=24, help="of 256 s, 16 chunks")
    parser.add_argument("--mixes", type=int, nargs="+", default=[1, 8], help="most examples per mix")
    parser.add_argument("--processes", type=int, default=2, help="started for each figure")
    parser.add_argument("--repeats", type=int, default=5, help="timed in each process")
    parser.add_argument("--examples", type=int, default=1600, help="timed each time; a third with mixing")
    parser.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        directory, cores, max_examples_per_mix = arguments.measure
        measure(directory, int(cores), int(max_examples_per_mix), arguments)
        return
    with tempfile.TemporaryDirectory() as directory:
        make_dataset(directory, arguments.recordings)
        report(directory, arguments)


def report(directory: str, arguments: argparse.Namespace) -> None:
    size = sum(path.stat().st_size for path in Path(directory, "cache").rglob("*") if path.is_file())
    print(
        f"{arguments.recordings * 16} cached chunks of 16 s, {size / 1e6:.0f} MB; {NOTES_PER_SECOND} notes "
        f"a second of {len(PROGRAMS)} programs and drums; 256 frames, 1024 targets, batches of {BATCH_SIZE}; "
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    )
    for max_examples in arguments.mixes:
        for cores in (1, 2):
            if cores > len(os.sched_getaffinity(0)):
                continue
            runs = [run(directory, cores, max_examples) for _ in range(arguments.processes)]
            rates = sorted(rate for one in runs for rate in one["examples_per_second"])
            per_cpu = max(rate for one in runs for rate in one["examples_per_cpu_second"])
            what = f"up to {max_examples} examples per mix" if max_examples > 1 else "without mixing"
            goal = ""
            if cores == 1 and max_examples in REQUIRED:
                goal = f" (required {REQUIRED[max_examples]}, published code {PUBLISHED[max_examples]})"
            print(
                f"{what}, {cores} core{'s' if cores > 1 else ''}: {rates[-1]:.0f} examples/s, best of "
                f"{len(rates)}{goal}; median {rates[len(rates) // 2]:.0f}; {per_cpu:.0f} per second of "
                f"processor time; mean target {runs[0]['mean_target_tokens']:.0f} tokens, "
                f"{runs[0]['too_long']:.0%} of targets too long",
                flush=True,
            )
            if cores == 1:
                print(
                    f"    computed from that, not measured: {HOST_CORES} cores give "
                    f"{HOST_CORES * rates[-1]:.0f} examples/s; a step of 256 examples in 0.2 s takes "
                    f"{STEP_EXAMPLES_PER_SECOND:.0f}"
                )


def run(directory: str, cores: int, max_examples: int) -> dict:
    command = [sys.executable, *sys.argv, "--measure", directory, str(cores), str(max_examples)]
    result = subprocess.run(command, capture_output=True, text=True)
    if result.returncode:
        sys.exit(result.stderr)
    return json.loads(result.stdout.splitlines()[-1])


def make_dataset(directory: str, num_recordings: int) -> None:
    """Noise and random notes as records, and their cache."""
    with RecordWriter(directory, "synth", "train", num_shards=4) as writer:
        for index in range(num_recordings):
            rng = np.random.default_rng(index)
            samples = rng.uniform(-0.3, 0.3, int(SECONDS_PER_RECORDING * 16000)).astype(np.float32)
            audio = EncodedAudio.encode(samples, 16000, "pcm16")
            writer.write(
                Recording(
                    f"noise{index}",
                    random_notes(rng, SECONDS_PER_RECORDING, NOTES_PER_SECOND),
                    audio,
                    "synth",
                    "train",
                )
            )
    cache_chunks(directory, Path(directory, "cache"), num_shards=16)


def measure(directory: str, cores: int, max_examples: int, arguments: argparse.Namespace) -> None:
    """In a process of its own: prints rates as JSON."""
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])
    from mt3.data.seqio_batches import SeqioBatches

    batches = SeqioBatches(
        ModelSpec(tokenizer=Tokenizer(VocabularyConfig(1, program_granularity="full"))),
        task=TASK,
        batch_size=BATCH_SIZE,
        data_dir=directory,
        cache_dir=str(Path(directory, "cache")),
        use_cached=True,
        max_examples_per_mix=max_examples,
    )
    num_batches = max(1, arguments.examples // (BATCH_SIZE * (1 if max_examples == 1 else 3)))
    # Fills the shuffle buffer, and what is read ahead.
    lengths = [(next(batches)["decoder_target_tokens"] != 0).sum(axis=1).mean() for _ in range(num_batches)]
    rates, cpu_rates = [], []
    for _ in range(arguments.repeats):
        start, cpu_start = time.perf_counter(), time.process_time()
        for _ in range(num_batches):
            next(batches)
        rates.append(num_batches * BATCH_SIZE / (time.perf_counter() - start))
        cpu_rates.append(num_batches * BATCH_SIZE / (time.process_time() - cpu_start))
    counts = batches.counts()
    prefix = "mixed_" if max_examples > 1 else ""
    result = {
        "examples_per_second": rates,
        "examples_per_cpu_second": cpu_rates,
        "mean_target_tokens": float(np.mean(lengths)),
        "too_long": counts[prefix + "too_long"] / counts[prefix + "segments"],
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
