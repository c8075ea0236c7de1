"""A model from a checkpoint of any format: what it is, and its parameters, checked.

A checkpoint of this project says itself what its model is. The published ones
do not: the network's sizes follow from the shapes of its arrays, and the
tokenizer and the segments are those of the published model whose vocabulary has
as many rows (`PRESETS`). What shapes cannot tell, the number of heads, is taken
to be one for 64 features, as published. `ModelHints` overrules all of it.

Promises: every parameter that the network has is there, in its shape, finite,
and nothing else is; or the error names what is unknown, missing, of another
shape, damaged or not finite, on one line.
"""

from __future__ import annotations

import dataclasses
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from mt3.models.checkpoints import CheckpointError, CheckpointMismatchError
from mt3.models.formats import open_model
from mt3.models.formats.base import FLOAT_TYPES, StoredArray, StoredModel, as_float32
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.transformer import TransformerConfig
from mt3.models.tree_shapes import named_leaves, shape_differences, summarize
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

HEAD_DIM = 64

# The published models by their names in magenta/mt3; sizes of the network are taken from the arrays.
PRESETS: dict[str, ModelSpec] = {
    "mt3": ModelSpec(),
    "ismir2021": ModelSpec(
        network=TransformerConfig(vocab_size=1664),
        tokenizer=Tokenizer(
            VocabularyConfig(num_velocity_bins=127, program_granularity="flat"), ties=False, onsets_only=False
        ),
        input_frames=512,
    ),
}

# Where in the published tree each size is: parameter, axis.
_EMBEDDING = "decoder/token_embedder/embedding"
_SIZES = {
    "vocab_size": (_EMBEDDING, 0),
    "emb_dim": (_EMBEDDING, 1),
    "mlp_dim": ("decoder/layers_0/mlp/wi_0/kernel", 1),
    "joined_kv": ("decoder/layers_0/self_attention/query/kernel", 1),
    "num_mel_bins": ("encoder/continuous_inputs_projection/kernel", 0),
}


@dataclasses.dataclass(frozen=True)
class ModelHints:
    """What a user says of a checkpoint that does not say it itself.

    Attributes:
      preset: a name of `PRESETS`, by the size of the vocabulary if not given.
      num_heads: attention heads; one for `HEAD_DIM` features if not given.
      spec: the whole spec; overrules the checkpoint's own.
    """

    preset: str | None = None
    num_heads: int | None = None
    spec: ModelSpec | None = None

    def __post_init__(self) -> None:
        if self.preset is not None and self.preset not in PRESETS:
            raise ValueError(f"preset is {self.preset!r}: choose one of {', '.join(PRESETS)}")
        if self.num_heads is not None and self.num_heads < 1:
            raise ValueError(f"num_heads is {self.num_heads}: give at least 1")
        if self.spec is not None and (self.preset, self.num_heads) != (None, None):
            raise ValueError(
                "a whole spec leaves no room for a preset or a number of heads: give one or the other"
            )


NO_HINTS = ModelHints()


def load_model(path: str | Path, hints: ModelHints = NO_HINTS) -> tuple[ModelSpec, dict[str, Any]]:
    """A model's spec and its parameters on the default device.

    Args:
      path: a run's directory or one of its checkpoints, a T5X checkpoint's
        directory, a .safetensors, .npz or PyTorch file.
      hints: what is known of it besides.

    Raises:
      CheckpointError: there is none, it is damaged, or it is of no known model.
    """
    stored = open_model(path)
    spec = spec_of(stored, hints)
    return spec, jax.tree.map(jnp.asarray, read_params(stored, spec))


def spec_of(stored: StoredModel, hints: ModelHints = NO_HINTS) -> ModelSpec:
    """What model a checkpoint is of.

    Raises:
      CheckpointError: it is of no known model, or its spec is of a newer version.
      ValueError: hints are given where the checkpoint says it itself.
    """
    if hints.spec is not None:
        return hints.spec
    if stored.spec is None:
        return _inferred(stored, hints)
    if hints != NO_HINTS:
        raise ValueError(f"{stored.path} says itself what its model is: leave out preset and number of heads")
    try:
        return ModelSpec.from_dict(stored.spec)
    except (TypeError, ValueError, AttributeError, KeyError) as error:
        raise CheckpointError(
            f"{stored.path} is of a model that this version does not know: {error}. "
            "Use the version that wrote it"
        ) from error


def read_params(stored: StoredModel, spec: ModelSpec) -> dict[str, Any]:
    """All parameters, as a nested dictionary of float32 NumPy arrays, read one after the other.

    Raises:
      CheckpointMismatchError: an array is unknown, missing or of another shape.
      CheckpointError: an array is damaged or not finite.
    """
    wanted = _wanted(spec)
    differences = shape_differences(described(stored.arrays), wanted)
    if differences:
        raise CheckpointMismatchError(f"{stored.path} is of another model: {summarize(differences)}")
    values = read_finite(stored, {name: stored.arrays[name] for name in named_leaves(wanted)})
    return jax.tree.unflatten(jax.tree.structure(wanted), values.values())


@functools.lru_cache(maxsize=4)
def _wanted(spec: ModelSpec) -> Any:
    # Tracing a network takes a good part of a second.
    return TranscriptionModel(spec).abstract_params()


def read_finite(stored: StoredModel, arrays: Mapping[str, StoredArray]) -> dict[str, np.ndarray]:
    """Some arrays of a checkpoint in float32.

    Raises:
      CheckpointError: some hold what is no finite number, or one is damaged.
    """
    values = {name: as_float32(array.read()) for name, array in arrays.items()}
    bad = [f"{name} has {count}" for name, value in values.items() if (count := np.sum(~np.isfinite(value)))]
    if bad:
        raise CheckpointError(
            f"{stored.path} holds NaN or infinite numbers: {summarize(bad)}. Take an earlier checkpoint"
        )
    return values


def described(arrays: Mapping[str, StoredArray]) -> dict[str, jax.ShapeDtypeStruct | StoredArray]:
    """Shapes and types as they will be read: all floating-point types become float32."""
    return {
        name: jax.ShapeDtypeStruct(array.shape, jnp.float32) if array.dtype in FLOAT_TYPES else array
        for name, array in arrays.items()
    }


def _inferred(stored: StoredModel, hints: ModelHints) -> ModelSpec:
    sizes = {size: _size(stored, name, axis) for size, (name, axis) in _SIZES.items()}
    preset = _preset(stored, hints, sizes["vocab_size"])
    network = dataclasses.replace(
        preset.network,
        vocab_size=sizes["vocab_size"],
        emb_dim=sizes["emb_dim"],
        mlp_dim=sizes["mlp_dim"],
        num_encoder_layers=_num_layers(stored, "encoder"),
        num_decoder_layers=_num_layers(stored, "decoder"),
        **_heads(stored, hints, sizes["joined_kv"]),
    )
    spectrogram = dataclasses.replace(preset.spectrogram, num_mel_bins=sizes["num_mel_bins"])
    return dataclasses.replace(preset, network=network, spectrogram=spectrogram)


def _size(stored: StoredModel, name: str, axis: int) -> int:
    if name not in stored.arrays:
        there = ", ".join(sorted(stored.arrays)[:3]) or "no array"
        raise CheckpointMismatchError(
            f"{stored.path} is of no known network: it has no {name}, but {there}"
            f"{', ...' if len(stored.arrays) > 3 else ''}"
        )
    shape = stored.arrays[name].shape
    if len(shape) != 2 or 0 in shape:
        raise CheckpointMismatchError(
            f"{stored.path}: {name} has the shape {list(shape)}, but should have two axes"
        )
    return shape[axis]


def _preset(stored: StoredModel, hints: ModelHints, vocab_size: int) -> ModelSpec:
    if hints.preset is not None:
        return PRESETS[hints.preset]
    fitting = [preset for preset in PRESETS.values() if preset.network.vocab_size == vocab_size]
    if not fitting:
        sizes = ", ".join(f"{preset.network.vocab_size} of {name}" for name, preset in PRESETS.items())
        raise CheckpointMismatchError(
            f"{stored.path} has {vocab_size} rows of token embeddings, the published models have {sizes}: "
            "say which tokens it has (--preset, or --spec with a model.json)"
        )
    return fitting[0]


def _num_layers(stored: StoredModel, side: str) -> int:
    # Counted, not the highest: a wrong number is then named as a parameter that is unknown.
    found = (re.match(rf"{side}/layers_(\d+)/", name) for name in stored.arrays)
    return max(len({match[1] for match in found if match}), 1)


def _heads(stored: StoredModel, hints: ModelHints, joined_kv: int) -> dict[str, int]:
    num_heads = hints.num_heads or joined_kv // HEAD_DIM
    if num_heads == 0 or joined_kv % num_heads or (hints.num_heads is None and joined_kv % HEAD_DIM):
        wish = f"{hints.num_heads} heads" if hints.num_heads else f"published heads of {HEAD_DIM}"
        raise CheckpointMismatchError(
            f"{stored.path} has {joined_kv} features for all heads together, which do not make {wish}: "
            "say how many heads there are (--heads)"
        )
    return {"num_heads": num_heads, "head_dim": joined_kv // num_heads}
