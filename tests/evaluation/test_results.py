"""Means and intervals of results, and their files."""

import csv
import json

import numpy as np
import pytest

from mt3.evaluation.bootstrap import mean_intervals
from mt3.evaluation.results import (
    EvaluationError,
    EvaluationResult,
    RecordingResult,
    Skipped,
    file_name,
    read_results,
    score_table,
    write_results,
)

SCORES = [{"x": 0.1, "y": 1.0}, {"x": 0.4}, {"y": 0.5, "x": 0.7, "z": 0.9}]
RESULT = EvaluationResult(
    tuple(RecordingResult(f"piece{number}", scores, 3, 4) for number, scores in enumerate(SCORES)),
    (Skipped("lost", "no file"),),
    {"checkpoint": "run"},
)


def test_a_table_has_a_place_for_every_score():
    names, values = score_table(RESULT.recordings)
    assert names == ["x", "y", "z"]
    np.testing.assert_array_equal(values, [[0.1, 1.0, np.nan], [0.4, np.nan, np.nan], [0.7, 0.5, 0.9]])
    assert score_table([])[1].shape == (0, 0)


def test_intervals_are_those_of_the_recordings_that_have_the_score():
    expected = mean_intervals(np.array([[0.1], [0.4], [0.7]]))[0]
    assert RESULT.intervals["x"] == pytest.approx(tuple(expected))
    assert RESULT.intervals["y"] == pytest.approx((0.5, 1.0))
    assert "z" not in RESULT.intervals
    assert EvaluationResult(RESULT.recordings[:1]).intervals == {}


def test_files_have_means_and_intervals(tmp_path):
    write_results(RESULT, tmp_path)
    document = json.loads((tmp_path / "results.json").read_text())
    assert document["scores"]["x"] == pytest.approx(0.4)
    assert document["intervals"] == {name: list(bounds) for name, bounds in RESULT.intervals.items()}
    assert document["interval_method"] == {
        "method": "percentile bootstrap over recordings",
        "confidence": 0.95,
        "num_resamples": 10_000,
        "seed": 0,
    }
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    names = ["piece0", "piece1", "piece2", "mean", "mean 95 % low", "mean 95 % high"]
    assert [row["id"] for row in rows] == names
    assert (rows[1]["x"], rows[1]["y"], rows[3]["z"], rows[4]["z"]) == ("0.4", "", "0.9", "")
    assert [float(row["x"]) for row in rows[4:]] == list(RESULT.intervals["x"])
    assert read_results(tmp_path) == RESULT


def test_one_recording_has_no_rows_of_intervals(tmp_path):
    write_results(EvaluationResult(RESULT.recordings[:1]), tmp_path)
    assert (tmp_path / "results.csv").read_text().splitlines()[-1].startswith("mean,")
    assert json.loads((tmp_path / "results.json").read_text())["intervals"] == {}


def test_nothing_scored_is_an_error_that_names_the_first_reason():
    assert EvaluationResult.of(RESULT.recordings, RESULT.skipped, RESULT.settings) == RESULT
    with pytest.raises(EvaluationError, match="None of 1 recordings could be scored; lost: no file"):
        EvaluationResult.of([], RESULT.skipped, {})
    with pytest.raises(EvaluationError, match="There are no recordings"):
        EvaluationResult.of([], [], {})


def test_file_names_are_one_an_id():
    ids = ["a/b", "a%2Fb", "a b", "a:b", "é", ".."]
    names = [file_name(id) for id in ids]
    assert names == ["a%2Fb", "a%252Fb", "a b", "a%3Ab", "é", ".."]
