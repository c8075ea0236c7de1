"""Distributions: exact means and quantiles, and sums of parts that equal the whole."""

import numpy as np
import pytest

from mt3.data.distributions import Distribution


def test_values_are_counted():
    distribution = Distribution.of([3, 1, 3, 2, 3])
    assert distribution.values.tolist() == [1, 2, 3]
    assert distribution.weights.tolist() == [1, 1, 3]
    assert (distribution.minimum, distribution.maximum, distribution.total) == (1, 3, 5)
    assert distribution.mean == pytest.approx(12 / 5)


def test_weights_count():
    """1 for 7.5 s, 4 for 2 s, 9 for half a second; 5 for no time is left out."""
    distribution = Distribution.of([4, 1, 9, 1, 5], [2.0, 6.0, 0.5, 1.5, 0.0])
    assert distribution.values.tolist() == [1, 4, 9]
    assert distribution.mean == pytest.approx((7.5 + 8 + 4.5) / 10)
    assert [distribution.quantile(share) for share in (0.0, 0.5, 0.75, 0.751, 0.95, 0.96, 1.0)] == [
        *(1, 1, 1, 4, 4, 9, 9)
    ]
    assert distribution.weight_above(1) == pytest.approx(2.5)
    assert distribution.weight_above(9) == 0


@pytest.mark.parametrize("share", [0.05, 0.25, 0.5, 0.9, 0.99, 1.0])
def test_quantiles_of_equal_weights_are_numpys(share):
    values = np.random.default_rng(0).integers(0, 50, 997)
    expected = np.quantile(values, share, method="inverted_cdf")
    assert Distribution.of(values).quantile(share) == expected


def test_parts_add_up():
    rng = np.random.default_rng(1)
    values, weights = rng.integers(0, 20, 300), rng.random(300)
    whole = Distribution.of(values, weights)
    parts = Distribution.merge(Distribution.of(values[i::3], weights[i::3]) for i in range(3))
    np.testing.assert_array_equal(parts.values, whole.values)
    np.testing.assert_allclose(parts.weights, whole.weights)


@pytest.mark.parametrize("nothing", [Distribution.of([]), Distribution.merge([])])
def test_nothing_has_no_values(nothing):
    assert (nothing.total, nothing.mean, nothing.quantile(0.5), nothing.maximum) == (0, 0, 0, 0)
    assert set(nothing.summary().values()) == {0}


def test_a_summary_names_what_it_gives():
    summary = Distribution.of(np.arange(1, 101)).summary()
    assert summary == {
        "mean": 50.5,
        "minimum": 1,
        "quantile_5": 5,
        "quantile_25": 25,
        "quantile_50": 50,
        "quantile_75": 75,
        "quantile_95": 95,
        "quantile_99": 99,
        "maximum": 100,
    }
