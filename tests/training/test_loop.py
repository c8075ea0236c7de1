"""The loop: exact resume, signals, failures; and the real model overfits a batch."""

import json
import logging
import os
import signal
import subprocess
import sys
import threading

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mt3.models.checkpoints import CheckpointError, CheckpointMismatchError
from mt3.training.checkpoints import CheckpointConfig
from mt3.training.guards import GuardConfig, TooManySkippedUpdatesError
from mt3.training.hooks import Hook
from mt3.training.loop import TrainingInterrupted, train
from mt3.training.optimizers import OptimizerConfig
from mt3.training.step import mean_loss

CONFIG = OptimizerConfig(learning_rate=0.03, warmup_steps=5, schedule="cosine")
QUICK = CheckpointConfig(retries=1, retry_wait_seconds=0.0)


class At(Hook):
    """Does something after a step."""

    def __init__(self, step, action):
        self._step, self._action = step, action

    def on_step(self, run):
        if run.step == self._step:
            self._action()


def run_training(model, batches, run_dir, **options):
    options = {"num_steps": 12, "optimizer": CONFIG, "metrics_period_steps": 1} | options
    return train(model, batches, run_dir=run_dir, progress=False, tensorboard=False, **options)


def plain(state):
    return jax.device_get(state.replace(rng=jax.random.key_data(state.rng)))


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, plain(left), plain(right))


def metrics_lines(run_dir):
    lines = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    timings = ("per_second", "input_wait_share")
    return [{name: value for name, value in line.items() if not name.endswith(timings)} for line in lines]


def raise_error(error):
    raise error


def test_interrupted_run_equals_undisturbed_run(tmp_path, make_model, make_batches):
    """Stopped twice: by a signal after step 5, and by an error in the data after step 8."""
    model = make_model(dropout_rate=0.3)
    expected = run_training(model, make_batches(), tmp_path / "whole")

    interrupt = At(5, lambda: os.kill(os.getpid(), signal.SIGTERM))
    with pytest.raises(
        TrainingInterrupted, match="stopped by SIGTERM after step 5, which is saved in"
    ) as stop:
        run_training(model, make_batches(), tmp_path / "parts", hooks=[interrupt])
    assert (stop.value.step, stop.value.signum) == (5, signal.SIGTERM)
    error = At(8, lambda: raise_error(RuntimeError("broken shard")))
    with pytest.raises(RuntimeError, match="broken shard"):
        run_training(model, make_batches(), tmp_path / "parts", hooks=[error])
    state = run_training(model, make_batches(), tmp_path / "parts")

    assert int(state.step) == 12
    assert_same(state, expected)
    assert metrics_lines(tmp_path / "parts") == metrics_lines(tmp_path / "whole")
    assert [line["step"] for line in metrics_lines(tmp_path / "parts")] == list(range(1, 13))


def test_lost_steps_are_repeated(tmp_path, make_model, make_batches):
    """Killed after step 7, with the last checkpoint at step 4: nothing after it counts."""
    program = """
import os, sys
from tests.training.conftest import TinyBatches, TinyModel, TinySpec
from tests.training.test_loop import At, run_training
from mt3.training.checkpoints import CheckpointConfig
kill = At(7, lambda: os.kill(os.getpid(), 9))
model = TinyModel(TinySpec(dropout_rate=0.3))
run_training(model, TinyBatches(), sys.argv[1], hooks=[kill],
             checkpoints=CheckpointConfig(period_steps=4, asynchronous=False))
"""
    run_dir = tmp_path / "killed"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    result = subprocess.run([sys.executable, "-c", program, str(run_dir)], env=environment, check=False)
    assert result.returncode == -signal.SIGKILL
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["4"]
    model = make_model(dropout_rate=0.3)
    state = run_training(model, make_batches(), run_dir)
    assert_same(state, run_training(model, make_batches(), tmp_path / "whole"))
    assert metrics_lines(run_dir) == metrics_lines(tmp_path / "whole")


def test_ctrl_c_saves_and_handlers_are_put_back(tmp_path, make_model, make_batches):
    before = [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)]
    interrupt = At(3, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(TrainingInterrupted, match="SIGINT after step 3"):
        run_training(make_model(), make_batches(), tmp_path, hooks=[interrupt])
    assert (tmp_path / "checkpoints" / "3").is_dir()
    assert [signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)] == before


def test_second_ctrl_c_acts_at_once(tmp_path, make_model, make_batches):
    def twice():
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        run_training(make_model(), make_batches(), tmp_path, hooks=[At(3, twice)])


def test_other_threads_train_without_signals(tmp_path, make_model, make_batches):
    steps = []
    thread = threading.Thread(
        target=lambda: steps.append(int(run_training(make_model(), make_batches(), tmp_path).step))
    )
    thread.start()
    thread.join()
    assert steps == [12]


def test_signal_while_waiting_for_a_batch(tmp_path, make_model, make_batches):
    """What was done is saved at once, though the next batch would take for ever."""
    batches = make_batches()
    fetch, interrupted = batches.__next__, threading.Event()

    class Stalling(type(batches)):
        def __next__(self):
            if batches.position == 3:
                os.kill(os.getpid(), signal.SIGTERM)
                assert interrupted.wait(60)
                raise InterruptedError
            return fetch()

        def interrupt(self):
            interrupted.set()

    with pytest.raises(TrainingInterrupted, match=r"SIGTERM after step [123],") as stop:
        run_training(make_model(), Stalling(), tmp_path)
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == [str(stop.value.step)]


def test_signal_before_the_first_update(tmp_path, make_model, make_batches):
    class Interrupting(type(make_model())):
        def init(self, rng):
            os.kill(os.getpid(), signal.SIGTERM)
            return super().init(rng)

    batches = make_batches()
    with pytest.raises(TrainingInterrupted, match="stopped by SIGTERM before the first update: run"):
        run_training(Interrupting(), batches, tmp_path)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_no_batch_is_fetched_beyond_the_last(tmp_path, make_model, make_batches):
    batches = make_batches()
    run_training(make_model(), batches, tmp_path)
    assert batches.position == 12
    # A finished run is returned as it is.
    again = run_training(make_model(), batches, tmp_path)
    assert batches.position == 12
    assert int(again.step) == 12
    # A longer one goes on from there.
    assert int(run_training(make_model(), make_batches(), tmp_path, num_steps=14).step) == 14


def test_batches_that_end_early_end_the_run(tmp_path, make_model, make_batches, caplog):
    state = run_training(
        make_model(), make_batches(length=5), tmp_path, evaluate=lambda params, step: {"at": step}
    )
    assert int(state.step) == 5
    assert "the batches ended after step 5 of 12" in caplog.text
    assert (tmp_path / "checkpoints" / "5").is_dir()
    assert metrics_lines(tmp_path)[-1] == {"step": 5, "eval/at": 5.0}


def test_batches_without_state_start_over_with_a_warning(tmp_path, make_model, make_batches, caplog):
    run_training(make_model(), (batch for batch in make_batches()), tmp_path, num_steps=2)
    assert "start over" not in caplog.text
    run_training(make_model(), (batch for batch in make_batches()), tmp_path, num_steps=4)
    assert "the batches cannot be put back to step 2: they start over" in caplog.text


def test_state_of_batches_must_be_json(tmp_path, make_model, make_batches):
    batches = make_batches()
    batches.get_state = lambda: {"position": np.int64(3)}
    with pytest.raises(TypeError, match=r"get_state.*JSON"):
        run_training(make_model(), batches, tmp_path)


def test_existing_checkpoints_are_not_overwritten(tmp_path, make_model, make_batches):
    run_training(make_model(), make_batches(), tmp_path, num_steps=2)
    with pytest.raises(FileExistsError, match="holds checkpoints up to step 2"):
        run_training(make_model(), make_batches(), tmp_path, resume=False)


def test_other_model_is_refused_and_changes_nothing(tmp_path, make_model, make_batches):
    run_training(make_model(), make_batches(), tmp_path, num_steps=2)
    before = (tmp_path / "model.json").read_text()
    with pytest.raises(CheckpointMismatchError, match=r"logits/kernel is float32\[8, 11\]"):
        run_training(make_model(features=16), make_batches(), tmp_path)
    assert (tmp_path / "model.json").read_text() == before


def test_changed_spec_is_named(tmp_path, make_model, make_batches, caplog):
    run_training(make_model(), make_batches(), tmp_path, num_steps=2)
    run_training(make_model(dropout_rate=0.5), make_batches(), tmp_path, num_steps=4)
    assert "network.dropout_rate was 0.0 and is 0.5" in caplog.text


def test_run_directory_holds_spec_and_configuration(tmp_path, make_model, make_batches):
    run_training(make_model(), make_batches(), tmp_path, num_steps=1, config_text="train.seed = 0\n")
    assert json.loads((tmp_path / "model.json").read_text()) == make_model().spec.to_dict()
    assert (tmp_path / "config.gin").read_text() == "train.seed = 0\n"


def test_evaluation_picks_the_best_checkpoint(tmp_path, make_model, make_batches):
    model, held_out = make_model(), [next(make_batches(seed=1))]
    steps = {3: 0.2, 6: 0.9, 9: 0.5, 12: 0.4}
    seen = []

    def evaluate(params, step):
        seen.append(mean_loss(model, params, held_out)["loss"])
        return {"f1": steps[step], "loss": seen[-1]}

    config = CheckpointConfig(period_steps=3, keep=1, best_metric="eval/f1")
    run_training(
        model, make_batches(), tmp_path, evaluate=evaluate, evaluation_period_steps=3, checkpoints=config
    )
    assert sorted(int(path.name) for path in (tmp_path / "checkpoints").iterdir()) == [6, 12]
    assert json.loads((tmp_path / "best.json").read_text())["step"] == 6
    assert [line["eval/loss"] for line in metrics_lines(tmp_path) if "eval/loss" in line] == seen
    assert len(set(seen)) == 4


def test_initial_parameters_are_used_and_left_alone(tmp_path, make_model, make_batches):
    model = make_model()
    params = model.init(jax.random.key(42))
    still = OptimizerConfig(learning_rate=1e-30)
    state = run_training(model, make_batches(), tmp_path, num_steps=1, initial_params=params, optimizer=still)
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(state.params), jax.device_get(params))


def test_seed_decides(tmp_path, make_model, make_batches):
    states = [
        run_training(make_model(), make_batches(), tmp_path / str(index), num_steps=1, seed=seed)
        for index, seed in enumerate((0, 0, 1))
    ]
    assert_same(states[0], states[1])
    assert not np.array_equal(states[0].params["logits"]["kernel"], states[2].params["logits"]["kernel"])


def test_full_disk_does_not_end_the_run(tmp_path, make_model, make_batches, monkeypatch, caplog):
    """Writes fail from step 4 on; after step 7 there is room again, and a retry succeeds."""
    save, full = ocp.CheckpointManager.save, []

    def save_unless_full(self, step, **options):
        if full:
            raise OSError(28, "No space left on device")
        return save(self, step, **options)

    monkeypatch.setattr(ocp.CheckpointManager, "save", save_unless_full)
    expected = run_training(make_model(), make_batches(), tmp_path / "roomy")
    hooks = [At(3, lambda: full.append(True)), At(7, full.clear)]
    config = CheckpointConfig(period_steps=2, retries=5, retry_wait_seconds=0.0, keep=9)
    state = run_training(make_model(), make_batches(), tmp_path / "full", hooks=hooks, checkpoints=config)
    assert_same(state, expected)
    steps = sorted(int(path.name) for path in (tmp_path / "full" / "checkpoints").iterdir())
    assert steps == [2, 7, 8, 10, 12]
    lines = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert [line.split(" was")[0] for line in lines] == [f"the checkpoint of step {n}" for n in (4, 5, 6)]


def test_full_disk_at_the_end_leaves_the_older_checkpoints(tmp_path, make_model, make_batches, monkeypatch):
    run_training(make_model(), make_batches(), tmp_path, num_steps=4, checkpoints=QUICK)

    def full_disk(*args, **options):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(ocp.CheckpointManager, "save", full_disk)
        with pytest.raises(CheckpointError, match=r"step 6 .*No space left.*it resumes from step 4") as error:
            run_training(make_model(), make_batches(), tmp_path, num_steps=6, checkpoints=QUICK)
    assert "\n" not in str(error.value)
    state = run_training(make_model(), make_batches(), tmp_path, num_steps=6, checkpoints=QUICK)
    assert_same(state, run_training(make_model(), make_batches(), tmp_path / "roomy", num_steps=6))


def test_failed_update_is_not_saved_in_place_of_a_good_one(tmp_path, make_model, make_batches):
    batches = (raise_error(ValueError("broken")) if n == 4 else b for n, b in enumerate(make_batches()))
    with pytest.raises(ValueError, match="broken"):
        run_training(make_model(), batches, tmp_path)
    # However far ahead was fetched: the updates before it are done and saved.
    assert [path.name for path in (tmp_path / "checkpoints").iterdir()] == ["4"]


def test_too_many_skipped_updates_stop_the_run(tmp_path, make_model, make_batches, caplog):
    """It says which examples they were, and can go on after them."""

    class Broken(type(make_batches())):
        def __next__(self):
            batch = super().__next__()
            ids = [f"batch {self.position} row {row}".encode() for row in range(4)]
            if self.position in (3, 6, 7, 8):
                batch["inputs"][2] = np.nan
            return batch | {"example_ids": np.array(ids, object)}

    guards = GuardConfig(max_skipped_in_a_row=3)
    message = (
        r"3 updates in a row were skipped up to step 8, .* \(GuardConfig.max_skipped_in_a_row = 3\); "
        "the last batch held batch 8 row 0, batch 8 row 1, batch 8 row 2, batch 8 row 3. Look at"
    )
    with pytest.raises(TooManySkippedUpdatesError, match=message):
        run_training(make_model(), Broken(), tmp_path, guards=guards)
    incidents = [json.loads(line) for line in (tmp_path / "incidents.jsonl").read_text().splitlines()]
    assert [(line["step"], line["kind"], line["loss"]) for line in incidents] == [
        (step, "skipped", "nan") for step in (3, 6, 7, 8)
    ]
    assert incidents[0]["example_ids"] == [f"batch 3 row {row}" for row in range(4)]
    warnings = [record.getMessage() for record in caplog.records if "was skipped" in record.getMessage()]
    assert [text.split()[1] for text in warnings] == ["3", "6", "7", "8"]
    state = run_training(make_model(), Broken(), tmp_path, guards=guards)
    assert (int(state.step), int(state.skipped_steps)) == (12, 4)
    # Incidents of steps that are kept are.
    assert len((tmp_path / "incidents.jsonl").read_text().splitlines()) == 4
