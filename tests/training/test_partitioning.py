"""Meshes and rules; losses on simulated devices equal those on one."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from mt3.training.optimizers import OptimizerConfig, build_optimizer
from mt3.training.partitioning import MeshConfig, Partitioner, make_mesh
from mt3.training.step import init_state


@pytest.fixture
def partitioner():
    return Partitioner(make_mesh(devices=jax.devices()[:1]))


def test_one_device_makes_a_mesh_of_all_axes(partitioner):
    assert dict(partitioner.mesh.shape) == {"data": 1, "fsdp": 1, "model": 1}


@pytest.mark.parametrize(
    "config", [MeshConfig(data=2), MeshConfig(-1, -1, 1), MeshConfig(fsdp=3), MeshConfig(0)]
)
def test_mesh_that_does_not_fit_is_refused(config):
    with pytest.raises(ValueError, match="does not fit 1 devices"):
        make_mesh(config, jax.devices()[:1])


def test_first_free_rule_wins(partitioner):
    assert partitioner.sharding("embed", "mlp").spec == PartitionSpec("fsdp", "model")
    assert partitioner.sharding("vocab", "mlp").spec == PartitionSpec("model", None)
    assert partitioner.sharding("batch", None).spec == PartitionSpec(("data", "fsdp"), None)
    rules = (("embed", "model"), ("mlp", "model"), ("mlp", "fsdp"))
    assert Partitioner(partitioner.mesh, rules).sharding("embed", "mlp").spec == PartitionSpec(
        "model", "fsdp"
    )


def test_unknown_axis_is_named(partitioner):
    with pytest.raises(ValueError, match=r"no rule for the logical axes heads.*batch, vocab"):
        partitioner.sharding("heads")


def test_batch_keeps_its_values(partitioner, make_batches):
    batch = next(make_batches())
    placed = partitioner.place_batch(batch)
    for name, array in batch.items():
        np.testing.assert_array_equal(placed[name], array)
        assert placed[name].dtype == array.dtype


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
def test_moments_lie_with_their_parameters(partitioner, make_model, name):
    model, optimizer = (
        make_model(),
        build_optimizer(OptimizerConfig(name=name, clip_norm=1.0, weight_decay=0.1)),
    )
    shapes = jax.eval_shape(lambda: init_state(model, optimizer, jax.random.key(0)))
    shardings = partitioner.state_shardings(shapes, model.logical_axes(), optimizer)
    assert shardings.params["logits"]["kernel"].spec == PartitionSpec("fsdp", "model")
    specs = {
        jax.tree_util.keystr(path): sharding.spec
        for path, sharding in jax.tree_util.tree_flatten_with_path(shardings.opt_state)[0]
    }
    moments = [
        spec
        for path, spec in specs.items()
        if path.endswith(("mu['logits']['kernel']", ".v['logits']['kernel']"))
    ]
    assert moments == [PartitionSpec("fsdp", "model")]
    assert all(spec == PartitionSpec() for path, spec in specs.items() if path.endswith("count"))
    jax.tree.map(lambda shape, sharding: sharding.shard_shape(shape.shape), shapes, shardings)


def test_nothing_is_cut_without_axis_names(partitioner, make_model):
    optimizer = build_optimizer(OptimizerConfig())
    shapes = jax.eval_shape(lambda: init_state(make_model(), optimizer, jax.random.key(0)))
    for sharding in jax.tree.leaves(partitioner.state_shardings(shapes, None, optimizer)):
        assert sharding.spec == PartitionSpec()


CONFTEST = str(Path(__file__).with_name("conftest.py"))
PROGRAM = """
import importlib.util, json, sys
import jax
from mt3.training.hooks import Hook
from mt3.training.loop import train
from mt3.training.optimizers import OptimizerConfig
from mt3.training.partitioning import MeshConfig

source = importlib.util.spec_from_file_location("conftest", sys.argv[1])
conftest = sys.modules["conftest"] = importlib.util.module_from_spec(source)
source.loader.exec_module(conftest)
conftest.VOCABULARY = 12  # Divides among devices.

class Losses(Hook):
    def __init__(self):
        self.values = []
    def on_step(self, run):
        self.values.append(float(run.metrics["loss"]))

def losses(mesh, parts):
    hook = Losses()
    train(
        conftest.TinyModel(conftest.TinySpec(dropout_rate=0.2 if parts == 1 else 0.0)),
        conftest.TinyBatches(batch_size=8), num_steps=5, run_dir=f"{sys.argv[2]}/{mesh}{parts}",
        optimizer=OptimizerConfig(learning_rate=0.05, accumulation_steps=parts),
        mesh=mesh, hooks=[hook], progress=False, tensorboard=False,
    )
    return hook.values

assert len(jax.devices()) == DEVICES
print(json.dumps([losses(mesh, 1) + losses(mesh, 2) for mesh in (MESHES,)]))
"""


@pytest.mark.slow
def test_simulated_devices_agree_with_one(tmp_path):
    """Losses of a run on four CPU devices, cut in three ways, and on one."""
    meshes = "MeshConfig(), MeshConfig(data=1, fsdp=4), MeshConfig(data=1, fsdp=2, model=2)"

    def losses(devices: int) -> list[list[float]]:
        configs = meshes if devices == 4 else "MeshConfig()"
        result = subprocess.run(
            [
                sys.executable,
                "-c",
                PROGRAM.replace("DEVICES", str(devices)).replace("MESHES", configs),
                CONFTEST,
                str(tmp_path / str(devices)),
            ],
            env=os.environ
            | {
                "JAX_PLATFORMS": "cpu",
                "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices}",
                "PYTHONPATH": str(Path(__file__).parents[2]),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        assert result.returncode == 0, result.stderr
        return json.loads(result.stdout.splitlines()[-1])

    [one] = losses(1)
    for several in losses(4):
        np.testing.assert_allclose(several, one, rtol=1e-5)
