"""Paired differences: by hand, SciPy, and what systems do not share."""

import json

import numpy as np
import pytest
import scipy.stats

from mt3.evaluation.report import format_comparison
from mt3.evaluation.results import EvaluationError, EvaluationResult, RecordingResult
from mt3.evaluation.system_comparison import compare


def result(**scores):
    """A recording an argument: id -> its Onset F1, or all its scores."""
    return EvaluationResult(
        tuple(
            RecordingResult(id, own if isinstance(own, dict) else {"Onset F1": own}, 1, 1)
            for id, own in scores.items()
        )
    )


def test_differences_by_hand():
    comparison = compare(result(a=0.5, b=0.3, lost=1.0), result(b=0.5, new=0.0, a=0.6), ("old", "new"))
    assert comparison.num_recordings == 2
    assert (comparison.only_first, comparison.only_second) == (("lost",), ("new",))
    difference = comparison.differences["Onset F1"]
    assert (difference.first, difference.second) == pytest.approx((0.4, 0.55))
    assert difference.difference == pytest.approx(0.15)
    # Of draws of two, the extremes are the two differences.
    assert difference.interval == pytest.approx((0.1, 0.2))
    assert difference.is_clear
    assert format_comparison(comparison) == (
        "Metric      old    new                new - old\n"
        "--------  -----  -----  -----------------------  -\n"
        "Onset F1  0.400  0.550  +0.150 [+0.100, +0.200]  *\n"
        "recordings that both have: 2; only old: 1, only new: 1\n"
        "[low, high]: 95% bootstrap intervals over recordings of the paired difference; *: without 0"
    )


def test_differences_are_those_of_scipy():
    rng = np.random.default_rng(0)
    hardness = rng.random(40)
    first, second = hardness + rng.normal(0, 0.05, (2, 40))
    comparison = compare(
        result(**{str(index): value for index, value in enumerate(first)}),
        result(**{str(index): value for index, value in enumerate(second)}),
    )
    (low, high) = comparison.differences["Onset F1"].interval or (0, 0)
    expected = scipy.stats.bootstrap(
        (first, second),
        lambda a, b, axis: np.mean(b - a, axis=axis),
        paired=True,
        n_resamples=20_000,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    error = np.std(second - first) / np.sqrt(40)
    assert abs(low - expected.low) < 0.1 * error
    assert abs(high - expected.high) < 0.1 * error
    # Pairing is worth it: recordings differ much more than systems.
    assert high - low < 0.2 * np.std(hardness)


def test_only_what_both_systems_have_counts():
    comparison = compare(
        result(a={"x": 0.5, "y": 0.1, "only": 1.0}, b={"x": 0.7}),
        result(a={"y": 0.3, "x": 0.5}, b={"x": 0.7, "y": 0.9}),
    )
    assert list(comparison.differences) == ["x", "y"]
    y = comparison.differences["y"]
    assert (y.first, y.second, y.num_recordings, y.interval) == (0.1, 0.3, 1, None)
    assert not y.is_clear
    x = comparison.differences["x"]
    assert (x.difference, x.interval, x.is_clear) == (0.0, (0.0, 0.0), False)
    assert "[" not in format_comparison(comparison, ["y"]).splitlines()[2]
    assert json.loads(json.dumps(comparison.to_dict()))["differences"]["y"]["difference"] == pytest.approx(
        0.2
    )


def test_nothing_in_common_is_an_error():
    with pytest.raises(EvaluationError, match=r"old \(1 recordings\) and new \(2 recordings\) have none in"):
        compare(result(a=1.0), result(b=1.0, c=1.0), ("old", "new"))
    with pytest.raises(EvaluationError, match="no score in common"):
        compare(result(a={"x": 1.0}), result(a={"y": 1.0}))
