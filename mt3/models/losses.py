"""The training loss: cross-entropy with label smoothing and z-loss, as T5X defines it.

Everything returned is a sum, never a mean, so that results of microbatches,
devices and hosts add up; divide by `weight` at the end.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp


def token_loss(
    logits: jax.Array,
    targets: jax.Array,
    weights: jax.Array,
    *,
    label_smoothing: float = 0.0,
    z_loss: float = 1e-4,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Weighted, summed cross-entropy of next-token logits.

    With label smoothing s over V classes, the target has probability 1 - s and
    every other class s / (V - 1); the entropy of that distribution is taken
    off, so that a perfect prediction costs nothing. z-loss adds
    `z_loss * log(Z)**2`, which keeps the normaliser Z of the softmax near 1
    (Chowdhery et al. 2022, section 5).

    Args:
      logits: [..., vocab_size], any float type; computed on in float32.
      targets: int [...], class ids.
      weights: float [...], 0 where a position does not count.
      label_smoothing: s in [0, 1).
      z_loss: coefficient, at least 0.

    Returns:
      The summed loss (z-loss included) and sums over positions as float32
      scalars: `loss` (the same), `z_loss` (its part), `weight` (of the
      positions) and `correct` (weight of those whose most likely class is
      the target).
    """
    if not 0.0 <= label_smoothing < 1.0:
        raise ValueError(f"label_smoothing is {label_smoothing!r}: give a number in [0, 1)")
    if z_loss < 0.0:
        raise ValueError(f"z_loss is {z_loss!r}: give a coefficient of at least 0")
    logits = logits.astype(jnp.float32)
    weights = weights.astype(jnp.float32)
    log_normaliser = jax.nn.logsumexp(logits, axis=-1)
    target_logits = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    cross_entropy = log_normaliser - target_logits
    if label_smoothing > 0.0:
        num_classes = logits.shape[-1]
        low = label_smoothing / (num_classes - 1)
        others = jnp.sum(logits, axis=-1) - num_classes * target_logits
        cross_entropy += -low * others - _smoothed_entropy(label_smoothing, num_classes)
    z_losses = z_loss * jnp.square(log_normaliser)
    loss = jnp.sum((cross_entropy + z_losses) * weights)
    metrics = {
        "loss": loss,
        "z_loss": jnp.sum(z_losses * weights),
        "weight": jnp.sum(weights),
        "correct": jnp.sum((jnp.argmax(logits, axis=-1) == targets) * weights),
    }
    return loss, metrics


def _smoothed_entropy(label_smoothing: float, num_classes: int) -> float:
    """Entropy in nats of the smoothed target distribution."""
    confidence = 1.0 - label_smoothing
    low = label_smoothing / (num_classes - 1)
    return -(confidence * math.log(confidence) + (num_classes - 1) * low * math.log(low))
