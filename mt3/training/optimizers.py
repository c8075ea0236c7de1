"""Optimizers: Adafactor as the published models were trained with, AdamW, and their schedules.

Adafactor is put together from Optax's own pieces, and promises T5X's
arithmetic (`tests/golden/adafactor.npz`): second moments factored over the
two largest axes when both have at least 128 entries, decay `1 - t**-0.8`,
updates clipped to a root mean square of 1 per parameter and scaled by the
root mean square of the parameter (Shazeer & Stern 2018, arXiv:1804.04235).
T5X's factor rules by logical axis name come to the same for two-dimensional
parameters, which is all that MT3 has.

`optax.adafactor` itself is the same arithmetic, but adds weight decay after
the learning rate; here every optimizer has AdamW's decoupled weight decay:
`parameter -= learning_rate * (update + weight_decay * parameter)`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mt3.models.tree_shapes import path_name, summarize

# Parameters of these names (norm scales) are never decayed.
UNDECAYED_NAMES = ("scale", "bias")


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
    """What to minimise with. The defaults are the published MT3 settings.

    Attributes:
      name: a key of `OPTIMIZERS`.
      learning_rate: the schedule's peak, reached when the warm-up ends.
      schedule: a key of `SCHEDULES`; see there.
      warmup_steps: updates over which the learning rate grows linearly from 0
        (at update 0) to its peak, whatever the schedule.
      decay_steps: update at which `cosine` and `linear` have reached their
        end; None for the length of the run.
      final_scale: learning rate at that end as a fraction of the peak.
      weight_decay: decoupled, times the learning rate; norm scales excepted.
      clip_norm: global norm to which gradients (of the mean loss per token)
        are cut down, or None.
      frozen: parameters that are not trained and take no optimizer memory, as
        regular expressions of their whole paths, e.g. "encoder/.*". Gradients
        are clipped by the norm of the others.
      accumulation_steps: microbatches into which a batch is split inside the
        step to save memory. It does not change the result.
      adafactor_decay_rate: c of the second moments' decay `1 - t**-c`.
      adafactor_step_offset: update at which t starts, for fine-tuning.
      adafactor_clipping_threshold: largest root mean square of an update.
      adafactor_min_dim_size_to_factor: both factored axes must be this large.
      adafactor_multiply_by_parameter_scale: whether updates are relative to
        the root mean square of their parameter.
      adafactor_epsilon1: added to squared gradients.
      adafactor_epsilon2: least root mean square that a parameter counts with.
      adamw_b1: decay of the first moments.
      adamw_b2: decay of the second moments.
      adamw_epsilon: added to the root of the second moments.

    Raises:
      ValueError: an unknown name or a value out of range.
    """

    name: str = "adafactor"
    learning_rate: float = 1e-3
    schedule: str = "constant"
    warmup_steps: int = 0
    decay_steps: int | None = None
    final_scale: float = 0.0
    weight_decay: float = 0.0
    clip_norm: float | None = None
    frozen: Sequence[str] = ()
    accumulation_steps: int = 1
    adafactor_decay_rate: float = 0.8
    adafactor_step_offset: int = 0
    adafactor_clipping_threshold: float = 1.0
    adafactor_min_dim_size_to_factor: int = 128
    adafactor_multiply_by_parameter_scale: bool = True
    adafactor_epsilon1: float = 1e-30
    adafactor_epsilon2: float = 1e-3
    adamw_b1: float = 0.9
    adamw_b2: float = 0.999
    adamw_epsilon: float = 1e-8

    def __post_init__(self) -> None:
        for field, table in (("name", OPTIMIZERS), ("schedule", SCHEDULES)):
            if getattr(self, field) not in table:
                raise ValueError(
                    f"optimizer {field} is {getattr(self, field)!r}: choose one of {', '.join(sorted(table))}"
                )
        _check(self, "learning_rate", self.learning_rate > 0, "give a number above 0")
        _check(self, "warmup_steps", self.warmup_steps >= 0, "give 0 or more updates")
        _check(self, "final_scale", 0 <= self.final_scale <= 1, "give a fraction from 0 to 1")
        _check(self, "weight_decay", self.weight_decay >= 0, "give 0 or more")
        _check(self, "clip_norm", self.clip_norm is None or self.clip_norm > 0, "give None or a norm above 0")
        _check(self, "accumulation_steps", self.accumulation_steps >= 1, "give 1 or more microbatches")
        if self.decay_steps is not None:
            longer = self.decay_steps > self.warmup_steps
            _check(self, "decay_steps", longer, f"give more than the {self.warmup_steps} of the warm-up")
        # Lists come from gin files; a tuple can be compared and hashed.
        object.__setattr__(self, "frozen", tuple(self.frozen))
        for pattern in self.frozen:
            check_pattern("optimizer frozen", pattern)


def check_pattern(what: str, pattern: str) -> None:
    """Whether a pattern can be matched with the paths of parameters.

    Raises:
      ValueError: it is no regular expression.
    """
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(
            f"{what} has {pattern!r}, which is no regular expression ({error}): write, e.g., 'encoder/.*'"
        ) from error


def _check(config: OptimizerConfig, field: str, holds: bool, remedy: str) -> None:
    if not holds:
        raise ValueError(f"optimizer {field} is {getattr(config, field)!r}: {remedy}")


# --- Schedules: factors of the peak learning rate after the warm-up. ---


def _constant(config: OptimizerConfig, step: jax.Array, decay_steps: int | None) -> jax.Array:
    return jnp.ones_like(step)


def _rsqrt(config: OptimizerConfig, step: jax.Array, decay_steps: int | None) -> jax.Array:
    start = max(config.warmup_steps, 1)
    return jnp.sqrt(start / jnp.maximum(step, start))


def _progress(config: OptimizerConfig, step: jax.Array, decay_steps: int | None) -> jax.Array:
    """How much of the way from the end of the warm-up to `decay_steps` is done, 0 to 1."""
    if decay_steps is None:
        raise ValueError(
            f"schedule {config.schedule!r} needs an end: set decay_steps, or give the run's num_steps"
        )
    span = max(decay_steps - config.warmup_steps, 1)
    return jnp.clip((step - config.warmup_steps) / span, 0.0, 1.0)


def _cosine(config: OptimizerConfig, step: jax.Array, decay_steps: int | None) -> jax.Array:
    wave = 0.5 * (1.0 + jnp.cos(jnp.pi * _progress(config, step, decay_steps)))
    return config.final_scale + (1.0 - config.final_scale) * wave


def _linear(config: OptimizerConfig, step: jax.Array, decay_steps: int | None) -> jax.Array:
    return 1.0 - (1.0 - config.final_scale) * _progress(config, step, decay_steps)


# constant: the peak. rsqrt: the peak times sqrt(warmup_steps / step), T5's
# pre-training schedule. cosine, linear: down to `final_scale` at decay_steps.
SCHEDULES: dict[str, Callable[[OptimizerConfig, jax.Array, int | None], jax.Array]] = {
    "constant": _constant,
    "rsqrt": _rsqrt,
    "cosine": _cosine,
    "linear": _linear,
}


def build_schedule(config: OptimizerConfig, num_steps: int | None = None) -> optax.Schedule:
    """The learning rate as a function of the number of updates done before.

    Args:
      config: schedule, peak, warm-up and decay.
      num_steps: length of the run, where the config leaves `decay_steps` open.

    Returns:
      From an update count (int or int array, traced or not) to a float32 scalar:
      `learning_rate * min(1, count / warmup_steps) * SCHEDULES[schedule]`.

    Raises:
      ValueError: the schedule needs an end and none is known.
    """
    decay_steps = config.decay_steps if config.decay_steps is not None else num_steps

    def schedule(count: Any) -> jax.Array:
        step = jnp.asarray(count, jnp.float32)
        warmup = jnp.minimum(1.0, step / config.warmup_steps) if config.warmup_steps else 1.0
        return config.learning_rate * warmup * SCHEDULES[config.schedule](config, step, decay_steps)

    schedule(0)  # So that a missing end is reported here, not inside a trace.
    return schedule


# --- Optimizers: gradients to updates, before weight decay and learning rate. ---


def _adafactor(config: OptimizerConfig) -> optax.GradientTransformation:
    pieces = [
        optax.scale_by_factored_rms(
            decay_rate=config.adafactor_decay_rate,
            step_offset=config.adafactor_step_offset,
            min_dim_size_to_factor=config.adafactor_min_dim_size_to_factor,
            epsilon=config.adafactor_epsilon1,
        ),
        optax.clip_by_block_rms(config.adafactor_clipping_threshold),
    ]
    if config.adafactor_multiply_by_parameter_scale:
        pieces.append(optax.scale_by_param_block_rms(config.adafactor_epsilon2))
    return optax.chain(*pieces)


def _adamw(config: OptimizerConfig) -> optax.GradientTransformation:
    return optax.scale_by_adam(b1=config.adamw_b1, b2=config.adamw_b2, eps=config.adamw_epsilon)


OPTIMIZERS: dict[str, Callable[[OptimizerConfig], optax.GradientTransformation]] = {
    "adafactor": _adafactor,
    "adamw": _adamw,
}


def build_optimizer(config: OptimizerConfig, num_steps: int | None = None) -> optax.GradientTransformation:
    """The whole transformation: clipping, the optimizer, weight decay, learning rate.

    Accumulation is not part of it; `train_step` does that before.

    Args:
      config: what to build.
      num_steps: see `build_schedule`.

    Returns:
      An Optax transformation that takes gradients of the mean loss and needs
      the parameters in `update`.

    Raises:
      ValueError: see `build_schedule`. `init` of the result raises one too,
        where a pattern of `frozen` matches no parameter.
    """
    pieces = []
    if config.clip_norm is not None:
        pieces.append(optax.clip_by_global_norm(config.clip_norm))
    pieces.append(OPTIMIZERS[config.name](config))
    if config.weight_decay > 0:
        pieces.append(optax.add_decayed_weights(config.weight_decay, mask=_decayed))
    pieces.append(optax.scale_by_learning_rate(build_schedule(config, num_steps)))
    optimizer = optax.chain(*pieces)
    if not config.frozen:
        return optimizer

    def frozen(params: Any) -> Any:
        return _matching(config.frozen, params)

    def trained(params: Any) -> Any:
        return jax.tree.map(lambda matches: not matches, frozen(params))

    return optax.chain(optax.masked(optimizer, trained), optax.masked(optax.set_to_zero(), frozen))


def _matching(patterns: Sequence[str], params: Any) -> Any:
    """For each parameter, whether it is frozen.

    Raises:
      ValueError: a pattern matches none, or nothing is left to train.
    """
    unused, names = set(patterns), []

    def matches(path: tuple[Any, ...], _: Any) -> bool:
        names.append(path_name(path))
        matching = {pattern for pattern in patterns if re.fullmatch(pattern, names[-1])}
        unused.difference_update(matching)
        return bool(matching)

    mask = jax.tree_util.tree_map_with_path(matches, params)
    if unused:
        raise ValueError(
            f"optimizer frozen has {sorted(unused)[0]!r}, which is the whole path of no parameter: "
            f"there are {summarize(names, most=3)}"
        )
    if all(jax.tree.leaves(mask)):
        raise ValueError(f"optimizer frozen is {tuple(patterns)!r}: that leaves no parameter to train")
    return mask


def _decayed(params: Any) -> Any:
    """For each parameter, whether it is decayed: by the last part of its name."""
    return jax.tree_util.tree_map_with_path(
        lambda path, _: getattr(path[-1], "key", None) not in UNDECAYED_NAMES, params
    )
