"""What every shipped gin file comes to, and how gin files and overrides are read."""

import dataclasses

import gin
import jax
import numpy as np
import pytest

from mt3.cli import configuration
from mt3.data.augmentation import NO_AUGMENTATION, AugmentationConfig
from mt3.evaluation.metrics import Track
from mt3.inference.continuity import ContinuityOptions
from mt3.inference.transcriber import DecodingOptions
from mt3.models.model import TranscriptionModel
from mt3.training.initialization import InitialParameters

# What is trained with, as the command line would give it. stream.gin, leave_one_out.gin and finetune.gin
# change another configuration.
TRAINING = {
    "mt3_small": ["mt3_small.gin"],
    "piano": ["piano.gin"],
    "tiny": ["tiny.gin"],
    "quickstart": ["quickstart.gin"],
    "stream": ["tiny.gin", "stream.gin"],
    "leave_one_out": ["mt3_small.gin", "leave_one_out.gin"],
    "finetune": ["mt3_small.gin", "finetune.gin"],
}
OTHERS = {"eval.gin", "toy.gin"}

MT3_NETWORK = {
    "spec.architecture": "mt3",
    "spec.input_kind": "frames",
    "spec.network.emb_dim": 512,
    "spec.network.num_heads": 6,
    "spec.network.head_dim": 64,
    "spec.network.mlp_dim": 1024,
    "spec.network.num_encoder_layers": 8,
    "spec.network.num_decoder_layers": 8,
    "spec.network.dropout_rate": 0.1,
    "spec.network.activation_dtype": "float32",
}
TINY_NETWORK = {
    "spec.network.emb_dim": 128,
    "spec.network.num_heads": 4,
    "spec.network.head_dim": 32,
    "spec.network.mlp_dim": 256,
    "spec.network.num_encoder_layers": 2,
    "spec.network.num_decoder_layers": 2,
    "spec.network.dropout_rate": 0.0,
}
SPECTROGRAM = {
    "spec.spectrogram.sample_rate": 16000,
    "spec.spectrogram.hop_samples": 128,
    "spec.spectrogram.num_mel_bins": 512,
    "spec.spectrogram.fft_size": 2048,
    "spec.spectrogram.mel_low_hz": 20.0,
    "spec.spectrogram.mel_high_hz": 7600.0,
}
MT3_TOKENS = {
    "spec.network.vocab_size": 1536,
    "spec.tokenizer.ties": True,
    "spec.tokenizer.onsets_only": False,
    "spec.tokenizer.frames_per_second": 125.0,
    "spec.tokenizer.vocabulary.num_velocity_bins": 1,
    "spec.tokenizer.vocabulary.steps_per_second": 100,
    "spec.tokenizer.vocabulary.max_shift_seconds": 10,
    "spec.tokenizer.vocabulary.program_granularity": "full",
}
PIANO_TOKENS = {
    "spec.network.vocab_size": 1664,
    "spec.tokenizer.ties": False,
    "spec.tokenizer.onsets_only": False,
    "spec.tokenizer.vocabulary.num_velocity_bins": 127,
    "spec.tokenizer.vocabulary.max_shift_seconds": 10,
    "spec.tokenizer.vocabulary.program_granularity": "flat",
}
PAPER_OPTIMIZER = {
    "optimizer.name": "adafactor",
    "optimizer.learning_rate": 1e-3,
    "optimizer.schedule": "constant",
    "optimizer.warmup_steps": 0,
    "optimizer.weight_decay": 0.0,
    "optimizer.clip_norm": None,
    "label_smoothing": 0.0,
    "z_loss": 1e-4,
}
TINY_OPTIMIZER = {
    "optimizer.name": "adamw",
    "optimizer.learning_rate": 1e-3,
    "optimizer.schedule": "cosine",
    "optimizer.warmup_steps": 200,
    "optimizer.clip_norm": 1.0,
}
TINY = {
    **SPECTROGRAM,
    **TINY_NETWORK,
    **MT3_TOKENS,
    **TINY_OPTIMIZER,
    "spec.input_frames": 256,
    "spec.max_target_tokens": 256,
    "num_steps": 2000,
    "checkpoints.period_steps": 500,
}

MT3_SMALL = {
    **SPECTROGRAM,
    **MT3_NETWORK,
    **MT3_TOKENS,
    **PAPER_OPTIMIZER,
    "spec.input_frames": 256,
    "spec.max_target_tokens": 1024,
    "num_steps": 1_000_000,
    "seed": 0,
    "checkpoints.period_steps": 5000,
    "checkpoints.keep": 3,
}

# Path within the TrainingRun -> value.
EXPECTED_RUNS = {
    "mt3_small": MT3_SMALL,
    "leave_one_out": MT3_SMALL,
    "piano": {
        **SPECTROGRAM,
        **MT3_NETWORK,
        **PIANO_TOKENS,
        **PAPER_OPTIMIZER,
        "spec.input_frames": 512,
        "spec.max_target_tokens": 1024,
        "num_steps": 400_000,
        "seed": 0,
        "checkpoints.period_steps": 5000,
    },
    "tiny": TINY,
    # Its numbers are tuned to a laptop; these are what its music and its script rely on.
    "quickstart": {
        **TINY_NETWORK,
        "optimizer.name": "adamw",
        "spec.architecture": "mt3",
        "spec.spectrogram.sample_rate": 16000,
        "spec.tokenizer.ties": True,
        "spec.tokenizer.vocabulary.num_velocity_bins": 1,
        "spec.tokenizer.vocabulary.program_granularity": "full",
    },
    "stream": TINY,
    "finetune": {
        **MT3_SMALL,
        "initial_parameters.path": "checkpoints/mt3",
        "initial_parameters.rules": (),
        "optimizer.frozen": (),
        # Chosen for this purpose, not tuned.
        "optimizer.learning_rate": 2e-4,
        "optimizer.warmup_steps": 500,
        "num_steps": 20_000,
        "checkpoints.period_steps": 1000,
    },
}

PAPER_DATASETS = ("maestrov3", "cerberus4", "guitarset", "musicnet", "slakh", "urmp")

# What `batches` is called with.
SYNTH_BATCHES = {"task": "synth_notes_ties_vb1_train", "data_dir": "data/synth"}
MIXTURE_BATCHES = {
    "data_dir": "data",
    "cache_dir": None,
    "batch_size": 256,
    "max_examples_per_mix": 1,
    "mixture_datasets": "paper",
    "missing_datasets": "error",
}
EXPECTED_BATCHES = {
    "mt3_small": ("SeqioBatches", {**MIXTURE_BATCHES, "task": "mega_notes_ties_vb1_train"}),
    "leave_one_out": (
        "SeqioBatches",
        {**MIXTURE_BATCHES, "task": "mega_without_slakh_notes_ties_vb1_train"},
    ),
    "piano": (
        "SeqioBatches",
        {"task": "maestrov3_notes_train", "data_dir": "data", "cache_dir": None, "batch_size": 256},
    ),
    "tiny": ("SeqioBatches", {**SYNTH_BATCHES, "batch_size": 16}),
    "quickstart": ("SeqioBatches", {"data_dir": "runs/quickstart/data"}),
    "stream": ("stream_batches", {"batch_size": 16}),
    "finetune": (
        "SeqioBatches",
        {"task": "folder_notes_ties_vb1_train", "data_dir": "data/folder", "batch_size": 64},
    ),
}

# What the recordings to be scored are called with.
EXPECTED_RECORDINGS = {
    "mt3_small": {"data_dir": "data", "split": "validation", "dataset": PAPER_DATASETS},
    "leave_one_out": {"data_dir": "data", "split": "validation", "dataset": "slakh"},
    "piano": {"data_dir": "data", "split": "validation", "dataset": "maestrov3"},
    "tiny": {"data_dir": "data/synth", "split": "validation", "dataset": None},
    "quickstart": {"data_dir": "runs/quickstart/data", "split": "test"},
    "stream": {"split": "validation"},
    "finetune": {"data_dir": "data/folder", "split": "validation", "dataset": "folder"},
}


def flat(value, path=""):
    """Path -> leaf of nested dataclasses; of functions their names."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        leaves = {}
        for field in dataclasses.fields(value):
            leaves |= flat(getattr(value, field.name), f"{path}.{field.name}" if path else field.name)
        return leaves
    return {path: getattr(value, "__name__", value) if callable(value) else value}


def bound(name, scope=""):
    """What gin files bind for a configurable, macros resolved."""
    with gin.config_scope(scope or None):
        return gin.get_bindings(name)


def test_every_shipped_file_is_tested():
    tested = {file for files in TRAINING.values() for file in files} | OTHERS
    assert set(configuration.shipped_files()) == tested
    assert EXPECTED_RUNS.keys() == EXPECTED_BATCHES.keys() == EXPECTED_RECORDINGS.keys() == TRAINING.keys()


def test_every_part_is_included():
    folder = configuration.configs_directory()
    texts = [path.read_text() for path in folder.glob("*.gin")]
    for part in (folder / "parts").glob("*.gin"):
        assert any(f'include "parts/{part.name}"' in text for text in texts), part


@pytest.mark.parametrize("name", TRAINING)
def test_training_run(name):
    configuration.parse(TRAINING[name], [])
    leaves = flat(configuration.build("TrainingRun"))
    expected = EXPECTED_RUNS[name]
    assert {path: leaves[path] for path in expected} == expected


@pytest.mark.parametrize("name", TRAINING)
def test_batches(name):
    configuration.parse(TRAINING[name], [])
    run = configuration.build("TrainingRun")
    provider, expected = EXPECTED_BATCHES[name]
    assert run.batches.__name__ == provider
    bindings = bound("stream_batches" if provider == "stream_batches" else "seqio_batches")
    assert {key: bindings[key] for key in expected} == expected


@pytest.mark.parametrize("name", TRAINING)
def test_evaluation(name):
    configuration.parse(TRAINING[name], [])
    run = configuration.build("EvaluationRun")
    assert run.decoding == DecodingOptions()
    bindings = bound(run.recordings.__name__)
    expected = EXPECTED_RECORDINGS[name]
    assert {key: bindings[key] for key in expected} == expected
    training = bound(run.training_recordings.__name__, "training")
    assert training["split"] == "train"
    assert training.get("data_dir") == expected.get("data_dir")
    if name == "leave_one_out":
        assert training["dataset"] == tuple(dataset for dataset in PAPER_DATASETS if dataset != "slakh")
    else:
        assert training.get("dataset") == bindings.get("dataset")


@pytest.mark.parametrize("name", TRAINING)
def test_tokens_fit_the_task(name):
    """The name of the task says what the tokenizer is."""
    configuration.parse(TRAINING[name], [])
    tokenizer = configuration.build("ModelSpec").tokenizer
    task = bound("seqio_batches")["task"]
    assert ("_ties" in task) == tokenizer.ties
    assert ("_vb1" in task) == (tokenizer.vocabulary.num_velocity_bins == 1)
    assert ("_ms1_" in task) == (tokenizer.vocabulary.max_shift_seconds == 1)


def test_mt3_small_has_as_many_parameters_as_the_published_model():
    """T5 v1.1 small without its embeddings and with MT3's own: summed by hand."""
    configuration.parse(["mt3_small.gin"], [])
    shapes = jax.tree.leaves(TranscriptionModel(configuration.build("ModelSpec")).abstract_params())
    width, heads, hidden, mels, vocabulary = 512, 6 * 64, 1024, 512, 1536
    attention, feed_forward = 4 * width * heads, 3 * width * hidden
    encoder = 8 * (attention + feed_forward + 2 * width) + width
    decoder = 8 * (2 * attention + feed_forward + 3 * width) + width
    outside = mels * width + 2 * vocabulary * width
    assert sum(np.prod(leaf.shape) for leaf in shapes) == encoder + decoder + outside


def test_quickstart():
    configuration.parse(["quickstart.gin"], [])
    music = configuration.build("SynthConfig")
    assert music.collections == ("bach_chorales",)
    assert music.instrumentation == "random"
    assert len(music.programs) >= 5
    assert music.num_train
    assert music.num_test
    assert music.num_validation == 0
    run = configuration.build("TrainingRun")
    buckets = bound("seqio_batches")["target_buckets"]
    assert max(buckets) < run.spec.max_target_tokens
    assert run.spec.segment_seconds == pytest.approx(0.5, abs=0.3)


def test_stream():
    """Other music than by default, played in many ways; no files are needed to evaluate either."""
    configuration.parse(TRAINING["stream"], [])
    music = configuration.build("SynthConfig")
    assert music.instrumentation == "random"
    assert music.transpose_semitones == (-5, 6)
    assert music.tempo_factors == (0.7, 1.3)
    assert music.max_seconds == 20.0
    assert music.drop_part_probability == music.octave_probability == music.double_probability == 0.1
    assert music.augmentation == AugmentationConfig() != NO_AUGMENTATION
    assert bound("stream_batches")["music"] == music
    assert bound("rendered_recordings")["music"] == music
    training = bound("rendered_recordings", "training")
    assert training["music"] == music
    assert training["split"] == "train"


def test_eval():
    configuration.parse(["eval.gin"], [])
    run = configuration.build("EvaluationRun")
    assert run.recordings.__name__ == "prepared_recordings"
    assert bound("prepared_recordings") == {"data_dir": "data/synth", "split": "test", "dataset": None}
    assert run.decoding == DecodingOptions(temperature=0.0, beam_size=1)
    assert run.continuity == ContinuityOptions()  # as published
    assert run.batch_segments == 16


def test_the_mixture_is_chosen_by_macros():
    """Training and evaluation go together."""
    overrides = ["MIXTURE='later_code'", "MISSING_DATASETS='leave_out'", "CACHE_DIR='cache'"]
    configuration.parse(["mt3_small.gin"], [*overrides, "MAX_EXAMPLES_PER_MIX=8"])
    batches = bound("seqio_batches")
    assert batches["mixture_datasets"] == "later_code"
    assert batches["missing_datasets"] == "leave_out"
    assert batches["cache_dir"] == "cache"
    assert batches["max_examples_per_mix"] == 8
    for scope in ("", "training"):
        recordings = bound("prepared_recordings", scope)
        assert set(recordings["dataset"]) == {*PAPER_DATASETS, "musicnet_em"} - {"musicnet"}
        assert recordings["missing_datasets"] == "leave_out"


def test_leave_one_out():
    """The dataset that is left out is scored; of several that go together, one can be taken out before."""
    files = TRAINING["leave_one_out"]
    rest = ("maestrov3", "guitarset", "musicnet", "slakh")
    configuration.parse(files, [f"MIXTURE={(*rest, 'urmp')}", "LEFT_OUT='urmp'"])
    assert bound("seqio_batches")["task"] == "mega_without_urmp_notes_ties_vb1_train"
    assert bound("seqio_batches")["mixture_datasets"] == (*rest, "urmp")
    assert bound("prepared_recordings")["dataset"] == "urmp"
    assert bound("prepared_recordings", "training")["dataset"] == rest
    configuration.parse(files, ["LEFT_OUT='musicnet_em'"])
    with pytest.raises(ValueError, match="'musicnet_em' cannot be left out: the datasets of the mixture are"):
        configuration.build("mixture_datasets")
    configuration.parse(["tiny.gin"], ["DATASETS=3"])
    with pytest.raises(
        ValueError, match=r"prepared_recordings.dataset is 3: give text or \(.*each text or None"
    ):
        configuration.build("prepared_recordings")


def test_finetune_after_any_model_with_rules_and_frozen_parameters():
    overrides = [
        "INITIAL='runs/old'",
        "FROZEN=('encoder/.*',)",
        "RULES=(('decoder/logits_dense/.*', None), ('(.*)', r'old/\\1'))",
        "TASK='folder_notes_train'",
    ]
    configuration.parse(["piano.gin", "finetune.gin"], overrides)
    run = configuration.build("TrainingRun")
    assert run.initial_parameters == InitialParameters(
        "runs/old", (("decoder/logits_dense/.*", None), ("(.*)", r"old/\1"))
    )
    assert run.optimizer.frozen == ("encoder/.*",)
    assert run.spec.input_frames == 512
    assert bound("seqio_batches")["task"] == "folder_notes_train"


@pytest.mark.parametrize("name", TRAINING)
def test_resolved_configuration_builds_the_same_again(name, tmp_path):
    built = ("TrainingRun", "EvaluationRun", "SynthConfig")
    providers = ("seqio_batches", "stream_batches", "prepared_recordings", "rendered_recordings")

    def everything():
        objects = {name: flat(configuration.build(name)) for name in built}
        return objects, [bound(name, scope) for name in providers for scope in ("", "training")]

    configuration.parse(TRAINING[name], ["TrainingRun.seed=7"])
    before, text = everything(), configuration.resolved()
    file = tmp_path / "config.gin"
    file.write_text(configuration.resolved())
    configuration.parse([str(file)], [])
    assert everything() == before
    assert configuration.resolved() == configuration.resolved()
    assert before[0]["TrainingRun"]["seed"] == 7
    assert "TrainingRun.seed = 7" in text


def test_resolved_configuration_has_long_values_whole(tmp_path):
    programs = tuple(range(96))
    configuration.parse(["quickstart.gin"], [f"SynthConfig.programs={programs}"])
    configuration.build("SynthConfig")
    file = tmp_path / "config.gin"
    file.write_text(configuration.resolved())
    configuration.parse([str(file)], [])
    assert configuration.build("SynthConfig").programs == programs


def test_overrides_win_in_order_and_are_forgotten(tmp_path):
    file = tmp_path / "mine.gin"
    file.write_text('include "tiny.gin"\nTrainingRun.num_steps = 5\nDATA_DIR = "elsewhere"\n')
    configuration.parse([str(file)], [])
    assert configuration.build("TrainingRun").num_steps == 5
    assert bound("seqio_batches")["data_dir"] == "elsewhere"
    overrides = ["TrainingRun.num_steps = 6", "TrainingRun.num_steps=7", "DATA_DIR='there'"]
    configuration.parse([str(file)], overrides)
    assert configuration.build("TrainingRun").num_steps == 7
    assert bound("seqio_batches")["data_dir"] == "there"
    configuration.parse(["tiny.gin"], [])
    assert configuration.build("TrainingRun").num_steps == 2000


def test_tracks_are_made_of_their_fields():
    track = {"name": "bass", "program": 32}
    configuration.parse(["tiny.gin"], [f"EvaluationRun.tracks=({track},)"])
    assert configuration.build("EvaluationRun").tracks == (Track("bass", 32),)
    text = configuration.resolved()
    assert f"EvaluationRun.tracks = ({track},)" in text


def test_further_search_paths(tmp_path):
    (tmp_path / "mine.gin").write_text("TrainingRun.seed = 3\n")
    configuration.parse(["tiny.gin", "mine.gin"], [], [str(tmp_path)])
    assert configuration.build("TrainingRun").seed == 3


@pytest.mark.parametrize(
    ("binding", "message"),
    [
        ("SPLIT=test", r"""--gin\.SPLIT=test: .*text needs quotes.*"'text'\""""),
        ("TrainingRun.num_steps=", r"write --gin\.NAME=VALUE"),
        ("TrainingRun.num_steps", r"write --gin\.NAME=VALUE"),
        ("TrainingRun.num_steps=(1,", "a bracket or a quote is not closed"),
        ("TrainingRun.num_steps=1 2", "num_steps=1 2: .*values are those of Python"),
        ("TrainRun.num_steps=1", "No configurable matching 'TrainRun'; there are .*TrainingRun, "),
        ("TrainingRun.steps=1", "doesn't have a parameter named 'steps'; .* num_steps, "),
        ("STEPS=1", "no gin file uses a macro STEPS; .*TrainingRun.num_steps=100"),
        ("TrainingRun.spec=@Spec()", "No configurable matching .*Spec"),
        ("TrainingRun.num_steps='many'", "TrainingRun.num_steps is 'many': give a whole number"),
        ("TrainingRun.num_steps=1.5", "TrainingRun.num_steps is 1.5: give a whole number"),
        ("TrainingRun.num_steps=True", "TrainingRun.num_steps is True: give a whole number"),
        ("OptimizerConfig.learning_rate='1e-3'", "learning_rate is '1e-3': give a number"),
        ("OptimizerConfig.learning_rate=-1", "learning_rate is -1: give a number above 0"),
        ("OptimizerConfig.name='sgd'", "name is 'sgd': choose one of adafactor, adamw"),
        ("OptimizerConfig.clip_norm='1'", "clip_norm is '1': give a number or None"),
        ("Tokenizer.ties=1", "Tokenizer.ties is 1: give True or False"),
        ("TrainingRun.spec=@ModelSpec", r"TrainingRun.spec is <.*>: give @ModelSpec\(\)"),
        ("TrainingRun.batches=3", "TrainingRun.batches is 3: give @NAME of"),
        ("ModelSpec.input_frames=0", "input_frames is 0: give at least 1"),
        ("TransformerConfig.vocab_size=640", "vocab_size is 640, but the tokenizer's ids need 1536"),
    ],
)
def test_wrong_overrides_are_explained_in_a_line(binding, message):
    def build():
        configuration.parse(["tiny.gin"], [binding])
        configuration.build("TrainingRun")

    with pytest.raises(ValueError, match=message) as error:
        build()
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TrainingRun.num_steps = \n", "mine.gin: .*values are those of Python"),
        ("TrainingRun.nope = 3\n", "mine.gin: .*parameter named 'nope'"),
        ('include "other.gin"\n', r"Unable to open file: other\.gin; .*shipped ones: eval\.gin, "),
        ("TrainingRun.batches = @stream_batches\n", "TrainingRun.* missing .*'num_steps'; bind them"),
        ("TrainingRun.num_steps = %STEPS\n", "%STEPS is used, but not set; set it with --gin.STEPS=VALUE"),
    ],
)
def test_wrong_files_are_explained_in_a_line(tmp_path, text, message):
    file = tmp_path / "mine.gin"
    file.write_text(text)

    def build():
        configuration.parse([str(file)], [])
        configuration.build("TrainingRun")

    with pytest.raises(ValueError, match=message) as error:
        build()
    assert "\n" not in str(error.value)


def test_missing_file_is_named():
    with pytest.raises(
        ValueError, match=r"gin file none\.gin: .*shipped ones: eval\.gin, .*, mt3_small\.gin"
    ):
        configuration.parse(["none.gin"], [])


def test_arguments_that_are_no_overrides_are_refused():
    assert configuration.bindings_from(["--gin.A.b=1", "--gin.C='x=y'"]) == ["A.b=1", "C='x=y'"]
    with pytest.raises(ValueError, match="--num-steps is not an option of this command"):
        configuration.bindings_from(["--num-steps", "3"])
