"""Greedy decoding as the published MT3 code spends its time, to measure ours against.

The arithmetic is ours (`mt3.models`); what is modelled after the published
decoder (T5X's, with its settings for MT3) is how the work is laid out:

- batches of 8 segments, all of which wait for the longest;
- a cache of the full 1024 positions, [batch, heads, head_dim, length], written
  by adding a one-hot product, and attended over as a whole at every step;
- queries, keys and values by a product each, in float32;
- keys and values of the encoded frames made inside of the step, which XLA may
  move out of the loop.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from mt3.models.layers import gated_gelu, masked_softmax, rms_norm, sinusoidal_positions
from mt3.models.transformer import Transformer, TransformerConfig
from mt3.symbolic.vocabularies import EOS_ID, PAD_ID

MAX_TOKENS = 1024


class _State(NamedTuple):
    position: jax.Array
    tokens: jax.Array  # [batch, MAX_TOKENS]
    previous: jax.Array  # [batch]
    ended: jax.Array  # [batch]
    caches: tuple[tuple[jax.Array, jax.Array], ...]  # of each layer, [batch, heads, head_dim, length]


@functools.partial(jax.jit, static_argnames=("config",))
def decode(
    config: TransformerConfig, params: Mapping[str, Any], features: jax.Array, lengths: jax.Array
) -> jax.Array:
    """Tokens of a batch.

    Args:
      config: sizes of the network.
      params: of the whole `Transformer`.
      features: [batch, frames, input_features].
      lengths: int [batch], at which position each segment's end is forced; beyond
        MAX_TOKENS for nowhere.

    Returns:
      int32 [batch, MAX_TOKENS], 0 after the end of each.
    """
    encoded: Any = Transformer(config).apply({"params": params}, features, method=Transformer.encode)
    positions = jnp.asarray(sinusoidal_positions(MAX_TOKENS, config.emb_dim))
    batch = len(features)
    cache = jnp.zeros((batch, config.num_heads, config.head_dim, MAX_TOKENS))

    def body(state: _State) -> _State:
        logits, caches = _step(config, params["decoder"], encoded, positions, state)
        chosen = jnp.argmax(logits, axis=-1).astype(jnp.int32)
        chosen = jnp.where(state.position + 1 >= lengths, EOS_ID, chosen)
        chosen = jnp.where(state.ended, PAD_ID, chosen)
        tokens = jax.lax.dynamic_update_index_in_dim(state.tokens, chosen, state.position, axis=1)
        return _State(state.position + 1, tokens, chosen, state.ended | (chosen == EOS_ID), caches)

    start = _State(
        jnp.int32(0),
        jnp.zeros((batch, MAX_TOKENS), jnp.int32),
        jnp.zeros(batch, jnp.int32),
        jnp.zeros(batch, bool),
        ((cache, cache),) * config.num_decoder_layers,
    )
    return jax.lax.while_loop(lambda s: (s.position < MAX_TOKENS) & ~jnp.all(s.ended), body, start).tokens


def _step(
    config: TransformerConfig, decoder: Mapping[str, Any], encoded: jax.Array, positions: jax.Array, s: _State
) -> tuple[jax.Array, Any]:
    x = decoder["token_embedder"]["embedding"][s.previous] + positions[s.position]
    one_hot = jax.nn.one_hot(s.position, MAX_TOKENS)
    seen = jnp.arange(MAX_TOKENS) <= s.position
    caches = []
    for index, (keys, values) in enumerate(s.caches):
        layer = decoder[f"layers_{index}"]
        y = rms_norm(x, layer["pre_self_attention_layer_norm"]["scale"], jnp.float32)
        own = layer["self_attention"]
        keys = keys + _heads(config, y, own["key"])[..., None] * one_hot
        values = values + _heads(config, y, own["value"])[..., None] * one_hot
        x = x + _attend(_heads(config, y, own["query"]), keys, values, seen) @ own["out"]["kernel"]
        caches.append((keys, values))
        y = rms_norm(x, layer["pre_cross_attention_layer_norm"]["scale"], jnp.float32)
        cross = layer["encoder_decoder_attention"]
        cross_keys, cross_values = (
            jnp.einsum("bfhd->bhdf", _heads(config, encoded, cross[name])) for name in ("key", "value")
        )
        x = x + _attend(_heads(config, y, cross["query"]), cross_keys, cross_values) @ cross["out"]["kernel"]
        y = rms_norm(x, layer["pre_mlp_layer_norm"]["scale"], jnp.float32)
        gate, linear = (y @ layer["mlp"][name]["kernel"] for name in ("wi_0", "wi_1"))
        x = x + gated_gelu(gate, linear) @ layer["mlp"]["wo"]["kernel"]
    x = rms_norm(x, decoder["decoder_norm"]["scale"], jnp.float32)
    return x @ decoder["logits_dense"]["kernel"], tuple(caches)


def _heads(config: TransformerConfig, x: jax.Array, projection: Mapping[str, jax.Array]) -> jax.Array:
    return (x @ projection["kernel"]).reshape(*x.shape[:-1], config.num_heads, config.head_dim)


def _attend(query: jax.Array, keys: jax.Array, values: jax.Array, seen: jax.Array | None = None) -> jax.Array:
    """[batch, heads * head_dim] of queries [batch, heads, head_dim] and [batch, heads, head_dim, length]."""
    weights = masked_softmax(jnp.einsum("bhd,bhdl->bhl", query, keys), seen)
    context = jnp.einsum("bhl,bhdl->bhd", weights, values)
    return context.reshape(len(context), -1)
