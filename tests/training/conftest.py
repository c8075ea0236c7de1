"""A model of the right interface, small enough that a test trains it in milliseconds."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

VOCABULARY = 11


@pytest.fixture(scope="session", autouse=True)
def _compile_once(tmp_path_factory):
    """Most of the tests' time is compilation of the same few functions: keep the results."""
    options = {
        "jax_compilation_cache_dir": str(tmp_path_factory.mktemp("compiled")),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in options}
    for name, value in options.items():
        jax.config.update(name, value)
    yield
    for name, value in before.items():
        jax.config.update(name, value)


@dataclasses.dataclass(frozen=True)
class TinySpec:
    features: int = 8
    dropout_rate: float = 0.0

    def to_dict(self):
        return {"network": dataclasses.asdict(self)}


@dataclasses.dataclass(frozen=True)
class TinyModel:
    """Predicts each token from the one before it and the mean of the inputs."""

    spec: TinySpec = TinySpec()

    def init(self, rng):
        embed_rng, kernel_rng = jax.random.split(rng)
        return {
            "embedder": {"embedding": jax.random.normal(embed_rng, (VOCABULARY, self.spec.features))},
            "norm": {"scale": jnp.ones(self.spec.features)},
            "logits": {"kernel": 0.3 * jax.random.normal(kernel_rng, (self.spec.features, VOCABULARY))},
        }

    def logical_axes(self):
        return {
            "embedder": {"embedding": ("vocab", "embed")},
            "norm": {"scale": ("embed",)},
            "logits": {"kernel": ("embed", "vocab")},
        }

    def loss(self, params, batch, *, dropout_rng=None, label_smoothing=0.0, z_loss=1e-4):
        hidden = params["embedder"]["embedding"][batch["decoder_input_tokens"]] * params["norm"]["scale"]
        hidden = jnp.tanh(hidden + batch["inputs"].mean((1, 2))[:, None, None])
        if dropout_rng is not None and self.spec.dropout_rate:
            kept = jax.random.bernoulli(dropout_rng, 1 - self.spec.dropout_rate, hidden.shape)
            hidden = jnp.where(kept, hidden, 0.0) / (1 - self.spec.dropout_rate)
        logits = hidden @ params["logits"]["kernel"]
        targets, weights = batch["decoder_target_tokens"], batch["decoder_loss_weights"]
        log_z = jax.nn.logsumexp(logits, -1)
        nll = log_z - jnp.take_along_axis(logits, targets[..., None], -1)[..., 0]
        loss = jnp.sum((nll + z_loss * log_z**2) * weights)
        correct = jnp.sum((logits.argmax(-1) == targets) * weights)
        return loss, {"loss": loss, "weight": weights.sum(), "correct": correct}


class TinyBatches:
    """Batch number n is a function of (seed, n); targets have unequal lengths."""

    def __init__(self, batch_size=4, seed=0, length=None):
        self.position = 0
        self._batch_size, self._seed, self._length = batch_size, seed, length

    def __iter__(self):
        return self

    def __next__(self):
        if self.position == self._length:
            raise StopIteration
        generator = np.random.default_rng((self._seed, self.position))
        self.position += 1
        targets = generator.integers(1, VOCABULARY, (self._batch_size, 6)).astype(np.int32)
        targets[np.arange(6) >= generator.integers(0, 7, (self._batch_size, 1))] = 0
        targets[0] = 3  # Never all padding.
        return {
            "inputs": generator.normal(size=(self._batch_size, 3, 4)).astype(np.float32),
            "decoder_input_tokens": np.pad(targets[:, :-1], ((0, 0), (1, 0))),
            "decoder_target_tokens": targets,
            "decoder_loss_weights": (targets > 0).astype(np.float32),
        }

    def get_state(self):
        return {"position": self.position}

    def set_state(self, state):
        self.position = state["position"]


@pytest.fixture
def make_model():
    return lambda **options: TinyModel(TinySpec(**options))


@pytest.fixture
def make_batches():
    return TinyBatches


@pytest.fixture(scope="session")
def golden_network():
    """Path -> parameter of the published network's golden values."""
    with np.load(Path(__file__).parents[1] / "golden" / "network.npz") as arrays:
        prefix = "params/"
        return {key.removeprefix(prefix): arrays[key] for key in arrays.files if key.startswith(prefix)}
