"""The model spec and the functions of a model."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from mt3.audio.spectrograms import SpectrogramConfig, log_mel
from mt3.models.losses import token_loss
from mt3.models.model import ARCHITECTURES, ModelSpec, TranscriptionModel
from mt3.models.transformer import TransformerConfig
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

NETWORK = TransformerConfig(
    emb_dim=16, num_heads=2, head_dim=8, mlp_dim=24, num_encoder_layers=1, num_decoder_layers=1
)
SPEC = ModelSpec(network=NETWORK, input_frames=8, max_target_tokens=6)


@pytest.fixture(scope="module")
def params():
    return TranscriptionModel(SPEC).init(jax.random.key(0))


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    targets = np.array([[5, 9, 1, 0, 0, 0], [7, 8, 30, 2, 11, 1]], np.int32)
    return {
        "inputs": rng.uniform(-1, 1, (2, 8, 128)).astype(np.float32),
        "decoder_input_tokens": np.pad(targets, ((0, 0), (1, 0)))[:, :-1],
        "decoder_target_tokens": targets,
        "decoder_loss_weights": (targets > 0).astype(np.float32),
    }


def test_default_spec_is_mt3_small():
    spec = ModelSpec()
    assert spec.network.vocab_size == spec.tokenizer.num_embeddings == 1536
    assert spec.segment_seconds == 2.048
    shapes = jax.tree.leaves(TranscriptionModel(spec).abstract_params())
    # Counted by hand from the published sizes.
    attention, mlp, vocab = 4 * 512 * 384, 3 * 512 * 1024, 1536 * 512
    encoder = 8 * (attention + mlp + 2 * 512) + 512 * 512 + 512
    decoder = 8 * (2 * attention + mlp + 3 * 512) + 2 * vocab + 512
    assert sum(leaf.size for leaf in shapes) == encoder + decoder


@pytest.mark.parametrize(
    "spec",
    [
        ModelSpec(),
        SPEC,
        ModelSpec(
            network=TransformerConfig(vocab_size=1664, activation_dtype="bfloat16"),
            spectrogram=SpectrogramConfig(hop_samples=160),
            tokenizer=Tokenizer(
                VocabularyConfig(program_granularity="midi_class"), ties=False, frames_per_second=100.0
            ),
            input_kind="log_mel",
        ),
    ],
)
def test_spec_survives_json(spec):
    assert ModelSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec


def test_spec_fields_left_out_take_their_defaults():
    assert ModelSpec.from_dict({"input_frames": 512}) == ModelSpec(input_frames=512)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"architecture": "mt4"}, "architecture is 'mt4': choose one of mt3"),
        ({"network": {"heads": 3}}, "network has unknown fields heads: known are vocab_size"),
        ({"spectogram": {}}, "spec has unknown fields spectogram"),
        ({"input_kind": "mel"}, "input_kind is 'mel': choose frames or log_mel"),
        ({"input_frames": 0}, "input_frames is 0"),
        ({"network": {"vocab_size": 100}}, "vocab_size is 100, but the tokenizer's ids need 1536"),
        ({"spectrogram": {"hop_samples": 160}}, "100 frames per second and the tokenizer 125"),
    ],
)
def test_spec_refuses_what_does_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        ModelSpec.from_dict(change)


def test_spec_refuses_another_architectures_config():
    with pytest.raises(ValueError, match="takes a TransformerConfig"):
        ModelSpec(network={"emb_dim": 3})


def test_every_architecture_has_a_default_config():
    for name, row in ARCHITECTURES.items():
        assert ModelSpec(architecture=name, network=row.network_config()).architecture == name


def test_abstract_params_and_axes_describe_init(params):
    model = TranscriptionModel(SPEC)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), params) == jax.tree.map(
        lambda x: (x.shape, x.dtype), model.abstract_params()
    )
    axes = model.logical_axes()
    assert tuple(axes["decoder"]["token_embedder"]["embedding"]) == ("vocab", "embed")
    jax.tree.map(lambda leaf, names: (leaf.ndim == len(names)) or pytest.fail(str(names)), params, axes)


def test_loss_of_frames_is_that_of_their_log_mel(params, batch):
    model = TranscriptionModel(SPEC)
    features = dataclasses.replace(SPEC, input_kind="log_mel")
    loss, metrics = jax.jit(model.loss)(params, batch)
    log_mel_batch = {**batch, "inputs": log_mel(batch["inputs"], SPEC.spectrogram)}
    expected, _ = jax.jit(TranscriptionModel(features).loss)(params, log_mel_batch)
    np.testing.assert_allclose(loss, expected, rtol=1e-4)
    assert metrics["weight"] == batch["decoder_loss_weights"].sum()


def test_loss_is_token_loss_of_the_logits(params, batch):
    model = TranscriptionModel(SPEC)
    options = {"label_smoothing": 0.1, "z_loss": 0.01}
    loss, _ = jax.jit(lambda p, b: model.loss(p, b, **options))(params, batch)
    logits = jax.jit(model.logits)(params, batch)
    expected, _ = token_loss(logits, batch["decoder_target_tokens"], batch["decoder_loss_weights"], **options)
    np.testing.assert_allclose(loss, expected, rtol=1e-5)


def test_dropout_needs_its_key(params, batch):
    model = TranscriptionModel(SPEC)
    loss = jax.jit(lambda key: model.loss(params, batch, dropout_rng=key)[0])
    assert loss(jax.random.key(0)) != loss(jax.random.key(1))
    assert loss(jax.random.key(0)) == loss(jax.random.key(0))


def test_inputs_of_the_wrong_kind_are_refused(params, batch):
    inputs = np.zeros((2, 8, 512), np.float32)
    with pytest.raises(ValueError, match=r"shape \(2, 8, 512\): with input_kind 'frames' give .* 128\]"):
        TranscriptionModel(SPEC).loss(params, {**batch, "inputs": inputs})


def test_generate_from_frames(params, batch):
    model = TranscriptionModel(SPEC)
    tokens = model.generate(params, batch["inputs"])
    assert tokens.shape == (2, SPEC.max_target_tokens)
    features = dataclasses.replace(SPEC, input_kind="log_mel")
    same = TranscriptionModel(features).generate(
        params, log_mel(batch["inputs"], SPEC.spectrogram), max_tokens=4, return_log_probs=True
    )
    np.testing.assert_array_equal(same[0], tokens[:, :4])
    assert same[1].shape == (2, 4)


def test_a_model_is_hashable_by_its_spec():
    assert hash(TranscriptionModel(SPEC)) == hash(TranscriptionModel(dataclasses.replace(SPEC)))
