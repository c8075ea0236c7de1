"""Checkpoints of a run: written while training goes on, restored exactly.

The layout is described in `run_files.py`. Promises: a directory named STEP is
a whole checkpoint, as Orbax renames it into place when all is written; a write
that fails (a full disk) is reported in one line, its remains are removed,
older checkpoints are not touched, and it is tried again while training goes
on; a restored state equals the saved one bit for bit, and one that does not
fit says which arrays differ in what.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import json
import logging
import math
import shutil
import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

from mt3.files import write_text
from mt3.models.checkpoints import (
    BEST_FILE,
    CHECKPOINTS_FOLDER,
    PARAMS_ITEM,
    SPEC_ITEM,
    CheckpointError,
    CheckpointMismatchError,
)
from mt3.models.tree_shapes import shape_differences, summarize
from mt3.training.checkpoint_failures import is_of_storage, one_report_of_failures, reason, remedy
from mt3.training.run_files import DATA_ITEM, TRAIN_STATE_ITEM
from mt3.training.step import TrainState

BEST_MODES = ("max", "min")

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    """When checkpoints are written and which of them are kept.

    Attributes:
      period_steps: updates from one to the next. The end of a run, and an
        interruption, write one besides.
      keep: how many of the latest are kept.
      keep_best: how many of the best by `best_metric` are kept besides.
      best_metric: name of a published metric, or None. A checkpoint counts
        only if the metric was computed at its step.
      best_mode: "max" when larger is better, else "min".
      asynchronous: write in the background.
      retries: how often a failed write is tried again before the next period.
      retry_wait_seconds: between those tries.
    """

    period_steps: int = 1000
    keep: int = 3
    keep_best: int = 1
    best_metric: str | None = None
    best_mode: str = "max"
    asynchronous: bool = True
    retries: int = 3
    retry_wait_seconds: float = 10.0

    def __post_init__(self) -> None:
        for name, least in (("period_steps", 1), ("keep", 1), ("keep_best", 0), ("retries", 0)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"checkpoint {name} is {getattr(self, name)!r}: give a number of at least {least}"
                )
        if self.best_mode not in BEST_MODES:
            raise ValueError(
                f"checkpoint best_mode is {self.best_mode!r}: choose one of {', '.join(BEST_MODES)}"
            )


class Checkpoints:
    """The checkpoints of one run directory. Close it, or use it in a `with` statement.

    Attributes:
      folder: RUN/checkpoints, absolute.
    """

    def __init__(
        self,
        run_dir: str | Path,
        config: CheckpointConfig | None = None,
        spec: Mapping[str, Any] | None = None,
    ) -> None:
        """Opens (and creates) the folder; remains of writes cut short are removed.

        Args:
          run_dir: the run's directory.
          config: what to keep.
          spec: the model's spec as JSON-able values, stored in every checkpoint.

        Raises:
          CheckpointError: the folder cannot be created.
        """
        self._run_dir = Path(run_dir).absolute()
        self._config = config or CheckpointConfig()
        self._spec = dict(spec or {})
        self._writing: int | None = None
        self._failures = 0
        self._failed_at_seconds = 0.0
        self._complaint = ""
        self.folder = self._run_dir / CHECKPOINTS_FOLDER
        self._quiet = contextlib.ExitStack()
        self._quiet.enter_context(one_report_of_failures())
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._remove_remains("*")
            self._manager = ocp.CheckpointManager(
                self.folder, options=_manager_options(self._config), item_handlers=_item_handlers()
            )
        except OSError as error:
            self._quiet.close()
            raise CheckpointError(f"cannot open {self.folder}: {reason(error)}. {remedy(error)}") from error

    def __enter__(self) -> Checkpoints:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the write in progress; a failure of it is reported, not raised."""
        self._settle()
        self._manager.close()
        self._quiet.close()

    @property
    def steps(self) -> list[int]:
        """Steps of the whole checkpoints, ascending."""
        return sorted(self._manager.all_steps())

    @property
    def latest_step(self) -> int | None:
        """The last of `steps`, None when there are none."""
        return max(self.steps, default=None)

    def save(
        self, state: TrainState, data_state: Any = None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Starts writing a checkpoint of this state, named after its step.

        Returns as soon as the arrays are copied off the device, so that the
        state may be donated. A failure is reported through `logging` and
        remembered; see `wants_retry`.

        Args:
          state: what to write.
          data_state: JSON-able state of the batch iterator.
          metrics: published at this step, among them perhaps the best metric.
        """
        step = int(state.step)
        self._settle()
        if step in self.steps:
            return
        name = self._config.best_metric
        best = {name: float(metrics[name])} if name and metrics and name in metrics else None
        self._writing = step
        try:
            self._manager.save(step, args=self._save_args(state, data_state), metrics=best, force=True)
        except (OSError, ValueError) as error:
            self._report(error)
        if not self._config.asynchronous:
            self._settle()

    def save_and_wait(
        self, state: TrainState, data_state: Any = None, metrics: Mapping[str, float] | None = None
    ) -> None:
        """Writes a checkpoint and returns when it is whole, after retries if need be.

        Raises:
          CheckpointError: no try succeeded.
        """
        step = int(state.step)
        for retry in range(self._config.retries + 1):
            if retry:
                time.sleep(self._config.retry_wait_seconds)
            self.save(state, data_state, metrics)
            self._settle()
            if step in self.steps:
                return
        latest = self.latest_step
        resumed = "starts anew" if latest is None else f"resumes from step {latest}"
        raise CheckpointError(
            f"the checkpoint of step {step} could not be written to {self.folder} in "
            f"{self._config.retries + 1} tries: {self._complaint} "
            f"Then run the same command again: it {resumed}."
        )

    def wants_retry(self) -> bool:
        """Whether the last write has failed, has tries left, and waited long enough. Cheap."""
        if self._writing is not None:
            try:
                self._manager.check_for_errors()
            except (OSError, ValueError) as error:
                self._report(error)
        waited = time.monotonic() - self._failed_at_seconds >= self._config.retry_wait_seconds
        # Processes write together: where there are several, one that failed waits for the next period.
        return 0 < self._failures <= self._config.retries and waited and jax.process_count() == 1

    def restore(self, template: TrainState, step: int | None = None) -> tuple[TrainState, Any]:
        """A checkpoint's state and the state of its batch iterator.

        Args:
          template: the same tree, of arrays or `jax.ShapeDtypeStruct`s (but for
            `rng`, a key); says shapes, types, and where arrays shall lie.
          step: which checkpoint; the latest by default.

        Raises:
          CheckpointMismatchError: it is of another shape.
          CheckpointError: there is none, or it cannot be read.
        """
        self._settle()
        step = self.latest_step if step is None else step
        if step is None or step not in self.steps:
            there = ", ".join(map(str, self.steps)) or "none"
            raise CheckpointError(f"{self.folder} has no checkpoint of step {step}: there are {there}")
        path = self.folder / str(step)
        wanted = {PARAMS_ITEM: template.params, TRAIN_STATE_ITEM: _train_state_item(template)}
        abstract = jax.tree.map(_abstract, wanted)
        try:
            metadata = self._manager.item_metadata(step)
            for item in (PARAMS_ITEM, TRAIN_STATE_ITEM):
                _check_fits(path, item, metadata[item], abstract[item])
            restored = self._manager.restore(
                step,
                args=ocp.args.Composite(
                    **{name: ocp.args.StandardRestore(tree) for name, tree in abstract.items()},
                    **{DATA_ITEM: ocp.args.JsonRestore()},
                ),
            )
        except CheckpointMismatchError:
            raise
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"cannot read the checkpoint {path}: {reason(error)}. If it is damaged, remove that folder; "
                f"the run then resumes from the one before (there are {', '.join(map(str, self.steps))})"
            ) from error
        rest = dict(restored[TRAIN_STATE_ITEM])
        rng = jax.random.wrap_key_data(rest.pop("rng"), impl=jax.random.key_impl(template.rng))
        state = TrainState(params=restored[PARAMS_ITEM], rng=rng, **rest)
        return state, restored[DATA_ITEM]["state"]

    def read_spec(self, step: int | None = None) -> dict[str, Any]:
        """The model's spec as the checkpoint (the latest by default) has it."""
        step = self.latest_step if step is None else step
        restored = self._manager.restore(step, args=ocp.args.Composite(**{SPEC_ITEM: ocp.args.JsonRestore()}))
        return restored[SPEC_ITEM]

    def _save_args(self, state: TrainState, data_state: Any) -> ocp.args.Composite:
        return ocp.args.Composite(
            **{
                PARAMS_ITEM: ocp.args.StandardSave(state.params),
                TRAIN_STATE_ITEM: ocp.args.StandardSave(_train_state_item(state)),
                DATA_ITEM: ocp.args.JsonSave({"state": data_state}),
                SPEC_ITEM: ocp.args.JsonSave(self._spec),
            }
        )

    def _settle(self) -> None:
        """Waits for the write in progress, if any, and takes note of how it went."""
        if self._writing is None:
            return
        try:
            self._manager.wait_until_finished()
            self._manager.check_for_errors()
        except (OSError, ValueError) as error:
            self._report(error)
            return
        self._writing, self._failures = None, 0
        try:
            self._note_best()
        except OSError as error:
            where = self._run_dir / BEST_FILE
            logger.error("cannot note the best checkpoint in %s: %s. %s", where, reason(error), remedy(error))

    def _report(self, error: OSError | ValueError) -> None:
        """Logs a failed write, once; an error that is not of the storage is raised instead."""
        step, self._writing = self._writing, None
        if not is_of_storage(error):
            raise error
        self._remove_remains(str(step))
        # Of writes that were given up, asyncio logs the tasks when they are collected, and Python warns
        # of coroutines that never ran: let it be now, while both are kept from that.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            gc.collect()
        self._failures += 1
        self._failed_at_seconds = time.monotonic()
        intact = ", ".join(map(str, self.steps)) or "none"
        self._complaint = f"{reason(error)}. {remedy(error)}"
        logger.error(
            "the checkpoint of step %s was not written to %s: %s Older ones are intact (steps: %s).",
            *(step, self.folder, self._complaint, intact),
        )

    def _remove_remains(self, step: str) -> None:
        """Removes what unfinished writes of a step (or of any: `*`) have left."""
        if jax.process_index():
            return  # The first host does it for all.
        for remains in self.folder.glob(f"{step}.orbax-checkpoint-tmp*"):
            # Threads of a write that has just failed may still put files there.
            for _ in range(10):
                shutil.rmtree(remains, ignore_errors=True)
                time.sleep(0.05)
                if not remains.exists():
                    break

    def _note_best(self) -> None:
        name = self._config.best_metric
        if name is None or not self._config.keep_best or jax.process_index():
            return
        step = self._manager.best_step()
        metrics = None if step is None else self._manager.metrics(step)
        if not metrics or name not in metrics:
            return
        value = float(metrics[name])
        best = {"step": step, "metric": name, "value": value, "mode": self._config.best_mode}
        write_text(self._run_dir / BEST_FILE, json.dumps(best) + "\n")


def _manager_options(config: CheckpointConfig) -> ocp.CheckpointManagerOptions:
    policies: list[Any] = [checkpoint_managers.LatestN(config.keep)]
    track_best: dict[str, Any] = {}
    if config.best_metric is not None:
        worst = -math.inf if config.best_mode == "max" else math.inf

        def value(metrics: Any) -> float:
            number = float(metrics[config.best_metric])
            return number if math.isfinite(number) else worst

        best = checkpoint_managers.BestN(
            get_metric_fn=value,
            reverse=config.best_mode == "min",
            n=config.keep_best,
            keep_checkpoints_without_metrics=False,
        )
        policies.append(best)
        track_best = {"best_fn": value, "best_mode": config.best_mode}
    return ocp.CheckpointManagerOptions(
        preservation_policy=checkpoint_managers.AnyPreservationPolicy(policies),
        enable_async_checkpointing=config.asynchronous,
        **track_best,
    )


def _item_handlers() -> dict[str, Any]:
    return {
        PARAMS_ITEM: ocp.StandardCheckpointHandler(),
        TRAIN_STATE_ITEM: ocp.StandardCheckpointHandler(),
        DATA_ITEM: ocp.JsonCheckpointHandler(),
        SPEC_ITEM: ocp.JsonCheckpointHandler(),
    }


def _train_state_item(state: TrainState) -> dict[str, Any]:
    """All of a state but its parameters; the typed key as its uint32 data, which every JAX can store."""
    return {
        "step": state.step,
        "opt_state": state.opt_state,
        "rng": jax.random.key_data(state.rng),
        "skipped_steps": state.skipped_steps,
    }


def _abstract(leaf: Any) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))


def _check_fits(path: Path, item: str, stored: Any, wanted: Any) -> None:
    """Raises a `CheckpointMismatchError` that names what differs between two trees of shapes."""
    differences = shape_differences(getattr(stored, "tree", stored), wanted)
    if not differences:
        return
    what = "model" if item == PARAMS_ITEM else "optimizer or random generator"
    raise CheckpointMismatchError(
        f"the checkpoint {path} is of another {what}: {summarize(differences)}. "
        "Give the configuration that the run was started with, or train into a new directory"
    )
