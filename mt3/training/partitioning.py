"""Where arrays lie: a mesh of devices, and rules from logical axes to mesh axes.

Three mesh axes: `data` (each device its own examples), `fsdp` (likewise, with
the parameters cut up between devices too) and `model` (the network's wide
axes cut up). Parameters carry names of their axes (`embed`, `mlp`, ...), and
ordered rules say which mesh axis cuts which; the first rule that matches and
whose mesh axis is still free wins. On one device all of this is one replica.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

MESH_AXES = ("data", "fsdp", "model")
BATCH_AXES = ("data", "fsdp")

AxisRules = Sequence[tuple[str, str | tuple[str, ...] | None]]

DEFAULT_AXIS_RULES: AxisRules = (
    ("batch", BATCH_AXES),
    ("vocab", "model"),
    ("mlp", "model"),
    ("joined_kv", "model"),
    ("embed", "fsdp"),
    ("input_features", None),
)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    """Devices along each mesh axis; one axis may be -1 and takes all that are left."""

    data: int = -1
    fsdp: int = 1
    model: int = 1


def make_mesh(config: MeshConfig | None = None, devices: Sequence[Any] | None = None) -> Mesh:
    """A mesh of all devices (or of those given), of axes `MESH_AXES`.

    Raises:
      ValueError: the sizes do not multiply up to the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = list(dataclasses.astuple(config or MeshConfig()))
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known > 0 and len(devices) % known == 0:
        sizes[sizes.index(-1)] = len(devices) // known
    if min(sizes) < 1 or math.prod(sizes) != len(devices):
        wanted = ", ".join(f"{axis}={size}" for axis, size in zip(MESH_AXES, sizes, strict=True))
        raise ValueError(
            f"a mesh of {wanted} does not fit {len(devices)} devices: "
            "give sizes whose product is that number, or -1 for one of them"
        )
    return Mesh(np.asarray(devices).reshape(sizes), MESH_AXES)


@dataclasses.dataclass(frozen=True)
class Partitioner:
    """A mesh with its rules: where batches, parameters and the train state go.

    Attributes:
      mesh: of axes `MESH_AXES`.
      rules: logical axis -> mesh axis (or axes, or None for no cut), in order.
    """

    mesh: Mesh
    rules: AxisRules = DEFAULT_AXIS_RULES

    def sharding(self, *logical_axes: str | None) -> NamedSharding:
        """The sharding of an array whose axes have these logical names (None: not cut)."""
        return NamedSharding(self.mesh, self._spec(logical_axes))

    def place_batch(self, batch: Mapping[str, np.ndarray]) -> dict[str, jax.Array]:
        """Puts this host's examples on its devices, cut along the first axis.

        Raises:
          ValueError: the examples do not divide evenly among the devices.
        """
        sharding = self.sharding("batch")
        ways = math.prod(self.mesh.shape[axis] for axis in BATCH_AXES) // jax.process_count()
        for name, array in batch.items():
            if array.shape[0] % max(ways, 1):
                raise ValueError(
                    f"batch entry {name!r} has {array.shape[0]} examples, which do not divide among {ways} "
                    f"devices: choose a batch size that is a multiple of {ways}"
                )
        return {
            name: jax.make_array_from_process_local_data(sharding, np.asarray(array))
            for name, array in batch.items()
        }

    def state_shardings(self, state: Any, logical_axes: Any, optimizer: optax.GradientTransformation) -> Any:
        """Shardings of a train state: parameters by their axes, the rest as follows.

        Optimizer arrays of the shape of their parameter (moments) lie where it
        lies; all others (factored moments, counters) are on every device.

        Args:
          state: `TrainState` of arrays or of their shapes.
          logical_axes: tree of the parameters' axis names, a tuple or
            `PartitionSpec` each, or None when nothing is to be cut.
          optimizer: that the state belongs to.
        """
        everywhere = NamedSharding(self.mesh, PartitionSpec())
        if logical_axes is None:
            return jax.tree.map(lambda _: everywhere, state)
        params = jax.tree.map(
            lambda param, axes: _Placed(tuple(param.shape), NamedSharding(self.mesh, self._spec(axes))),
            state.params,
            logical_axes,
        )
        opt_state = optax.tree_map_params(
            optimizer,
            lambda array, placed: placed.sharding if tuple(array.shape) == placed.shape else everywhere,
            state.opt_state,
            params,
            transform_non_params=lambda _: everywhere,
        )
        rest = jax.tree.map(lambda _: everywhere, state)
        return rest.replace(params=jax.tree.map(lambda placed: placed.sharding, params), opt_state=opt_state)

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


def _axes(cut: str | tuple[str, ...] | None) -> set[str]:
    return {cut} if isinstance(cut, str) else set(cut or ())


@dataclasses.dataclass(frozen=True)
class _Placed:
    """Shape and sharding of one parameter. A leaf of its own, as JAX knows no such tree node."""

    shape: tuple[int, ...]
    sharding: NamedSharding
