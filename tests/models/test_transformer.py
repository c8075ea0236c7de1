"""The network against the published one, and what its parameters promise."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from mt3.models.layers import sinusoidal_positions
from mt3.models.losses import token_loss
from mt3.models.transformer import Transformer, TransformerConfig


def test_logits_equal_the_published(golden, golden_params, golden_config, teacher_forced):
    logits = teacher_forced(
        golden_config, golden_params, golden["encoder_input_tokens"], golden["decoder_input_tokens"]
    )
    scored = golden["decoder_target_tokens"] > 0
    assert logits.dtype == np.float32
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


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_parameter_tree_is_the_published_one(golden_params, golden_config, dtype):
    config = dataclasses.replace(golden_config, activation_dtype=dtype)
    variables = jax.jit(Transformer(config).init)(
        jax.random.key(0), jnp.zeros((1, 1, 512)), jnp.zeros((1, 1), jnp.int32)
    )
    params = nn.unbox(variables)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, golden_params)
    assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype("float32")}


def test_initial_scales(golden_config):
    config = dataclasses.replace(golden_config, emb_dim=256, head_dim=64, mlp_dim=512)
    variables = jax.jit(Transformer(config).init)(
        jax.random.key(0), jnp.zeros((1, 1, 512)), jnp.zeros((1, 1), jnp.int32)
    )
    params = flatten_dict(nn.unbox(variables)["params"], sep="/")
    expected = {
        "decoder/token_embedder/embedding": 1.0,
        "decoder/logits_dense/kernel": 256**-0.5,
        "decoder/layers_0/self_attention/key/kernel": 256**-0.5,
        "decoder/layers_0/self_attention/query/kernel": 256**-0.5 * 64**-0.5,
        "decoder/layers_0/encoder_decoder_attention/out/kernel": 128**-0.5,
        "encoder/layers_1/mlp/wo/kernel": 512**-0.5,
        "encoder/continuous_inputs_projection/kernel": 512**-0.5,
    }
    for path, deviation in expected.items():
        np.testing.assert_allclose(np.std(params[path]), deviation, rtol=0.03, err_msg=path)
    np.testing.assert_array_equal(params["decoder/decoder_norm/scale"], 1.0)


def test_every_parameter_names_each_of_its_axes(tiny_config):
    module = Transformer(tiny_config)
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


@pytest.fixture
def case(tiny_config):
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(2, 6, 12)).astype(np.float32)
    return frames, rng.integers(0, tiny_config.vocab_size, (2, 7)).astype(np.int32)


def test_logits_do_not_depend_on_later_tokens(tiny_config, random_params, teacher_forced, case):
    frames, tokens = case
    params = random_params(tiny_config, seed=0)
    changed = tokens.copy()
    changed[:, 4:] = (changed[:, 4:] + 1) % tiny_config.vocab_size
    before = teacher_forced(tiny_config, params, frames, tokens)
    after = teacher_forced(tiny_config, params, frames, changed)
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-3


def test_bfloat16_activations_come_close_in_float32_logits(tiny_config, random_params, teacher_forced, case):
    params = random_params(tiny_config, seed=0)
    config = dataclasses.replace(tiny_config, activation_dtype="bfloat16")
    exact = teacher_forced(tiny_config, params, *case)
    logits = teacher_forced(config, params, *case)
    assert logits.dtype == np.float32
    difference = np.abs(logits - exact)
    assert 0 < difference.max() < 0.1 * np.abs(exact).max()


def test_dropout_acts_only_when_asked_for(tiny_config, random_params, teacher_forced, case):
    params = random_params(tiny_config, seed=0)

    @jax.jit
    def dropped(seed):
        return Transformer(tiny_config).apply(
            {"params": params}, *case, deterministic=False, rngs={"dropout": jax.random.key(seed)}
        )

    exact = teacher_forced(tiny_config, params, *case)
    np.testing.assert_array_equal(dropped(0), dropped(0))
    assert np.abs(dropped(0) - dropped(1)).max() > 1e-3
    assert np.abs(dropped(0) - exact).max() > 1e-3


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
