"""Examples become batches: pad, shift right, weigh, and cut to a bucket.

The one place that knows the layout of a training batch. Plain NumPy, so that
the seqio provider, the endless stream and the tests produce the same arrays.
It promises static shapes: every batch of one configuration has the same
shapes, or, with target buckets, one of as many shapes as there are buckets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mt3.symbolic.vocabularies import PAD_ID

# 16-bit samples (or sums of them) divided by this are audio in [-1, 1).
PCM16_SCALE = 32768.0

# The features that have a target axis, axis 1.
TARGET_FEATURES = ("decoder_input_tokens", "decoder_target_tokens", "decoder_loss_weights")

# What an example is of, bytes, and the rows of a batch, [batch] objects: for messages, not for the model.
EXAMPLE_ID, EXAMPLE_IDS = "example_id", "example_ids"


def to_float_audio(samples: np.ndarray) -> np.ndarray:
    """Audio as float32: integers are read as 16-bit PCM (or sums of it), floats are kept."""
    if np.issubdtype(samples.dtype, np.integer):
        return samples.astype(np.float32) / np.float32(PCM16_SCALE)
    return samples.astype(np.float32, copy=False)


def pad_inputs(inputs: Sequence[np.ndarray], input_frames: int) -> np.ndarray:
    """Stacks inputs of possibly fewer frames, zeros after the last one.

    Args:
      inputs: arrays [frames, features], audio frames (float or 16-bit PCM).
      input_frames: frames of every row of the batch.

    Returns:
      float32 [batch, input_frames, features].

    Raises:
      ValueError: when an input has more than `input_frames` frames.
    """
    padded = np.zeros((len(inputs), input_frames, *inputs[0].shape[1:]), np.float32)
    for row, frames in zip(padded, inputs, strict=True):
        if len(frames) > input_frames:
            raise ValueError(
                f"An input has {len(frames)} frames; the batch holds {input_frames}. "
                "Cut the recording into segments first."
            )
        row[: len(frames)] = to_float_audio(frames)
    return padded


def pad_targets(targets: Sequence[np.ndarray], max_target_tokens: int) -> np.ndarray:
    """Stacks token ids, padding (0) after the last one.

    Args:
      targets: integer arrays [tokens], each ending with EOS.
      max_target_tokens: tokens of every row of the batch.

    Returns:
      int32 [batch, max_target_tokens].

    Raises:
      ValueError: when a target is longer than `max_target_tokens`.
    """
    padded = np.full((len(targets), max_target_tokens), PAD_ID, np.int32)
    for row, tokens in zip(padded, targets, strict=True):
        if len(tokens) > max_target_tokens:
            raise ValueError(
                f"A target has {len(tokens)} tokens; the batch holds {max_target_tokens}. "
                "Apply a long-target rule (preprocessors.fit_target) before batching."
            )
        row[: len(tokens)] = tokens
    return padded


def shift_right(targets: np.ndarray) -> np.ndarray:
    """What the decoder sees: targets [..., tokens] one step later, 0 first."""
    shifted = np.zeros_like(targets)
    shifted[..., 1:] = targets[..., :-1]
    return shifted


def loss_weights(targets: np.ndarray) -> np.ndarray:
    """float32, 1 where `targets` is a token and 0 where it is padding."""
    return (targets != PAD_ID).astype(np.float32)


def bucket_length(num_tokens: int, buckets: Sequence[int], max_tokens: int) -> int:
    """The smallest bucket that holds `num_tokens`; `max_tokens` where that is less, or none does."""
    return min((length for length in (*buckets, max_tokens) if length >= num_tokens), default=max_tokens)


def trim_to_bucket(batch: Mapping[str, np.ndarray], buckets: Sequence[int]) -> dict[str, np.ndarray]:
    """Cuts the target axis to the smallest bucket that holds the longest target.

    A training step costs in proportion to the target axis, most of which is
    padding where music is sparse; a few buckets cost one compilation each.

    Args:
      batch: a batch with the features of `TARGET_FEATURES` [batch, tokens].
      buckets: allowed lengths, beside that of the axis.
    """
    is_used = (batch["decoder_target_tokens"] != PAD_ID).any(axis=0)
    used = np.flatnonzero(is_used)
    length = bucket_length(int(used[-1]) + 1 if len(used) else 0, buckets, len(is_used))
    return {name: value[:, :length] if name in TARGET_FEATURES else value for name, value in batch.items()}


def as_objects(values: Sequence[bytes]) -> np.ndarray:
    """[num_values] of objects; NumPy's own type for bytes would cut zeros off their ends."""
    array = np.empty(len(values), object)
    array[:] = values
    return array


def make_batch(
    examples: Sequence[Mapping[str, Any]],
    *,
    input_frames: int,
    max_target_tokens: int,
    target_buckets: Sequence[int] = (),
) -> dict[str, np.ndarray]:
    """A training batch of examples.

    Args:
      examples: each with `inputs` [frames, features] (audio frames, float or
        16-bit PCM; or log-mel), `targets` [tokens] ending with EOS, and perhaps
        `example_id`, bytes.
      input_frames: frames of `inputs` in the batch.
      max_target_tokens: tokens of the targets in the batch.
      target_buckets: shorter lengths that the target axis may be cut to.

    Returns:
      `inputs` float32 [batch, input_frames, features], `decoder_input_tokens`
      and `decoder_target_tokens` int32 [batch, tokens], `decoder_loss_weights`
      float32 [batch, tokens]; `example_ids` bytes [batch], if the examples have them.

    Raises:
      ValueError: without examples, or when one does not fit.
    """
    if not examples:
        raise ValueError("A batch needs at least one example, got none.")
    targets = pad_targets([example["targets"] for example in examples], max_target_tokens)
    batch = {
        "inputs": pad_inputs([example["inputs"] for example in examples], input_frames),
        "decoder_input_tokens": shift_right(targets),
        "decoder_target_tokens": targets,
        "decoder_loss_weights": loss_weights(targets),
    }
    if EXAMPLE_ID in examples[0]:
        batch[EXAMPLE_IDS] = as_objects([example[EXAMPLE_ID] for example in examples])
    return trim_to_bucket(batch, target_buckets) if target_buckets else batch
