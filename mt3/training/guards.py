"""Guard rails: what is said, noted and done when losses are not as they should be.

An update whose loss or gradient is not finite is skipped inside the step
(`mt3.training.step`); here it is reported, with the examples that were in its
batch, and ends the run when there are too many. Losses that leap are reported
too. Each such incident is a line of RUN/incidents.jsonl, of this process's part
of the batch where there are several processes. Updates are looked at when the
next one is under way, so that no device waits.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from mt3.training.hooks import MetricsWriter, Run, keep_lines_until
from mt3.training.run_files import incidents_file

# Examples that a message names; the file has all of them.
_MOST_NAMED = 8
# A deviation is at least this part of the mean: a loss that hardly moves is no measure.
_LEAST_DEVIATION = 0.01
# Losses that are seen before any is judged.
_LEAST_LOSSES = 50

logger = logging.getLogger(__name__)


class TooManySkippedUpdatesError(ValueError):
    """So many updates were skipped that the run is stopped."""


@dataclasses.dataclass(frozen=True)
class GuardConfig:
    """When a run that goes wrong is stopped, and what is reported.

    Attributes:
      max_skipped_in_a_row: stops the run when so many updates, one after the other, had a
        loss or a gradient that was not finite; None for no limit.
      max_skipped: stops the run when so many were skipped in all, those of earlier
        sittings included; None for no limit.
      spike_deviations: a loss this many standard deviations above the running mean is
        reported; None for none.
      spike_window_steps: updates that mean and deviation remember.
    """

    max_skipped_in_a_row: int | None = 20
    max_skipped: int | None = None
    spike_deviations: float | None = 6.0
    spike_window_steps: int = 500

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if value is not None and value <= 0:
                raise ValueError(f"guard {field.name} is {value}: give more than 0, or None where it is off")


class RunningLoss:
    """Mean and deviation of the last losses, older ones counting less and less."""

    def __init__(self, window_steps: int) -> None:
        self.mean = 0.0
        self._variance = 0.0
        self._window_steps = window_steps
        self._num_losses = 0

    @property
    def deviation(self) -> float:
        """The standard deviation, or a small part of the mean where that is more."""
        return max(math.sqrt(self._variance), _LEAST_DEVIATION * abs(self.mean))

    @property
    def is_known(self) -> bool:
        """Whether enough losses were seen to judge the next one."""
        return self._num_losses >= min(_LEAST_LOSSES, self._window_steps)

    def add(self, loss: float) -> None:
        """Takes note of a loss."""
        self._num_losses += 1
        weight = 1 / min(self._num_losses, self._window_steps)
        difference = loss - self.mean
        self.mean += weight * difference
        self._variance = (1 - weight) * (self._variance + weight * difference**2)


class Guards(MetricsWriter):
    """Reports skipped updates and loss spikes; stops the run when its limits are reached."""

    def __init__(self, run_dir: str | Path, config: GuardConfig) -> None:
        self._path = Path(run_dir) / incidents_file(jax.process_index())
        self._config = config
        self._losses = RunningLoss(config.spike_window_steps)
        self._in_spike = False
        self._num_skipped = 0
        self._num_in_a_row = 0
        self._last: tuple[int, Mapping[str, jax.Array], Sequence[str]] | None = None

    def on_start(self, run: Run) -> None:
        self._num_skipped = int(run.state.skipped_steps)
        with self._reporting(self._path):
            keep_lines_until(self._path, run.start_step)

    def on_step(self, run: Run) -> None:
        last, self._last = self._last, (run.step, run.metrics, run.example_ids)
        for name in _WATCHED:
            run.metrics[name].copy_to_host_async()
        if last is not None:
            self._look_at(*last)

    def on_end(self, run: Run) -> None:
        if self._last is not None:
            self._report(*self._last)

    def _look_at(self, step: int, metrics: Mapping[str, jax.Array], example_ids: Sequence[str]) -> None:
        """Reports what there is to report, and raises when it is too much."""
        self._report(step, metrics, example_ids)
        for name, number, words in (
            ("max_skipped_in_a_row", self._num_in_a_row, " in a row"),
            ("max_skipped", self._num_skipped if self._num_in_a_row else 0, ""),
        ):
            limit = getattr(self._config, name)
            if limit is not None and number >= limit:
                self._last = None
                raise TooManySkippedUpdatesError(
                    f"{number} updates{words} were skipped up to step {step}, as loss or gradient was not "
                    f"finite (GuardConfig.{name} = {limit}); the last batch held {self._named(example_ids)}. "
                    "Look at these examples, lower the learning rate or clip gradients"
                )

    def _report(self, step: int, metrics: Mapping[str, jax.Array], example_ids: Sequence[str]) -> None:
        values = {name: float(value) for name, value in jax.device_get(_watched(metrics)).items()}
        if values["skipped_steps"] > self._num_skipped:
            self._num_skipped += 1
            self._num_in_a_row += 1
            self._note("skipped", step, values, example_ids)
            logger.warning(
                "step %d was skipped: loss (%.5g) or gradient (norm %.5g) is not finite; its batch held %s",
                *(step, values["loss"], values["gradient_norm"], self._named(example_ids)),
            )
            return
        self._num_in_a_row = 0
        if self._config.spike_deviations is not None:
            self._look_for_spike(step, values, example_ids, self._config.spike_deviations)

    def _look_for_spike(
        self, step: int, values: dict[str, float], example_ids: Sequence[str], deviations: float
    ) -> None:
        loss, usual = values["loss"], self._losses
        bound = usual.mean + deviations * usual.deviation
        was_in_spike, self._in_spike = self._in_spike, usual.is_known and loss > bound
        if self._in_spike and not was_in_spike:
            self._note("spike", step, values, example_ids)
            logger.warning(
                "the loss leapt to %.5g at step %d, from %.5g (deviation %.3g); its batch held %s",
                *(loss, step, usual.mean, usual.deviation, self._named(example_ids)),
            )
        # What lasts becomes usual by and by; one spike does not make the next one seem small.
        usual.add(min(loss, bound) if self._in_spike else loss)

    def _note(self, kind: str, step: int, values: dict[str, float], example_ids: Sequence[str]) -> None:
        numbers: dict[str, Any] = {
            name: values[name] if math.isfinite(values[name]) else str(values[name])
            for name in ("loss", "gradient_norm")
        }
        line = {"step": step, "kind": kind, **numbers, "example_ids": list(example_ids)}
        with self._reporting(self._path), self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def _named(self, example_ids: Sequence[str]) -> str:
        if not example_ids:
            return "examples without ids"
        more = len(example_ids) - _MOST_NAMED
        named = ", ".join(example_ids[:_MOST_NAMED])
        return named + (f" and {more} more (all in {self._path})" if more > 0 else "")


_WATCHED = ("loss", "gradient_norm", "skipped_steps")


def _watched(metrics: Mapping[str, jax.Array]) -> dict[str, jax.Array]:
    return {name: metrics[name] for name in _WATCHED}
