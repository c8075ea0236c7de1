"""What a published table consists of: its scores, and the training behind each."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

from mt3.evaluation.published_results import PublishedScore, find


@dataclasses.dataclass(frozen=True, eq=False)
class Training:
    """A training run, apart from where it is kept and what its data are called on this machine.

    Attributes:
      name: of its directory; tables that name the same training share it.
      gin_files: shipped configurations, in order.
      bindings: gin's NAME -> value, after those.
      num_steps: updates in all.
      datasets: that it learns from.
      tokens: what its tokens are called in names of tasks.
      architecture: a row of `mt3.models.model.ARCHITECTURES`, perhaps one to come.
    """

    name: str
    gin_files: tuple[str, ...]
    bindings: Mapping[str, Any]
    num_steps: int
    datasets: tuple[str, ...]
    tokens: str = "notes_ties_vb1"
    architecture: str = "mt3"


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    """A published table that can be run again.

    Attributes:
      name: by which its scores are found in `published_results`.
      title: what it shows.
      training_of: the training whose model is to give a score.
      remark: what has to be known of the runs.
    """

    name: str
    title: str
    training_of: Callable[[PublishedScore], Training]
    remark: str = ""

    @functools.cached_property
    def scores(self) -> tuple[PublishedScore, ...]:
        """All its numbers, in the paper's order."""
        return find(table=self.name)

    @functools.cached_property
    def trainings(self) -> tuple[tuple[Training, tuple[str, ...]], ...]:
        """Each training once, with the datasets that it is scored on."""
        trainings: dict[str, Training] = {}
        datasets: dict[str, dict[str, None]] = {}
        for score in self.scores:
            training = self.training_of(score)
            trainings.setdefault(training.name, training)
            datasets.setdefault(training.name, {})[score.dataset] = None
        return tuple((training, tuple(datasets[name])) for name, training in trainings.items())
