"""What happens around the updates: metrics, evaluation, checkpoints.

The loop calls every hook in turn after each update, and any hook may publish
metrics, which all hooks then see: one computes, others write. A hook is a
subclass of `Hook` that overrides what it needs. Writers of metrics never end
a run: when a write fails they say so once and go on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import numpy as np

from mt3.evaluation.summaries import Summary
from mt3.files import write_text
from mt3.models.checkpoints import CheckpointError
from mt3.training.checkpoints import Checkpoints
from mt3.training.run_files import METRICS_FILE
from mt3.training.step import TrainState
from mt3.training.throughput import Clock, Throughput

logger = logging.getLogger(__name__)


@dataclasses.dataclass
class Run:
    """A training run as its hooks see it; the loop keeps it up to date.

    Attributes:
      state: after the last update. Valid until the next one only (donated).
      num_steps: at which the run ends.
      step: updates done, those of earlier, resumed sittings included.
      start_step: at which this sitting started.
      hooks: in the order in which they are called.
      metrics: of the last update, still on the device; see `train_step`.
      num_examples: in the last batch, over all processes.
      num_flops: floating-point operations of the last update, 0 where the model does not count them.
      example_ids: what this process's part of the last batch is of, where batches say so.
      data_state: the batch iterator's state after the last update's batch.
      clock: counts the seconds of training in this sitting.
      idle_seconds: of these, in which devices had nothing to do because the next batch was not there.
      published: what has been published at this step.
    """

    state: TrainState
    num_steps: int
    step: int = 0
    start_step: int = 0
    hooks: Sequence[Hook] = ()
    metrics: Mapping[str, jax.Array] = dataclasses.field(default_factory=dict)
    num_examples: int = 0
    num_flops: float = 0.0
    example_ids: Sequence[str] = ()
    data_state: Any = None
    clock: Clock = dataclasses.field(default_factory=Clock)
    idle_seconds: float = 0.0
    published: dict[str, float] = dataclasses.field(default_factory=dict)

    def publish(self, values: Mapping[str, float]) -> None:
        """Hands metrics of this step to every hook."""
        self.published.update(values)
        for hook in self.hooks:
            hook.on_metrics(self, values)

    def show(self, summaries: Mapping[str, Summary]) -> None:
        """Hands pictures, sound and histograms of this step to every hook."""
        for hook in self.hooks:
            hook.on_summaries(self, summaries)

    def due(self, period_steps: int) -> bool:
        """Whether something that happens every so many updates, and at the end, is due."""
        return self.step % period_steps == 0 or self.step == self.num_steps


class Hook:
    """Does nothing; override what is needed."""

    def on_start(self, run: Run) -> None:
        """Before the first update of a sitting."""

    def on_step(self, run: Run) -> None:
        """After every update."""

    def on_metrics(self, run: Run, values: Mapping[str, float]) -> None:
        """When a hook has published metrics."""

    def on_summaries(self, run: Run, summaries: Mapping[str, Summary]) -> None:
        """When a hook has pictures, sound or histograms to show."""

    def on_end(self, run: Run) -> None:
        """After the last update, also when an exception or a signal ends the run."""


class TrainingMetrics(Hook):
    """Publishes the means of the updates' metrics since the last time, and the speed.

    Names: `train/` before those of `train_step` and of `Throughput.rates`.
    Learning rate and counters are the last ones; values that are not finite
    are left out of means (their updates were skipped and are counted).
    """

    LAST_VALUES = ("learning_rate", "skipped_steps")

    def __init__(self, period_steps: int = 100, peak_flops_per_second: float | None = None) -> None:
        """Args:
        period_steps: updates from one publication to the next.
        peak_flops_per_second: of all devices together, None where it is not known.
        """
        if period_steps < 1:
            raise ValueError(f"the period of metrics is {period_steps} steps: give at least 1")
        self._period_steps = period_steps
        self._pending: list[Mapping[str, jax.Array]] = []
        self._throughput = Throughput(peak_flops_per_second)

    def on_step(self, run: Run) -> None:
        self._pending.append(run.metrics)
        self._throughput.add(steps=1, examples=run.num_examples, flops=run.num_flops)
        if run.due(self._period_steps):
            self._publish(run)
        if run.step == run.start_step + 1:
            self._throughput.restart(run.clock.seconds(), run.idle_seconds)

    def _publish(self, run: Run) -> None:
        fetched = jax.device_get(self._pending)
        values = {
            name: float(last) if name in self.LAST_VALUES else _finite_mean([m[name] for m in fetched])
            for name, last in fetched[-1].items()
        }
        seconds = run.clock.seconds()
        # What came before the first restart is not timed: of this sitting's first update, nothing is counted.
        timed = fetched[1:] if run.step - len(fetched) == run.start_step else fetched
        self._throughput.add(tokens=sum(float(m.get("tokens", 0.0)) for m in timed))
        values |= self._throughput.rates(seconds, run.idle_seconds)
        self._throughput.restart(seconds, run.idle_seconds)
        self._pending = []
        run.publish({f"train/{name}": value for name, value in values.items()})


def _finite_mean(values: Sequence[Any]) -> float:
    array = np.asarray(values, np.float64)
    finite = array[np.isfinite(array)]
    return float(finite.mean()) if finite.size else math.nan


class Evaluation(Hook):
    """Publishes and shows what a function of parameters computes, on a period and at the end."""

    def __init__(
        self,
        evaluate: Callable[[Any, int], Mapping[str, float | Summary]],
        period_steps: int = 1000,
        prefix: str = "eval/",
    ) -> None:
        """Args:
        evaluate: from (parameters, step) to metrics and summaries. Must not keep the parameters.
        period_steps: updates from one evaluation to the next.
        prefix: put before the names.
        """
        if period_steps < 1:
            raise ValueError(f"the period of evaluation is {period_steps} steps: give at least 1")
        self._evaluate = evaluate
        self._period_steps = period_steps
        self._prefix = prefix

    def on_step(self, run: Run) -> None:
        if run.due(self._period_steps):
            jax.block_until_ready(run.metrics)
            with run.clock.paused():
                values = self._evaluate(run.state.params, run.step)
            metrics: dict[str, float] = {}
            summaries: dict[str, Summary] = {}
            for name, value in values.items():
                if isinstance(value, Summary):
                    summaries[f"{self._prefix}{name}"] = value
                else:
                    metrics[f"{self._prefix}{name}"] = float(value)
            run.publish(metrics)
            run.show(summaries)


class CheckpointWriter(Hook):
    """Writes checkpoints on a period, after failed writes, and when the run ends.

    It comes last among the hooks, so that metrics of the step are known. At
    the end it waits until the checkpoint is whole, and raises if it cannot be.
    """

    def __init__(self, checkpoints: Checkpoints, period_steps: int) -> None:
        self._checkpoints = checkpoints
        self._period_steps = period_steps

    def on_step(self, run: Run) -> None:
        if run.step == run.num_steps:
            return  # on_end writes this one.
        if run.step % self._period_steps == 0 or self._checkpoints.wants_retry():
            self._checkpoints.save(run.state, run.data_state, run.published)

    def on_end(self, run: Run) -> None:
        # An update that failed half-way has used up the state that it was given.
        intact = not any(leaf.is_deleted() for leaf in jax.tree.leaves(run.state))
        if intact and run.step > run.start_step:
            self._checkpoints.save_and_wait(run.state, run.data_state, run.published)


class MetricsWriter(Hook):
    """Base of hooks that write somewhere, and never end a run because they cannot."""

    _failing = False

    @contextlib.contextmanager
    def _reporting(self, where: Path) -> Iterator[None]:
        """Reports the first of several failures to write, and lets training go on."""
        try:
            yield
            self._failing = False
        except OSError as error:
            if not self._failing:
                logger.error(
                    "cannot write metrics to %s: %s. Training goes on without; make room there.",
                    *(where, error.strerror or error),
                )
            self._failing = True


class JsonlWriter(MetricsWriter):
    """Appends published metrics to RUN/metrics.jsonl: `{"step": 100, "train/loss": 1.25, ...}`.

    Numbers that are not finite are written as null. When a run resumes from a
    checkpoint, lines of later steps are removed, as they will come again.
    """

    def __init__(self, run_dir: str | Path) -> None:
        self._path = Path(run_dir) / METRICS_FILE

    def on_start(self, run: Run) -> None:
        with self._reporting(self._path):
            keep_lines_until(self._path, run.start_step)

    def on_metrics(self, run: Run, values: Mapping[str, float]) -> None:
        numbers = {name: value if math.isfinite(value) else None for name, value in values.items()}
        line = json.dumps({"step": run.step, **numbers}) + "\n"
        with self._reporting(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(line)


def keep_lines_until(path: Path, step: int) -> None:
    """Removes the lines of later steps from a file of JSON objects with a `step`, and half lines.

    Raises:
      OSError: it cannot be read or written; one that is not there is no error.
    """
    if path.exists():
        text = path.read_text(encoding="utf-8")
        kept = "".join(line for line in text.splitlines(True) if _is_until(line, step))
        if kept != text:
            write_text(path, kept)


def _is_until(line: str, step: int) -> bool:
    """Whether a line is whole and of this step or before. A killed run may leave half a line."""
    try:
        return line.endswith("\n") and json.loads(line)["step"] <= step
    except (ValueError, KeyError, TypeError):
        return False


class ProgressBar(Hook):
    """Shows steps, loss and examples per second on a terminal; nothing where there is none."""

    SHOWN = MappingProxyType(
        {
            "train/loss": "loss",
            "train/accuracy": "accuracy",
            "train/examples_per_second": "examples/s",
        }
    )

    def __init__(self) -> None:
        self._bar: Any = None
        self._shown: dict[str, str] = {}

    def on_start(self, run: Run) -> None:
        from tqdm import tqdm

        self._bar = tqdm(
            total=run.num_steps, initial=run.start_step, unit="step", disable=None, dynamic_ncols=True
        )

    def on_step(self, run: Run) -> None:
        self._bar.update(1)

    def on_metrics(self, run: Run, values: Mapping[str, float]) -> None:
        self._shown |= {short: f"{values[name]:.4g}" for name, short in self.SHOWN.items() if name in values}
        self._bar.set_postfix(self._shown, refresh=False)

    def on_end(self, run: Run) -> None:
        if self._bar is not None:
            self._bar.close()


class LogWriter(Hook):
    """Logs published metrics as one line, for runs whose output goes to a file."""

    def on_metrics(self, run: Run, values: Mapping[str, float]) -> None:
        text = ", ".join(f"{name} {value:.5g}" for name, value in values.items())
        logger.info("step %d of %d: %s", run.step, run.num_steps, text)


def end_hooks(run: Run) -> None:
    """Calls `on_end` of every hook, whatever the others do.

    Raises:
      CheckpointError: the last checkpoint could not be written.
    """
    failure = None
    for hook in run.hooks:
        try:
            hook.on_end(run)
        except CheckpointError as error:
            failure = error
    if failure is not None:
        raise failure
