"""The published set equals what the benchmark's second way of scoring gives: mir_eval and piano rolls."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from mt3.evaluation.metrics import score
from mt3.symbolic.notes import Notes

BENCHMARKS = Path(__file__).parents[2] / "scripts" / "benchmarks"


@pytest.fixture(scope="module")
def benchmark():
    """scripts/benchmarks/metrics.py as a module."""
    spec = importlib.util.spec_from_file_location("benchmark_of_metrics", BENCHMARKS / "metrics.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(BENCHMARKS))
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(BENCHMARKS))
    return module


def repeated_notes(seed: int) -> tuple[Notes, Notes]:
    """Few pitches struck every 20 to 60 ms: nearly all notes have several candidates."""
    rng = np.random.default_rng(seed)
    sides = []
    for count in rng.integers(50, 150, 2):
        onset = np.sort(np.round(rng.uniform(0, count * 0.012, count), 2))
        sides.append(
            Notes(
                onset,
                onset + np.round(rng.uniform(0.01, 0.3, count), 2),
                rng.integers(60, 63, count),
                rng.integers(1, 128, count),
                rng.choice([0, 33], count),
                rng.random(count) < 0.3,
            )
        )
    return sides[0], sides[1]


def test_random_pieces(benchmark, piece):
    for seed in range(200):
        assert score(*piece(seed)) == pytest.approx(benchmark.dense_scores(*piece(seed)), abs=1e-12), seed


def test_repeated_notes(benchmark):
    for seed in range(30):
        pair = repeated_notes(seed)
        assert score(*pair) == pytest.approx(benchmark.dense_scores(*pair), abs=1e-12), seed


def test_the_benchmark_runs(benchmark, monkeypatch, capsys):
    options = ["--notes", "40", "--seconds", "5", "--repeats", "1", "--pieces", "2", "--workers", "1"]
    monkeypatch.setattr(sys, "argv", ["metrics.py", *options])
    benchmark.main()
    printed = capsys.readouterr().out
    assert "largest difference of 42 scores: 0.0e+00" in printed
    assert "mir_eval" in printed
    assert "2 pieces, 1 workers" in printed
