"""A published table with ours beside theirs, as text and as JSON values."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from mt3.evaluation.published_contradictions import Contradiction, contradictions
from mt3.evaluation.published_results import PublishedScore
from mt3.evaluation.reproduction.launching import command_line
from mt3.evaluation.reproduction.plan import Table
from mt3.evaluation.reproduction.states import State
from mt3.evaluation.results import EvaluationResult

_MISSING = "-"
_HEAD = ("system", "metric", "dataset", "paper", "ours", "difference", "95 %", "")
_NUMBERS = (3, 4, 5)  # columns


@dataclasses.dataclass(frozen=True)
class Cell:
    """A score of the table.

    Attributes:
      published: theirs.
      training: name of the one that ours is of.
      ours: our score, or None.
      interval: bounds of its 95 % interval over recordings, or None.
      marks: numbers, from 1, of the contradictions that it is part of.
    """

    published: PublishedScore
    training: str
    ours: float | None
    interval: tuple[float, float] | None
    marks: tuple[int, ...]

    @property
    def difference(self) -> float | None:
        """Ours minus theirs."""
        return None if self.ours is None else self.ours - self.published.value


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A table as far as it has been run again.

    Attributes:
      table: which.
      states: of its trainings.
      cells: its scores, in the paper's order.
      contradictions: what is known against it; a cell's marks count these.
    """

    table: Table
    states: tuple[State, ...]
    cells: tuple[Cell, ...]
    contradictions: tuple[Contradiction, ...]


def compare(table: Table, states: Sequence[State]) -> Comparison:
    """Sets the scores that are there beside the published ones."""
    found = contradictions(table.name)
    results = {state.job.training.name: state.results for state in states}
    cells = tuple(_cell(table, score, results, found) for score in table.scores)
    return Comparison(table, tuple(states), cells, found)


def _cell(
    table: Table,
    score: PublishedScore,
    results: Mapping[str, Mapping[str, EvaluationResult]],
    found: Sequence[Contradiction],
) -> Cell:
    training = table.training_of(score).name
    result = results.get(training, {}).get(score.dataset)
    marks = tuple(number for number, one in enumerate(found, 1) if score in one.scores)
    if result is None:
        return Cell(score, training, None, None, marks)
    interval = result.intervals.get(score.metric)
    return Cell(score, training, result.scores.get(score.metric), interval, marks)


def comparison_text(comparison: Comparison) -> str:
    """Runs, then scores, then what is known against them."""
    table = comparison.table
    settings = comparison.states[0].job.settings
    sources = dict.fromkeys(score.source for score in table.scores)
    notes = dict.fromkeys(score.note for score in table.scores if score.note)
    head = [f"{table.name}: {table.title}", *sources, *notes, table.remark, settings.scale.remark]
    parts = [
        "\n".join(line for line in head if line),
        "\n".join(["Runs", *_aligned(map(_state_row, comparison.states))]),
        "\n".join(["Scores", *_aligned([_HEAD, *map(_cell_row, comparison.cells)], right=_NUMBERS)]),
    ]
    marked = [f"[{number}] {one.reason}" for number, one in enumerate(comparison.contradictions, 1)]
    if marked:
        parts.append("\n".join(["Known against the published numbers", *marked]))
    return "\n\n".join(parts)


def _cell_row(cell: Cell) -> tuple[str, ...]:
    score = cell.published
    return (
        score.system,
        score.metric,
        score.dataset,
        f"{score.value:.4f}",
        _MISSING if cell.ours is None else f"{cell.ours:.4f}",
        _MISSING if cell.difference is None else f"{cell.difference:+.4f}",
        _MISSING if cell.interval is None else "{:.3f} to {:.3f}".format(*cell.interval),
        "".join(f"[{mark}]" for mark in cell.marks),
    )


def _state_row(state: State) -> tuple[str, ...]:
    job = state.job
    return (
        state.word,
        job.training.name,
        f"{min(state.trained_steps, job.num_steps)} of {job.num_steps} updates",
        f"{len(state.results)} of {len(job.datasets)} evaluations",
        "" if state.is_done else state.needs,
    )


def _aligned(rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> list[str]:
    rows = list(rows)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.rjust(width) if index in right else cell.ljust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def comparison_values(comparison: Comparison) -> dict[str, Any]:
    """JSON values of all that the text says, and the commands that are left to do."""
    settings = comparison.states[0].job.settings
    return {
        "table": comparison.table.name,
        "scale": settings.scale.name,
        "work_dir": str(settings.work_dir),
        "runs": [
            {
                "name": state.job.training.name,
                "state": state.word,
                "trained_steps": state.trained_steps,
                "num_steps": state.job.num_steps,
                "evaluated": list(state.results),
                "not_evaluated": list(state.missing_results),
                "needs": state.needs,
                "commands": [command_line(arguments) for arguments in state.commands()],
            }
            for state in comparison.states
        ],
        "scores": [
            {
                **dataclasses.asdict(cell.published),
                "run": cell.training,
                "ours": cell.ours,
                "interval": cell.interval,
                "difference": cell.difference,
                "contradictions": [mark - 1 for mark in cell.marks],
            }
            for cell in comparison.cells
        ],
        "contradictions": [one.reason for one in comparison.contradictions],
    }
