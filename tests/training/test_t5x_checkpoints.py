"""Runs made of T5X checkpoints and back, with Adafactor's slots; and training that goes on from them."""

import dataclasses
import filecmp
import shutil

import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import optax
import pytest

from mt3.models.checkpoints import CheckpointError, CheckpointMismatchError, find_checkpoint, read_params
from mt3.models.formats import open_model, write_model
from mt3.models.formats.base import StoredArray, StoredModel
from mt3.models.loading import ModelHints, spec_of
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.transformer import TransformerConfig
from mt3.models.tree_shapes import named_leaves
from mt3.training.loop import train
from mt3.training.optimizers import OptimizerConfig, build_optimizer
from mt3.training.t5x_checkpoints import import_run, open_with_slots, state_with_slots

# Wide enough for some parameters to be factored and others not, of both orders of the axes.
NETWORK = TransformerConfig(
    emb_dim=128, num_heads=2, head_dim=64, mlp_dim=160, num_encoder_layers=1, num_decoder_layers=1
)
SPEC = ModelSpec(network=NETWORK, input_frames=4, max_target_tokens=4)


class Batches:
    """Batch number n is a function of n."""

    def __init__(self, position=0):
        self._position = position

    def __next__(self):
        generator = np.random.default_rng(self._position)
        self._position += 1
        targets = generator.integers(3, 1000, (2, 4)).astype(np.int32)
        return {
            "inputs": generator.normal(0, 0.3, (2, 4, 128)).astype(np.float32),
            "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
            "decoder_target_tokens": targets,
            "decoder_loss_weights": np.ones((2, 4), np.float32),
        }

    def get_state(self):
        return {"position": self._position}

    def set_state(self, state):
        # A run that was imported knows of no position: it goes on where the test says.
        self._position = state["position"] if state else self._position


def run_training(run_dir, num_steps, batches=None, **options):
    model = TranscriptionModel(
        dataclasses.replace(SPEC, network=dataclasses.replace(NETWORK, dropout_rate=0.0))
    )
    return train(
        model,
        batches or Batches(),
        num_steps=num_steps,
        run_dir=run_dir,
        progress=False,
        tensorboard=False,
        **options,
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of three updates."""
    run = tmp_path_factory.mktemp("run")
    run_training(run, 3)
    return run


def values(arrays):
    return {name: array.read() for name, array in arrays.items()}


def equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_the_golden_checkpoint_comes_back_byte_for_byte(t5x_directory, golden_network, tmp_path):
    stored = open_model(t5x_directory)
    step = import_run(stored, spec_of(stored, ModelHints(num_heads=2)), tmp_path / "run")
    assert step == 0
    params = named_leaves(jax.device_get(read_params(tmp_path / "run")))
    equal(params, golden_network)
    again = open_with_slots(tmp_path / "run")
    write_model(tmp_path / "out", dataclasses.replace(again, spec=None), "t5x")
    names = [str(path.relative_to(t5x_directory)) for path in t5x_directory.rglob("*") if path.is_file()]
    _, different, missing = filecmp.cmpfiles(t5x_directory, tmp_path / "out", names, shallow=False)
    assert (different, missing) == ([], [])


def test_factored_slots_go_out_and_come_back(trained, tmp_path):
    ours = open_with_slots(trained)
    shapes = {name: array.shape for name, array in ours.slots.items()}
    # What T5X has of a kernel [128, 160], of [160, 128], of a square and of a scale.
    assert [shapes[f"encoder/layers_0/mlp/wi_0/kernel/{slot}"] for slot in ("v_row", "v_col", "v", "m")] == [
        (128,),
        (160,),
        (1,),
        (1,),
    ]
    assert [shapes[f"encoder/layers_0/mlp/wo/kernel/{slot}"] for slot in ("v_row", "v_col")] == [
        (128,),
        (160,),
    ]
    assert [shapes[f"encoder/encoder_norm/scale/{slot}"] for slot in ("v_row", "v_col", "v")] == [
        (1,),
        (1,),
        (128,),
    ]
    write_model(tmp_path / "t5x", ours, "t5x")
    # The factored ones lie in the index, as in T5X.
    assert not list((tmp_path / "t5x").glob("*.v_row"))
    exported = open_model(tmp_path / "t5x")
    assert (exported.step, spec_of(exported)) == (3, spec_of(ours))
    equal(values(exported.arrays), values(ours.arrays))
    equal(values(exported.slots), values(ours.slots))
    assert import_run(exported, spec_of(exported), tmp_path / "run") == 3
    equal(values(open_with_slots(tmp_path / "run").slots), values(ours.slots))


@pytest.mark.slow
def test_training_goes_on_as_if_it_had_never_left(trained, tmp_path):
    undisturbed = run_training(tmp_path / "whole", 5)
    write_model(tmp_path / "t5x", open_with_slots(trained), "t5x")
    exported = open_model(tmp_path / "t5x")
    import_run(exported, spec_of(exported), tmp_path / "run")
    state = run_training(tmp_path / "run", 5, Batches(3))
    for name in ("step", "params", "opt_state"):
        jax.tree.map(np.testing.assert_array_equal, *(getattr(each, name) for each in (state, undisturbed)))


def test_without_slots_a_run_starts_anew(trained, tmp_path):
    stored = open_with_slots(trained)
    assert import_run(stored, spec_of(stored), tmp_path / "run", with_optimizer=False) == 0
    assert find_checkpoint(tmp_path / "run").name == "0"
    bare = dataclasses.replace(stored, slots={})
    assert import_run(bare, spec_of(bare), tmp_path / "bare", config_text="# nothing\n") == 0
    assert (tmp_path / "bare" / "config.gin").read_text() == "# nothing\n"
    assert (tmp_path / "bare" / "model.json").is_file()
    with pytest.raises(CheckpointError, match="has checkpoints already: choose another directory"):
        import_run(bare, spec_of(bare), tmp_path / "bare")


def small_state(config=None):
    params = {"norm": {"scale": jnp.ones(3)}, "out": {"kernel": jnp.ones((128, 130))}}
    return build_optimizer(config or OptimizerConfig()).init(params)


def slots_of(**changes):
    arrays = {
        "norm/scale/v": np.arange(3, dtype=np.float32),
        "norm/scale/v_row": np.zeros(1, np.float32),
        "norm/scale/v_col": np.zeros(1, np.float32),
        "norm/scale/m": np.zeros(1, np.float32),
        "out/kernel/v": np.zeros(1, np.float32),
        "out/kernel/v_row": np.full(128, 2, np.float32),
        "out/kernel/v_col": np.full(130, 3, np.float32),
        "out/kernel/m": np.zeros(1, np.float32),
    }
    arrays |= {name.replace("__", "/"): array for name, array in changes.items()}
    stored = {name: StoredArray.of(array) for name, array in arrays.items() if array is not None}
    return StoredModel("checkpoint_9", {}, slots=stored, step=9)


@pytest.mark.parametrize("config", [OptimizerConfig(), OptimizerConfig(clip_norm=1.0, weight_decay=0.1)])
def test_slots_fill_the_state_of_whatever_adafactor_is_part_of(config):
    state = state_with_slots(small_state(config), slots_of(), 9)
    assert jax.tree.structure(state) == jax.tree.structure(small_state(config))
    is_counted = lambda part: isinstance(part, (optax.FactoredState, optax.ScaleByScheduleState))  # noqa: E731
    factored, schedule = (part for part in jax.tree.leaves(state, is_leaf=is_counted) if is_counted(part))
    assert int(factored.count) == int(schedule.count) == 9
    assert factored.v["norm"]["scale"].tolist() == [0, 1, 2]
    assert factored.v_row["out"]["kernel"].shape == (128,)
    assert set(factored.v_col["out"]["kernel"].tolist()) == {3}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"out__kernel__v_row": np.zeros(130, np.float32)},
            r"out/kernel/v_row is float32\[130\] in the checkpoint",
        ),
        ({"out__kernel__v_col": None}, "out/kernel/v_col is not in the checkpoint"),
        ({"out__bias__v": np.zeros(3, np.float32)}, "out/bias/v is only in the checkpoint"),
        ({"norm__scale__m": np.zeros(3, np.float32)}, r"trained with momentum \(norm/scale/m\)"),
    ],
)
def test_slots_of_another_optimizer_are_named(changes, message):
    with pytest.raises(CheckpointMismatchError, match=message) as caught:
        state_with_slots(small_state(), slots_of(**changes), 9)
    assert "--no-optimizer" in str(caught.value)


def test_slots_that_cannot_be_used(trained, tmp_path):
    with pytest.raises(CheckpointError, match="NaN or infinite numbers: norm/scale/v has 1"):
        state_with_slots(small_state(), slots_of(norm__scale__v=np.array([1, np.nan, 2], np.float32)), 9)
    with pytest.raises(ValueError, match="the configured optimizer is another: configure adafactor"):
        state_with_slots(small_state(OptimizerConfig(name="adamw")), slots_of(), 9)
    stored = dataclasses.replace(open_with_slots(trained), step=None)
    with pytest.raises(CheckpointError, match="has optimizer slots but no step"):
        import_run(stored, spec_of(stored), tmp_path)


def test_runs_without_slots_for_all_are_opened_without(trained, tmp_path):
    stored = dataclasses.replace(open_model(trained), slots={})
    import_run(
        stored, spec_of(stored), tmp_path / "frozen", optimizer=OptimizerConfig(frozen=("encoder/.*",))
    )
    assert open_with_slots(tmp_path / "frozen").slots == {}
    checkpoint = shutil.copytree(trained / "checkpoints" / "3", tmp_path / "3")
    shutil.rmtree(checkpoint / "train_state")
    assert open_with_slots(checkpoint).slots == {}


def test_a_damaged_slot_is_named(t5x_directory, tmp_path):
    folder = shutil.copytree(t5x_directory, tmp_path / "checkpoint_0")
    chunk = folder / "state.param_states.encoder.encoder_norm.scale.v" / "0"
    chunk.write_bytes(chunk.read_bytes()[:12])
    stored = open_model(folder)
    with pytest.raises(
        CheckpointError, match="encoder/encoder_norm/scale/v is missing, damaged or cut short"
    ):
        import_run(stored, spec_of(stored, ModelHints(num_heads=2)), tmp_path / "run")
    assert not list((tmp_path / "run" / "checkpoints").glob("*"))


def test_an_index_of_large_parameters_only(t5x_directory, tmp_path):
    """Parameters only: no slots, the step as it is."""
    folder = shutil.copytree(t5x_directory, tmp_path / "checkpoint_0")
    index = msgpack.unpackb((folder / "checkpoint").read_bytes(), ext_hook=msgpack.ExtType)
    index["optimizer"]["state"] = {"step": 500}
    (folder / "checkpoint").write_bytes(msgpack.packb(index))
    stored = open_model(folder)
    assert (stored.step, stored.slots) == (500, {})
    assert import_run(stored, spec_of(stored, ModelHints(num_heads=2)), tmp_path / "run") == 0
