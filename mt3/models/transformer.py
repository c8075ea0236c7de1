"""MT3's network: a T5 v1.1 encoder-decoder from spectrogram frames to tokens.

It differs from T5 in its inputs, which are continuous frames projected to the
embedding size, and in its positions, which are fixed sinusoids (Hawthorne et
al. 2021, Gardner et al. 2021). The parameter tree has the published names, so
a checkpoint of the published model fits without renaming.
"""

from __future__ import annotations

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp

from mt3.models.compute import ComputeConfig, run_layers
from mt3.models.layers import (
    Attention,
    Dense,
    Dropout,
    Embedding,
    GatedMLP,
    RMSNorm,
    placed,
    sinusoidal_positions,
)

ACTIVATION_DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class TransformerConfig:
    """The sizes of a `Transformer`. The defaults are MT3-small, as published.

    Attributes:
      vocab_size: rows of the token embedding and columns of the logits.
      emb_dim: features of the residual stream.
      num_heads: attention heads.
      head_dim: features of a head.
      mlp_dim: hidden features of the gated feed-forward blocks.
      num_encoder_layers: encoder layers.
      num_decoder_layers: decoder layers.
      dropout_rate: probability in [0, 1), applied only in training.
      activation_dtype: "float32" or "bfloat16". Parameters, norms, softmax and
        logits are float32 either way.
    """

    vocab_size: int = 1536
    emb_dim: int = 512
    num_heads: int = 6
    head_dim: int = 64
    mlp_dim: int = 1024
    num_encoder_layers: int = 8
    num_decoder_layers: int = 8
    dropout_rate: float = 0.1
    activation_dtype: str = "float32"

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.type == "int" and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{field.name} is {value!r}: give a whole number of at least 1")
        if not 0.0 <= self.dropout_rate < 1.0:
            raise ValueError(f"dropout_rate is {self.dropout_rate!r}: give a probability in [0, 1)")
        if self.activation_dtype not in ACTIVATION_DTYPES:
            choices = " or ".join(ACTIVATION_DTYPES)
            raise ValueError(f"activation_dtype is {self.activation_dtype!r}: choose {choices}")

    @property
    def dtype(self) -> jnp.dtype:
        """The type of activations."""
        return jnp.dtype(self.activation_dtype)


class EncoderLayer(nn.Module):
    """Self-attention over all frames, then the feed-forward block."""

    config: TransformerConfig
    compute: ComputeConfig = ComputeConfig()

    @nn.compact
    def __call__(self, x: jax.Array, deterministic: bool) -> jax.Array:
        """Maps [batch, frames, embed] to the same shape."""
        config = self.config
        y = RMSNorm(config.dtype, name="pre_attention_layer_norm")(x)
        y = _attention(self, "attention")(y, y, deterministic)
        x = x + Dropout(config.dropout_rate)(y, deterministic)
        return _feed_forward(config, x, deterministic)


class DecoderLayer(nn.Module):
    """Causal self-attention, attention to the encoded frames, then the feed-forward block."""

    config: TransformerConfig
    compute: ComputeConfig = ComputeConfig()

    @nn.compact
    def __call__(self, x: jax.Array, encoded: jax.Array, deterministic: bool) -> jax.Array:
        """Maps [batch, tokens, embed] to the same shape, given encoded [batch, frames, embed]."""
        config = self.config
        y = RMSNorm(config.dtype, name="pre_self_attention_layer_norm")(x)
        y = _attention(self, "self_attention", causal=True)(y, y, deterministic)
        x = x + Dropout(config.dropout_rate)(y, deterministic)
        y = RMSNorm(config.dtype, name="pre_cross_attention_layer_norm")(x)
        y = _attention(self, "encoder_decoder_attention")(y, encoded, deterministic)
        x = x + Dropout(config.dropout_rate)(y, deterministic)
        return _feed_forward(config, x, deterministic)


class Encoder(nn.Module):
    """Spectrogram frames to encoded frames."""

    config: TransformerConfig
    compute: ComputeConfig = ComputeConfig()

    @nn.compact
    def __call__(self, frames: jax.Array, deterministic: bool) -> jax.Array:
        """Maps [batch, frames, input_features] to [batch, frames, emb_dim]."""
        config = self.config
        projection = Dense(
            config.emb_dim, ("input_features", "embed"), config.dtype, name="continuous_inputs_projection"
        )
        x = _add_positions(projection(frames))
        x = _residual(Dropout(config.dropout_rate)(x, deterministic))
        layer = EncoderLayer(config, self.compute, parent=None)
        x = run_layers(self, layer, config.num_encoder_layers, self.compute, x, (), deterministic)
        x = RMSNorm(config.dtype, name="encoder_norm")(x)
        return nn.Dropout(config.dropout_rate)(x, deterministic=deterministic)


class Decoder(nn.Module):
    """Previous tokens and encoded frames to the logits of the next tokens."""

    config: TransformerConfig
    compute: ComputeConfig = ComputeConfig()

    @nn.compact
    def __call__(self, tokens: jax.Array, encoded: jax.Array, deterministic: bool) -> jax.Array:
        """Maps ids [batch, tokens] to float32 logits [batch, tokens, vocab_size]."""
        config = self.config
        embedder = Embedding(config.vocab_size, config.emb_dim, config.dtype, name="token_embedder")
        x = _residual(Dropout(config.dropout_rate)(_add_positions(embedder(tokens)), deterministic))
        layer = DecoderLayer(config, self.compute, parent=None)
        x = run_layers(self, layer, config.num_decoder_layers, self.compute, x, (encoded,), deterministic)
        x = RMSNorm(config.dtype, name="decoder_norm")(x)
        x = Dropout(config.dropout_rate)(x, deterministic)
        logits = Dense(config.vocab_size, ("embed", "vocab"), jnp.float32, name="logits_dense")(x)
        return placed(logits, "batch", "length", "vocab")


class Transformer(nn.Module):
    """The encoder-decoder. Dropout is applied only where `deterministic` is False.

    Every input frame counts: a segment shorter than its window is padded with
    silence, as published, and not masked. Padding of the target side needs no
    mask either: it comes last, so no scored position can see it.
    """

    config: TransformerConfig
    compute: ComputeConfig = ComputeConfig()

    def setup(self) -> None:
        self.encoder = Encoder(self.config, self.compute)
        self.decoder = Decoder(self.config, self.compute)

    def __call__(
        self, frames: jax.Array, decoder_input_tokens: jax.Array, *, deterministic: bool = True
    ) -> jax.Array:
        """Teacher-forced logits.

        Args:
          frames: [batch, frames, input_features], usually log-mel.
          decoder_input_tokens: int [batch, tokens], targets shifted right by one.
          deterministic: without dropout; otherwise the rng "dropout" is needed.

        Returns:
          float32 logits [batch, tokens, vocab_size].
        """
        encoded = self.encode(frames, deterministic=deterministic)
        return self.decoder(decoder_input_tokens, encoded, deterministic)

    def encode(self, frames: jax.Array, *, deterministic: bool = True) -> jax.Array:
        """Encoded frames [batch, frames, emb_dim]."""
        return self.encoder(frames, deterministic)


def _attention(layer: EncoderLayer | DecoderLayer, name: str, causal: bool = False) -> Attention:
    config, implementation = layer.config, layer.compute.attention
    sizes = (config.num_heads, config.head_dim, config.dropout_rate, config.dtype)
    return Attention(*sizes, causal, implementation, name=name)


def _residual(x: jax.Array) -> jax.Array:
    """The residual stream, which is cut by example only, wherever the parameters are cut."""
    return placed(x, "batch", "length", "embed")


def _feed_forward(config: TransformerConfig, x: jax.Array, deterministic: bool) -> jax.Array:
    """The block that ends every layer; called inside its compact method."""
    y = RMSNorm(config.dtype, name="pre_mlp_layer_norm")(x)
    y = GatedMLP(config.mlp_dim, config.dropout_rate, config.dtype, name="mlp")(y, deterministic)
    return _residual(x + Dropout(config.dropout_rate)(y, deterministic))


def _add_positions(x: jax.Array) -> jax.Array:
    return x + jnp.asarray(sinusoidal_positions(*x.shape[-2:]), x.dtype)
