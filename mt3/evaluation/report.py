"""Tables of scores, a column a system, for terminals and log files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mt3.evaluation.results import EvaluationResult

if TYPE_CHECKING:
    from rich.table import Table

# The scores that papers compare first.
SUMMARY_METRICS = (
    "Onset F1",
    "Onset + offset F1",
    "Frame F1",
    "Onset + offset + program F1 (full)",
)

Scores = Mapping[str, float]

_MISSING = "-"


def format_table(
    systems: Mapping[str, Scores | EvaluationResult],
    metrics: Sequence[str] | None = SUMMARY_METRICS,
    *,
    title: str | None = None,
    decimals: int = 3,
) -> str:
    """Aligned plain text: a row a metric, a column a system.

    Args:
      systems: name of a system -> its scores, or the result whose means are shown.
      metrics: which scores; None for all that any system has.
      title: a line above.
      decimals: of the values; what a system lacks is shown as '-'.
    """
    rows = _cells(systems, metrics, decimals)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join([*([title] if title else []), *lines])


def rich_table(
    systems: Mapping[str, Scores | EvaluationResult],
    metrics: Sequence[str] | None = SUMMARY_METRICS,
    *,
    title: str | None = None,
    decimals: int = 3,
) -> Table:
    """The same as `format_table`, for `rich.print`."""
    from rich.table import Table

    (first, *names), *rows = _cells(systems, metrics, decimals)
    table = Table(title=title)
    table.add_column(first, no_wrap=True)
    for name in names:
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*row)
    return table


def describe(result: EvaluationResult) -> str:
    """What was scored and what was not, a line each."""
    lines = [
        f"recordings scored: {len(result.recordings)}, skipped: {len(result.skipped)}; "
        f"events invalid: {result.invalid_events}, dropped: {result.dropped_events}"
    ]
    lines += [f"skipped {skipped.id}: {skipped.reason}" for skipped in result.skipped]
    return "\n".join(lines)


def _cells(
    systems: Mapping[str, Scores | EvaluationResult], metrics: Sequence[str] | None, decimals: int
) -> list[list[str]]:
    """The head row, then one of each metric."""
    scores = {
        name: system.scores if isinstance(system, EvaluationResult) else system
        for name, system in systems.items()
    }
    if metrics is None:
        metrics = list(dict.fromkeys(metric for own in scores.values() for metric in own))
    rows = [["Metric", *scores]]
    for metric in metrics:
        values = [own.get(metric) for own in scores.values()]
        rows.append([metric, *(_MISSING if value is None else f"{value:.{decimals}f}" for value in values)])
    return rows


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *values = (
        cell.rjust(width) if index else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([name, *values]).rstrip()
