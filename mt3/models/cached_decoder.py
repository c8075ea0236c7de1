"""One position of the decoder at a time, with everything reusable computed once.

The Linen `Decoder` sees whole sequences; generating with it would repeat the
work of all earlier positions at every step. Here the same parameters are laid
out for stepping: projections of the same input are fused into one matrix, so
that a step reads each weight once in few large products; keys and values of
the encoded frames are computed once per segment; those of earlier tokens are
kept in a cache. Promise: `step` gives the logits of the teacher-forced
`Decoder` up to rounding.

Keys and values are [rows, heads, length, head_dim], one array a layer: each
head's products then read contiguous memory, and a loop can update the arrays
in place. A *row* is one sequence being generated; beam search has several rows
for a segment, side by side. Rows may be at different positions; what comes out
of one does not depend on the others.

Kernels are kept as [out, in] and multiply activations [in, rows] from the left:
with few rows, a CPU then reads them a third to a half faster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mt3.models.layers import NORM_EPSILON, gated_gelu, masked_softmax, sinusoidal_positions
from mt3.models.transformer import Transformer, TransformerConfig


class QuantizedKernel(NamedTuple):
    """A kernel [out, in] in 8 bits, each of its rows with a scale of its own."""

    values: jax.Array  # int8 [out, in]
    scales: jax.Array  # float32 [out, 1]


Kernel = jax.Array | QuantizedKernel


class LayerWeights(NamedTuple):
    """Kernels [out, in] and norm scales of one decoder layer; `qkv` and `wi` are fused."""

    self_norm: jax.Array
    qkv: Kernel
    self_out: Kernel
    cross_norm: jax.Array
    cross_query: Kernel
    cross_out: Kernel
    mlp_norm: jax.Array
    wi: Kernel
    wo: Kernel


class DecoderWeights(NamedTuple):
    """All that a step reads: kernels in the activation type, `logits` and norm scales in float32."""

    embedding: jax.Array  # [vocab, embed]
    positions: jax.Array  # [max_tokens, embed]
    layers: tuple[LayerWeights, ...]
    final_norm: jax.Array
    logits: Kernel  # [vocab, embed]


class KeysValues(NamedTuple):
    """What attention looks at: of each layer, [rows, heads, length, head_dim]."""

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]


def fuse_weights(
    config: TransformerConfig, params: Mapping[str, Any], max_tokens: int, *, quantize: bool = False
) -> DecoderWeights:
    """Lays the decoder's parameters out for stepping over up to `max_tokens` positions.

    Args:
      config: sizes of the network.
      params: of the whole `Transformer`.
      max_tokens: positions to be had.
      quantize: keep kernels in 8 bits; products are computed in the activation type all the same.
    """
    decoder = params["decoder"]
    layers = [_fuse_layer(config, decoder[f"layers_{i}"]) for i in range(config.num_decoder_layers)]
    weights = DecoderWeights(
        embedding=decoder["token_embedder"]["embedding"].astype(config.dtype),
        positions=jnp.asarray(sinusoidal_positions(max_tokens, config.emb_dim), config.dtype),
        layers=tuple(layers),
        final_norm=decoder["decoder_norm"]["scale"],
        logits=decoder["logits_dense"]["kernel"].T,
    )
    if not quantize:
        return weights
    return weights._replace(
        layers=tuple(
            LayerWeights(*(_quantized(x) if x.ndim == 2 else x for x in layer))  # type: ignore[union-attr]
            for layer in layers
        ),
        logits=_quantized(weights.logits),  # type: ignore[arg-type]
    )


def _quantized(kernel: jax.Array) -> QuantizedKernel:
    """Rounds to 255 levels between minus and plus the largest of each row."""
    kernel = kernel.astype(jnp.float32)
    scales = jnp.maximum(jnp.max(jnp.abs(kernel), axis=1, keepdims=True), 1e-12) / 127
    return QuantizedKernel(jnp.rint(kernel / scales).astype(jnp.int8), scales)


def encode(config: TransformerConfig, params: Mapping[str, Any], features: jax.Array) -> KeysValues:
    """Keys and values of the encoded frames.

    Args:
      config: sizes of the network.
      params: of the whole `Transformer`.
      features: [batch, frames, input_features].

    Returns:
      Of each layer, [batch, heads, frames, head_dim].
    """
    encoded: Any = Transformer(config).apply({"params": params}, features, method=Transformer.encode)

    def project(name: str) -> tuple[jax.Array, ...]:
        kernels = [
            params["decoder"][f"layers_{i}"]["encoder_decoder_attention"][name]["kernel"]
            for i in range(config.num_decoder_layers)
        ]
        heads = [_split_heads(config, encoded @ kernel.astype(config.dtype)) for kernel in kernels]
        return tuple(jnp.swapaxes(x, 1, 2) for x in heads)

    return KeysValues(project("key"), project("value"))


def empty_cache(config: TransformerConfig, num_rows: int, length: int) -> KeysValues:
    """A cache with room for `length` tokens of each row."""
    shape = (num_rows, config.num_heads, length, config.head_dim)
    zeros = [jnp.zeros(shape, config.dtype) for _ in range(2 * config.num_decoder_layers)]
    return KeysValues(tuple(zeros[::2]), tuple(zeros[1::2]))


def resize_cache(cache: KeysValues, length: int) -> KeysValues:
    """The cache with room for `length` tokens; where that is less than before, later ones are lost."""

    def resize(x: jax.Array) -> jax.Array:
        return jnp.pad(x[:, :, :length], ((0, 0), (0, 0), (0, max(0, length - x.shape[2])), (0, 0)))

    return jax.tree.map(resize, cache)


def step(
    config: TransformerConfig,
    weights: DecoderWeights,
    encoded: KeysValues,
    cache: KeysValues,
    tokens: jax.Array,
    positions: jax.Array,
) -> tuple[jax.Array, KeysValues]:
    """Feeds one token to each row.

    Args:
      config: sizes of the network.
      weights: see `fuse_weights`.
      encoded: see `encode`; with `batch` segments, rows r * k to r * k + k - 1
        (k = rows / batch) belong to segment r.
      cache: of the earlier positions.
      tokens: int [rows], the previous token of each (0 at the start).
      positions: int [rows], how many tokens went before in each.

    Returns:
      float32 logits [rows, vocab] of the next token, and the cache with these
      positions in it.
    """
    x = (weights.embedding[tokens] + weights.positions[positions]).T
    seen = (jnp.arange(cache.keys[0].shape[2]) <= positions[:, None])[:, None, None]
    joined = config.num_heads * config.head_dim
    keys, values = [], []
    for layer, key, value, cross_key, cross_value in zip(
        weights.layers, cache.keys, cache.values, encoded.keys, encoded.values, strict=True
    ):
        qkv = _times(layer.qkv, _norm(x, layer.self_norm, config))
        key = _write(config, key, qkv[joined : 2 * joined], positions)
        value = _write(config, value, qkv[2 * joined :], positions)
        x = x + _times(layer.self_out, _attend(config, qkv[:joined], key, value, seen))
        query = _times(layer.cross_query, _norm(x, layer.cross_norm, config))
        x = x + _times(layer.cross_out, _attend(config, query, cross_key, cross_value, None))
        hidden = _times(layer.wi, _norm(x, layer.mlp_norm, config))
        x = x + _times(layer.wo, gated_gelu(hidden[: config.mlp_dim], hidden[config.mlp_dim :]))
        keys.append(key)
        values.append(value)
    x = _norm(x, weights.final_norm, config).astype(jnp.float32)
    return _times(weights.logits, x).T, KeysValues(tuple(keys), tuple(values))


def _fuse_layer(config: TransformerConfig, layer: Mapping[str, Any]) -> LayerWeights:
    def fuse(block: str, *names: str) -> jax.Array:
        kernels = [layer[block][name]["kernel"] for name in names]
        return jnp.concatenate(kernels, axis=1).astype(config.dtype).T

    return LayerWeights(
        self_norm=layer["pre_self_attention_layer_norm"]["scale"],
        qkv=fuse("self_attention", "query", "key", "value"),
        self_out=fuse("self_attention", "out"),
        cross_norm=layer["pre_cross_attention_layer_norm"]["scale"],
        cross_query=fuse("encoder_decoder_attention", "query"),
        cross_out=fuse("encoder_decoder_attention", "out"),
        mlp_norm=layer["pre_mlp_layer_norm"]["scale"],
        wi=fuse("mlp", "wi_0", "wi_1"),
        wo=fuse("mlp", "wo"),
    )


def _times(kernel: Kernel, x: jax.Array) -> jax.Array:
    """[out, rows] of [in, rows]."""
    if isinstance(kernel, QuantizedKernel):
        product = kernel.values.astype(x.dtype) @ x
        return (product.astype(jnp.float32) * kernel.scales).astype(x.dtype)
    return kernel @ x


def _norm(x: jax.Array, scale: jax.Array, config: TransformerConfig) -> jax.Array:
    """`mt3.models.layers.rms_norm` of each column of [features, rows]."""
    x = x.astype(jnp.float32)
    mean_square = jnp.mean(jnp.square(x), axis=0, keepdims=True)
    normed = (x * jax.lax.rsqrt(mean_square + NORM_EPSILON)).astype(config.dtype)
    return normed * scale.astype(config.dtype)[:, None]


def _split_heads(config: TransformerConfig, joined: jax.Array) -> jax.Array:
    return joined.reshape(*joined.shape[:-1], config.num_heads, config.head_dim)


def _write(config: TransformerConfig, cache: jax.Array, joined: jax.Array, positions: jax.Array) -> jax.Array:
    """Puts [heads * head_dim, rows] at each row's position of [rows, heads, length, head_dim]."""
    new = _split_heads(config, joined.T)[:, :, None]

    def put(cache: jax.Array, new: jax.Array, position: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(cache, new, position, axis=1)

    return jax.vmap(put)(cache, new, positions)


def _attend(
    config: TransformerConfig, query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None
) -> jax.Array:
    """Attention of joined queries [heads * head_dim, rows], of rows / batch queries to each key."""
    batch = key.shape[0]
    query = _split_heads(config, query.T.reshape(batch, -1, query.shape[0]))
    logits = jnp.einsum("bqhd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
    attention = masked_softmax(logits, mask).astype(config.dtype)
    context = jnp.einsum("bhqk,bhkd->bqhd", attention, value)
    return context.reshape(-1, config.num_heads * config.head_dim).T
