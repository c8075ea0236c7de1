"""Tables of scores, a column a system, for terminals and log files.

Of results of several recordings, means stand with their 95 % intervals:
`0.512 [0.487, 0.538]`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from mt3.evaluation.bootstrap import CONFIDENCE
from mt3.evaluation.results import EvaluationResult
from mt3.evaluation.system_comparison import PairedDifference, SystemComparison

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
_INTERVALS = f"{CONFIDENCE:.0%} bootstrap intervals over recordings"
# The results' files have all.
_MAX_SKIPPED_LINES = 20


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
    return "\n".join([*([title] if title else []), *_aligned(_cells(systems, metrics, decimals))])


def format_comparison(
    comparison: SystemComparison, metrics: Sequence[str] | None = None, *, decimals: int = 3
) -> str:
    """Aligned plain text: a row a metric; both systems' means, their difference, and whether it is clear.

    Args:
      comparison: of two systems.
      metrics: which scores; None for all that both have.
      decimals: of the values.
    """
    first, second = comparison.names
    rows = [["Metric", first, second, f"{second} - {first}", ""]]
    for name, difference in comparison.differences.items():
        if metrics is None or name in metrics:
            rows.append([name, *_difference_cells(difference, decimals)])
    lines = _aligned(rows)
    lines.append(
        f"recordings that both have: {comparison.num_recordings}; only {first}: "
        f"{len(comparison.only_first)}, only {second}: {len(comparison.only_second)}"
    )
    if any(difference.interval for difference in comparison.differences.values()):
        lines.append(f"[low, high]: {_INTERVALS} of the paired difference; *: without 0")
    return "\n".join(lines)


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
    if result.intervals:
        lines.append(f"[low, high]: {_INTERVALS} of the mean")
    lines += [f"skipped {skipped.id}: {skipped.reason}" for skipped in result.skipped[:_MAX_SKIPPED_LINES]]
    if (more := len(result.skipped) - _MAX_SKIPPED_LINES) > 0:
        lines.append(f"and {more} more skipped")
    return "\n".join(lines)


def _cells(
    systems: Mapping[str, Scores | EvaluationResult], metrics: Sequence[str] | None, decimals: int
) -> list[list[str]]:
    """The head row, then one of each metric."""
    means = {
        name: system.scores if isinstance(system, EvaluationResult) else system
        for name, system in systems.items()
    }
    intervals = {
        name: system.intervals if isinstance(system, EvaluationResult) else {}
        for name, system in systems.items()
    }
    if metrics is None:
        metrics = list(dict.fromkeys(metric for own in means.values() for metric in own))
    rows = [["Metric", *means]]
    for metric in metrics:
        cells = [_cell(means[name].get(metric), intervals[name].get(metric), decimals) for name in means]
        rows.append([metric, *cells])
    return rows


def _cell(value: float | None, interval: tuple[float, float] | None, decimals: int) -> str:
    if value is None:
        return _MISSING
    if interval is None:
        return f"{value:.{decimals}f}"
    low, high = interval
    return f"{value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"


def _difference_cells(difference: PairedDifference, decimals: int) -> list[str]:
    cell = f"{difference.difference:+.{decimals}f}"
    if difference.interval is not None:
        low, high = difference.interval
        cell += f" [{low:+.{decimals}f}, {high:+.{decimals}f}]"
    return [
        f"{difference.first:.{decimals}f}",
        f"{difference.second:.{decimals}f}",
        cell,
        "*" if difference.is_clear else "",
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of the head row, a rule, and the other rows."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_line(row, widths) for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths).rstrip())
    return lines


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *values = (
        cell.rjust(width) if index else cell.ljust(width)
        for index, (cell, width) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join([name, *values]).rstrip()
