"""Bootstrap intervals: SciPy's as a second implementation, a case worked by hand, missing scores."""

import itertools

import numpy as np
import pytest
import scipy.stats

from mt3.evaluation.bootstrap import mean_intervals, resampled_means


@pytest.mark.parametrize("num_recordings", [3, 20, 200])
@pytest.mark.parametrize("confidence", [0.95, 0.8])
def test_intervals_are_those_of_scipy(num_recordings, confidence):
    values = np.random.default_rng(num_recordings).beta(2, 1, (num_recordings, 4))
    intervals = mean_intervals(values, confidence=confidence, num_resamples=20_000)
    expected = scipy.stats.bootstrap(
        (values,),
        np.mean,
        axis=0,
        n_resamples=20_000,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(1),
    ).confidence_interval
    # Two draws of 20,000 agree to a few hundredths of a standard error.
    error = values.std(axis=0) / np.sqrt(num_recordings)
    assert np.all(np.abs(intervals[:, 0] - expected.low) < 0.1 * error)
    assert np.all(np.abs(intervals[:, 1] - expected.high) < 0.1 * error)


def test_draws_are_all_equally_likely():
    values = np.array([[0.0], [1.0], [10.0]])
    drawn = resampled_means(values, 27_000)[:, 0]
    expected = [np.mean(draw) for draw in itertools.product([0.0, 1.0, 10.0], repeat=3)]
    for mean in set(expected):
        assert np.mean(np.isclose(drawn, mean)) == pytest.approx(np.isclose(expected, mean).mean(), abs=0.015)


def test_two_recordings_by_hand():
    # Draws: both low 1/4, one of each 1/2, both high 1/4; so 2.5 % and 97.5 % are the extremes.
    assert mean_intervals(np.array([[0.2], [0.6]])).tolist() == [pytest.approx([0.2, 0.6])]
    # The middle 40 % of draws have one of each.
    assert mean_intervals(np.array([[0.2], [0.6]]), confidence=0.4).tolist() == [pytest.approx([0.4, 0.4])]


def test_blocks_change_nothing_but_memory(monkeypatch):
    values = np.random.default_rng(0).random((7, 3))
    monkeypatch.setattr("mt3.evaluation.bootstrap._MAX_BLOCK_ELEMENTS", 7 * 13)
    in_blocks = resampled_means(values, 100)
    monkeypatch.undo()
    assert np.array_equal(in_blocks, resampled_means(values, 100))


def test_equal_columns_have_equal_intervals_and_runs_repeat():
    column = np.random.default_rng(0).random((9, 1))
    intervals = mean_intervals(np.hstack([column, column]))
    assert intervals[0].tolist() == intervals[1].tolist() == mean_intervals(column)[0].tolist()
    assert mean_intervals(column, seed=1)[0].tolist() != intervals[0].tolist()


def test_a_missing_score_has_no_part():
    values = np.array([[0.1, 0.1, 0.1], [0.5, np.nan, np.nan], [0.9, 0.9, np.nan], [0.3, np.nan, np.nan]])
    intervals = mean_intervals(values)
    assert intervals[1].tolist() == pytest.approx([0.1, 0.9])
    assert np.isnan(intervals[2]).all()
    assert np.isfinite(intervals[0]).all()


def test_without_spread_the_interval_is_a_point():
    assert mean_intervals(np.full((5, 1), 0.25)).tolist() == [pytest.approx([0.25, 0.25])]


def test_too_few_recordings_have_no_interval():
    assert np.isnan(mean_intervals(np.array([[0.5, 0.6]]))).all()
    assert mean_intervals(np.zeros((0, 2))).shape == (2, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"confidence": 95}, "confidence is 95"), ({"num_resamples": 0}, "num_resamples is 0")],
)
def test_impossible_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        mean_intervals(np.zeros((2, 1)), **options)
