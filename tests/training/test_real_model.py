"""Training of the actual model: it learns, resumes, and is read back for inference."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from mt3.data.batches import trim_to_bucket
from mt3.models.checkpoints import read_params, read_spec
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.transformer import TransformerConfig
from mt3.training.checkpoints import CheckpointConfig
from mt3.training.loop import train
from mt3.training.optimizers import OptimizerConfig, build_optimizer
from mt3.training.partitioning import Partitioner, make_mesh
from mt3.training.step import init_state, jit_train_step, mean_loss, train_step

INPUT_FRAMES = 8


@pytest.fixture(scope="module")
def model():
    network = TransformerConfig(
        emb_dim=16, num_heads=2, head_dim=8, mlp_dim=32, num_encoder_layers=1, num_decoder_layers=1
    )
    return TranscriptionModel(ModelSpec(network=network, input_frames=INPUT_FRAMES, max_target_tokens=12))


class Batches:
    """Random sounds with random targets, `count` different batches in turn."""

    def __init__(self, count=1, batch_size=4):
        self._count, self._batch_size, self._position = count, batch_size, 0

    def __next__(self):
        generator = np.random.default_rng(self._position % self._count)
        self._position += 1
        targets = generator.integers(3, 1000, (self._batch_size, 12)).astype(np.int32)
        targets[np.arange(12) >= generator.integers(6, 13, (self._batch_size, 1))] = 0
        return {
            "inputs": generator.normal(0, 0.3, (self._batch_size, INPUT_FRAMES, 128)).astype(np.float32),
            "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
            "decoder_target_tokens": targets,
            "decoder_loss_weights": (targets > 0).astype(np.float32),
        }

    def get_state(self):
        return {"position": self._position}

    def set_state(self, state):
        self._position = state["position"]


def run_training(model, run_dir, num_steps, batches=None, **options):
    return train(
        model,
        batches or Batches(count=3),
        num_steps=num_steps,
        run_dir=run_dir,
        progress=False,
        tensorboard=False,
        **options,
    )


def plain(state):
    return jax.device_get(state.replace(rng=jax.random.key_data(state.rng)))


@pytest.mark.slow
def test_model_learns_a_batch_by_heart(model, tmp_path):
    optimizer = OptimizerConfig(name="adamw", learning_rate=0.01, warmup_steps=10)
    state = run_training(model, tmp_path, 150, Batches(), optimizer=optimizer)
    means = mean_loss(model, state.params, [next(Batches())])
    assert means["accuracy"] == 1.0
    assert means["loss"] < 0.1


@pytest.mark.slow
def test_resumed_run_equals_undisturbed_run(model, tmp_path):
    """With dropout on, and accumulation."""
    options = {"optimizer": OptimizerConfig(accumulation_steps=2, clip_norm=1.0)}
    whole = run_training(model, tmp_path / "whole", 6, **options)
    run_training(model, tmp_path / "parts", 3, **options)
    parts = run_training(model, tmp_path / "parts", 6, **options)
    jax.tree.map(np.testing.assert_array_equal, plain(parts), plain(whole))


@pytest.mark.slow
def test_run_is_read_back_for_inference(model, tmp_path):
    values = iter([0.5, 0.9, 0.1])
    kept = []

    def evaluate(params, step):
        kept.append(jax.device_get(params))
        return {"f1": next(values)}

    checkpoints = CheckpointConfig(period_steps=1, keep=1, best_metric="eval/f1")
    run_training(model, tmp_path, 3, checkpoints=checkpoints, evaluate=evaluate, evaluation_period_steps=1)
    assert json.loads((tmp_path / "model.json").read_text()) == json.loads(json.dumps(model.spec.to_dict()))
    assert read_spec(tmp_path) == model.spec
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(read_params(tmp_path)), kept[1])
    latest = read_params(tmp_path / "checkpoints" / "3")
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(latest), kept[2])


def test_default_rules_know_all_axes(model):
    """Every array of the published model finds a place for each of its axes."""
    optimizer = build_optimizer(OptimizerConfig())
    partitioner = Partitioner(make_mesh(devices=jax.devices()[:1]))
    for each in (model, TranscriptionModel(ModelSpec())):
        shapes = jax.eval_shape(lambda each=each: init_state(each, optimizer, jax.random.key(0)))
        shardings = partitioner.state_shardings(shapes, each.logical_axes(), optimizer)
        for shape, sharding in zip(
            jax.tree.leaves(shapes.params), jax.tree.leaves(shardings.params), strict=True
        ):
            assert len(sharding.spec) == len(shape.shape)


def test_published_model_has_adafactor_state_of_few_numbers():
    """Second moments of every kernel are factored: rows and columns, not their product."""
    model, optimizer = TranscriptionModel(ModelSpec()), build_optimizer(OptimizerConfig())
    shapes = jax.eval_shape(lambda: init_state(model, optimizer, jax.random.key(0)))
    num_params = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.params))
    num_state = sum(np.prod(leaf.shape) for leaf in jax.tree.leaves(shapes.opt_state))
    assert num_params > 40e6
    assert num_state < 0.01 * num_params


def test_step_of_the_published_model_can_be_traced():
    """Shapes and types only: metrics are float32 scalars, the state keeps its form."""
    model, optimizer = TranscriptionModel(ModelSpec()), build_optimizer(OptimizerConfig())
    state = jax.eval_shape(lambda: init_state(model, optimizer, jax.random.key(0)))
    tokens = jax.ShapeDtypeStruct((8, 1024), np.int32)
    batch = {
        "inputs": jax.ShapeDtypeStruct((8, 256, 128), np.float32),
        "decoder_input_tokens": tokens,
        "decoder_target_tokens": tokens,
        "decoder_loss_weights": jax.ShapeDtypeStruct((8, 1024), np.float32),
    }
    after, metrics = jax.eval_shape(
        lambda state, batch: train_step(state, batch, model=model, optimizer=optimizer, accumulation_steps=4),
        state,
        batch,
    )
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == jax.tree.map(
        lambda leaf: (leaf.shape, leaf.dtype), state
    )
    assert set(metrics) == {"loss", "z_loss", "accuracy", "tokens", "gradient_norm", "skipped_steps"}
    assert all(leaf.shape == () and leaf.dtype == np.float32 for leaf in metrics.values())


def test_buckets_change_what_a_step_costs_and_not_what_it_does(model):
    """Padding beyond the longest target of a batch counts for nothing, in loss and gradients."""
    network = dataclasses.replace(model.spec.network, dropout_rate=0.0)
    model = TranscriptionModel(dataclasses.replace(model.spec, network=network))
    optimizer = build_optimizer(OptimizerConfig(name="adamw"))
    full = next(Batches())
    full = {
        name: np.pad(value, [(0, 0), (0, 300)]) if value.ndim == 2 else value for name, value in full.items()
    }
    cut = trim_to_bucket(full, (12, 20, 312))
    assert cut["decoder_target_tokens"].shape[1] == 12

    step = jit_train_step(model=model, optimizer=optimizer)
    ends = []
    for batch in (full, cut):
        state = init_state(model, optimizer, jax.random.key(0))
        losses = []
        for _ in range(3):
            state, metrics = step(state, batch)
            losses.append(float(metrics["loss"]))
        ends.append((losses, state.params))

    (full_losses, full_params), (cut_losses, cut_params) = ends
    np.testing.assert_allclose(cut_losses, full_losses, rtol=1e-6)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=2e-6), cut_params, full_params)
