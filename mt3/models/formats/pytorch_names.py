"""From the names of the public PyTorch port of MT3 to the published ones.

The port (github.com/kunato/mt3-pytorch, and MR-MT3 after it) builds the network
from Hugging Face's T5 v1.1 blocks, so its state dictionary has their names. Its
`nn.Linear` keeps a kernel as [out, in], the published one as [in, out]. A tied
module is listed under each of its names; positions are a buffer, not a parameter.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mt3.models.checkpoints import CheckpointError
from mt3.models.formats.base import StoredArray
from mt3.models.layers import sinusoidal_positions

# SIDE.SUBLAYER.MODULE of a block -> the module's published name.
_MODULES = {
    "encoder.0.SelfAttention": "attention",
    "encoder.0.layer_norm": "pre_attention_layer_norm",
    "encoder.1.DenseReluDense": "mlp",
    "encoder.1.layer_norm": "pre_mlp_layer_norm",
    "decoder.0.SelfAttention": "self_attention",
    "decoder.0.layer_norm": "pre_self_attention_layer_norm",
    "decoder.1.EncDecAttention": "encoder_decoder_attention",
    "decoder.1.layer_norm": "pre_cross_attention_layer_norm",
    "decoder.2.DenseReluDense": "mlp",
    "decoder.2.layer_norm": "pre_mlp_layer_norm",
}
_KERNELS = {"q": "query", "k": "key", "v": "value", "o": "out", "wi_0": "wi_0", "wi_1": "wi_1", "wo": "wo"}
_IN_BLOCK = re.compile(
    rf"(encoder|decoder)\.block\.(\d+)\.layer\.(\d)\.(\w+?)(?:\.({'|'.join(_KERNELS)}))?\.weight"
)
# The rest, each under all names that it may be saved under.
_OUTSIDE_BLOCKS = {
    "proj.weight": "encoder/continuous_inputs_projection/kernel",
    "encoder.proj.weight": "encoder/continuous_inputs_projection/kernel",
    "encoder.embed_tokens.weight": "encoder/continuous_inputs_projection/kernel",
    "encoder.final_layer_norm.weight": "encoder/encoder_norm/scale",
    "decoder_embed_tokens.weight": "decoder/token_embedder/embedding",
    "decoder.embed_tokens.weight": "decoder/token_embedder/embedding",
    "decoder.final_layer_norm.weight": "decoder/decoder_norm/scale",
    "lm_head.weight": "decoder/logits_dense/kernel",
}
_POSITIONS = re.compile(r"(?:encoder\.|decoder\.)?pos_emb\.inv_freq")
# Frequencies are stored in float32, of which a ratio this close is the same number.
_FREQUENCY_TOLERANCE = 1e-4

logger = logging.getLogger(__name__)


def published_names(arrays: Mapping[str, StoredArray], path: Path) -> dict[str, StoredArray]:
    """The arrays under their published names; those whose name the port does not have keep theirs.

    Args:
      arrays: by the names in the file.
      path: of the file, for messages.

    Raises:
      CheckpointError: position frequencies cannot be read.
    """
    renamed: dict[str, StoredArray] = {}
    for name, array in arrays.items():
        if _POSITIONS.fullmatch(name):
            _check_positions(name, array, path)
            continue
        published, array = _translate(name, array)
        if published in renamed:
            array = _tied(renamed[published], array, name, path)
        renamed[published] = array
    return renamed


def _translate(name: str, array: StoredArray) -> tuple[str, StoredArray]:
    published = _OUTSIDE_BLOCKS.get(name) or _in_block(name)
    if published is None:
        return name, array
    return published, _transposed(array) if published.endswith("/kernel") else array


def _in_block(name: str) -> str | None:
    found = _IN_BLOCK.fullmatch(name)
    module = _MODULES.get(f"{found[1]}.{found[3]}.{found[4]}") if found else None
    if found is None or module is None:
        return None
    parameter = "scale" if found[5] is None else f"{_KERNELS[found[5]]}/kernel"
    return f"{found[1]}/layers_{found[2]}/{module}/{parameter}"


def _transposed(array: StoredArray) -> StoredArray:
    return StoredArray(array.shape[::-1], array.dtype, lambda: array.read().T)


def _tied(first: StoredArray, second: StoredArray, name: str, path: Path) -> StoredArray:
    """One array of two names, which must not differ."""

    def read() -> np.ndarray:
        values = first.read()
        if not np.array_equal(values, second.read(), equal_nan=True):
            raise CheckpointError(f"{path}: {name} differs from the array that it is another name of")
        return values

    return StoredArray(first.shape, first.dtype, read)


def _check_positions(name: str, array: StoredArray, path: Path) -> None:
    features = 2 * array.size
    values = np.asarray(array.read(), np.float64).reshape(-1)
    # The first half of a position's channels are sines: those of position 1 tell the frequencies.
    published = np.arcsin(sinusoidal_positions(2, features)[1, : features // 2].astype(np.float64))
    if not np.allclose(values[1:], published[1:], rtol=_FREQUENCY_TOLERANCE, atol=0):
        logger.warning(
            "%s: %s has other frequencies than the published network's positions, which are used here: right "
            "for parameters converted from the published ones, not for a network trained with these",
            *(path, name),
        )
