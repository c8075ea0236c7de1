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
for a segment, side by side.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mt3.models.layers import gated_gelu, masked_softmax, rms_norm, sinusoidal_positions
from mt3.models.transformer import Transformer, TransformerConfig


class LayerWeights(NamedTuple):
    """Kernels [in, out] and norm scales of one decoder layer; `qkv` and `wi` are fused."""

    self_norm: jax.Array
    qkv: jax.Array
    self_out: jax.Array
    cross_norm: jax.Array
    cross_query: jax.Array
    cross_out: jax.Array
    mlp_norm: jax.Array
    wi: jax.Array
    wo: jax.Array


class DecoderWeights(NamedTuple):
    """All that a step reads: kernels in the activation type, `logits` and norm scales in float32."""

    embedding: jax.Array  # [vocab, embed]
    positions: jax.Array  # [max_tokens, embed]
    layers: tuple[LayerWeights, ...]
    final_norm: jax.Array
    logits: jax.Array  # [embed, vocab]


class KeysValues(NamedTuple):
    """What attention looks at: of each layer, [rows, heads, length, head_dim]."""

    keys: tuple[jax.Array, ...]
    values: tuple[jax.Array, ...]


def fuse_weights(config: TransformerConfig, params: Mapping[str, Any], max_tokens: int) -> DecoderWeights:
    """Lays the decoder's parameters out for stepping over up to `max_tokens` positions."""
    decoder = params["decoder"]
    layers = tuple(_fuse_layer(config, decoder[f"layers_{i}"]) for i in range(config.num_decoder_layers))
    return DecoderWeights(
        embedding=decoder["token_embedder"]["embedding"].astype(config.dtype),
        positions=jnp.asarray(sinusoidal_positions(max_tokens, config.emb_dim), config.dtype),
        layers=layers,
        final_norm=decoder["decoder_norm"]["scale"],
        logits=decoder["logits_dense"]["kernel"],
    )


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


def grow_cache(cache: KeysValues, length: int) -> KeysValues:
    """The cache with room for `length` tokens."""
    return jax.tree.map(lambda x: jnp.pad(x, ((0, 0), (0, 0), (0, length - x.shape[2]), (0, 0))), cache)


def step(
    config: TransformerConfig,
    weights: DecoderWeights,
    encoded: KeysValues,
    cache: KeysValues,
    tokens: jax.Array,
    position: jax.Array,
) -> tuple[jax.Array, KeysValues]:
    """Feeds one token to each row.

    Args:
      config: sizes of the network.
      weights: see `fuse_weights`.
      encoded: see `encode`; with `batch` segments, rows r * k to r * k + k - 1
        (k = rows / batch) belong to segment r.
      cache: of the earlier positions.
      tokens: int [rows], the previous token of each (0 at the start).
      position: int scalar, how many tokens went before.

    Returns:
      float32 logits [rows, vocab] of the next token, and the cache with this
      position in it.
    """
    x = weights.embedding[tokens] + jax.lax.dynamic_index_in_dim(weights.positions, position, keepdims=False)
    keys, values = [], []
    for layer, cross_key, cross_value, key, value in zip(weights.layers, *encoded, *cache, strict=True):
        y = rms_norm(x, layer.self_norm, config.dtype) @ layer.qkv
        query, new_key, new_value = jnp.split(y, 3, axis=-1)
        key = _write(config, key, new_key, position)
        value = _write(config, value, new_value, position)
        seen = jnp.arange(key.shape[2]) <= position
        x = x + _attend(config, query, key, value, seen) @ layer.self_out
        query = rms_norm(x, layer.cross_norm, config.dtype) @ layer.cross_query
        x = x + _attend(config, query, cross_key, cross_value, None) @ layer.cross_out
        gate, linear = jnp.split(rms_norm(x, layer.mlp_norm, config.dtype) @ layer.wi, 2, axis=-1)
        x = x + gated_gelu(gate, linear) @ layer.wo
        keys.append(key)
        values.append(value)
    x = rms_norm(x, weights.final_norm, config.dtype)
    return x.astype(jnp.float32) @ weights.logits, KeysValues(tuple(keys), tuple(values))


def _fuse_layer(config: TransformerConfig, layer: Mapping[str, Any]) -> LayerWeights:
    def fuse(block: str, *names: str) -> jax.Array:
        kernels = [layer[block][name]["kernel"] for name in names]
        return jnp.concatenate(kernels, axis=1).astype(config.dtype)

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


def _split_heads(config: TransformerConfig, joined: jax.Array) -> jax.Array:
    return joined.reshape(*joined.shape[:-1], config.num_heads, config.head_dim)


def _write(config: TransformerConfig, cache: jax.Array, joined: jax.Array, position: jax.Array) -> jax.Array:
    """Puts [rows, heads * head_dim] at a position of [rows, heads, length, head_dim]."""
    new = _split_heads(config, joined)[:, :, None]
    return jax.lax.dynamic_update_slice_in_dim(cache, new, position, axis=2)


def _attend(
    config: TransformerConfig, query: jax.Array, key: jax.Array, value: jax.Array, mask: jax.Array | None
) -> jax.Array:
    """Attention of joined queries [rows, heads * head_dim], of rows / batch queries to each key."""
    batch = key.shape[0]
    query = _split_heads(config, query.reshape(batch, -1, query.shape[-1]))
    logits = jnp.einsum("bqhd,bhkd->bhqk", query, key, preferred_element_type=jnp.float32)
    attention = masked_softmax(logits, mask).astype(config.dtype)
    context = jnp.einsum("bhqk,bhkd->bqhd", attention, value)
    return context.reshape(-1, config.num_heads * config.head_dim)
