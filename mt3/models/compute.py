"""How a network is computed: choices that cost or save time and memory.

Nothing here is part of a model: the parameter tree is the same for all choices,
and so, up to rounding, are losses and gradients, dropout included. So these are
not stored with checkpoints, and may change from one sitting of a run to the next.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mt3.models.layers import ATTENTION

# What is kept of a layer's activations from the forward to the backward pass, where
# the rest is computed again: name -> policy of `jax.checkpoint`, None to keep all.
REMAT_POLICIES: dict[str, Callable[..., Any] | None] = {
    "none": None,
    # Only what goes into each layer.
    "full": jax.checkpoint_policies.nothing_saveable,
    # All products of matrices, attention logits included.
    "dots": jax.checkpoint_policies.dots_saveable,
    # Products with parameters; attention is computed again, which holds most of the memory.
    "projections": jax.checkpoint_policies.dots_with_no_batch_dims_saveable,
}


@dataclasses.dataclass(frozen=True)
class ComputeConfig:
    """How a network is computed.

    Attributes:
      scan_layers: the layers of a stack are one compiled loop instead of a copy
        each: compiles faster, at the price of a second copy of their parameters
        while a step runs.
      remat: a name of `REMAT_POLICIES`: what is computed again in the backward
        pass, layer by layer, instead of being kept. On CPUs it saves little
        unless layers are scanned.
      attention: a name of `mt3.models.layers.ATTENTION`.
    """

    scan_layers: bool = False
    remat: str = "none"
    attention: str = "blocks"

    def __post_init__(self) -> None:
        for field, table in (("remat", REMAT_POLICIES), ("attention", ATTENTION)):
            value = getattr(self, field)
            if value not in table:
                raise ValueError(f"compute {field} is {value!r}: choose one of {', '.join(table)}")


def run_layers(
    parent: nn.Module,
    layer: nn.Module,
    num_layers: int,
    compute: ComputeConfig,
    x: jax.Array,
    context: tuple[jax.Array, ...],
    deterministic: bool,
) -> jax.Array:
    """Runs a stack of equal layers, whose parameters are `layers_0`, `layers_1`, ... of `parent`.

    To be called in the compact method of `parent`. Layer n draws its dropout from
    a key of `parent` with n folded in, however the layers are run.

    Args:
      parent: owns the parameters.
      layer: an unbound module, called as `layer(x, *context, deterministic)`; returns
        an array like `x`.
      num_layers: of the stack.
      compute: how they are run.
      x: what goes into the first layer.
      context: further arrays that every layer sees.
      deterministic: without dropout.
    """
    if parent.is_initializing():
        for index in range(num_layers):
            x = layer.clone(parent=parent, name=f"layers_{index}")(x, *context, deterministic)
        return x
    params = [parent.variables["params"][f"layers_{index}"] for index in range(num_layers)]
    key = None if deterministic else parent.make_rng("dropout")

    def run(x: jax.Array, context: tuple[jax.Array, ...], params: Any, index: Any) -> jax.Array:
        rngs = {} if key is None else {"dropout": jax.random.fold_in(key, index)}
        return layer.apply({"params": params}, x, *context, deterministic, rngs=rngs)  # type: ignore[return-value]

    policy = REMAT_POLICIES[compute.remat]
    if policy is not None:
        # Inside of a loop, nothing can be merged across what is to be computed twice anyway.
        run = jax.checkpoint(run, policy=policy, prevent_cse=not compute.scan_layers)
    if not compute.scan_layers:
        for index in range(num_layers):
            x = run(x, context, params[index], index)
        return x
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *params)
    x, _ = jax.lax.scan(
        lambda x, layer: (run(x, context, *layer), None), x, (stacked, jnp.arange(num_layers))
    )
    return x
