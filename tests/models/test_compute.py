"""Ways to compute: the same losses and gradients, dropout included; what is float32 in any case."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict

from mt3.models import layers
from mt3.models.compute import REMAT_POLICIES, ComputeConfig
from mt3.models.layers import ATTENTION, activations_placed_by, einsum_attention, masked_softmax
from mt3.models.losses import token_loss
from mt3.models.transformer import Transformer

PLAIN = ComputeConfig(attention="einsum")
# Most of the time is compilation; what comes out need not be fast.
COMPILE_FAST = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}


@pytest.fixture(scope="module")
def config(tiny_config):
    return dataclasses.replace(tiny_config, dropout_rate=0.3)


@pytest.fixture(scope="module")
def case(config):
    rng = np.random.default_rng(0)
    frames = rng.normal(size=(2, 6, 12)).astype(np.float32)
    return frames, rng.integers(0, config.vocab_size, (2, 7)).astype(np.int32)


@pytest.fixture(scope="module")
def loss_and_gradients(random_params, case):
    """(config, compute) -> loss and gradients by path, with dropout of one key."""

    def compute_them(config, compute):
        frames, tokens = case

        def loss(params):
            rngs = {"dropout": jax.random.key(1)}
            logits = Transformer(config, compute).apply(
                {"params": params}, frames, tokens, deterministic=False, rngs=rngs
            )
            return token_loss(logits, tokens, np.ones(tokens.shape))[0]

        params = random_params(config, seed=0)
        value, gradients = jax.jit(jax.value_and_grad(loss), compiler_options=COMPILE_FAST)(params)
        return float(value), flatten_dict(jax.device_get(gradients), sep="/")

    return compute_them


@pytest.fixture(scope="module")
def plain(loss_and_gradients, config):
    return loss_and_gradients(config, PLAIN)


@pytest.mark.parametrize(
    "compute",
    [
        ComputeConfig(scan_layers=True, attention="einsum"),
        ComputeConfig(remat="full"),
        ComputeConfig(remat="dots", attention="fused"),
        ComputeConfig(remat="projections", scan_layers=True),
    ],
    ids=lambda compute: "-".join(map(str, dataclasses.astuple(compute))),
)
def test_losses_and_gradients_are_the_same(loss_and_gradients, config, plain, compute):
    loss, gradients = loss_and_gradients(config, compute)
    np.testing.assert_allclose(loss, plain[0], rtol=1e-6)
    for path, expected in plain[1].items():
        scale = np.abs(expected).max()
        assert scale > 0, path
        np.testing.assert_allclose(gradients[path], expected, rtol=0, atol=1e-5 * scale, err_msg=path)


def test_layers_have_dropout_of_their_own(config, case, random_params):
    """Two equal layers of a stack drop differently; another key, other choices."""
    params = random_params(config, seed=0)
    twice = dict(params["decoder"]) | {"layers_1": params["decoder"]["layers_0"]}

    @functools.partial(jax.jit, compiler_options=COMPILE_FAST)
    def logits(decoder, seed):
        return Transformer(config, ComputeConfig(scan_layers=True)).apply(
            {"params": params | {"decoder": decoder}},
            *case,
            deterministic=False,
            rngs={"dropout": jax.random.key(seed)},
        )

    swapped = dict(params["decoder"]) | {
        "layers_0": params["decoder"]["layers_1"],
        "layers_1": params["decoder"]["layers_0"],
    }
    np.testing.assert_array_equal(logits(twice, 1), logits(twice, 1))
    assert np.abs(logits(twice, 1) - logits(twice, 2)).max() > 1e-3
    assert np.abs(logits(swapped, 1) - logits(params["decoder"], 1)).max() > 1e-3


def test_parameters_are_the_published_ones_however_computed(config):
    def shapes(compute):
        arguments = jnp.zeros((1, 1, 12)), jnp.zeros((1, 1), jnp.int32)
        return jax.eval_shape(Transformer(config, compute).init, jax.random.key(0), *arguments)

    assert shapes(ComputeConfig(scan_layers=True, remat="full", attention="fused")) == shapes(PLAIN)


@pytest.mark.parametrize("name", ATTENTION)
@pytest.mark.parametrize("causal", [False, True])
def test_attention_by_hand(monkeypatch, name, causal):
    monkeypatch.setattr(layers, "ATTENTION_BLOCK", 2)
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(2, 5, 3, 4)).astype(np.float32) for _ in range(3))
    expected = np.zeros_like(query)
    for b, q, h in np.ndindex(2, 5, 3):
        seen = q + 1 if causal else 5
        weights = np.exp(key[b, :seen, h] @ query[b, q, h])
        expected[b, q, h] = weights @ value[b, :seen, h] / weights.sum()
    np.testing.assert_allclose(ATTENTION[name](query, key, value, causal), expected, rtol=1e-4, atol=1e-5)


def test_dropping_values_is_dropping_weights():
    """As T5 drops attention weights: those of a key for all queries, or for none."""
    rng = np.random.default_rng(0)
    query, key, value = (rng.normal(size=(2, 5, 3, 4)).astype(np.float32) for _ in range(3))
    kept = (rng.random((2, 5, 3, 1)) < 0.7) / np.float32(0.7)
    weights = masked_softmax(np.einsum("bqhd,bkhd->bhqk", query, key), None)
    dropped = np.einsum("bhqk,bkhd->bqhd", weights * kept[..., 0].transpose(0, 2, 1)[:, :, None], value)
    np.testing.assert_allclose(einsum_attention(query, key, value * kept, False), dropped, atol=1e-5)


@pytest.mark.parametrize("compute", [PLAIN, ComputeConfig(True, "dots", "fused")], ids=["plain", "other"])
def test_bfloat16_where_it_is_meant_to_be(config, random_params, case, compute):
    """The residual stream, heads and hidden features are; parameters, logits and gradients are not."""
    config = dataclasses.replace(config, activation_dtype="bfloat16")
    params = random_params(config, seed=0)
    seen = {}

    def note(x, axes):
        seen.setdefault(axes[1:], set()).add(str(x.dtype))
        return x

    def loss(params):
        with activations_placed_by(note):
            logits = Transformer(config, compute).apply({"params": params}, *case)
        return token_loss(logits, case[1], np.ones(case[1].shape))[0]

    value, gradients = jax.eval_shape(jax.value_and_grad(loss), params)
    assert seen == {
        ("length", "embed"): {"bfloat16"},
        ("length", "heads", "head_dim"): {"bfloat16"},
        ("length", "mlp"): {"bfloat16"},
        ("length", "vocab"): {"float32"},
    }
    assert value.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(gradients)} == {jnp.dtype("float32")}


def test_bfloat16_comes_close(loss_and_gradients, config, plain):
    """Eight bits of mantissa, so 0.4 % a rounding; here with the same dropout."""
    loss, gradients = loss_and_gradients(dataclasses.replace(config, activation_dtype="bfloat16"), PLAIN)
    assert loss == pytest.approx(plain[0], rel=0.01)
    flat = [
        np.concatenate([part[path].ravel() for path in sorted(plain[1])]) for part in (gradients, plain[1])
    ]
    cosine = flat[0] @ flat[1] / np.linalg.norm(flat[0]) / np.linalg.norm(flat[1])
    assert cosine > 0.99
    assert np.linalg.norm(flat[0]) == pytest.approx(np.linalg.norm(flat[1]), rel=0.05)


@pytest.mark.parametrize(("field", "table"), [("remat", REMAT_POLICIES), ("attention", ATTENTION)])
def test_unknown_ways_are_refused_by_name(field, table):
    with pytest.raises(ValueError, match=f"compute {field} is 'flash': choose one of {', '.join(table)}"):
        ComputeConfig(**{field: "flash"})
