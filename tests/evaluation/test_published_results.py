"""Published scores are those that the papers print, under names that exist here."""

import collections
import re
from pathlib import Path

import numpy as np
import pytest

from mt3.evaluation.metrics import score
from mt3.evaluation.published_results import MT3_DATASETS, PUBLISHED_SCORES, find
from mt3.symbolic.notes import Notes

PAPER_RESULTS = (Path(__file__).parents[1] / "golden" / "paper_results.md").read_text()


def golden_rows(first_cell):
    """Rows of the golden tables whose first cell begins so, as lists of numbers; None for empty cells."""
    rows = [line.strip("|").split("|") for line in PAPER_RESULTS.splitlines() if line.startswith("|")]
    for name, *cells in rows:
        if name.strip().startswith(first_cell):
            yield [float(cell) if cell.strip() else None for cell in cells]


def values(**wanted):
    return [found.value for found in find(**wanted)]


def test_every_printed_number_is_there_and_no_other():
    printed = re.findall(r"(?<![\d.])(?:\.\d{2,4}|1\.(?:65|18)(?= ))", PAPER_RESULTS)
    assert len(printed) == len(PUBLISHED_SCORES)
    assert collections.Counter(map(float, printed)) == collections.Counter(
        published.value for published in PUBLISHED_SCORES
    )


@pytest.mark.parametrize(
    ("golden", "metric"),
    [("frame F1", "Frame F1"), ("onset F1", "Onset F1"), ("onset+offset F1", "Onset + offset F1")],
)
def test_table2(golden, metric):
    for row, system in (("single", "MT3, single dataset"), ("mixture", "MT3, mixture")):
        (numbers,) = golden_rows(f"{golden}, {row}")
        assert values(table="table2", system=system, metric=metric) == numbers
    assert [found.dataset for found in find("table2", "MT3, mixture", metric=metric)] == list(MT3_DATASETS)


@pytest.mark.parametrize("granularity", ["flat", "midi_class", "full"])
def test_table3(granularity):
    (numbers,) = golden_rows(granularity)
    assert values(table="table3", metric=f"Onset + offset + program F1 ({granularity})") == numbers


def test_table5():
    sentence = re.search(r"\(Table 5\): (.*?)\. The paper", PAPER_RESULTS)
    assert sentence
    numbers = [float(word) for word in re.findall(r"\.\d+", sentence[1])]
    assert values(table="table5", metric="Onset F1") == numbers
    assert [found.dataset for found in find("table5")] == list(MT3_DATASETS)


@pytest.mark.parametrize("system", ["Acoustic-Transformer", "MT3"])
def test_acoustic_transformer(system):
    (line,) = re.findall(rf"^\| {system} F1 / P / R \|(.*)\|$", PAPER_RESULTS, re.MULTILINE)
    cells = [[float(number) for number in cell.split("/")] for cell in line.split("|")]
    trainings = ["50K steps, rate 1e-4", "150K steps, rate 1e-4", "50K steps, rate 1e-3"]
    trainings += ["150K steps, rate 1e-3", "500K steps, rate 1e-3"]
    for training, cell in zip(trainings, cells, strict=True):
        for word, number in zip(("F1", "precision", "recall"), cell, strict=True):
            found = values(system=f"{system}, {training}", metric=f"Piano roll {word}", dataset="slakh")
            assert found == [number]


def test_find_leaves_open_what_is_not_asked_for():
    assert find() == PUBLISHED_SCORES
    (found,) = find("ismir2021", metric="Onset F1")
    assert (found.value, found.dataset) == (0.9601, "maestrov3")
    assert "2107.09142" in found.source
    assert find("table2", "MT3, mixture", "slakh", "Onset F1")[0].value == 0.7585
    assert find("no such table") == ()


def test_no_score_is_there_twice():
    keys = [(one.table, one.system, one.dataset, one.metric) for one in PUBLISHED_SCORES]
    assert len(set(keys)) == len(keys)


def test_metrics_are_ours():
    """Every instrument that a metric is named after plays in some seconds, and not in others."""
    programs = np.array([0, 24, 40, 42, 73, 33, 0])
    onsets = 2.0 * np.arange(len(programs))
    notes = Notes(
        onset_seconds=onsets,
        offset_seconds=onsets + 1.0,
        pitch=np.full(len(programs), 60),
        velocity=np.full(len(programs), 80),
        program=programs,
        is_drum=np.arange(len(programs)) == 6,
    )
    ours = score(notes, notes, metrics=["all"])
    assert {published.metric for published in PUBLISHED_SCORES} <= ours.keys()
