"""Optimizer state that comes and goes with T5X checkpoints, and runs made of imported checkpoints.

T5X's Adafactor keeps four slots a parameter: `v`, or `v_row` and `v_col` where
the second moments are factored, and `m`, momentum, which MT3 has none of; a
slot that is not used is a single zero. Optax keeps the same arrays in three
trees (`optax.FactoredState`) of the same shapes: for two-dimensional
parameters both factor the two largest axes, and `v_row` is the mean over the
larger one. `TrainState.step` and the counts of Optax are T5X's step.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from mt3.models.checkpoints import CheckpointError, CheckpointMismatchError, checkpoint_steps, read_item
from mt3.models.formats import open_model
from mt3.models.formats.base import StoredArray, StoredModel
from mt3.models.loading import described, read_finite, read_params
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.tree_shapes import named_leaves, path_name, shape_differences, summarize
from mt3.training.checkpoints import CheckpointConfig, Checkpoints
from mt3.training.optimizers import OptimizerConfig, build_optimizer
from mt3.training.run_files import TRAIN_STATE_ITEM, write_run_files
from mt3.training.step import init_state

SECOND_MOMENTS = ("v_row", "v_col", "v")
MOMENTUM = "m"
_UNUSED = np.zeros(1, np.float32)
# Optax's trees of second moments, wherever in the optimizer's state they are.
_IN_STATE = re.compile(rf"opt_state/(?:.*?/)?({'|'.join(SECOND_MOMENTS)})/(.+)")


def import_run(
    stored: StoredModel,
    spec: ModelSpec,
    run_dir: str | Path,
    *,
    optimizer: OptimizerConfig | None = None,
    with_optimizer: bool = True,
    config_text: str | None = None,
) -> int:
    """Makes a run of a checkpoint of any format: it transcribes, and training goes on from it.

    With Adafactor's slots training goes on at the checkpoint's step, with them;
    without, at step 0 with a new optimizer state.

    Args:
      stored: the checkpoint.
      spec: its model.
      run_dir: a directory without checkpoints.
      optimizer: what will be trained with; MT3's Adafactor by default.
      with_optimizer: False leaves the slots out.
      config_text: the resolved configuration, if there is one, to lie beside.

    Returns:
      The step of the run.

    Raises:
      CheckpointError: the checkpoint does not fit, or is damaged; or the run has checkpoints.
      ValueError: there are slots, but they are not this optimizer's.
    """
    if checkpoint_steps(run_dir):
        raise CheckpointError(f"{run_dir} has checkpoints already: choose another directory")
    params = jax.tree.map(jnp.asarray, read_params(stored, spec))
    # The length of the run changes no array of the state.
    transformation = build_optimizer(optimizer or OptimizerConfig(), num_steps=1)
    state = init_state(TranscriptionModel(spec), transformation, jax.random.key(0), params=params)
    step = 0
    if with_optimizer and stored.slots:
        step = _step_of(stored)
        opt_state = state_with_slots(state.opt_state, stored, step)
        state = state.replace(step=jnp.asarray(step, jnp.int32), opt_state=opt_state)
    with Checkpoints(run_dir, CheckpointConfig(asynchronous=False), spec.to_dict()) as checkpoints:
        checkpoints.save_and_wait(state)
    write_run_files(run_dir, spec.to_dict(), config_text)
    return step


def open_with_slots(path: str | Path) -> StoredModel:
    """Opens a checkpoint of any format; Adafactor's slots of a run's checkpoint are opened with it.

    A run that was trained otherwise, or with some parameters frozen, does not have
    slots for all parameters, and is opened without.
    """
    stored = open_model(path)
    if stored.slots or not (stored.path / TRAIN_STATE_ITEM).is_dir():
        return stored
    moments: dict[str, np.ndarray] = {}
    for name, array in named_leaves(read_item(stored.path, TRAIN_STATE_ITEM)).items():
        if found := _IN_STATE.fullmatch(name):
            moments[f"{found[2]}/{found[1]}"] = np.asarray(array)
    if set(moments) != {f"{name}/{slot}" for name in stored.arrays for slot in SECOND_MOMENTS}:
        return stored
    momenta = {f"{name}/{MOMENTUM}": _UNUSED for name in stored.arrays}
    slots = {name: StoredArray.of(array) for name, array in (moments | momenta).items()}
    return dataclasses.replace(stored, slots=slots)


def state_with_slots(opt_state: Any, stored: StoredModel, step: int) -> Any:
    """An Optax state with the slots of a checkpoint in the place of Adafactor's arrays.

    Args:
      opt_state: the initial state of an optimizer of `build_optimizer`.
      stored: a checkpoint with slots.
      step: updates done, for the counts.

    Raises:
      ValueError: the state is not Adafactor's.
      CheckpointMismatchError: slots are unknown, missing or of another shape.
      CheckpointError: a slot is damaged or not finite.
    """
    states = jax.tree.leaves(opt_state, is_leaf=_is_counted)
    factored = [state for state in states if isinstance(state, optax.FactoredState)]
    if len(factored) != 1:
        raise ValueError(
            f"{stored.path} has the slots of Adafactor, the configured optimizer is another: "
            "configure adafactor, or import the parameters alone (--no-optimizer)"
        )
    wanted = {
        f"{name}/{slot}": array
        for slot in SECOND_MOMENTS
        for name, array in named_leaves(getattr(factored[0], slot)).items()
    }
    slots = _without_momentum(stored)
    differences = shape_differences(described(slots), wanted)
    if differences:
        raise CheckpointMismatchError(
            f"{stored.path} has another optimizer's slots: {summarize(differences)}. "
            "Import the parameters alone (--no-optimizer)"
        )
    values = read_finite(stored, slots)
    count = jnp.asarray(step, jnp.int32)

    def fill(state: Any) -> Any:
        if isinstance(state, optax.ScaleByScheduleState):
            return state._replace(count=count)
        if isinstance(state, optax.FactoredState):
            trees = {slot: _filled(getattr(state, slot), slot, values) for slot in SECOND_MOMENTS}
            return optax.FactoredState(count=count, **trees)
        return state

    return jax.tree.map(fill, opt_state, is_leaf=_is_counted)


def _is_counted(state: Any) -> bool:
    return isinstance(state, (optax.FactoredState, optax.ScaleByScheduleState))


def _filled(tree: Any, slot: str, values: Mapping[str, np.ndarray]) -> Any:
    return jax.tree_util.tree_map_with_path(
        lambda path, _: jnp.asarray(values[f"{path_name(path)}/{slot}"]), tree
    )


def _without_momentum(stored: StoredModel) -> dict[str, StoredArray]:
    momenta = {name for name in stored.slots if name.endswith(f"/{MOMENTUM}")}
    used = [name for name in sorted(momenta) if stored.slots[name].shape != _UNUSED.shape]
    if used:
        raise CheckpointMismatchError(
            f"{stored.path} was trained with momentum ({summarize(used, most=2)}), which Adafactor is not "
            "configured with here: import the parameters alone (--no-optimizer)"
        )
    return {name: array for name, array in stored.slots.items() if name not in momenta}


def _step_of(stored: StoredModel) -> int:
    if stored.step is None:
        raise CheckpointError(
            f"{stored.path} has optimizer slots but no step: import the parameters alone (--no-optimizer)"
        )
    return stored.step
