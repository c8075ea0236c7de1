"""One update of the parameters: a pure function of state and batch.

Promises: the loss is T5X's, the sum over target tokens divided by their
number; accumulation over microbatches divides by the tokens of the whole
batch, so that it changes memory and not the result; dropout depends on the
state's key and step alone, so that a resumed run repeats itself bit for bit;
an update whose loss or gradient is not finite is skipped and counted.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol, runtime_checkable

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import optax

from mt3.models.layers import activations_placed_by
from mt3.training.partitioning import Partitioner

# The models' name for the sum of loss weights, by which every other sum is divided.
WEIGHT = "weight"

Batch = Mapping[str, Any]
Metrics = dict[str, jax.Array]


def numbers(batch: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """What of a batch devices can hold: all but text and objects, which is for messages only."""
    arrays = {name: np.asarray(values) for name, values in batch.items()}
    return {name: array for name, array in arrays.items() if array.dtype.kind not in "OSU"}


class Model(Protocol):
    """What training needs of a model; `mt3.models.model.TranscriptionModel` is one."""

    def init(self, rng: jax.Array, /) -> Any:
        """Random initial parameters."""
        ...

    def loss(
        self,
        params: Any,
        batch: Any,
        *,
        dropout_rng: jax.Array | None = None,
        label_smoothing: float = 0.0,
        z_loss: float = 1e-4,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The loss summed over a batch, and other sums, `WEIGHT` among them."""
        ...


@runtime_checkable
class HasLogicalAxes(Protocol):
    """A model that names the axes of its parameters."""

    def logical_axes(self) -> Any:
        """The tree of `init` with each parameter's axis names."""
        ...


class TrainState(flax.struct.PyTreeNode):
    """All that an update depends on besides its batch.

    Attributes:
      step: int32 scalar, batches seen.
      params: the model's parameters.
      opt_state: the optimizer's state.
      rng: typed PRNG key, constant over a run; `step` is folded into it.
      skipped_steps: int32 scalar, how many of the batches gave no update
        because loss or gradient was not finite.
    """

    step: jax.Array
    params: Any
    opt_state: Any
    rng: jax.Array
    skipped_steps: jax.Array


def init_state(
    model: Model, optimizer: optax.GradientTransformation, rng: jax.Array, *, params: Any = None
) -> TrainState:
    """The state before the first update.

    Args:
      model: gives the initial parameters.
      optimizer: gives its initial state.
      rng: typed PRNG key (`jax.random.key`).
      params: parameters to start from instead of random ones.
    """
    params_rng, dropout_rng = jax.random.split(rng)
    if params is None:
        params = model.init(params_rng)
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        opt_state=optimizer.init(params),
        rng=dropout_rng,
        skipped_steps=jnp.zeros((), jnp.int32),
    )


def train_step(
    state: TrainState,
    batch: Batch,
    *,
    model: Model,
    optimizer: optax.GradientTransformation,
    schedule: optax.Schedule | None = None,
    accumulation_steps: int = 1,
    label_smoothing: float = 0.0,
    z_loss: float = 1e-4,
    param_shardings: Any = None,
) -> tuple[TrainState, Metrics]:
    """One update. Pure; see `jit_train_step` for the compiled form.

    Args:
      state: before the update.
      batch: arrays with a common first axis of examples.
      model: its `loss` is minimised.
      optimizer: takes gradients of the mean loss per target token.
      schedule: for the metric `learning_rate` only; the optimizer has its own.
      accumulation_steps: microbatches, run one after the other.
      label_smoothing: passed to the loss.
      z_loss: passed to the loss.
      param_shardings: tree of shardings that gradients keep while they are summed,
        so that parameters that are cut up have gradients that are.

    Returns:
      The state after the update, and float32 scalars: the means per token of
      `mean_metrics`, `tokens`, `gradient_norm` (before clipping),
      `skipped_steps` (so far) and, with a schedule, `learning_rate`.

    Raises:
      ValueError: the batch does not split into `accumulation_steps` parts.
    """
    rng = jax.random.fold_in(state.rng, state.step)
    loss = functools.partial(model.loss, label_smoothing=label_smoothing, z_loss=z_loss)
    gradients, sums = _summed_gradients(loss, state.params, batch, rng, accumulation_steps, param_shardings)
    scale = 1.0 / _at_least_something(sums[WEIGHT])
    gradients = jax.tree.map(lambda gradient: gradient * scale, gradients)
    norm = _global_norm(gradients)

    updates, opt_state = optimizer.update(gradients, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    finite = jnp.isfinite(norm) & jnp.isfinite(sums["loss"])
    params, opt_state = jax.tree.map(
        lambda new, old: jnp.where(finite, new, old), (params, opt_state), (state.params, state.opt_state)
    )
    metrics = mean_metrics(sums) | {"gradient_norm": norm}
    if schedule is not None:
        metrics["learning_rate"] = jnp.asarray(schedule(state.step - state.skipped_steps))
    skipped_steps = state.skipped_steps + jnp.where(finite, 0, 1).astype(jnp.int32)
    metrics["skipped_steps"] = skipped_steps.astype(jnp.float32)
    state = state.replace(
        step=state.step + 1, params=params, opt_state=opt_state, skipped_steps=skipped_steps
    )
    return state, metrics


def jit_train_step(
    *, state_shardings: Any = None, partitioner: Partitioner | None = None, **options: Any
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """`train_step` compiled; the state that it is given is used up (donated).

    Args:
      state_shardings: tree of shardings that the returned state keeps.
      partitioner: places activations; without it, XLA does as it likes.
      **options: the keyword arguments of `train_step`.
    """
    param_shardings = None if state_shardings is None else state_shardings.params

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        with activations_placed_by(None if partitioner is None else partitioner.place_activation):
            return train_step(state, batch, param_shardings=param_shardings, **options)

    if state_shardings is None:
        return jax.jit(step, donate_argnums=0)
    return jax.jit(step, donate_argnums=0, out_shardings=(state_shardings, None))


def _summed_gradients(
    loss: Callable[..., tuple[jax.Array, Metrics]],
    params: Any,
    batch: Batch,
    rng: jax.Array,
    accumulation_steps: int,
    param_shardings: Any,
) -> tuple[Any, Metrics]:
    """Gradient of the summed loss and the sums to log, over all microbatches."""

    def microbatch_gradients(index: Any, microbatch: Batch) -> tuple[Any, Metrics]:
        dropout_rng = jax.random.fold_in(rng, index)
        gradients, sums = jax.grad(loss, has_aux=True)(params, microbatch, dropout_rng=dropout_rng)
        if param_shardings is not None:
            gradients = jax.lax.with_sharding_constraint(gradients, param_shardings)
        return gradients, sums

    if accumulation_steps == 1:
        return microbatch_gradients(0, batch)

    def add(total: Any, indexed: tuple[jax.Array, Batch]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, total, microbatch_gradients(*indexed)), None

    microbatches = jax.tree.map(functools.partial(_split, parts=accumulation_steps), batch)
    first = jax.tree.map(lambda array: array[0], microbatches)
    shapes = jax.eval_shape(microbatch_gradients, 0, first)
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    total, _ = jax.lax.scan(add, zeros, (jnp.arange(accumulation_steps), microbatches))
    return total


def _split(array: jax.Array, parts: int) -> jax.Array:
    """[examples, ...] as [parts, examples / parts, ...].

    Every parts-th example goes to the same part, so that a batch that is
    sharded over devices by example stays where it is.
    """
    if array.shape[0] % parts:
        raise ValueError(
            f"a batch of {array.shape[0]} examples does not split into accumulation_steps={parts} "
            f"equal parts: choose a batch size that is a multiple of {parts}"
        )
    return array.reshape(array.shape[0] // parts, parts, *array.shape[1:]).swapaxes(0, 1)


def _global_norm(tree: Any) -> jax.Array:
    # Optax has this under a name that changes between the versions that we allow.
    return jnp.sqrt(sum(jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)))


def _at_least_something(weight: jax.Array) -> jax.Array:
    # A batch of silence may hold no target token at all: its sums are 0, and so shall its means be.
    return jnp.where(weight > 0, weight, 1.0)


def mean_metrics(sums: Mapping[str, jax.Array]) -> Metrics:
    """A model's sums over tokens as means per token.

    Returns:
      Each sum divided by `WEIGHT`, under its name but for `accuracy`, which
      is the mean of `correct`, and `tokens`, which is `WEIGHT` itself.
    """
    weight = _at_least_something(sums[WEIGHT])
    means = {name: value / weight for name, value in sums.items() if name != WEIGHT}
    if "correct" in means:
        means["accuracy"] = means.pop("correct")
    return means | {"tokens": sums[WEIGHT]}


def mean_loss(model: Model, params: Any, batches: Iterable[Batch], **options: Any) -> dict[str, float]:
    """Teacher-forced metrics over batches, without dropout; each token counts the same.

    Args:
      model: its `loss` is computed; compiled once per model and batch shape.
      params: the parameters.
      batches: at least one.
      **options: passed to the loss, compile-time constants.

    Returns:
      As `mean_metrics`, as Python numbers.

    Raises:
      ValueError: there is no batch.
    """
    total = None
    for batch in batches:
        _, sums = _jitted_loss(model, params, numbers(batch), tuple(sorted(options.items())))
        sums = jax.device_get(sums)
        total = sums if total is None else {name: total[name] + sums[name] for name in total}
    if total is None:
        raise ValueError("there are no batches to compute a loss on: the evaluation split is empty")
    return {name: float(value) for name, value in mean_metrics(total).items()}


@functools.partial(jax.jit, static_argnums=(0, 3))
def _jitted_loss(model: Model, params: Any, batch: Batch, options: tuple[tuple[str, Any], ...]) -> Any:
    return model.loss(params, batch, **dict(options))
