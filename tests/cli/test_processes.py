"""`mt3 train` in two processes on this machine, as several hosts would run it."""

import json
import socket
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from mt3.data.cache import cache_chunks
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import EncodedAudio, Recording
from mt3.symbolic.notes import Notes

# The command in a process that writes down the examples of its batches.
COMMAND = """
import json, sys
from mt3.data import aligned_batches
from mt3.cli.main import main

next_batch = aligned_batches.AlignedBatches.__next__

def noted(self):
    batch = next_batch(self)
    print(json.dumps([name.decode() for name in batch["example_ids"] if name]), flush=True)
    return batch

aligned_batches.AlignedBatches.__next__ = noted
main()
"""
FAILING = """
import sys
from mt3.data.stream import SyntheticStream

made = SyntheticStream.__next__

def next_batch(self):
    if sys.argv[-1] == "--process-index=1":
        raise ValueError("the disk is gone")
    return made(self)

SyntheticStream.__next__ = next_batch
"""


def in_two_processes(environment, program, *arguments, num_processes=2):
    """Exit code, standard output and standard error of each."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    common = ["train", *map(str, arguments), f"--coordinator=localhost:{port}", "--num-processes=2"]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, *common, f"--process-index={index}"],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for index in range(num_processes)
    ]
    said = [process.communicate() for process in processes]
    return [(process.returncode, *texts) for process, texts in zip(processes, said, strict=True)]


@pytest.fixture
def recordings(tmp_path):
    """Dataset "synth": three recordings, in a file each, of one, two and three chunks; and their cache."""
    data, cache = tmp_path / "data", tmp_path / "cache"
    with RecordWriter(data, "synth", "train", num_shards=3) as writer:
        for number in range(3):
            num_frames = 2000 * (number + 1)
            samples = np.full(128 * num_frames, 0.1 * (number + 1), np.float32)
            notes = Notes.from_rows(
                [(t, t + 0.5, 60 + number, 80, 0, False) for t in range(num_frames // 125)]
            )
            audio = EncodedAudio.encode(samples, 16000)
            writer.write(Recording(f"r{number}", notes, audio, dataset="synth", split="train"))
    cache_chunks(data, cache, num_shards=3, workers=0)
    return data, cache


@pytest.mark.slow
def test_every_example_of_an_epoch_is_read_once(cpu_devices, tiny, recordings, tmp_path):
    """From the cache; the parts are not of one size, and end after different numbers of batches."""
    data, cache = recordings
    run_dir = tmp_path / "run"
    outcomes = in_two_processes(
        cpu_devices(1),
        COMMAND,
        *("--gin_file", tiny, "--gin_file", "parts/seqio.gin", "--run-dir", run_dir, "--mesh", "fsdp"),
        *("--gin.TASK='synth_notes_ties_ms1_vb1_train'", f"--gin.DATA_DIR='{data}'", "--gin.BATCH_SIZE=64"),
        *(
            f"--gin.CACHE_DIR='{cache}'",
            "--gin.seqio_batches.num_epochs=1",
            "--gin.seqio_batches.use_cached=True",
        ),
        *("--gin.TrainingRun.num_steps=100", "--gin.TrainingRun.metrics_period_steps=1"),
    )
    assert [code for code, *_ in outcomes] == [0, 0], outcomes
    read = [
        [
            json.loads(line)
            for line in out.splitlines()
            if line.startswith("[") and not line.startswith("[Gloo")
        ]
        for _, out, _ in outcomes
    ]
    num_batches = len(read[0])
    assert len(read[1]) == num_batches
    # Segments of 32 frames: 62 of each chunk of 2000.
    examples = [[name for batch in batches for name in batch] for batches in read]
    assert len(examples[0]) != len(examples[1])
    chunks = Counter()
    for name in (*examples[0], *examples[1]):
        recording, seconds = name.removesuffix("s").split("@")
        chunks[recording, int(float(seconds) // 16)] += 1
    places = [("synth/r0", 0), *(("synth/r1", n) for n in range(2)), *(("synth/r2", n) for n in range(3))]
    assert set(chunks) == set(places)
    assert len(set(chunks.values())) == 1
    # Only the first process says how it went, and all steps were counted once.
    assert f"{run_dir}: trained to step {num_batches}" in outcomes[0][1]
    assert "trained to step" not in outcomes[1][1]
    assert "the batches ended after step" in outcomes[0][2]
    assert "mt3:" not in outcomes[1][2]
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == list(range(1, num_batches + 1))
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == [str(num_batches)]
    assert "TrainingRun.mesh = 'fsdp'" in (run_dir / "config.gin").read_text()


@pytest.mark.slow
def test_a_process_that_fails_ends_the_other(cpu_devices, tiny, tmp_path):
    outcomes = in_two_processes(
        cpu_devices(1),
        f"{FAILING}\nfrom mt3.cli.main import main\nmain()",
        "--gin_file",
        tiny,
        "--run-dir",
        tmp_path / "run",
    )
    assert [code for code, *_ in outcomes] == [1, 1], outcomes
    errors = [[line for line in err.splitlines() if line.startswith("mt3: error")] for *_, err in outcomes]
    assert errors[1] == ["mt3: error: the disk is gone"]
    assert len(errors[0]) == 1
    assert "process 1 has failed (ValueError: the disk is gone), so this one ends too" in errors[0][0]


def test_processes_that_are_not_described_well(mt3, tiny, tmp_path):
    error = mt3("train", "--gin_file", tiny, "--run-dir", tmp_path / "run", "--coordinator", "host:1").error()
    assert "described in part only: give all of --coordinator HOST:PORT, --num-processes N and" in error


def test_mesh_by_name(mt3, tiny, tmp_path):
    train = ("train", "--gin_file", tiny, "--run-dir", tmp_path / "run")
    outcome = mt3(*train, "--mesh", "fsdp", "--dry-run")
    assert "TrainingRun.mesh = 'fsdp'\n" in outcome.out
    assert (
        "mesh is 'pod': choose one of single, data, fsdp, fsdp+model" in mt3(*train, "--mesh", "pod").error()
    )
    assert "a mesh of data=1, fsdp=-1, model=2 does not fit" in mt3(*train, "--mesh", "fsdp+model").error()


def test_ways_to_compute_from_gin(mt3, tiny, tmp_path):
    train = ("train", "--gin_file", tiny, "--run-dir", tmp_path / "run", "--dry-run")
    compute = ("--gin.TrainingRun.compute=@ComputeConfig()", "--gin.ComputeConfig.scan_layers=True")
    assert "ComputeConfig.remat = 'none'\n" in mt3(*train, *compute).out
    error = mt3(*train, *compute, "--gin.ComputeConfig.remat='some'").error()
    assert "compute remat is 'some': choose one of none, full, dots, projections" in error


def test_axis_rules_from_gin(mt3, tiny, tmp_path):
    train = ("train", "--gin_file", tiny, "--run-dir", tmp_path / "run", "--dry-run")
    rules = "--gin.TrainingRun.axis_rules=(('mlp', None), ('embed', ('fsdp', 'model')))"
    assert mt3(*train, rules).code == 0
    error = mt3(*train, "--gin.TrainingRun.axis_rules=(('mlp', 'tensor'),)").error()
    assert "an axis rule has the mesh axis 'tensor': there are data, fsdp, model" in error
    assert "TrainingRun.axis_rules is 3: give" in mt3(*train, "--gin.TrainingRun.axis_rules=3").error()
