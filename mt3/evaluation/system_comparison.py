"""Whether one system is better than another: differences recording by recording.

Two systems that were scored on the same recordings find the same ones hard, so
the difference of their means is known better than either mean. Intervals are
bootstrap intervals (see `mt3.evaluation.bootstrap`) of the mean difference.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from mt3.evaluation import bootstrap
from mt3.evaluation.results import EvaluationError, EvaluationResult, score_table


@dataclasses.dataclass(frozen=True)
class PairedDifference:
    """Of one score, over the recordings for which both systems have it.

    Attributes:
      first: mean of the first system.
      second: mean of the second system.
      difference: mean of second minus first.
      interval: low and high of the difference; None with fewer than two recordings.
      num_recordings: that both have.
    """

    first: float
    second: float
    difference: float
    interval: tuple[float, float] | None
    num_recordings: int

    @property
    def is_clear(self) -> bool:
        """Zero is outside the interval."""
        return self.interval is not None and not self.interval[0] <= 0 <= self.interval[1]


@dataclasses.dataclass(frozen=True)
class SystemComparison:
    """Of two systems.

    Attributes:
      names: what the systems are called.
      differences: metric name -> second minus first; metrics that both have.
      num_recordings: that both were scored on.
      only_first: ids that the first alone was scored on; they count for nothing.
      only_second: ids that the second alone was scored on.
    """

    names: tuple[str, str]
    differences: dict[str, PairedDifference]
    num_recordings: int
    only_first: tuple[str, ...] = ()
    only_second: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return {"format": "mt3.comparison", "version": 1, **dataclasses.asdict(self)}


def compare(
    first: EvaluationResult, second: EvaluationResult, names: tuple[str, str] = ("A", "B")
) -> SystemComparison:
    """Paired differences of the scores of two systems.

    Args:
      first: e.g. the one that there was.
      second: e.g. the one that shall be better.
      names: what to call them.

    Raises:
      EvaluationError: they have no recording or no score in common.
    """
    rows = [{recording.id: recording for recording in result.recordings} for result in (first, second)]
    shared = [id for id in rows[0] if id in rows[1]]
    if not shared:
        raise EvaluationError(
            f"{names[0]} ({len(rows[0])} recordings) and {names[1]} ({len(rows[1])} recordings) have none in "
            "common; score both on the same recordings."
        )
    (metrics, values), (other_metrics, other_values) = (
        score_table([own[id] for id in shared]) for own in rows
    )
    common = [name for name in metrics if name in other_metrics]
    if not common:
        raise EvaluationError(f"{names[0]} and {names[1]} have no score in common; use the same --metrics.")
    values = values[:, [metrics.index(name) for name in common]]
    other_values = other_values[:, [other_metrics.index(name) for name in common]]
    difference = other_values - values
    intervals = bootstrap.mean_intervals(difference)
    differences = {}
    for column, name in enumerate(common):
        both = np.isfinite(difference[:, column])
        if both.any():
            differences[name] = PairedDifference(
                float(values[both, column].mean()),
                float(other_values[both, column].mean()),
                float(difference[both, column].mean()),
                _interval(intervals[column]),
                int(both.sum()),
            )
    only = [tuple(id for id in own if id not in other) for own, other in (rows, rows[::-1])]
    return SystemComparison(names, differences, len(shared), *only)


def _interval(bounds: np.ndarray) -> tuple[float, float] | None:
    low, high = bounds.tolist()
    return (low, high) if np.isfinite(low) else None
