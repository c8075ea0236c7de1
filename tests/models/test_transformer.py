"""The network against the published one, and what its parameters promise."""

import dataclasses
import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict

from mt3.models.layers import sinusoidal_positions
from mt3.models.losses import token_loss
from mt3.models.transformer import Transformer, TransformerConfig

GOLDEN = Path(__file__).parents[1] / "golden"

TINY = TransformerConfig(
    vocab_size=40, emb_dim=16, num_heads=2, head_dim=8, mlp_dim=24, num_encoder_layers=2, num_decoder_layers=2
)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "network.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="module")
def golden_params(golden):
    prefix = "params/"
    return unflatten_dict(
        {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}, sep="/"
    )


@pytest.fixture(scope="module")
def golden_config():
    published = json.loads((GOLDEN / "network_config.json").read_text())
    names = {field.name for field in dataclasses.fields(TransformerConfig)}
    return TransformerConfig(**{name: value for name, value in published.items() if name in names})


def test_logits_equal_the_published(golden, golden_params, golden_config):
    logits = Transformer(golden_config).apply(
        {"params": golden_params}, golden["encoder_input_tokens"], golden["decoder_input_tokens"]
    )
    scored = golden["decoder_target_tokens"] > 0
    assert logits.dtype == jnp.float32
    np.testing.assert_allclose(logits[scored], golden["logits"][scored], rtol=0, atol=1e-4)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_loss_and_gradients_equal_the_published(golden, golden_params, golden_config, label_smoothing):
    def loss(params):
        logits = Transformer(golden_config).apply(
            {"params": params}, golden["encoder_input_tokens"], golden["decoder_input_tokens"]
        )
        targets = golden["decoder_target_tokens"]
        return token_loss(logits, targets, targets > 0, label_smoothing=label_smoothing, z_loss=1e-4)[0]

    value, gradients = jax.jit(jax.value_and_grad(loss))(golden_params)
    np.testing.assert_allclose(value, golden[f"loss_sum_label_smoothing_{label_smoothing}"], rtol=1e-5)
    if label_smoothing == 0.0:  # the published norms are of this loss
        norms = {path: np.linalg.norm(g) for path, g in flatten_dict(gradients, sep="/").items()}
        expected = {
            key.removeprefix("grad_norm/"): value for key, value in golden.items() if "grad_norm/" in key
        }
        assert norms.keys() == expected.keys()
        for path, norm in norms.items():
            np.testing.assert_allclose(norm, expected[path], rtol=1e-3, err_msg=path)


def test_parameter_tree_is_the_published_one(golden_params, golden_config):
    variables = Transformer(golden_config).init(
        jax.random.key(0), jnp.zeros((1, 1, 512)), jnp.zeros((1, 1), jnp.int32)
    )
    params = nn.unbox(variables)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, golden_params)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_every_parameter_names_each_of_its_axes():
    module = Transformer(TINY)
    variables = jax.eval_shape(
        module.init, jax.random.key(0), jnp.zeros((1, 4, 12)), jnp.zeros((1, 3), jnp.int32)
    )
    shapes = flatten_dict(nn.unbox(variables)["params"], sep="/")
    axes = flatten_dict(nn.get_partition_spec(variables)["params"], sep="/")
    assert shapes.keys() == axes.keys()
    for path, shape in shapes.items():
        assert len(axes[path]) == shape.ndim, path
        assert None not in axes[path], path
    assert tuple(axes["encoder/continuous_inputs_projection/kernel"]) == ("input_features", "embed")
    assert tuple(axes["decoder/layers_1/self_attention/out/kernel"]) == ("joined_kv", "embed")


def _random_case(seed=0):
    rng = np.random.default_rng(seed)
    frames = rng.normal(size=(2, 6, 12)).astype(np.float32)
    tokens = rng.integers(0, TINY.vocab_size, (2, 7)).astype(np.int32)
    return frames, tokens


def _init(config, frames, tokens):
    return nn.unbox(Transformer(config).init(jax.random.key(1), frames, tokens))


def test_logits_do_not_depend_on_later_tokens():
    frames, tokens = _random_case()
    variables = _init(TINY, frames, tokens)
    changed = tokens.copy()
    changed[:, 4:] = (changed[:, 4:] + 1) % TINY.vocab_size
    before = Transformer(TINY).apply(variables, frames, tokens)
    after = Transformer(TINY).apply(variables, frames, changed)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-3


def test_bfloat16_activations_keep_float32_parameters_and_logits():
    frames, tokens = _random_case()
    variables = _init(TINY, frames, tokens)
    config = dataclasses.replace(TINY, activation_dtype="bfloat16")
    assert jax.tree.map(jnp.shape, _init(config, frames, tokens)) == jax.tree.map(jnp.shape, variables)
    exact = Transformer(TINY).apply(variables, frames, tokens)
    logits = Transformer(config).apply(variables, frames, tokens)
    assert logits.dtype == jnp.float32
    difference = np.abs(logits - exact)
    assert 0 < difference.max() < 0.1 * np.abs(exact).max()


def test_dropout_acts_only_when_asked_for():
    frames, tokens = _random_case()
    module = Transformer(TINY)
    variables = _init(TINY, frames, tokens)

    def dropped(seed):
        rngs = {"dropout": jax.random.key(seed)}
        return module.apply(variables, frames, tokens, deterministic=False, rngs=rngs)

    np.testing.assert_array_equal(
        module.apply(variables, frames, tokens), module.apply(variables, frames, tokens)
    )
    np.testing.assert_array_equal(dropped(0), dropped(0))
    assert np.abs(dropped(0) - dropped(1)).max() > 1e-3


def test_sinusoidal_positions_by_hand():
    table = sinusoidal_positions(3, 4)
    angles = np.array([[0, 0], [1, 1e-4], [2, 2e-4]])
    np.testing.assert_allclose(table, np.concatenate([np.sin(angles), np.cos(angles)], 1), atol=1e-7)
    np.testing.assert_array_equal(sinusoidal_positions(3, 5)[:, 4], 0)


@pytest.mark.parametrize(
    ("field", "value"),
    [("num_heads", 0), ("emb_dim", 1.5), ("dropout_rate", 1.0), ("activation_dtype", "float16")],
)
def test_config_refuses_nonsense_by_name(field, value):
    with pytest.raises(ValueError, match=f"{field} is {value!r}"):
        TransformerConfig(**{field: value})
