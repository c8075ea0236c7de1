"""How far a job has come, read from its directory, and what is left of it.

A job is done when its last checkpoint is there, and results of exactly these
parameters for every dataset that it is scored on.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping

from mt3.evaluation.reproduction.jobs import Job
from mt3.evaluation.results import EvaluationResult, read_results
from mt3.models.checkpoints import CheckpointError, checkpoint_steps, read_params
from mt3.models.parameter_hash import parameter_hash


@dataclasses.dataclass(frozen=True)
class State:
    """How far a job has come.

    Attributes:
      job: which.
      trained_steps: updates of its latest checkpoint.
      is_trained: whether the checkpoint that is scored is there.
      results: dataset -> the trained model's, as far as they are there.
      foreign_results: datasets whose results are another model's.
      missing_data: datasets that it needs and that are not there.
      obstacle: why it cannot go on at all, or "".
      is_running: whether some process works on it.
    """

    job: Job
    trained_steps: int
    is_trained: bool
    results: Mapping[str, EvaluationResult]
    foreign_results: tuple[str, ...]
    missing_data: tuple[str, ...]
    obstacle: str
    is_running: bool

    @property
    def missing_results(self) -> tuple[str, ...]:
        """Datasets that it is yet to be scored on."""
        return tuple(dataset for dataset in self.job.datasets if dataset not in self.results)

    @property
    def is_done(self) -> bool:
        """Whether the table can be filled from it."""
        return self.is_trained and not self.missing_results

    @property
    def needs(self) -> str:
        """What it takes before it can go on here, or ""."""
        if self.obstacle or not self.missing_data or self.job.settings.scale.makes_data:
            return self.obstacle
        return f"needs data that are not prepared: {', '.join(self.missing_data)}"

    @property
    def word(self) -> str:
        """One of done, running, blocked, begun, to do."""
        if self.is_done:
            return "done"
        if self.is_running:
            return "running"
        if self.needs:
            return "blocked"
        return "begun" if self.trained_steps else "to do"

    def commands(self) -> list[list[str]]:
        """Arguments of the `mt3` commands that are left to do, in order; none where none would help."""
        if self.is_done or self.obstacle:
            return []
        training = [] if self.is_trained else [self.job.train_arguments()]
        scoring = [
            self.job.eval_arguments(dataset, restart=dataset in self.foreign_results)
            for dataset in self.missing_results
        ]
        return [*training, *scoring]


def read_state(job: Job, prepared: Collection[str]) -> State:
    """How far a job has come, from its directory.

    Args:
      job: which.
      prepared: names of the datasets that are there.
    """
    steps = checkpoint_steps(job.run_dir)
    is_trained = job.num_steps in steps
    obstacle, found, trained_hash = "", {}, None
    try:
        obstacle = _obstacle(job)
        found = {dataset: result for dataset in job.datasets if (result := _result(job, dataset))}
        if found and is_trained:
            trained_hash = parameter_hash(read_params(job.checkpoint))
    except (ValueError, CheckpointError) as error:
        obstacle = f"{error}; or remove it"
    # Results of no model that is here are another one's, and so are all where the run is another.
    results = {
        dataset: result
        for dataset, result in found.items()
        if not obstacle and trained_hash and result.settings.get("checkpoint_hash") == trained_hash
    }
    return State(
        job=job,
        trained_steps=max(steps, default=0),
        is_trained=is_trained,
        results=results,
        foreign_results=tuple(dataset for dataset in found if dataset not in results),
        missing_data=tuple(dataset for dataset in job.needed_datasets if dataset not in prepared),
        obstacle=obstacle,
        is_running=job.is_locked(),
    )


def _result(job: Job, dataset: str) -> EvaluationResult | None:
    try:
        return read_results(job.results_dir(dataset))
    except FileNotFoundError:
        return None


def _obstacle(job: Job) -> str:
    if not job.is_possible:
        return f"needs the architecture {job.training.architecture!r}, which is not here yet"
    started_with = job.read_identity()
    if started_with is None or started_with == job.identity:
        return ""
    now = job.identity
    changed = {
        line for name in now for line in set(now[name]).symmetric_difference(started_with.get(name, ()))
    }
    return (
        f"was started with other settings ({', '.join(sorted(changed))}): choose another --work-dir, "
        f"or remove {job.directory}"
    )
