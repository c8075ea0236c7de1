"""A run that is killed again and again gives the losses of one that is not, bit for bit.

The real command, on prepared datasets through seqio: a mixture of two, mixes of segments, dropout.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from mt3.cli.train import RESUMABLE_EXIT_CODE
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import EncodedAudio, Recording
from mt3.models.checkpoints import checkpoint_steps, read_params
from mt3.symbolic.notes import Notes

NUM_STEPS = 60
DATASETS = {"maestro": 5, "guitarset": 3}
CONFIG = """
include "parts/spectrogram.gin"
include "parts/tokens_notes_ties_vb1.gin"
include "parts/seqio.gin"
TASK = ("maestro_notes_ties_vb1_train", "guitarset_notes_ties_vb1_train")
BATCH_SIZE = 6
seqio_batches.max_examples_per_mix = 3
seqio_batches.shuffle_buffer_size = 30
seqio_batches.target_buckets = (64,)
SpectrogramConfig.num_mel_bins = 32
ModelSpec.network = @TransformerConfig()
TransformerConfig.emb_dim = 16
TransformerConfig.num_heads = 2
TransformerConfig.head_dim = 8
TransformerConfig.mlp_dim = 32
TransformerConfig.num_encoder_layers = 1
TransformerConfig.num_decoder_layers = 1
TransformerConfig.dropout_rate = 0.2
ModelSpec.input_frames = 32
ModelSpec.max_target_tokens = 128
TrainingRun.spec = @ModelSpec()
TrainingRun.metrics_period_steps = 1
TrainingRun.checkpoints = @CheckpointConfig()
CheckpointConfig.period_steps = 4
TrainingRun.optimizer = @OptimizerConfig()
OptimizerConfig.name = "adamw"
OptimizerConfig.learning_rate = 1e-2
"""
# Importing everything takes longer than all else: it is done once, before there is any thread. Each
# command is a process of its own all the same.
COMMANDS = """
import faulthandler, os, signal, sys
import jax, optax, orbax.checkpoint, seqio, tensorboardX, tensorflow, tqdm
import mt3.cli.main, mt3.cli.runs, mt3.data.features, mt3.data.tasks, mt3.training.loop

for line in sys.stdin:
    log, *arguments = line.rstrip("\\n").split("|")
    process = os.fork()
    if not process:
        output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(output, 1), os.dup2(output, 2)
        faulthandler.register(signal.SIGUSR1)
        sys.argv = ["mt3", *arguments]
        code = 0
        try:
            mt3.cli.main.main()
        except SystemExit as end:
            code = end.code
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    print(process, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), flush=True)
"""


def recording(dataset, number, num_seconds=17):
    rng = np.random.default_rng([len(dataset), number])
    onset_seconds = np.sort(rng.integers(0, 100 * num_seconds - 60, 5 * num_seconds)) / 100
    notes = Notes(
        onset_seconds,
        onset_seconds + rng.integers(5, 50, len(onset_seconds)) / 100,
        rng.integers(30, 90, len(onset_seconds)),
        rng.integers(1, 128, len(onset_seconds)),
        rng.choice([0, 32, 40], len(onset_seconds)),
        np.zeros(len(onset_seconds), bool),
    )
    audio = EncodedAudio.encode(rng.uniform(-0.3, 0.3, 16000 * num_seconds).astype(np.float32), 16000)
    return Recording(f"{dataset}{number}", notes, audio, dataset=dataset, split="train")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """A gin file, and the datasets that it names."""
    folder = tmp_path_factory.mktemp("resume")
    for dataset, num_recordings in DATASETS.items():
        with RecordWriter(folder / "data" / dataset, dataset, "train", num_shards=2) as writer:
            for number in range(num_recordings):
                writer.write(recording(dataset, number))
    file = folder / "run.gin"
    file.write_text(f'{CONFIG}\nDATA_DIR = "{folder / "data"}"\nTrainingRun.num_steps = {NUM_STEPS}\n')
    return file


class Command:
    """Runs `mt3 train`, one process after the other."""

    def __init__(self):
        # With one thread in this library, there is none yet when the processes are made.
        environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._parent = subprocess.Popen(
            [sys.executable, "-c", COMMANDS],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
        )

    def start(self, run_dir, *arguments):
        """The process; what it says is added to RUN.log."""
        command = (run_dir.with_suffix(".log"), "train", "--run-dir", run_dir, *arguments)
        print(*command, sep="|", file=self._parent.stdin, flush=True)
        return int(self._parent.stdout.readline())

    def wait(self):
        """How the process has ended: its exit code, or less than 0 for a signal."""
        return int(self._parent.stdout.readline())

    def train(self, run_dir, *arguments):
        """To the end."""
        self.start(run_dir, *arguments)
        assert self.wait() == 0, run_dir.with_suffix(".log").read_text()

    def train_until(self, step, signum, extra_seconds, run_dir, *arguments):
        """Sends the signal some time after an update that was not there before; for 0, after the start.

        Any update comes with a checkpoint to go on from: without one a run has nothing to resume.
        """
        process = self.start(run_dir, *arguments)
        end_seconds = time.monotonic() + 300
        while step and not (max(losses(run_dir), default=0) >= step and checkpoint_steps(run_dir)):
            if time.monotonic() > end_seconds:
                self.give_up(process, run_dir)
            time.sleep(0.002)
        time.sleep(extra_seconds)
        os.kill(process, signum)
        return self.wait()

    def give_up(self, process, run_dir):
        """Fails, with where each of the process's threads stands."""
        os.kill(process, signal.SIGUSR1)
        time.sleep(1.0)
        os.kill(process, signal.SIGKILL)
        self.wait()
        pytest.fail(run_dir.with_suffix(".log").read_text())

    def interrupt_again_and_again(self, signals, last_step, rng, run_dir, *arguments):
        """Before the first update of the run, then at random moments up to about a step."""
        for index, signum in enumerate(signals):
            done = max(losses(run_dir), default=0)
            step = done + 1 + int(rng.integers(max(1, (last_step - done) // (len(signals) - index))))
            extra_seconds = rng.uniform(0, 0.03 if index else 2)
            code = self.train_until(step if index else 0, signum, extra_seconds, run_dir, *arguments)
            assert code == (RESUMABLE_EXIT_CODE if signum == signal.SIGTERM else -signal.SIGKILL)

    def close(self):
        self._parent.stdin.close()
        self._parent.wait()
        self._parent.stdout.close()


@pytest.fixture(scope="module")
def command():
    command = Command()
    yield command
    command.close()


def losses(run_dir):
    """Step -> loss, of whole lines."""
    path = run_dir / "metrics.jsonl"
    lines = path.read_text().splitlines(True) if path.exists() else []
    values = [json.loads(line) for line in lines if line.endswith("\n")]
    return {line["step"]: line["train/loss"] for line in values}


def assert_same_run(whole, killed):
    log = killed.with_suffix(".log").read_text()
    assert losses(killed) == losses(whole)
    jax.tree.map(
        np.testing.assert_array_equal, *(jax.device_get(read_params(run)) for run in (whole, killed))
    )
    assert re.search(r"^mt3: resuming from step \d", log, re.MULTILINE), log
    assert "start over" not in log


@pytest.fixture
def rng():
    """Another one each time, as it must not matter when a run is killed."""
    seed = int(np.random.default_rng().integers(2**32))
    print("moments of seed", seed)
    return np.random.default_rng(seed)


@pytest.mark.slow
def test_killed_ten_times_and_asked_to_stop(command, config, tmp_path, rng):
    whole, killed, arguments = tmp_path / "whole", tmp_path / "killed", ("--gin_file", config)
    command.train(whole, *arguments)
    assert list(losses(whole)) == list(range(1, NUM_STEPS + 1))
    signals = [signal.SIGKILL, *rng.permutation([signal.SIGKILL] * 9 + [signal.SIGTERM]).tolist()]
    command.interrupt_again_and_again(signals, NUM_STEPS - 6, rng, killed, *arguments)
    command.train(killed, *arguments)
    assert_same_run(whole, killed)


@pytest.mark.slow
def test_stream_killed_twice(command, tiny, tmp_path, rng):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    settings = {
        "TrainingRun.num_steps": 24,
        "TrainingRun.metrics_period_steps": 1,
        "CheckpointConfig.period_steps": 3,
        "TransformerConfig.dropout_rate": 0.2,
        "stream_batches.max_examples_per_mix": 2,
        "stream_batches.clips_per_generation": 2,
        "stream_batches.segments_per_clip": 8,
    }
    arguments = ("--gin_file", tiny, *(f"--gin.{name}={value}" for name, value in settings.items()))
    command.train(whole, *arguments)
    command.interrupt_again_and_again([signal.SIGKILL] * 2, 20, rng, killed, *arguments)
    command.train(killed, *arguments)
    assert_same_run(whole, killed)
