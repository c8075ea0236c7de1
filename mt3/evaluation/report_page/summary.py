"""Scores of runs side by side: means, their intervals, and differences from the first run."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mt3.evaluation.results import EvaluationError, EvaluationResult
from mt3.evaluation.system_comparison import compare

# What papers compare first, in this order; all else follows folded away.
HEADLINE_METRICS = (
    "Onset F1",
    "Onset + offset F1",
    "Onset + offset + velocity F1",
    "Frame F1",
    "Onset + offset + program F1 (flat)",
    "Onset + offset + program F1 (midi_class)",
    "Onset + offset + program F1 (full)",
    "Drum onset F1 (midi_class)",
    "Multi-instrument F1",
    "Instrument leakage ratio",
)


@dataclasses.dataclass(frozen=True)
class Value:
    """A mean over recordings, or the mean of differences, with its 95 % interval where there is one."""

    mean: float
    low: float | None = None
    high: float | None = None


@dataclasses.dataclass(frozen=True)
class MetricRow:
    """A metric of all runs.

    Attributes:
      name: the metric's.
      is_headline: whether it is among those that are compared first.
      values: [runs]; None where a run lacks it.
      differences: [runs] less the first run, over recordings that both have; None for the first.
    """

    name: str
    is_headline: bool
    values: tuple[Value | None, ...]
    differences: tuple[Value | None, ...]


def metric_rows(results: Sequence[EvaluationResult]) -> tuple[MetricRow, ...]:
    """All metrics that any result has, the headlines first."""
    names = dict.fromkeys(name for result in results for name in result.scores)
    ordered = [name for name in HEADLINE_METRICS if name in names]
    ordered += [name for name in names if name not in HEADLINE_METRICS]
    differences = [_differences(results[0], result) for result in results[1:]]
    return tuple(
        MetricRow(
            name,
            name in HEADLINE_METRICS,
            tuple(_value(result, name) for result in results),
            (None, *(own.get(name) for own in differences)),
        )
        for name in ordered
    )


def _value(result: EvaluationResult, name: str) -> Value | None:
    if name not in result.scores:
        return None
    return Value(result.scores[name], *result.intervals.get(name, ()))


def _differences(first: EvaluationResult, other: EvaluationResult) -> dict[str, Value]:
    """Metric -> other less first; empty where they have no recording or no score in common."""
    try:
        compared = compare(first, other)
    except EvaluationError:
        return {}
    return {
        name: Value(paired.difference, *(paired.interval or ()))
        for name, paired in compared.differences.items()
    }
