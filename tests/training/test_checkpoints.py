"""Checkpoints: exact, kept by recency and quality, and safe when writing fails."""

import json
import logging
import resource
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mt3.files import write_text
from mt3.models.checkpoints import CheckpointError, CheckpointMismatchError
from mt3.training.checkpoints import CheckpointConfig, Checkpoints
from mt3.training.optimizers import OptimizerConfig, build_optimizer
from mt3.training.run_files import write_run_files
from mt3.training.step import init_state, jit_train_step

FAST = {"retries": 1, "retry_wait_seconds": 0.0}


def new_state(model, seed=0, name="adafactor", impl="threefry2x32"):
    optimizer = build_optimizer(OptimizerConfig(name=name, clip_norm=1.0))
    return init_state(model, optimizer, jax.random.key(seed, impl=impl))


def at_step(state, step):
    return state.replace(step=jnp.asarray(step, jnp.int32))


def plain(state):
    return jax.device_get(state.replace(rng=jax.random.key_data(state.rng)))


def assert_same(left, right):
    jax.tree.map(np.testing.assert_array_equal, plain(left), plain(right))


@pytest.mark.parametrize("name", ["adafactor", "adamw"])
@pytest.mark.parametrize("impl", ["threefry2x32", "rbg"])
def test_round_trip_is_exact(tmp_path, make_model, name, impl):
    state = at_step(new_state(make_model(), seed=3, name=name, impl=impl), 7)
    data_state = {"seed": 2**60 + 1, "position": [1, 2], "name": "train"}
    with Checkpoints(tmp_path, spec={"a": 1}) as checkpoints:
        checkpoints.save(state, data_state)
    with Checkpoints(tmp_path) as checkpoints:
        restored, restored_data = checkpoints.restore(new_state(make_model(), seed=9, name=name, impl=impl))
        assert checkpoints.read_spec() == {"a": 1}
    assert_same(restored, state)
    assert restored_data == data_state
    assert jax.random.key_impl(restored.rng) == jax.random.key_impl(state.rng)
    assert {path.name for path in (tmp_path / "checkpoints" / "7").iterdir() if path.is_dir()} == {
        *("params", "train_state", "data", "spec")
    }


def test_background_write_holds_the_state_of_its_step(tmp_path, make_model, make_batches):
    """The loop donates the state to the next update while the last is still being written."""
    model, optimizer = make_model(features=256), build_optimizer(OptimizerConfig(learning_rate=0.1))
    step = jit_train_step(model=model, optimizer=optimizer)
    state, batches, seen = init_state(model, optimizer, jax.random.key(0)), make_batches(), {}
    with Checkpoints(tmp_path, CheckpointConfig(keep=9)) as checkpoints:
        for number in range(1, 6):
            state, _ = step(state, next(batches))
            seen[number] = jax.tree.map(np.array, plain(state))
            checkpoints.save(state)
        for number, expected in seen.items():
            restored, _ = checkpoints.restore(state, number)
            jax.tree.map(np.testing.assert_array_equal, plain(restored), expected)


def test_latest_are_kept(tmp_path, make_model):
    with Checkpoints(tmp_path, CheckpointConfig(keep=2)) as checkpoints:
        for step in (1, 2, 3, 4):
            checkpoints.save(at_step(new_state(make_model()), step))
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.steps == [3, 4]
        assert checkpoints.latest_step == 4
    assert not (tmp_path / "best.json").exists()


@pytest.mark.parametrize(("mode", "best"), [("max", 2), ("min", 4)])
def test_best_is_kept_besides_the_latest(tmp_path, make_model, mode, best):
    config = CheckpointConfig(keep=1, best_metric="eval/f1", best_mode=mode)
    values = {1: 0.5, 2: 0.9, 3: float("nan"), 4: 0.1, 6: 0.6}
    with Checkpoints(tmp_path, config) as checkpoints:
        for step in range(1, 8):
            metrics = {"eval/f1": values[step], "other": 1.0} if step in values else {"other": 1.0}
            checkpoints.save(at_step(new_state(make_model()), step), metrics=metrics)
    expected = {"step": best, "metric": "eval/f1", "value": values[best], "mode": mode}
    assert json.loads((tmp_path / "best.json").read_text()) == expected
    # What is best is still known after the run has been opened anew.
    with Checkpoints(tmp_path, config) as checkpoints:
        assert checkpoints.steps == [best, 7]
        checkpoints.save(at_step(new_state(make_model()), 8))
    with Checkpoints(tmp_path, config) as checkpoints:
        assert checkpoints.steps == [best, 8]


def test_same_step_is_written_once(tmp_path, make_model):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(at_step(new_state(make_model(), seed=0), 1))
        checkpoints.save_and_wait(at_step(new_state(make_model(), seed=1), 1))
        restored, _ = checkpoints.restore(new_state(make_model()))
    assert_same(restored, at_step(new_state(make_model(), seed=0), 1))


def test_other_model_is_refused_by_name(tmp_path, make_model):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save_and_wait(new_state(make_model(features=8)))
        with pytest.raises(CheckpointMismatchError) as error:
            checkpoints.restore(new_state(make_model(features=16)))
    message = str(error.value)
    assert "embedder/embedding is float32[11, 8] in the checkpoint and float32[11, 16] here" in message
    assert "logits/kernel is float32[8, 11]" in message
    assert str(tmp_path) in message
    assert "\n" not in message


def test_missing_and_surplus_parameters_are_named(tmp_path, make_model):
    state = new_state(make_model())
    other = state.replace(params={"norm": state.params["norm"], "bias": jnp.zeros(3)})
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save_and_wait(state)
        with pytest.raises(CheckpointMismatchError) as error:
            checkpoints.restore(other)
    assert "bias is not in the checkpoint" in str(error.value)
    assert "logits/kernel is only in the checkpoint" in str(error.value)


def test_other_optimizer_is_refused(tmp_path, make_model):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save_and_wait(new_state(make_model(), name="adafactor"))
        with pytest.raises(CheckpointMismatchError, match=r"another optimizer.*opt_state"):
            checkpoints.restore(new_state(make_model(), name="adamw"))


def test_no_checkpoint_and_unknown_step_are_told_apart(tmp_path, make_model):
    state = new_state(make_model())
    with Checkpoints(tmp_path) as checkpoints:
        with pytest.raises(CheckpointError, match="there are none"):
            checkpoints.restore(state)
        checkpoints.save_and_wait(at_step(state, 4))
        with pytest.raises(CheckpointError, match="no checkpoint of step 5: there are 4"):
            checkpoints.restore(state, 5)


def test_half_written_checkpoint_is_never_picked_up(tmp_path, make_model):
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save_and_wait(at_step(new_state(make_model()), 1))
    half = tmp_path / "checkpoints" / "2.orbax-checkpoint-tmp"
    (half / "params").mkdir(parents=True)
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.latest_step == 1
    assert not half.exists()


def test_damaged_checkpoint_is_one_clear_line(tmp_path, make_model):
    with Checkpoints(tmp_path, CheckpointConfig(keep=2)) as checkpoints:
        checkpoints.save(at_step(new_state(make_model()), 1))
        checkpoints.save_and_wait(at_step(new_state(make_model()), 2))
    path = tmp_path / "checkpoints" / "2"
    for file in (path / "params").rglob("d/*"):
        file.write_bytes(file.read_bytes()[:20])
    with Checkpoints(tmp_path) as checkpoints, pytest.raises(CheckpointError) as error:
        checkpoints.restore(new_state(make_model()))
    assert str(error.value).startswith(f"cannot read the checkpoint {path}: ")
    assert "\n" not in str(error.value)


def errors(caplog):
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]


def full_disk(*args, **kwargs):
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("method", ["save", "wait_until_finished"])
def test_full_disk_is_reported_and_survived(tmp_path, make_model, monkeypatch, caplog, method):
    state = new_state(make_model())
    with Checkpoints(tmp_path, CheckpointConfig(**FAST)) as checkpoints:
        checkpoints.save_and_wait(at_step(state, 1))
        with monkeypatch.context() as patch:
            patch.setattr(ocp.CheckpointManager, method, full_disk)
            checkpoints.save(at_step(state, 2))
            if method == "wait_until_finished":
                checkpoints.restore(state, 1)  # Anything that waits.
        [line] = errors(caplog)
        for part in ("step 2", str(tmp_path), "No space left on device", "Free disk space", "steps: 1"):
            assert part in line
        assert "\n" not in line
        assert checkpoints.wants_retry()
        checkpoints.save_and_wait(at_step(state, 3))
        assert not checkpoints.wants_retry()
        assert {1, 3} <= set(checkpoints.steps)


def test_last_checkpoint_that_cannot_be_written_is_an_error(tmp_path, make_model, monkeypatch, caplog):
    state = new_state(make_model())
    with Checkpoints(tmp_path, CheckpointConfig(**FAST)) as checkpoints:
        checkpoints.save_and_wait(at_step(state, 1))
        monkeypatch.setattr(ocp.CheckpointManager, "save", full_disk)
        with pytest.raises(CheckpointError, match=r"step 2 .* in 2 tries: No space .*resumes from step 1"):
            checkpoints.save_and_wait(at_step(state, 2))
        assert len(errors(caplog)) == 2
        assert not checkpoints.wants_retry()  # Until the next period.
        assert checkpoints.steps == [1]


def test_best_that_cannot_be_noted_is_no_failed_checkpoint(tmp_path, make_model, monkeypatch, caplog):
    state = new_state(make_model())
    with Checkpoints(tmp_path, CheckpointConfig(best_metric="f1", **FAST)) as checkpoints:
        with monkeypatch.context() as patch:
            patch.setattr("mt3.training.checkpoints.write_text", full_disk)
            checkpoints.save_and_wait(at_step(state, 1), metrics={"f1": 0.5})
        assert errors(caplog) == [
            f"cannot note the best checkpoint in {tmp_path}/best.json: No space left on device. "
            "Free disk space there or keep fewer checkpoints."
        ]
        assert not checkpoints.wants_retry()
        checkpoints.save_and_wait(at_step(state, 2), metrics={"f1": 0.4})
    assert json.loads((tmp_path / "best.json").read_text())["step"] == 1


@pytest.mark.parametrize("asynchronous", [True, False])
def test_real_failing_write(tmp_path, make_model, caplog, asynchronous):
    """The system refuses files over a size: Orbax's own writes fail, in its own threads."""
    config = CheckpointConfig(asynchronous=asynchronous, **FAST)
    state = new_state(make_model(features=20_000))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Checkpoints(tmp_path, config) as checkpoints:
        checkpoints.save_and_wait(at_step(state, 1))
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
            with pytest.raises(CheckpointError, match="step 2"):
                checkpoints.save_and_wait(at_step(state, 2))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert len(errors(caplog)) == 2
        assert all("File too large" in line and "\n" not in line for line in errors(caplog))
        assert [path.name for path in checkpoints.folder.iterdir()] == ["1"]
        checkpoints.save_and_wait(at_step(state, 3))
        restored, _ = checkpoints.restore(state, 1)
        assert_same(restored, at_step(state, 1))
        restored, _ = checkpoints.restore(state)
        assert_same(restored, at_step(state, 3))


def test_errors_that_are_not_of_the_disk_are_raised(tmp_path, make_model, monkeypatch):
    def wrong(*args, **kwargs):
        raise ValueError("a programming error")

    with Checkpoints(tmp_path, CheckpointConfig(**FAST)) as checkpoints:
        monkeypatch.setattr(ocp.CheckpointManager, "save", wrong)
        with pytest.raises(ValueError, match="a programming error"):
            checkpoints.save(new_state(make_model()))


def test_folder_that_cannot_be_made_is_one_clear_line(tmp_path):
    (tmp_path / "run").write_text("a file")
    with pytest.raises(CheckpointError, match=r"cannot open .*run/checkpoints"):
        Checkpoints(tmp_path / "run")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"period_steps": 0}, "period_steps is 0"),
        ({"keep": 0}, "keep is 0"),
        ({"best_mode": "biggest"}, "'biggest': choose one of max, min"),
    ],
)
def test_bad_configurations_say_what_is_wrong(options, message):
    with pytest.raises(ValueError, match=message):
        CheckpointConfig(**options)


def test_run_files_are_replaced_whole(tmp_path, monkeypatch):
    write_run_files(tmp_path, {"input_frames": 256}, "train.num_steps = 1\n")
    assert json.loads((tmp_path / "model.json").read_text()) == {"input_frames": 256}
    assert (tmp_path / "config.gin").read_text() == "train.num_steps = 1\n"

    monkeypatch.setattr(Path, "replace", full_disk)
    with pytest.raises(OSError, match=f"cannot write to {tmp_path}: No space left"):
        write_run_files(tmp_path, None, "other")
    with pytest.raises(OSError, match="No space left"):
        write_text(tmp_path / "config.gin", "other")
    monkeypatch.undo()
    assert (tmp_path / "config.gin").read_text() == "train.num_steps = 1\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.gin", "model.json"]
