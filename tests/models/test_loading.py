"""What model a checkpoint is of, and that it does what the network it was written from does."""

import dataclasses

import jax
import numpy as np
import pytest

from mt3.models.checkpoints import CheckpointError, CheckpointMismatchError
from mt3.models.decoding import generate
from mt3.models.formats import open_model
from mt3.models.formats.base import StoredArray, StoredModel
from mt3.models.loading import PRESETS, ModelHints, load_model, read_params, spec_of
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.transformer import TransformerConfig
from mt3.models.tree_shapes import named_leaves

TWO_HEADS = ModelHints(num_heads=2)


def described(spec, path):
    """A checkpoint of a spec's parameters that says nothing of it; its arrays cannot be read."""
    leaves = named_leaves(TranscriptionModel(spec).abstract_params())
    arrays = {name: StoredArray(leaf.shape, "float32", lambda: None) for name, leaf in leaves.items()}
    return StoredModel(path, arrays)


def test_a_t5x_directory_gives_the_tokens_of_the_network(t5x_directory, golden, golden_config):
    spec, params = load_model(t5x_directory, TWO_HEADS)
    assert spec.network == golden_config
    assert spec == dataclasses.replace(PRESETS["mt3"], network=golden_config)
    greedy = golden["greedy_tokens"]
    tokens = generate(spec.network, params, golden["encoder_input_tokens"], max_tokens=greedy.shape[1])
    np.testing.assert_array_equal(tokens, greedy)


@pytest.mark.parametrize("name", PRESETS)
def test_published_models_are_told_by_their_vocabularies(tmp_path, name):
    """Sizes of magenta/mt3's gin files: model.gin, mt3.gin, ismir2021.gin."""
    spec = spec_of(described(PRESETS[name], tmp_path))
    assert spec == PRESETS[name]
    assert (spec.network.emb_dim, spec.network.num_heads, spec.network.head_dim) == (512, 6, 64)
    assert (spec.network.mlp_dim, spec.network.num_encoder_layers, spec.network.num_decoder_layers) == (
        1024,
        8,
        8,
    )
    vocabulary = spec.tokenizer.vocabulary
    expected = {"mt3": (256, 1, "full", True, 1536), "ismir2021": (512, 127, "flat", False, 1664)}[name]
    assert expected == (
        spec.input_frames,
        vocabulary.num_velocity_bins,
        vocabulary.program_granularity,
        spec.tokenizer.ties,
        spec.network.vocab_size,
    )
    assert (spec.max_target_tokens, spec.tokenizer.onsets_only, spec.spectrogram.num_mel_bins) == (
        1024,
        False,
        512,
    )


def test_other_sizes_follow_from_the_arrays(tmp_path):
    network = TransformerConfig(
        vocab_size=1664,
        emb_dim=24,
        num_heads=3,
        head_dim=64,
        mlp_dim=40,
        num_encoder_layers=11,
        num_decoder_layers=1,
    )
    spectrogram = dataclasses.replace(ModelSpec().spectrogram, num_mel_bins=96)
    spec = dataclasses.replace(PRESETS["ismir2021"], network=network, spectrogram=spectrogram)
    stored = described(spec, tmp_path)
    assert spec_of(stored) == spec
    six = spec_of(stored, ModelHints(num_heads=6)).network
    assert (six.num_heads, six.head_dim) == (6, 32)
    coarse = spec_of(stored, ModelHints(preset="mt3"))
    assert coarse.tokenizer == PRESETS["mt3"].tokenizer
    assert coarse.network == network
    assert spec_of(stored, ModelHints(spec=PRESETS["mt3"])) == PRESETS["mt3"]


def refuses(message, function, *arguments, kind=CheckpointMismatchError):
    with pytest.raises(kind, match=message) as caught:
        function(*arguments)
    assert "\n" not in str(caught.value)


def test_what_cannot_be_told(t5x_directory, tmp_path):
    refuses("32 features for all heads together.*published heads of 64.*--heads", load_model, t5x_directory)
    refuses("which do not make 5 heads", load_model, t5x_directory, ModelHints(num_heads=5))
    stored = open_model(t5x_directory)
    spec = ModelSpec(network=TransformerConfig(vocab_size=1920))
    refuses("has 1920 rows.*1536 of mt3, 1664 of ismir2021.*--preset", spec_of, described(spec, tmp_path))
    nothing = StoredModel(tmp_path, {"weight": stored.arrays["decoder/decoder_norm/scale"]})
    refuses(
        "is of no known network: it has no decoder/token_embedder/embedding, but weight", spec_of, nothing
    )


def test_hints_that_make_no_sense(tmp_path):
    refuses("preset is 'mt4': choose one of mt3, ismir2021", ModelHints, "mt4", kind=ValueError)
    refuses("num_heads is 0", ModelHints, None, 0, kind=ValueError)
    refuses("give one or the other", ModelHints, "mt3", None, ModelSpec(), kind=ValueError)
    said = dataclasses.replace(described(ModelSpec(), tmp_path), spec=ModelSpec().to_dict())
    assert spec_of(said) == ModelSpec()
    refuses("says itself what its model is", spec_of, said, TWO_HEADS, kind=ValueError)
    newer = dataclasses.replace(said, spec={**ModelSpec().to_dict(), "flux": 1})
    refuses(
        "a model that this version does not know: .*unknown fields flux", spec_of, newer, kind=CheckpointError
    )
    refuses(
        "a model that this version does not know",
        spec_of,
        dataclasses.replace(said, spec=[1]),
        kind=CheckpointError,
    )


def test_parameters_of_another_model(t5x_directory, golden_config):
    network = dataclasses.replace(golden_config, num_decoder_layers=1, mlp_dim=32)
    spec = ModelSpec(network=network)
    stored = open_model(t5x_directory)
    refuses(
        r"decoder/layers_0/mlp/wi_0/kernel is float32\[32, 64\] in the checkpoint", read_params, stored, spec
    )
    layers = dataclasses.replace(golden_config, num_encoder_layers=3)
    refuses(
        "encoder/layers_2/attention/key/kernel is not in the checkpoint",
        read_params,
        stored,
        ModelSpec(network=layers),
    )


def test_half_precision_becomes_float32(golden_params_by_path, golden_config, tmp_path):
    arrays = {name: array.astype(np.float16) for name, array in golden_params_by_path.items()}
    stored = StoredModel(tmp_path, {name: StoredArray.of(array) for name, array in arrays.items()})
    params = read_params(stored, ModelSpec(network=golden_config))
    leaves = named_leaves(params)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {np.dtype(np.float32)}
    for name, array in arrays.items():
        np.testing.assert_array_equal(leaves[name], array.astype(np.float32))
