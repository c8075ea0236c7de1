"""The building blocks of MT3's T5 v1.1, as Flax Linen modules and as plain functions.

The arithmetic of a block (`rms_norm`, `gated_gelu`, `masked_softmax`) is a pure
function on arrays, because two callers need it: the modules here, which own
the parameters and see whole sequences, and the step-by-step decoder in
`decoding.py`, which reads the same parameters one position at a time.

Promises: parameters are float32 whatever the activation type; attention
logits, softmax and norms are computed in float32; no layer has a bias; every
parameter carries logical axis names for `flax.linen.logical_to_mesh`:
`embed`, `joined_kv` (heads x head size), `mlp`, `vocab` and `input_features`;
so do activations, with `batch`, `length`, `heads` and `head_dim` besides, for
whoever places them on a mesh (`activations_placed_by`).
"""

from __future__ import annotations

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from jax.nn.initializers import Initializer

NORM_EPSILON = 1e-6
# Added to the attention logits of positions that may not be seen. Large enough
# that exp() gives exactly zero, finite so that no row turns into NaN.
MASKED_LOGIT = -1e10

# Queries of a block of `block_attention`.
ATTENTION_BLOCK = 256

_MAX_WAVELENGTH = 10_000.0

# (activation, logical names of its axes) -> the same activation, placed.
Placement = Callable[[jax.Array, tuple[str, ...]], jax.Array]
_placement: contextvars.ContextVar[Placement | None] = contextvars.ContextVar("placement", default=None)

attention_init = jax.nn.initializers.variance_scaling(1.0, "fan_in", "normal")
projection_init = jax.nn.initializers.variance_scaling(1.0, "fan_in", "truncated_normal")
embedding_init = jax.nn.initializers.normal(stddev=1.0)


@contextlib.contextmanager
def activations_placed_by(placement: Placement | None) -> Iterator[None]:
    """While it lasts, networks that are traced put their activations where `placement` says, if anything."""
    token = _placement.set(placement)
    try:
        yield
    finally:
        _placement.reset(token)


def placed(x: jax.Array, *axes: str) -> jax.Array:
    """The activation, of these logical axes, where it is to lie; as it is where nobody says."""
    placement = _placement.get()
    return x if placement is None else placement(x, axes)


@functools.lru_cache(maxsize=16)
def sinusoidal_positions(length: int, features: int) -> np.ndarray:
    """Fixed absolute position embeddings: sines in the first half, cosines in the second.

    Channel i of either half has angular frequency `10000 ** (-i / (features // 2 - 1))`
    (Vaswani et al. 2017, with the halves side by side as MT3 has them).

    Returns:
      float32 [length, features], read-only. An odd last channel is zero.
    """
    half = features // 2
    frequencies = np.exp(-np.log(_MAX_WAVELENGTH) * np.arange(half) / max(half - 1, 1))
    angles = np.arange(length)[:, None] * frequencies
    table = np.zeros((length, features), np.float32)
    table[:, :half] = np.sin(angles)
    table[:, half : 2 * half] = np.cos(angles)
    table.setflags(write=False)
    return table


def rms_norm(x: jax.Array, scale: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Divides by the root mean square over the last axis, in float32 (Zhang & Sennrich 2019)."""
    x = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(x), axis=-1, keepdims=True)
    return (x * jax.lax.rsqrt(mean_square + NORM_EPSILON)).astype(dtype) * scale.astype(dtype)


def gated_gelu(gate: jax.Array, linear: jax.Array) -> jax.Array:
    """GELU (tanh approximation) of one projection times another (Shazeer 2020)."""
    return jax.nn.gelu(gate, approximate=True) * linear


def masked_softmax(logits: jax.Array, mask: jax.Array | None) -> jax.Array:
    """Softmax over the last axis in float32, where True in `mask` (if any) lets a position be seen."""
    logits = logits.astype(jnp.float32)
    if mask is not None:
        logits = logits + jnp.where(mask, 0.0, MASKED_LOGIT)
    return jax.nn.softmax(logits, axis=-1)


class Dense(nn.Module):
    """A projection of the last axis without bias; parameter `kernel` [in, features]."""

    features: int
    kernel_axes: tuple[str, str]
    dtype: Any = jnp.float32
    kernel_init: Initializer = projection_init

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        shape = (x.shape[-1], self.features)
        kernel = _parameter(self, "kernel", self.kernel_init, shape, self.kernel_axes)
        # As one matrix: on CPUs, XLA takes half as long again over the kernel's gradient otherwise.
        rows = x.astype(self.dtype).reshape(-1, x.shape[-1])
        return jnp.dot(rows, kernel.astype(self.dtype)).reshape(*x.shape[:-1], self.features)


class RMSNorm(nn.Module):
    """`rms_norm` with a learnt scale; parameter `scale` [features]."""

    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        scale = _parameter(self, "scale", jax.nn.initializers.ones, (x.shape[-1],), ("embed",))
        return rms_norm(x, scale, self.dtype)


class Embedding(nn.Module):
    """Rows of a table by id; parameter `embedding` [num_embeddings, features]."""

    num_embeddings: int
    features: int
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, ids: jax.Array) -> jax.Array:
        shape = (self.num_embeddings, self.features)
        table = _parameter(self, "embedding", embedding_init, shape, ("vocab", "embed"))
        return jnp.take(table.astype(self.dtype), ids, axis=0, mode="clip")


class Dropout(nn.Module):
    """Dropout with one choice for all positions of a sequence, as T5 has it."""

    rate: float

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        return nn.Dropout(self.rate, broadcast_dims=(-2,))(x, deterministic=deterministic)


def einsum_attention(query: jax.Array, key: jax.Array, value: jax.Array, causal: bool) -> jax.Array:
    """Attention by two products, with all its weights in memory.

    Args:
      query: [batch, query_length, heads, head_dim].
      key: [batch, key_length, heads, head_dim].
      value: as `key`.
      causal: whether a query sees only the keys up to its own position; the last
        query is at the position of the last key.

    Returns:
      [batch, query_length, heads, head_dim], of the type of `value`.
    """
    # No 1/sqrt(head_dim) here: T5 folds it into the initial query kernel.
    logits = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
    num_queries, num_keys = logits.shape[-2:]
    mask = jnp.tril(jnp.ones((num_queries, num_keys), bool), num_keys - num_queries) if causal else None
    weights = masked_softmax(logits, mask).astype(value.dtype)
    return jnp.einsum("bhqk,bkhd->bqhd", weights, value)


def block_attention(query: jax.Array, key: jax.Array, value: jax.Array, causal: bool) -> jax.Array:
    """`einsum_attention` in blocks of queries, each against the keys that some of its queries may see.

    Where attention is causal, the upper triangle of weights is zero: of n blocks in
    each direction, (n - 1) / 2n need neither be computed nor be held.
    """
    if not causal:
        return einsum_attention(query, key, value, causal)
    blocks = []
    for start in range(0, query.shape[1], ATTENTION_BLOCK):
        part = slice(start, start + ATTENTION_BLOCK)
        seen = slice(None, part.stop)
        blocks.append(einsum_attention(query[:, part], key[:, seen], value[:, seen], causal))
    return jnp.concatenate(blocks, axis=1)


def fused_attention(query: jax.Array, key: jax.Array, value: jax.Array, causal: bool) -> jax.Array:
    """The same by the backend's flash attention, which holds no weights, where it has one.

    That is cuDNN's for 16-bit activations on a GPU (of compute capability 8.0 or
    more); elsewhere this is `block_attention`.
    """
    if jax.default_backend() != "gpu" or value.dtype.itemsize != 2:
        return block_attention(query, key, value, causal)
    return jax.nn.dot_product_attention(
        query, key, value, scale=1.0, is_causal=causal, implementation="cudnn"
    )


# How attention is computed, by the names of `ComputeConfig.attention`.
ATTENTION: dict[str, Callable[[jax.Array, jax.Array, jax.Array, bool], jax.Array]] = {
    "einsum": einsum_attention,
    "blocks": block_attention,
    "fused": fused_attention,
}


class Attention(nn.Module):
    """Multi-head attention; parameters `query`, `key`, `value`, `out`, each a joined 2-D kernel.

    Attributes:
      num_heads: attention heads.
      head_dim: features of a head.
      dropout_rate: of attention weights.
      dtype: of activations.
      causal: whether a query sees only the keys up to its own position.
      implementation: a name of `ATTENTION`.
    """

    num_heads: int
    head_dim: int
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32
    causal: bool = False
    implementation: str = "blocks"

    @nn.compact
    def __call__(self, query_inputs: jax.Array, key_inputs: jax.Array, deterministic: bool) -> jax.Array:
        """Attends from [batch, query_length, embed] to [batch, key_length, embed]."""
        query = self._heads("query", query_inputs, _scaled(attention_init, self.head_dim**-0.5))
        key = self._heads("key", key_inputs, attention_init)
        value = self._heads("value", key_inputs, attention_init)
        # T5 drops the same attention weights for all queries: the weights of a key are zero for all of
        # them or for none. So the key's value may be dropped in their place, once instead of for each
        # query, and without the weights being at hand, which flash attention never has.
        value = nn.Dropout(self.dropout_rate, broadcast_dims=(-1,))(value, deterministic=deterministic)
        context = ATTENTION[self.implementation](query, key, value, self.causal)
        joined = context.reshape(*context.shape[:-2], self.num_heads * self.head_dim)
        out = Dense(query_inputs.shape[-1], ("joined_kv", "embed"), self.dtype, attention_init, name="out")
        return out(joined)

    def _heads(self, name: str, x: jax.Array, init: Initializer) -> jax.Array:
        joined_features = self.num_heads * self.head_dim
        joined = Dense(joined_features, ("embed", "joined_kv"), self.dtype, init, name=name)(x)
        heads = joined.reshape(*x.shape[:-1], self.num_heads, self.head_dim)
        return placed(heads, "batch", "length", "heads", "head_dim")


class GatedMLP(nn.Module):
    """The gated feed-forward block; parameters `wi_0` (gate), `wi_1` (linear) and `wo`."""

    hidden_features: int
    dropout_rate: float = 0.0
    dtype: Any = jnp.float32

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        gate = Dense(self.hidden_features, ("embed", "mlp"), self.dtype, name="wi_0")(x)
        linear = Dense(self.hidden_features, ("embed", "mlp"), self.dtype, name="wi_1")(x)
        hidden = placed(gated_gelu(gate, linear), "batch", "length", "mlp")
        hidden = Dropout(self.dropout_rate)(hidden, deterministic)
        return Dense(x.shape[-1], ("mlp", "embed"), self.dtype, name="wo")(hidden)


def _parameter(
    module: nn.Module, name: str, init: Initializer, shape: tuple[int, ...], axes: tuple[str, ...]
) -> Any:
    """A float32 parameter of the module that carries its logical axis names."""
    return module.param(name, nn.with_logical_partitioning(init, axes), shape, jnp.float32)


def _scaled(init: Initializer, factor: float) -> Initializer:
    return lambda *args, **kwargs: init(*args, **kwargs) * factor
