"""Guards: what counts as skipped or as a spike, and when it is too much."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from mt3.training.guards import GuardConfig, Guards, RunningLoss, TooManySkippedUpdatesError
from mt3.training.hooks import Run
from mt3.training.optimizers import OptimizerConfig, build_optimizer
from mt3.training.step import init_state


@pytest.fixture
def start(tmp_path, make_model):
    """A run with guards of the given configuration, before its first update."""
    state = init_state(make_model(), build_optimizer(OptimizerConfig()), jax.random.key(0))

    def start(start_step=0, num_skipped=0, **config):
        skipped = state.replace(skipped_steps=jnp.asarray(num_skipped, jnp.int32))
        run = Run(state=skipped, num_steps=1000, step=start_step, start_step=start_step)
        run.hooks = [Guards(tmp_path, GuardConfig(**config))]
        run.num_skipped = num_skipped
        run.hooks[0].on_start(run)
        return run

    return start


def advance(run, *losses, ids=("a", "b")):
    for loss in losses:
        run.step += 1
        run.num_skipped += not math.isfinite(loss)
        values = {"loss": loss, "gradient_norm": 1.0, "skipped_steps": run.num_skipped}
        run.metrics = {name: jnp.asarray(value, jnp.float32) for name, value in values.items()}
        run.example_ids = [f"{name}{run.step}" for name in ids]
        run.hooks[0].on_step(run)


def incidents(tmp_path):
    path = tmp_path / "incidents.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_skipped_updates_are_noted_with_their_examples(tmp_path, start, caplog):
    run = start()
    advance(run, 2.0, math.inf, 1.0)
    run.hooks[0].on_end(run)
    assert incidents(tmp_path) == [
        {"step": 2, "kind": "skipped", "loss": "inf", "gradient_norm": 1.0, "example_ids": ["a2", "b2"]}
    ]
    [line] = [record.getMessage() for record in caplog.records]
    assert line.endswith("loss (inf) or gradient (norm 1) is not finite; its batch held a2, b2")


def test_the_last_update_is_looked_at_too(tmp_path, start):
    run = start()
    advance(run, 1.0, math.nan)
    assert incidents(tmp_path) == []  # It may still be under way.
    run.hooks[0].on_end(run)
    assert [line["step"] for line in incidents(tmp_path)] == [2]


def test_skipped_updates_in_a_row_are_limited(start):
    run = start(max_skipped_in_a_row=2)
    advance(run, math.nan, 1.0, math.nan, 1.0, math.nan, math.nan)
    with pytest.raises(
        TooManySkippedUpdatesError, match=r"2 updates in a row .* up to step 6, .* held a6, b6\. Look"
    ):
        advance(run, 1.0)


def test_skipped_updates_of_a_run_are_limited(start):
    run = start(start_step=7, num_skipped=2, max_skipped=3)
    advance(run, 1.0, 1.0)  # Those before are no reason to stop now.
    with pytest.raises(
        TooManySkippedUpdatesError,
        match=r"3 updates were skipped up to step 10, .*GuardConfig.max_skipped = 3",
    ):
        advance(run, math.nan, 1.0)


def test_limits_can_be_off(start):
    run = start(max_skipped_in_a_row=None)
    advance(run, *[math.nan] * 100)


def test_many_examples_are_named_in_the_file(tmp_path, start, caplog):
    run = start()
    advance(run, math.nan, 1.0, ids=[f"row {row} of batch " for row in range(50)])
    [line] = [record.getMessage() for record in caplog.records]
    assert line.endswith(f"row 7 of batch 1 and 42 more (all in {tmp_path}/incidents.jsonl)")
    assert len(incidents(tmp_path)[0]["example_ids"]) == 50


def test_a_spike_is_reported_once_and_a_new_level_gets_usual(tmp_path, start, caplog):
    rng = np.random.default_rng(0)
    run = start(spike_window_steps=100)
    advance(run, *(3 + 0.1 * rng.standard_normal(200)))
    assert incidents(tmp_path) == []
    advance(run, 4.0, 4.0, 3.0)
    assert [(line["step"], line["kind"], line["loss"]) for line in incidents(tmp_path)] == [
        (201, "spike", 4.0)
    ]
    [line] = [record.getMessage() for record in caplog.records]
    assert line.startswith("the loss leapt to 4 at step 201, from 2.999 (deviation 0.0963)")
    assert line.endswith("its batch held a201, b201")
    advance(run, *(6 + 0.1 * rng.standard_normal(400)))
    advance(run, 9.0, 6.0)
    assert [line["step"] for line in incidents(tmp_path)] == [201, 204, 604]


def test_early_losses_are_no_spikes(tmp_path, start):
    run = start()
    advance(run, *np.linspace(1, 10, 49))
    run.hooks[0].on_end(run)
    assert incidents(tmp_path) == []


def test_spikes_can_be_off(tmp_path, start):
    run = start(spike_deviations=None)
    advance(run, *[1.0] * 100, 1000.0, 1.0)
    assert incidents(tmp_path) == []


def test_mean_and_deviation_are_those_of_the_losses_within_the_window():
    losses, running = np.random.default_rng(1).normal(2, 0.5, 40), RunningLoss(40)
    for loss in losses:
        running.add(loss)
    assert running.mean == pytest.approx(losses.mean())
    assert running.deviation == pytest.approx(losses.std())
    assert running.is_known


def test_incidents_that_will_come_again_are_taken_back(tmp_path, start):
    lines = [json.dumps({"step": step, "kind": "skipped"}) + "\n" for step in (3, 9)]
    (tmp_path / "incidents.jsonl").write_text("".join(lines))
    start(start_step=5)
    assert (tmp_path / "incidents.jsonl").read_text() == lines[0]


@pytest.mark.parametrize("name", ["max_skipped_in_a_row", "max_skipped", "spike_window_steps"])
def test_limits_are_positive(name):
    with pytest.raises(ValueError, match=f"guard {name} is 0: give more than 0"):
        GuardConfig(**{name: 0})
