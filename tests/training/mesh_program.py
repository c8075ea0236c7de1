"""What tests of meshes run in processes of their own, where there are several devices.

    python mesh_program.py TASK ARGUMENTS...

prints a line of JSON. The network is the real one, made tiny; batch n is a function of n.
`matrix all` goes through all combinations of choices, which takes minutes.
"""

import itertools
import json
import os
import signal
import sys

import jax
import numpy as np

from mt3.audio.spectrograms import SpectrogramConfig
from mt3.models.compute import ComputeConfig
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.transformer import TransformerConfig
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig
from mt3.training import multihost
from mt3.training.checkpoints import CheckpointConfig
from mt3.training.hooks import Hook
from mt3.training.loop import TrainingInterrupted, train
from mt3.training.optimizers import OptimizerConfig, build_optimizer
from mt3.training.partitioning import MESHES, Partitioner, make_mesh
from mt3.training.step import init_state, jit_train_step

TOKENIZER = Tokenizer(VocabularyConfig(1, max_shift_seconds=1))
# Every axis divides among eight devices.
SIZES = {"vocab_size": 640, "emb_dim": 16, "num_heads": 2, "head_dim": 8, "mlp_dim": 32}
LAYERS = {"num_encoder_layers": 1, "num_decoder_layers": 2}
INPUT_FRAMES, NUM_TOKENS, BATCH_SIZE = 8, 12, 32
NUM_STEPS = 20
OPTIMIZER = OptimizerConfig(learning_rate=1e-2, adafactor_min_dim_size_to_factor=16)


def make_model(dropout_rate=0.0, **compute):
    spec = ModelSpec(
        network=TransformerConfig(**SIZES, **LAYERS, dropout_rate=dropout_rate),
        spectrogram=SpectrogramConfig(num_mel_bins=16),
        tokenizer=TOKENIZER,
        input_frames=INPUT_FRAMES,
        max_target_tokens=NUM_TOKENS,
        input_kind="log_mel",
    )
    return TranscriptionModel(spec, ComputeConfig(**compute))


def make_batch(step, rows=slice(None)):
    """Batch number `step`, or some of its rows. Targets have unequal lengths."""
    rng = np.random.default_rng(step)
    targets = rng.integers(2, 600, (BATCH_SIZE, NUM_TOKENS)).astype(np.int32)
    targets[np.arange(NUM_TOKENS) >= rng.integers(1, NUM_TOKENS + 1, (BATCH_SIZE, 1))] = 0
    batch = {
        "inputs": rng.normal(size=(BATCH_SIZE, INPUT_FRAMES, 16)).astype(np.float32),
        "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": (targets > 0).astype(np.float32),
    }
    return {name: value[rows] for name, value in batch.items()}


class Batches:
    """The part of each batch that a process reads."""

    def __init__(self, shard_index=0, num_shards=1):
        rows = BATCH_SIZE // num_shards
        self._rows = slice(shard_index * rows, (shard_index + 1) * rows)
        self._step = 0

    def __iter__(self):
        return self

    def __next__(self):
        self._step += 1
        return make_batch(self._step - 1, self._rows)

    def get_state(self):
        return {"step": self._step}

    def set_state(self, state):
        self._step = state["step"]


class Losses(Hook):
    """Keeps the losses; does something after a step."""

    def __init__(self, at=None, action=None):
        self.values, self._at, self._action = [], at, action

    def on_step(self, run):
        self.values.append(float(run.metrics["loss"]))
        if run.step == self._at:
            self._action(run)


def make_params(model):
    """Random parameters, drawn without compiling anything."""
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda leaf: (
            rng.normal(0, leaf.shape[0] ** -0.5, leaf.shape).astype(np.float32)
            if leaf.ndim == 2
            else np.ones(leaf.shape, np.float32)
        ),
        model.abstract_params(),
    )


def losses_of_updates(mesh, parts, scan_layers, optimizer=OPTIMIZER):
    """Of updates without a loop around them."""
    model, transformation = make_model(scan_layers=scan_layers), build_optimizer(optimizer)
    partitioner = Partitioner(make_mesh(mesh))
    state = init_state(model, transformation, jax.random.key(0), params=make_params(model))
    shardings = partitioner.state_shardings(state, model.logical_axes(), transformation)
    state = jax.device_put(state, shardings)
    step = jit_train_step(
        state_shardings=shardings,
        partitioner=partitioner,
        model=model,
        optimizer=transformation,
        accumulation_steps=parts,
    )
    losses = []
    for number in range(NUM_STEPS):
        state, metrics = step(state, partitioner.place_batch(make_batch(number)))
        losses.append(metrics["loss"])
    return [float(loss) for loss in losses]


def train_on(mesh, run_dir, num_steps, hook, batches=None, **options):
    model = make_model(**options)
    return train(
        model,
        batches or Batches(),
        num_steps=num_steps,
        run_dir=run_dir,
        optimizer=OPTIMIZER,
        initial_params=make_params(model),
        checkpoints=CheckpointConfig(period_steps=5),
        mesh=mesh,
        hooks=[hook],
        metrics_period_steps=1,
        progress=False,
        tensorboard=False,
    )


def matrix(which="pairs"):
    """Losses by mesh, accumulation steps and whether layers are scanned."""
    choices = list(itertools.product(MESHES, (1, 2, 4), (False, True)))
    if which == "pairs":
        # Half of them, so that any two choices come together.
        choices = [
            (mesh, parts, scan)
            for mesh, parts, scan in choices
            if (list(MESHES).index(mesh) + (1, 2, 4).index(parts)) % 2 == scan
        ]
    return [[*choice, losses_of_updates(*choice)] for choice in choices]


def change_mesh(run_dir):
    """A run with dropout that goes from eight devices to one, and one that stays on that.

    Of each array of the train state on eight devices also its size, and that on the first device.
    """
    sizes = {}

    def measure(run):
        for path, leaf in jax.tree_util.tree_flatten_with_path((run.state.params, run.state.opt_state))[0]:
            shard = leaf.addressable_shards[0].data
            sizes[jax.tree_util.keystr(path)] = [leaf.size, shard.size, str(leaf.sharding.spec)]

    changing, staying = Losses(1, measure), Losses()
    options = {"dropout_rate": 0.1, "scan_layers": True}
    train_on("fsdp+model", f"{run_dir}/changing", 6, changing, **options)
    train_on("single", f"{run_dir}/changing", 12, changing, **options)
    train_on("single", f"{run_dir}/staying", 12, staying, **options)
    return {"changing": changing.values, "staying": staying.values, "sizes": sizes}


def eight_devices(run_dir):
    keep_what_is_compiled(run_dir)
    return {"matrix": matrix(), "change_mesh": change_mesh(run_dir)}


def keep_what_is_compiled(run_dir):
    jax.config.update("jax_compilation_cache_dir", f"{run_dir}/compiled")
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)


def process(run_dir, port, index):
    """One of two processes: stopped by a signal that only the second one gets, and resumed."""
    keep_what_is_compiled(f"{run_dir}/{index}")
    with multihost.joined(f"localhost:{port}", 2, int(index)):
        shard = Partitioner(make_mesh("fsdp")).batch_shard
        assert shard == (int(index), 2)
        hook = Losses(8, lambda run: int(index) == 1 and os.kill(os.getpid(), signal.SIGTERM))
        stopped_at = None
        try:
            train_on("fsdp", run_dir, NUM_STEPS, hook, Batches(*shard))
        except TrainingInterrupted as interruption:
            stopped_at = interruption.step
        state = train_on("fsdp", run_dir, NUM_STEPS, hook, Batches(*shard))
        total = multihost.on_primary(
            lambda params: float(sum(abs(leaf).sum() for leaf in jax.tree.leaves(params))), state.params
        )
        return {"stopped_at": stopped_at, "losses": hook.values, "total": total}


TASKS = {task.__name__: task for task in (matrix, eight_devices, process)}

if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    print(json.dumps(TASKS[name](*arguments)))
