"""Meshes and rules. Runs on several devices are in `test_meshes.py`."""

import jax
import numpy as np
import pytest
from jax.sharding import AbstractMesh, PartitionSpec

from mt3.training.optimizers import OptimizerConfig, build_optimizer
from mt3.training.partitioning import MESH_AXES, MESHES, MeshConfig, Partitioner, batch_shards, make_mesh
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
    with pytest.raises(ValueError, match=r"no rule for the logical axes channels.*batch, vocab"):
        partitioner.sharding("channels")


def test_rules_for_an_axis_that_no_mesh_has(partitioner):
    with pytest.raises(ValueError, match=r"the mesh axis 'tensor': there are data, fsdp, model"):
        Partitioner(partitioner.mesh, (("mlp", "tensor"),))


def test_names_of_meshes():
    assert list(MESHES) == ["single", "data", "fsdp", "fsdp+model"]
    for name in ("single", "data", "fsdp"):
        assert make_mesh(name, jax.devices()[:1]).size == 1
    # Two devices of a kind; the mesh uses one.
    assert make_mesh("single", jax.devices()[:1] * 2).size == 1
    with pytest.raises(ValueError, match="model=2 does not fit 1 devices"):
        make_mesh("fsdp+model", jax.devices()[:1])
    with pytest.raises(ValueError, match=r"mesh is 'tpu': choose one of single, data, fsdp, fsdp\+model"):
        make_mesh("tpu")


@pytest.mark.parametrize(
    ("processes", "expected"),
    [
        ([[[0]], [[0]], [[1]], [[1]]], {0: (0, 2), 1: (1, 2)}),
        # Processes in another order than devices.
        ([[[1, 1], [1, 1]], [[0, 0], [0, 0]]], {0: (1, 2), 1: (0, 2)}),
        ([[[0, 0], [1, 1]], [[0, 0], [1, 1]]], {0: (0, 2), 1: (1, 2)}),
        # The model axis goes over two processes, which read the same.
        ([[[0, 1], [2, 3]]], {0: (0, 2), 1: (0, 2), 2: (1, 2), 3: (1, 2)}),
        ([[[0, 1]]], {0: (0, 1), 1: (0, 1)}),
    ],
)
def test_processes_share_batches_as_their_devices_do(processes, expected):
    assert batch_shards(np.array(processes), ("data", "fsdp")) == expected


def test_processes_with_overlapping_parts_are_refused():
    with pytest.raises(ValueError, match="overlap: let the model axis divide"):
        batch_shards(np.array([[[0, 0, 1]], [[1, 2, 2]]]), ("data", "fsdp"))


def test_parameter_that_does_not_divide_is_named(make_model):
    optimizer = build_optimizer(OptimizerConfig())
    shapes = jax.eval_shape(lambda: init_state(make_model(), optimizer, jax.random.key(0)))
    two_ways = Partitioner(AbstractMesh((1, 1, 2), MESH_AXES))
    with pytest.raises(ValueError, match=r"parameter \w+/\w+ has 11 entries along 'vocab'.*among 2 devices"):
        two_ways.state_shardings(shapes, make_model().logical_axes(), optimizer)


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
