"""Where arrays lie: a mesh of devices, and rules from logical axes to mesh axes.

Three mesh axes: `data` (each device its own examples), `fsdp` (likewise, with
the parameters cut up between devices too) and `model` (the network's wide
axes cut up). `MESHES` has names for the usual sizes. Parameters and activations
carry names of their axes (`embed`, `mlp`, ...), and ordered rules say which mesh
axis cuts which; the first rule that matches and whose mesh axis is still free
wins. On one device all of this is one replica.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.experimental import mesh_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from mt3.models.tree_shapes import path_name

MESH_AXES = ("data", "fsdp", "model")
BATCH_AXES = ("data", "fsdp")

AxisRules = Sequence[tuple[str, str | tuple[str, ...] | None]]

DEFAULT_AXIS_RULES: AxisRules = (
    ("batch", BATCH_AXES),
    ("vocab", "model"),
    ("mlp", "model"),
    ("joined_kv", "model"),
    ("heads", "model"),
    # Of parameters. Activations have `batch` before it, which takes the mesh axis.
    ("embed", "fsdp"),
    ("input_features", None),
    ("length", None),
    ("head_dim", None),
)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis; one axis may be -1 and takes all that are left.

    Attributes:
      data: devices that each have their own examples and all parameters.
      fsdp: devices that each have their own examples and a part of the parameters.
      model: devices that share examples, and each compute a part of the network.
      num_devices: how many devices there are to be used; None for all.
    """

    data: int = -1
    fsdp: int = 1
    model: int = 1
    num_devices: int | None = None

    @property
    def sizes(self) -> tuple[int, int, int]:
        """Along `MESH_AXES`."""
        return self.data, self.fsdp, self.model


# What a run can be told by name: `mt3 train --mesh NAME`, `TrainingRun.mesh = "NAME"`.
MESHES: dict[str, MeshConfig] = {
    "single": MeshConfig(data=1, num_devices=1),
    "data": MeshConfig(data=-1),
    "fsdp": MeshConfig(data=1, fsdp=-1),
    "fsdp+model": MeshConfig(data=1, fsdp=-1, model=2),
}


def mesh_config(mesh: str | MeshConfig | None) -> MeshConfig:
    """The sizes that a name stands for; None is the name "data".

    Raises:
      ValueError: there is no such name.
    """
    if isinstance(mesh, MeshConfig):
        return mesh
    if mesh is not None and mesh not in MESHES:
        raise ValueError(f"mesh is {mesh!r}: choose one of {', '.join(MESHES)}, or give a MeshConfig")
    return MESHES[mesh or "data"]


def make_mesh(mesh: str | MeshConfig | None = None, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of axes `MESH_AXES`, of all devices of all processes (or of those given).

    Raises:
      ValueError: the sizes do not multiply up to the number of devices, or of
        those of all processes leave one without any.
    """
    config = mesh_config(mesh)
    of_all = devices is None
    devices = list(jax.devices() if devices is None else devices)[: config.num_devices]
    sizes = list(config.sizes)
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known > 0 and len(devices) % known == 0:
        sizes[sizes.index(-1)] = len(devices) // known
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        wanted = ", ".join(f"{axis}={size}" for axis, size in zip(MESH_AXES, config.sizes, strict=True))
        raise ValueError(
            f"a mesh of {wanted} does not fit {len(devices)} devices: "
            "give sizes whose product is that number, or -1 for one of them"
        )
    processes = range(jax.process_count()) if of_all else ()
    idle = set(processes) - {device.process_index for device in devices}
    if idle:
        raise ValueError(
            f"a mesh of {len(devices)} devices leaves process {min(idle)} of {jax.process_count()} without: "
            "start as many processes as it needs"
        )
    # Where the hardware has a topology, neighbours in the mesh are neighbours there.
    arranged = mesh_utils.create_device_mesh(sizes, devices, allow_split_physical_axes=True)
    return Mesh(arranged, MESH_AXES)


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """A mesh with its rules: where batches, parameters and the train state go.

    Attributes:
      mesh: of axes `MESH_AXES`.
      rules: logical axis -> mesh axis (or axes, or None for no cut), in order.
    """

    mesh: Mesh
    rules: AxisRules = DEFAULT_AXIS_RULES

    def __post_init__(self) -> None:
        unknown = {axis for _, cut in self.rules for axis in _axes(cut)} - set(MESH_AXES)
        if unknown:
            raise ValueError(
                f"an axis rule has the mesh axis {min(unknown)!r}: there are {', '.join(MESH_AXES)}"
            )

    def sharding(self, *logical_axes: str | None) -> NamedSharding:
        """The sharding of an array whose axes have these logical names (None: not cut)."""
        return NamedSharding(self.mesh, self._spec(logical_axes))

    @functools.cached_property
    def batch_shard(self) -> tuple[int, int]:
        """(index, number): which part of every batch this process's devices hold, of how many.

        Processes whose devices work on the same examples have the same index.

        Raises:
          ValueError: devices are so arranged that parts of processes overlap.
        """
        processes = np.vectorize(lambda device: device.process_index)(self.mesh.devices)
        return batch_shards(processes, self._batch_axes())[jax.process_index()]

    def _batch_axes(self) -> tuple[str, ...]:
        cut = self._spec(("batch",))[0]
        return (cut,) if isinstance(cut, str) else tuple(cut or ())

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Puts this process's examples on its devices, cut along the first axis.

        Args:
          batch: the process's part of it, see `batch_shard`.

        Raises:
          ValueError: the examples do not divide evenly among the devices.
        """
        sharding, num_shards = self.sharding("batch"), self.batch_shard[1]
        ways = math.prod(self.mesh.shape[axis] for axis in self._batch_axes()) // num_shards
        for name, array in batch.items():
            if array.shape[0] % ways:
                raise ValueError(
                    f"batch entry {name!r} has {array.shape[0]} examples, which do not divide among {ways} "
                    f"devices: choose a batch size that is a multiple of {ways * num_shards}"
                )
        return {
            name: jax.make_array_from_process_local_data(
                sharding, np.asarray(array), (array.shape[0] * num_shards, *array.shape[1:])
            )
            for name, array in batch.items()
        }

    def place_params(self, params: Any, logical_axes: Any) -> Any:
        """Puts parameters where their axes say.

        Args:
          params: tree of arrays.
          logical_axes: tree of their axis names; see `state_shardings`.

        Raises:
          ValueError: a parameter does not divide among devices.
        """
        placed = jax.tree_util.tree_map_with_path(self._placed, params, logical_axes)
        return jax.tree.map(lambda param, own: jax.device_put(param, own.sharding), params, placed)

    def place_activation(self, x: jax.Array, logical_axes: Sequence[str]) -> jax.Array:
        """Inside a compiled function: keeps an activation cut by its axes, as far as they divide."""
        if self.mesh.size == 1:
            return x
        cuts = self._spec(logical_axes)
        fitting = [
            cut if size % math.prod(self.mesh.shape[axis] for axis in _axes(cut)) == 0 else None
            for size, cut in zip(x.shape, cuts, strict=True)
        ]
        return jax.lax.with_sharding_constraint(x, NamedSharding(self.mesh, PartitionSpec(*fitting)))

    def state_shardings(self, state: Any, logical_axes: Any, optimizer: optax.GradientTransformation) -> Any:
        """Shardings of a train state: parameters by their axes, the rest as follows.

        Optimizer arrays of the shape of their parameter (moments) lie where it
        lies; those of its shape without one axis (factored moments) are cut as the
        axes that they have left; all others (counters) are on every device.

        Args:
          state: `TrainState` of arrays or of their shapes.
          logical_axes: tree of the parameters' axis names, a tuple or
            `PartitionSpec` each, or None when nothing is to be cut.
          optimizer: that the state belongs to.

        Raises:
          ValueError: a parameter does not divide among devices.
        """
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        if logical_axes is None:
            return jax.tree.map(lambda _: everywhere, state)
        params = jax.tree_util.tree_map_with_path(self._placed, state.params, logical_axes)
        opt_state = optax.tree_map_params(
            optimizer,
            lambda array, placed: (
                # A frozen parameter has no optimizer arrays.
                array if isinstance(array, optax.MaskedNode) else placed.sharding_of(array)
            ),
            state.opt_state,
            params,
            transform_non_params=lambda _: everywhere,
            is_leaf=lambda node: isinstance(node, optax.MaskedNode),
        )
        rest = jax.tree.map(lambda _: everywhere, state)
        return rest.replace(params=jax.tree.map(lambda placed: placed.sharding, params), opt_state=opt_state)

    def _placed(self, path: tuple[Any, ...], param: Any, logical_axes: Sequence[str | None]) -> _Placed:
        placed = _Placed(tuple(param.shape), NamedSharding(self.mesh, self._spec(logical_axes)))
        for size, name, cut in zip(placed.shape, logical_axes, placed.sharding.spec, strict=True):
            ways = math.prod(self.mesh.shape[axis] for axis in _axes(cut))
            if size % ways:
                raise ValueError(
                    f"parameter {path_name(path)} has {size} entries along {name!r}, which do not divide "
                    f"among {ways} devices ({cut!r}): choose another mesh, or put ({name!r}, None) before "
                    "the axis rules"
                )
        return placed

    def _spec(self, logical_axes: Sequence[str | None]) -> PartitionSpec:
        unknown = {axis for axis in logical_axes if axis is not None} - {name for name, _ in self.rules}
        if unknown:
            raise ValueError(
                f"no rule for the logical axes {', '.join(sorted(unknown))}: add (name, mesh axis or None) "
                f"to the axis rules, which name {', '.join(name for name, _ in self.rules)}"
            )
        free = set(MESH_AXES)
        cuts = []
        for axis in logical_axes:
            cut = next(
                (cut for name, cut in self.rules if name == axis and free.issuperset(_axes(cut))), None
            )
            free -= _axes(cut)
            cuts.append(cut)
        return PartitionSpec(*cuts)


def batch_shards(processes: np.ndarray, batch_axes: Sequence[str]) -> dict[int, tuple[int, int]]:
    """For each process, which part of a batch its devices hold, and of how many parts.

    Args:
      processes: int, of the mesh's shape: whose device is where.
      batch_axes: the mesh axes that cut a batch, the outer one first.

    Raises:
      ValueError: processes hold parts that overlap.
    """
    axes = [MESH_AXES.index(axis) for axis in batch_axes]
    others = [axis for axis in range(len(MESH_AXES)) if axis not in axes]
    num_parts = math.prod(processes.shape[axis] for axis in axes)
    by_part = processes.transpose(*axes, *others).reshape(num_parts, -1)
    held = {
        process: tuple(np.flatnonzero((by_part == process).any(axis=1)).tolist())
        for process in np.unique(processes).tolist()
    }
    shards = sorted(set(held.values()))
    if sum(map(len, shards)) != num_parts or len(set(map(len, shards))) > 1:
        raise ValueError(
            f"on a mesh of {dict(zip(MESH_AXES, processes.shape, strict=True))}, processes hold parts of a "
            "batch that overlap: let the model axis divide the devices of a process, or be a multiple of them"
        )
    return {process: (shards.index(parts), len(shards)) for process, parts in held.items()}


def _axes(cut: str | tuple[str, ...] | None) -> set[str]:
    return {cut} if isinstance(cut, str) else set(cut or ())


@dataclasses.dataclass(frozen=True)
class _Placed:
    """Shape and sharding of one parameter. A leaf of its own, as JAX knows no such tree node."""

    shape: tuple[int, ...]
    sharding: NamedSharding

    def sharding_of(self, array: Any) -> NamedSharding:
        """Of an optimizer's array that belongs to the parameter."""
        shape, mesh, cuts = tuple(array.shape), self.sharding.mesh, tuple(self.sharding.spec)
        if shape == self.shape:
            return self.sharding
        # Of a square parameter it cannot be told which axis was summed over. Its factored moments
        # are small: they may as well be everywhere, if the axes are cut in different ways.
        left = {
            cuts[:axis] + cuts[axis + 1 :]
            for axis in range(len(self.shape))
            if shape == self.shape[:axis] + self.shape[axis + 1 :]
        }
        return NamedSharding(mesh, PartitionSpec(*left.pop()) if len(left) == 1 else PartitionSpec())
