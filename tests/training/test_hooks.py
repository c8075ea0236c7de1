"""Hooks: what they publish, write and take back on resuming."""

import json
import logging
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mt3.evaluation.summaries import Histogram
from mt3.training.hooks import (
    Evaluation,
    Hook,
    JsonlWriter,
    ProgressBar,
    Run,
    TrainingMetrics,
)
from mt3.training.optimizers import OptimizerConfig, build_optimizer
from mt3.training.step import init_state
from mt3.training.throughput import Clock


class Recorder(Hook):
    def __init__(self):
        self.published = []

    def on_metrics(self, run, values):
        self.published.append((run.step, dict(values)))


@pytest.fixture
def make_run(make_model):
    state = init_state(make_model(), build_optimizer(OptimizerConfig()), jax.random.key(0))

    def make(*hooks, num_steps=10, start_step=0):
        run = Run(state=state, num_steps=num_steps, step=start_step, start_step=start_step, hooks=hooks)
        run.seconds = 0.0
        run.clock = Clock(lambda: run.seconds)
        for hook in hooks:
            hook.on_start(run)
        return run

    return make


def advance(run, seconds=0.5, idle_seconds=0.125, num_examples=4, num_flops=100.0, **metrics):
    """An update; the first one, which compiles, takes a minute more."""
    run.step += 1
    run.num_examples, run.num_flops = num_examples, num_flops
    run.metrics = {name: jnp.asarray(value, jnp.float32) for name, value in metrics.items()}
    run.seconds += seconds + (60 if run.step == run.start_step + 1 else 0)
    run.idle_seconds += idle_seconds
    for hook in run.hooks:
        hook.on_step(run)


def test_metrics_are_means_over_their_period(make_run):
    recorder = Recorder()
    run = make_run(TrainingMetrics(2, peak_flops_per_second=800.0), recorder, num_steps=5)
    for index, loss in enumerate([4.0, 2.0, 1.0, math.nan, 7.0]):
        advance(run, loss=loss, learning_rate=0.1 * index, tokens=10.0 * (index + 1))
    (step_2, first), (step_4, second), (step_5, last) = recorder.published
    assert (step_2, step_4, step_5) == (2, 4, 5)
    assert [values["train/loss"] for values in (first, second, last)] == [3.0, 1.0, 7.0]
    assert first["train/learning_rate"] == pytest.approx(0.1)
    # The first update compiles and is not timed: one of two in the first period.
    assert [values["train/examples_per_second"] for values in (first, second)] == [8.0, 8.0]
    assert [values["train/tokens_per_second"] for values in (first, second)] == [40.0, 70.0]
    assert second["train/steps_per_second"] == 2.0
    assert [values["train/input_wait_share"] for values in (first, second, last)] == [0.25] * 3
    assert [values["train/mfu"] for values in (first, second, last)] == [0.25] * 3


def test_one_update_is_not_timed(make_run):
    recorder = Recorder()
    run = make_run(TrainingMetrics(1), recorder)
    advance(run, loss=1.0, tokens=8.0)
    advance(run, loss=1.0, tokens=8.0)
    (_, first), (_, second) = recorder.published
    assert not any("per_second" in name or "wait" in name for name in first)
    assert second["train/tokens_per_second"] == 16.0
    assert "train/mfu" not in second  # Nobody knows what the devices can do.


def test_evaluation_is_not_training_time(make_run):
    def evaluate(params, step):
        run.seconds += 1000
        return {}

    recorder = Recorder()
    run = make_run(TrainingMetrics(1), Evaluation(evaluate, 1), recorder)
    for _ in range(3):
        advance(run, loss=1.0)
    rates = [values["train/steps_per_second"] for _, values in recorder.published if len(values) > 2]
    assert rates == [2.0, 2.0]


def test_evaluation_runs_on_its_period_and_at_the_end(make_run):
    recorder, seen = Recorder(), []

    def evaluate(params, step):
        seen.append(params)
        return {"onset_f1": step / 10}

    run = make_run(Evaluation(evaluate, 2), recorder, num_steps=5)
    for _ in range(5):
        advance(run)
    assert recorder.published == [(step, {"eval/onset_f1": step / 10}) for step in (2, 4, 5)]
    assert seen == [run.state.params] * 3


def test_what_evaluation_shows_is_no_metric(make_run):
    """Numbers are published, the rest is shown, under the same prefix and at the same step."""
    shown, recorder = Recorder(), Recorder()
    shown.on_metrics = lambda run, values: None
    shown.on_summaries = lambda run, summaries: shown.published.append((run.step, dict(summaries)))
    histogram = Histogram(np.array([0.5]), np.array([0.0, 1.0]))
    run = make_run(
        Evaluation(lambda *_: {"f1": 0.5, "f1 (hist)": histogram}, 2), recorder, shown, num_steps=2
    )
    for _ in range(2):
        advance(run)
    assert recorder.published == [(2, {"eval/f1": 0.5})]
    assert shown.published == [(2, {"eval/f1 (hist)": histogram})]


@pytest.mark.parametrize("hook", [TrainingMetrics, lambda period: Evaluation(lambda *_: {}, period)])
def test_periods_are_positive(hook):
    with pytest.raises(ValueError, match="is 0 steps: give at least 1"):
        hook(0)


def test_jsonl_holds_one_object_a_line(tmp_path, make_run):
    run = make_run(JsonlWriter(tmp_path))
    run.step = 3
    run.publish({"train/loss": 1.25, "train/z_loss": math.nan})
    # Written at once, not when the run ends.
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [{"step": 3, "train/loss": 1.25, "train/z_loss": None}]
    run.publish({"eval/f1": 0.5})
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 2


def test_jsonl_takes_back_what_a_resumed_run_repeats(tmp_path, make_run):
    kept = '{"step": 10, "train/loss": 2.0}\n{"step": 20, "train/loss": 1.5}\n'
    path = tmp_path / "metrics.jsonl"
    path.write_text(kept + '{"step": 30, "train/loss": 1.0}\n{"step": 40, "trai')
    run = make_run(JsonlWriter(tmp_path), num_steps=50, start_step=20)
    assert path.read_text() == kept
    run.step = 30
    run.publish({"train/loss": 1.0})
    assert path.read_text() == kept + '{"step": 30, "train/loss": 1.0}\n'


def test_metrics_that_cannot_be_written_are_reported_once(tmp_path, make_run, caplog, monkeypatch):
    run = make_run(JsonlWriter(tmp_path))

    def full_disk(*args, **kwargs):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full_disk)
        run.publish({"a": 1.0})
        run.publish({"a": 2.0})
    run.publish({"a": 3.0})
    [line] = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert "No space left on device" in line
    assert str(tmp_path / "metrics.jsonl") in line
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 0, "a": 3.0}


def test_progress_bar_counts_from_where_the_run_resumed(make_run, monkeypatch, capsys):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    bar = ProgressBar()
    run = make_run(bar, num_steps=10, start_step=4)
    for _ in range(2):
        advance(run)
    run.publish({"train/loss": 1.23456, "train/examples_per_second": 80.0})
    bar.on_end(run)
    shown = capsys.readouterr().err
    assert "6/10" in shown
    assert "loss=1.235" in shown
    assert "examples/s=80" in shown
