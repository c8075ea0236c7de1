"""`mt3 checkpoint`, and the commands that take a checkpoint of any format."""

import json
from pathlib import Path

import jax
import numpy as np
import pytest

from mt3.audio.io import write_audio
from mt3.cli import configuration
from mt3.inference.recording import Recording
from mt3.models import segment_decoding
from mt3.models.checkpoints import read_params, read_spec
from mt3.models.formats import open_model
from mt3.models.loading import PRESETS
from mt3.models.tree_shapes import named_leaves


@pytest.fixture(scope="session")
def golden():
    with np.load(Path(__file__).parents[1] / "golden" / "network.npz") as arrays:
        return {name: arrays[name] for name in ("encoder_input_tokens", "greedy_tokens")}


@pytest.fixture(scope="session")
def golden_spec_file(golden, tmp_path_factory):
    """A model.json for the golden network, of segments as long as its inputs and tokens."""
    spec = PRESETS["mt3"].to_dict()
    network = {"emb_dim": 32, "num_heads": 2, "head_dim": 16, "mlp_dim": 64}
    spec["network"] |= {**network, "num_encoder_layers": 2, "num_decoder_layers": 2}
    spec["input_frames"] = golden["encoder_input_tokens"].shape[1]
    spec["max_target_tokens"] = golden["greedy_tokens"].shape[1]
    path = tmp_path_factory.mktemp("spec") / "model.json"
    path.write_text(json.dumps(spec))
    return path


@pytest.fixture(scope="session")
def song(tmp_path_factory):
    path = tmp_path_factory.mktemp("song") / "song.wav"
    write_audio(path, np.random.default_rng(0).normal(0, 0.1, 8000).astype(np.float32), 16000)
    return path


def values(path):
    return {name: array.read() for name, array in open_model(path).arrays.items()}


def equal(left, right):
    assert left.keys() == right.keys()
    for name in left:
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


def test_import_export_and_show(mt3, t5x_directory, tmp_path):
    run = tmp_path / "run"
    outcome = mt3("checkpoint", "import", t5x_directory, "-o", run, "--heads", 2)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out == f"{run}: step 0, with its optimizer slots\n"
    assert read_spec(run).network.num_heads == 2
    assert json.loads((run / "model.json").read_text()) == json.loads(json.dumps(read_spec(run).to_dict()))
    equal(named_leaves(jax.device_get(read_params(run))), values(t5x_directory))

    outputs = {"t5x": tmp_path / "t5x", "safetensors": tmp_path / "m.safetensors", "npz": tmp_path / "m.npz"}
    for name, output in outputs.items():
        outcome = mt3("checkpoint", "export", run, "--format", name, "-o", output)
        assert (outcome.code, outcome.err) == (0, "")
        equal(values(output), values(t5x_directory))
    assert (outputs["t5x"] / "checkpoint").read_bytes() == (t5x_directory / "checkpoint").read_bytes()
    with np.load(outputs["npz"]) as arrays:
        assert "encoder/layers_0/attention/query/kernel" in arrays.files

    for path, kind in (
        (run, "checkpoint of a run"),
        (outputs["t5x"], "T5X"),
        (outputs["npz"], "NumPy archive"),
    ):
        outcome = mt3("checkpoint", "show", path)
        assert (outcome.code, outcome.err) == (0, "")
        first, *lines = outcome.out.splitlines()
        assert kind in first
        assert first.endswith("step 0")
        assert lines[1].split() == [
            "decoder/layers_0/encoder_decoder_attention/key/kernel",
            "float32",
            "32",
            "x",
            "32",
            "4.0",
            "KiB",
        ]
        assert "parameters: 51 arrays, 164,224 numbers, 641.5 KiB" in lines
        assert '"num_heads": 2,' in outcome.out
        assert ("Adafactor's slots: none" in lines) == (path == outputs["npz"])


def test_show_says_what_is_not_known(mt3, t5x_directory):
    outcome = mt3("checkpoint", "show", t5x_directory)
    assert outcome.code == 0
    assert outcome.out.splitlines()[-1].startswith("configuration: not known: ")
    assert "say how many heads there are (--heads)" in outcome.out


def test_import_with_gin_files(mt3, untrained, tiny, tmp_path):
    """The model and the optimizer are those that training will have; training goes on from it."""
    source, run = tmp_path / "m.npz", tmp_path / "run"
    assert mt3("checkpoint", "export", untrained, "-f", "npz", "-o", source).code == 0
    outcome = mt3(
        "checkpoint", "import", source, "-o", run, "--gin_file", tiny, "--gin.OptimizerConfig.clip_norm=2.0"
    )
    assert outcome.out == f"{run}: step 0, parameters only\n"
    configuration.parse([str(run / "config.gin")], [])
    assert configuration.build("OptimizerConfig").clip_norm == 2.0
    assert configuration.build("ModelSpec") == read_spec(untrained) == read_spec(run)
    equal(values(run), values(untrained))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("import", "SOURCE"), "--heads"),
        (
            ("import", "SOURCE", "--heads", 2, "--preset", "mt4"),
            "preset is 'mt4': choose one of mt3, ismir2021",
        ),
        (("import", "SOURCE", "--heads", 2, "--spec", "SPEC"), "give one or the other"),
        (("import", "SOURCE", "--spec", "SOURCE/.zarray"), ".zarray"),
        (("import", "SOURCE", "--heads", 2, "--gin_file", "tiny.gin"), "gin files say what the model is"),
        (("import", "SOURCE", "--depth", 2), "--depth is not an option of this command"),
        (("export", "SOURCE", "--heads", 2, "--format", "pytorch"), "'pytorch' is only read"),
        (("export", "SOURCE", "--heads", 2, "--format", "onnx"), "format is 'onnx': choose one of"),
        (("export", "SOURCE/none", "--format", "npz"), "does not exist"),
    ],
)
def test_wrong_arguments_are_explained_in_a_line(
    mt3, t5x_directory, golden_spec_file, tmp_path, arguments, message
):
    places = {"SOURCE": str(t5x_directory), "SPEC": str(golden_spec_file)}
    filled = [str(argument) for argument in arguments]
    for name, place in places.items():
        filled = [argument.replace(name, place) for argument in filled]
    error = mt3("checkpoint", *filled, "-o", tmp_path / "out").error()
    assert message in error
    assert not (tmp_path / "out").exists()


def test_a_t5x_directory_transcribes_with_the_tokens_of_its_network(
    mt3, t5x_directory, golden, golden_spec_file, tmp_path, monkeypatch
):
    """The command, of three segments whose spectrograms are the golden inputs."""
    golden_inputs, heard = golden["encoder_input_tokens"], {}
    encode, accept = segment_decoding._encode, Recording.accept

    def encode_golden(config, params, features):
        inputs = np.zeros((len(features), *golden_inputs.shape[1:]), np.float32)
        inputs[:3] = golden_inputs
        return encode(config, params, inputs)

    def keep(self, segment, decoded):
        heard[segment] = decoded.tokens
        return accept(self, segment, decoded)

    monkeypatch.setattr(segment_decoding, "_encode", encode_golden)
    monkeypatch.setattr(Recording, "accept", keep)
    song = tmp_path / "song.wav"
    write_audio(song, np.zeros(3 * 64 * 128, np.float32), 16000)
    arguments = ("-c", t5x_directory, "--spec", golden_spec_file, "-o", tmp_path, "-f", "json")
    arguments += ("--overlap", 0, "--no-grammar")
    outcome = mt3("transcribe", song, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    for segment, tokens in enumerate(golden["greedy_tokens"]):
        np.testing.assert_array_equal(heard[segment], tokens[: len(heard[segment])])
        assert not tokens[len(heard[segment]) :].any()
    assert (tmp_path / "song.json").is_file()


def test_a_t5x_directory_transcribes_audio(mt3, t5x_directory, golden_spec_file, song, tmp_path):
    """End to end, with nothing in the place of anything."""
    arguments = ("-c", t5x_directory, "--spec", golden_spec_file, "-o", tmp_path, "-f", "json", "-f", "midi")
    outcome = mt3("transcribe", song, *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert {path.name for path in tmp_path.glob("[!.]*")} == {"song.json", "song.mid"}


@pytest.mark.parametrize("name", ["npz", "safetensors", "t5x"])
def test_transcribing_is_the_same_in_every_format(mt3, untrained, song, tmp_path, name):
    """Also with the sizes of a tokenizer that no published model has: the file says them."""
    path = tmp_path / (f"m.{name}" if name != "t5x" else "t5x")
    assert mt3("checkpoint", "export", untrained, "-f", name, "-o", path).code == 0
    for checkpoint, folder in ((untrained, "run"), (path, "file")):
        outcome = mt3("transcribe", song, "-c", checkpoint, "-o", tmp_path / folder, "-f", "json")
        assert (outcome.code, outcome.err) == (0, "")
    notes = [json.loads((tmp_path / folder / "song.json").read_text()) for folder in ("run", "file")]
    assert notes[0] == notes[1]


def test_damaged_files_are_one_line_of_the_command(mt3, t5x_directory, song, tmp_path):
    path = tmp_path / "m.safetensors"
    assert mt3("checkpoint", "export", t5x_directory, "--heads", 2, "-f", "safetensors", "-o", path).code == 0
    path.write_bytes(path.read_bytes()[:-100])
    assert "is damaged or cut short" in mt3("transcribe", song, "-c", path).error()
    assert "is damaged or cut short" in mt3("checkpoint", "show", path).error()
    hostile = tmp_path / "mt3.pth"
    hostile.write_bytes(b"cos\nsystem\n(S'touch here'\ntR.")
    assert "no file of torch.save" in mt3("transcribe", song, "-c", hostile).error()
    assert not (tmp_path / "here").exists()


@pytest.mark.slow
def test_fine_tuning(mt3, untrained, tiny, tmp_path):
    """From a file, with the output layer anew and the encoder frozen; once trained, the file may go."""
    source, run = tmp_path / "m.safetensors", tmp_path / "run"
    assert mt3("checkpoint", "export", untrained, "-f", "safetensors", "-o", source).code == 0
    given = values(source)
    overrides = (
        "--gin.TrainingRun.initial_parameters=@InitialParameters()",
        "--gin.TrainingRun.seed=9",
        f"--gin.InitialParameters.path='{source}'",
        "--gin.InitialParameters.rules=(('decoder/logits_dense/.*', None),)",
        "--gin.OptimizerConfig.frozen=('encoder/.*',)",
        "--gin.OptimizerConfig.learning_rate=1e-5",
    )
    arguments = ("train", "--gin_file", tiny, "--run-dir", run, *overrides)
    outcome = mt3(*arguments, "--gin.TrainingRun.num_steps=1")
    assert outcome.code == 0, outcome.err
    source.unlink()
    assert mt3(*arguments, "--gin.TrainingRun.num_steps=2").code == 0
    for name, array in values(run).items():
        if name.startswith("encoder/"):
            np.testing.assert_array_equal(array, given[name], err_msg=name)
        elif "logits_dense" in name:
            assert np.abs(array - given[name]).max() > 0.1
        else:
            np.testing.assert_allclose(array, given[name], atol=1e-4, err_msg=name)
    error = mt3(*arguments, "--gin.OptimizerConfig.frozen=('coder/.*',)").error()
    assert "frozen has 'coder/.*', which is the whole path of no parameter" in error
    rules = "--gin.InitialParameters.rules=(('nothing', None),)"
    error = mt3(*arguments[:4], tmp_path / "new", *overrides, rules).error()
    assert "the rule 'nothing' of initial parameters" in error
