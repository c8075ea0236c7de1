"""What a model is, apart from its parameters: the spec, and what can be done with it.

A `ModelSpec` says everything that turns audio into tokens and back: network,
spectrogram, tokenizer and segment sizes. It is stored as JSON beside every
checkpoint, so that a checkpoint can be used without its training
configuration. A `TranscriptionModel` is the pure functions of a spec:
initial parameters, loss and generated tokens. Parameters are a plain nested
dictionary of float32 arrays under the published names; the caller owns them.

A further architecture is one more row of `ARCHITECTURES`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Mapping
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from mt3.audio.spectrograms import SpectrogramConfig, log_mel
from mt3.models.compute import ComputeConfig
from mt3.models.decoding import generate
from mt3.models.flops import transformer_training_flops
from mt3.models.losses import token_loss
from mt3.models.segment_decoding import DecoderSettings, SegmentDecoder, make_decoder, prepare
from mt3.models.transformer import Transformer, TransformerConfig
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

INPUT_KINDS = ("frames", "log_mel")

# MT3-small as published. Frozen, so that sharing them between specs is safe.
_DEFAULT_NETWORK = TransformerConfig()
_DEFAULT_SPECTROGRAM = SpectrogramConfig()
_DEFAULT_TOKENIZER = Tokenizer(VocabularyConfig(num_velocity_bins=1, program_granularity="full"))

Params = Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What the name of an architecture stands for.

    Attributes:
      network_config: dataclass of the network's sizes.
      module: from such a config and a `ComputeConfig` to a Linen module that maps
        (features [batch, frames, input_features], previous tokens
        [batch, tokens]) to float32 logits [batch, tokens, vocab_size].
      generate: see `mt3.models.decoding.generate`.
      prepare: see `mt3.models.segment_decoding.prepare`.
      make_decoder: see `mt3.models.segment_decoding.make_decoder`.
      training_flops: from a config, frames, tokens and features of a frame to
        floating-point operations of an example; see `mt3.models.flops`.
    """

    network_config: type
    module: Callable[[Any, ComputeConfig], nn.Module]
    generate: Callable[..., Any]
    prepare: Callable[..., Any]
    make_decoder: Callable[..., SegmentDecoder]
    training_flops: Callable[[Any, int, int, int], int]


ARCHITECTURES: dict[str, Architecture] = {
    "mt3": Architecture(
        TransformerConfig, Transformer, generate, prepare, make_decoder, transformer_training_flops
    ),
}


def get_architecture(name: str) -> Architecture:
    """The row of `ARCHITECTURES` of that name.

    Raises:
      ValueError: there is none.
    """
    if name not in ARCHITECTURES:
        raise ValueError(f"architecture is {name!r}: choose one of {', '.join(sorted(ARCHITECTURES))}")
    return ARCHITECTURES[name]


@dataclasses.dataclass(frozen=True)
class ModelSpec:
    """Everything that a checkpoint's parameters do not say themselves.

    Attributes:
      architecture: a name of `ARCHITECTURES`.
      network: sizes of the network, of that architecture's config type.
      spectrogram: how audio frames become input features.
      tokenizer: how notes become target ids and back.
      input_frames: frames of a segment.
      max_target_tokens: most tokens of a segment's target, the end included.
      input_kind: "frames" when batches carry audio frames, whose log-mel is
        computed inside the step, "log_mel" when they carry log-mel.
    """

    architecture: str = "mt3"
    network: Any = _DEFAULT_NETWORK
    spectrogram: SpectrogramConfig = _DEFAULT_SPECTROGRAM
    tokenizer: Tokenizer = _DEFAULT_TOKENIZER
    input_frames: int = 256
    max_target_tokens: int = 1024
    input_kind: str = "frames"

    def __post_init__(self) -> None:
        config_type = get_architecture(self.architecture).network_config
        if not isinstance(self.network, config_type):
            raise ValueError(
                f"network is {self.network!r}: architecture {self.architecture!r} takes a "
                f"{config_type.__name__}"
            )
        if self.input_kind not in INPUT_KINDS:
            raise ValueError(f"input_kind is {self.input_kind!r}: choose {' or '.join(INPUT_KINDS)}")
        for name in ("input_frames", "max_target_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1")
        if self.network.vocab_size < self.tokenizer.num_embeddings:
            raise ValueError(
                f"vocab_size is {self.network.vocab_size}, but the tokenizer's ids need "
                f"{self.tokenizer.num_embeddings}: set the network's vocab_size to that"
            )
        if self.spectrogram.frames_per_second != self.tokenizer.frames_per_second:
            raise ValueError(
                f"the spectrogram has {self.spectrogram.frames_per_second:g} frames per second and the "
                f"tokenizer {self.tokenizer.frames_per_second:g}: times would be wrong; give both the same"
            )

    @property
    def input_features(self) -> int:
        """Size of the last axis of a batch's `inputs`."""
        return self.spectrogram.hop_samples if self.input_kind == "frames" else self.spectrogram.num_mel_bins

    @property
    def segment_seconds(self) -> float:
        """Length of a segment in seconds."""
        return self.input_frames / self.spectrogram.frames_per_second

    def to_dict(self) -> dict[str, Any]:
        """The spec as JSON-able values."""
        return {
            "architecture": self.architecture,
            "network": dataclasses.asdict(self.network),
            "spectrogram": dataclasses.asdict(self.spectrogram),
            "tokenizer": self.tokenizer.to_dict(),
            "input_frames": self.input_frames,
            "max_target_tokens": self.max_target_tokens,
            "input_kind": self.input_kind,
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> ModelSpec:
        """Inverse of `to_dict`. Fields left out take their defaults.

        Raises:
          ValueError: an unknown field or a value out of range.
        """
        fields = dict(values)
        row = get_architecture(fields.get("architecture", cls.architecture))
        readers: dict[str, Callable[[Any], Any]] = {
            "network": lambda network: _from_fields(row.network_config, network, "network"),
            "spectrogram": lambda spectrogram: _from_fields(SpectrogramConfig, spectrogram, "spectrogram"),
            "tokenizer": Tokenizer.from_dict,
        }
        for name, read in readers.items():
            if name in fields:
                fields[name] = read(fields[name])
        return _from_fields(cls, fields, "the model's spec")


@dataclasses.dataclass(frozen=True)
class TranscriptionModel:
    """The functions of a `ModelSpec`: pure, jittable, hashable as a static argument.

    Attributes:
      spec: what the model is.
      compute: how its loss is computed; decoding has ways of its own.
    """

    spec: ModelSpec
    compute: ComputeConfig = ComputeConfig()

    @property
    def module(self) -> nn.Module:
        """The Linen module, from features and previous tokens to logits."""
        return get_architecture(self.spec.architecture).module(self.spec.network, self.compute)

    def init(self, rng: jax.Array) -> dict[str, Any]:
        """Random initial parameters, a nested dictionary of float32 arrays."""
        return jax.jit(lambda key: nn.unbox(self._init_boxed(key)))(rng)

    def abstract_params(self) -> dict[str, Any]:
        """The tree of `init` as shapes and types, computed without allocating anything."""
        return nn.unbox(jax.eval_shape(self._init_boxed, jax.random.key(0)))

    def logical_axes(self) -> dict[str, Any]:
        """The tree of `init` with each parameter's logical axis names as a `PartitionSpec`."""
        return nn.get_partition_spec(jax.eval_shape(self._init_boxed, jax.random.key(0)))

    def features(self, inputs: jax.Array) -> jax.Array:
        """What the network sees: log-mel [batch, frames, num_mel_bins] of a batch's `inputs`.

        Raises:
          ValueError: the last axis is not what the spec says.
        """
        if inputs.ndim != 3 or inputs.shape[-1] != self.spec.input_features:
            raise ValueError(
                f"inputs have shape {tuple(inputs.shape)}: with input_kind {self.spec.input_kind!r} give "
                f"[batch, frames, {self.spec.input_features}]"
            )
        if self.spec.input_kind == "frames":
            inputs = jax.lax.stop_gradient(log_mel(inputs, self.spec.spectrogram))
        return inputs

    def logits(
        self, params: Params, batch: Mapping[str, jax.Array], *, dropout_rng: jax.Array | None = None
    ) -> jax.Array:
        """Teacher-forced float32 logits [batch, tokens, vocab_size]; see `loss`."""
        logits: Any = self.module.apply(
            {"params": params},
            self.features(batch["inputs"]),
            batch["decoder_input_tokens"],
            deterministic=dropout_rng is None,
            rngs={} if dropout_rng is None else {"dropout": dropout_rng},
        )
        return logits

    def loss(
        self,
        params: Params,
        batch: Mapping[str, jax.Array],
        *,
        dropout_rng: jax.Array | None = None,
        label_smoothing: float = 0.0,
        z_loss: float = 1e-4,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """The summed loss of a batch, and sums to log.

        Args:
          params: as `init` returns them.
          batch: `inputs` [batch, frames, input_features], `decoder_input_tokens`,
            `decoder_target_tokens` int32 and `decoder_loss_weights` float32
            [batch, tokens]. Other entries are ignored.
          dropout_rng: dropout is applied only when it is given.
          label_smoothing: see `token_loss`.
          z_loss: see `token_loss`.

        Returns:
          See `token_loss`. Divide by `metrics["weight"]` for a mean per token.
        """
        return token_loss(
            self.logits(params, batch, dropout_rng=dropout_rng),
            batch["decoder_target_tokens"],
            batch["decoder_loss_weights"],
            label_smoothing=label_smoothing,
            z_loss=z_loss,
        )

    def training_flops(self, batch: Mapping[str, Any]) -> int:
        """Floating-point operations of forward and backward pass over a batch of arrays of these shapes."""
        num_frames, num_tokens = batch["inputs"].shape[1], batch["decoder_target_tokens"].shape[1]
        count = get_architecture(self.spec.architecture).training_flops
        of_an_example = count(self.spec.network, num_frames, num_tokens, self.spec.spectrogram.num_mel_bins)
        return len(batch["inputs"]) * of_an_example

    def generate(
        self, params: Params, inputs: jax.Array, *, max_tokens: int | None = None, **options: Any
    ) -> Any:
        """Tokens of a batch of segments; see `mt3.models.decoding.generate` for the options.

        Args:
          params: as `init` returns them.
          inputs: [batch, frames, input_features].
          max_tokens: most tokens of a segment; the spec's `max_target_tokens` by default.
          **options: passed on.

        Returns:
          int32 [batch, max_tokens], 0 after the end of each.
        """
        if max_tokens is None:
            max_tokens = self.spec.max_target_tokens
        decode = get_architecture(self.spec.architecture).generate
        features = _jitted_features(self, jnp.asarray(inputs))
        return decode(self.spec.network, params, features, max_tokens=max_tokens, **options)

    def prepare_decoding(
        self, params: Params, settings: DecoderSettings, sharding: jax.sharding.Sharding | None = None
    ) -> Any:
        """What any number of decoders of `make_decoder`, with these settings and sharding, share.

        Segments hold audio frames, whatever the spec's `input_kind`.
        """
        row = get_architecture(self.spec.architecture)
        to_features = _jitted_log_mel(self.spec.spectrogram)
        return row.prepare(self.spec.network, params, to_features, settings, sharding)

    def make_decoder(
        self,
        prepared: Any,
        settings: DecoderSettings,
        num_segments: int,
        sharding: jax.sharding.Sharding | None = None,
        num_parts: int = 1,
    ) -> SegmentDecoder:
        """See `mt3.models.segment_decoding.make_decoder`."""
        row = get_architecture(self.spec.architecture)
        return row.make_decoder(prepared, settings, num_segments, sharding, num_parts)

    def _init_boxed(self, rng: jax.Array) -> Any:
        # Parameter shapes depend on no sequence length, so one frame and one token will do.
        frames = jnp.zeros((1, 1, self.spec.spectrogram.num_mel_bins), jnp.float32)
        return self.module.init(rng, frames, jnp.zeros((1, 1), jnp.int32))["params"]


@functools.cache
def _jitted_log_mel(config: SpectrogramConfig) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(functools.partial(log_mel, config=config))


_jitted_features = jax.jit(TranscriptionModel.features, static_argnums=0)


def _from_fields(config_type: type, values: Mapping[str, Any], where: str) -> Any:
    known = [field.name for field in dataclasses.fields(config_type)]
    unknown = sorted(set(values) - set(known))
    if unknown:
        raise ValueError(f"{where} has unknown fields {', '.join(unknown)}: known are {', '.join(known)}")
    return config_type(**values)
