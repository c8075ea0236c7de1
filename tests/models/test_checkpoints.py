"""Reading a run's model: which checkpoint, that it fits, and what is said when it does not."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from mt3.models.checkpoints import (
    CheckpointError,
    CheckpointMismatchError,
    find_checkpoint,
    read_params,
    read_spec,
)
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.transformer import TransformerConfig

SPEC = ModelSpec(
    network=TransformerConfig(
        emb_dim=16, num_heads=2, head_dim=8, mlp_dim=24, num_encoder_layers=1, num_decoder_layers=1
    ),
    input_frames=8,
)


def _write(step_dir, params, spec):
    """A checkpoint as training writes it, with an item that no reader of the model needs."""
    items = {
        "params": ocp.args.StandardSave(params),
        "train_state": ocp.args.StandardSave({"step": np.array(3)}),
        "spec": ocp.args.JsonSave(spec),
    }
    with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
        checkpointer.save(step_dir, args=ocp.args.Composite(**items))


@pytest.fixture(scope="module")
def params():
    return TranscriptionModel(SPEC).init(jax.random.key(0))


@pytest.fixture(scope="module")
def written(params, tmp_path_factory):
    run = tmp_path_factory.mktemp("run")
    for step in (5, 20):
        _write(run / "checkpoints" / str(step), params, SPEC.to_dict())
    return run


@pytest.fixture
def run(written, tmp_path):
    return shutil.copytree(written, tmp_path / "run")


def test_reads_what_was_written(run, params):
    assert read_spec(run) == SPEC
    jax.tree.map(np.testing.assert_array_equal, read_params(run), params)


def test_finds_the_latest_the_best_and_the_named(run):
    checkpoints = run / "checkpoints"
    assert find_checkpoint(run) == checkpoints / "20"
    assert find_checkpoint(checkpoints) == checkpoints / "20"
    assert find_checkpoint(checkpoints / "5") == checkpoints / "5"
    (run / "best.json").write_text(json.dumps({"step": 5, "metric": "Onset F1", "value": 0.5}))
    assert find_checkpoint(run) == checkpoints / "5"
    shutil.rmtree(checkpoints / "5")
    assert find_checkpoint(run) == checkpoints / "20"


def test_ignores_checkpoints_cut_short(run):
    (run / "checkpoints" / "30.orbax-checkpoint-tmp-1").mkdir()
    assert find_checkpoint(run).name == "20"


def _refuses(function, *arguments):
    with pytest.raises(CheckpointError) as caught:
        function(*arguments)
    message = str(caught.value)
    assert "\n" not in message
    return caught.value, message


def test_says_that_a_directory_is_missing(tmp_path):
    _, message = _refuses(read_spec, tmp_path / "nowhere")
    assert f"{tmp_path / 'nowhere'} does not exist" in message


def test_says_that_a_path_is_a_file(tmp_path):
    path = tmp_path / "model.bin"
    path.touch()
    _, message = _refuses(read_params, path)
    assert f"{path} is a file" in message


def test_says_that_a_run_has_no_checkpoint(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    _, message = _refuses(read_spec, tmp_path)
    assert "holds no checkpoint" in message


def test_names_the_parameters_that_differ(run):
    network = dataclasses.replace(SPEC.network, mlp_dim=32, num_decoder_layers=2)
    error, message = _refuses(read_params, run, dataclasses.replace(SPEC, network=network))
    assert isinstance(error, CheckpointMismatchError)
    assert (
        "decoder/layers_0/mlp/wi_0/kernel is float32[16, 24] in the checkpoint and float32[16, 32] here"
    ) in message
    network = dataclasses.replace(SPEC.network, num_decoder_layers=2)
    _, message = _refuses(read_params, run, dataclasses.replace(SPEC, network=network))
    assert "decoder/layers_1/encoder_decoder_attention/key/kernel is not in the checkpoint" in message


def test_says_that_a_spec_is_unknown(params, tmp_path):
    _write(tmp_path / "checkpoints" / "1", params, {**SPEC.to_dict(), "flux": 3})
    _, message = _refuses(read_spec, tmp_path)
    assert "unknown fields flux" in message


def test_says_that_a_spec_is_empty(params, tmp_path):
    _write(tmp_path / "checkpoints" / "1", params, {})
    _, message = _refuses(read_spec, tmp_path)
    assert "spec is empty" in message


@pytest.mark.parametrize(
    "damaged", ["params/manifest.ocdbt", "params/_METADATA", "params/ocdbt.process_0/d/*", "spec/metadata"]
)
def test_says_that_a_checkpoint_is_damaged(run, damaged, capfd):
    step_dir = run / "checkpoints" / "20"
    files = list(step_dir.glob(damaged))
    assert files
    for file in files:
        file.write_bytes(b"\x00garbage")
    _, message = _refuses(read_params, run)
    assert f"cannot read the checkpoint {step_dir}" in message
    assert "Traceback" not in capfd.readouterr().err


def test_says_that_the_best_file_is_damaged(run):
    (run / "best.json").write_text("{")
    _, message = _refuses(read_params, run)
    assert "best.json cannot be read" in message
