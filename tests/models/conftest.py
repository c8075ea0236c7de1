"""The published network's golden values, and a tiny random one."""

import dataclasses
import json
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import unflatten_dict

from mt3.models.transformer import Transformer, TransformerConfig

GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def golden():
    with np.load(GOLDEN / "network.npz") as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def golden_params_by_path(golden):
    prefix = "params/"
    return {key.removeprefix(prefix): value for key, value in golden.items() if key.startswith(prefix)}


@pytest.fixture(scope="session")
def golden_params(golden_params_by_path):
    return unflatten_dict(golden_params_by_path, sep="/")


@pytest.fixture(scope="session")
def golden_config():
    published = json.loads((GOLDEN / "network_config.json").read_text())
    names = {field.name for field in dataclasses.fields(TransformerConfig)}
    return TransformerConfig(**{name: value for name, value in published.items() if name in names})


@pytest.fixture(scope="session")
def tiny_config():
    return TransformerConfig(
        vocab_size=40,
        emb_dim=16,
        num_heads=2,
        head_dim=8,
        mlp_dim=24,
        num_encoder_layers=1,
        num_decoder_layers=2,
    )


@pytest.fixture(scope="session")
def random_params():
    """Draws parameters of a config with NumPy, whose streams do not change between JAX versions."""

    def draw(config, seed, input_features=12):
        shapes = jax.eval_shape(
            Transformer(config).init,
            jax.random.key(0),
            jnp.zeros((1, 1, input_features)),
            jnp.zeros((1, 1), jnp.int32),
        )
        rng = np.random.default_rng(seed)

        def values(path, leaf):
            kind = path[-1].key
            if kind == "scale":
                return rng.uniform(0.5, 1.5, leaf.shape).astype(np.float32)
            deviation = 1.0 if kind == "embedding" else leaf.shape[0] ** -0.5
            return rng.normal(0.0, deviation, leaf.shape).astype(np.float32)

        return jax.tree_util.tree_map_with_path(values, nn.unbox(shapes)["params"])

    return draw


@pytest.fixture(scope="session")
def teacher_forced():
    """Logits of the Linen module, jitted: (config, params, frames, previous tokens) -> logits."""

    def logits(config, params, frames, tokens):
        return Transformer(config).apply({"params": params}, frames, tokens)

    return jax.jit(logits, static_argnums=0)
