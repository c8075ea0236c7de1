"""Several examples become one: their audio is summed and their tokens merged.

A mix of n examples has the sum of their samples (not scaled: a mix of quiet
examples stays as quiet as they are) and one token stream with the events of all.
How many go into a mix is uniform over 1..max_examples.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mt3.data.preprocessors import SegmentConfig, Segments, fit_targets


def batch_size(max_examples: int) -> int:
    """Examples that make up `max_examples` mixes, one of each size 1..max_examples."""
    return max_examples * (max_examples + 1) // 2


def mix_sizes(num_examples: int, max_examples: int, rng: np.random.Generator) -> list[int]:
    """Sizes 1..max_examples of mixes that use up `num_examples`.

    Each size comes once, in random order, then each once again, and so on; the
    last mix takes what is left. With `batch_size(max_examples)` examples the
    sizes are therefore exactly uniform.
    """
    sizes: list[int] = []
    left = num_examples
    while left > 0:
        for size in rng.permutation(max_examples) + 1:
            sizes.append(min(int(size), left))
            left -= sizes[-1]
            if left == 0:
                break
    return sizes


def mix_segments(
    inputs: np.ndarray,
    targets: np.ndarray,
    ids: Sequence[bytes],
    max_examples: int,
    rng: np.random.Generator,
    config: SegmentConfig,
) -> Segments:
    """Mixes of neighbouring segments.

    Where the target of a mix is too long, the long-target rule decides:
    "truncate" cuts it, "drop" leaves out the mix, "resample" leaves out examples,
    last first, audio and tokens alike, until the rest fits.

    Args:
      inputs: float32 or 16-bit PCM [num_segments, frames, hop_samples].
      targets: int32 [num_segments, max_target_tokens], padded with 0.
      ids: num_segments, of the segments.
      max_examples: most segments in a mix.
      rng: says how many go into each mix.
      config: how the targets were made, and their bound.

    Returns:
      Mixes; `inputs` [num_mixes, frames, hop_samples], sums of samples, int32 where they were integers;
      `ids` those of the segments in each, joined by " + ".
    """
    mixed, members, num_too_long, first = [], [], 0, 0
    for size in mix_sizes(len(inputs), max_examples, rng):
        target, num_members, was_too_long = _merge(targets[first : first + size], config)
        mixed.append(target)
        members.append((first, first + num_members))
        num_too_long += was_too_long
        first += size
    fitted, kept = fit_targets(mixed, config)
    kept_members = [members[index] for index in kept]
    return Segments(
        inputs=_sums(inputs, kept_members),
        targets=fitted,
        start_frames=np.zeros(len(kept), np.int64),
        ids=[b" + ".join(ids[first:last]) for first, last in kept_members],
        num_too_long=num_too_long,
        num_dropped=len(mixed) - len(kept),
    )


def _merge(targets: np.ndarray, config: SegmentConfig) -> tuple[np.ndarray, int, bool]:
    """The merged target, of how many examples it is, and whether it was of fewer than asked or too long."""
    num_members = len(targets)
    target = config.tokenizer.merge(list(targets)) if num_members > 1 else _unpadded(targets[0])
    was_too_long = len(target) > config.max_target_tokens
    while len(target) > config.max_target_tokens and config.long_target_rule.num_redraws and num_members > 1:
        num_members -= 1
        target = config.tokenizer.merge(list(targets[:num_members]))
    return target, num_members, was_too_long


def _unpadded(target: np.ndarray) -> np.ndarray:
    return target[: np.count_nonzero(target)]


def _sums(inputs: np.ndarray, members: list[tuple[int, int]]) -> np.ndarray:
    """[num_mixes, ...], sums over ranges of rows."""
    # Sums of 16-bit samples need more bits.
    dtype = np.int32 if np.issubdtype(inputs.dtype, np.integer) else inputs.dtype
    sums = np.empty((len(members), *inputs.shape[1:]), dtype)
    for total, (first, last) in zip(sums, members, strict=True):
        total[...] = inputs[first]
        for row in inputs[first + 1 : last]:
            total += row
    return sums
