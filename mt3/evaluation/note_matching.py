"""Which estimated note answers which reference note.

The rules are those of mir_eval.transcription and transcription_velocity (after
MIREX's note tracking task): equal pitch, onsets within 50 ms, on demand offsets
within 50 ms or 20 % of the reference note's length, and a matching that pairs
as many notes as can be. This module promises mir_eval's own pairs, not only
their number, because the velocity rule fits a line through them. It finds them
from a sorted list of candidate pairs, where mir_eval builds dense matrices.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np

from mt3.symbolic.notes import Notes

ONSET_TOLERANCE_SECONDS = 0.05
OFFSET_TOLERANCE_SECONDS = 0.05
# The share of the reference note's length by which offsets may differ, where that is more.
OFFSET_TOLERANCE_RATIO = 0.2
# Of the range of the reference's velocities.
VELOCITY_TOLERANCE = 0.1

# Distances are rounded to this many decimals, so that exactly 50 ms is within 50 ms.
_DISTANCE_DECIMALS = 4
# About 1 GB of temporaries; music has about two candidates a note.
_MAX_CANDIDATES = 20_000_000


@dataclasses.dataclass(frozen=True, eq=False)
class Pairs:
    """Pairs of notes, as int64 [num_pairs] indices into a reference and an estimate.

    Sorted by reference index, then estimate index.
    """

    reference: np.ndarray
    estimate: np.ndarray

    def __len__(self) -> int:
        return len(self.reference)

    def __getitem__(self, keep: np.ndarray) -> Pairs:
        """The pairs that a boolean mask keeps."""
        return Pairs(self.reference[keep], self.estimate[keep])


def onset_pairs(
    reference: Notes, estimate: Notes, tolerance_seconds: float = ONSET_TOLERANCE_SECONDS
) -> Pairs:
    """All pairs of one pitch whose onsets are at most `tolerance_seconds` apart.

    Raises:
      ValueError: when there are too many to hold (tens of thousands of notes of one pitch at one time).
    """
    margin = tolerance_seconds + 10.0**-_DISTANCE_DECIMALS
    onsets = (reference.onset_seconds, estimate.onset_seconds - margin, estimate.onset_seconds + margin)
    pitches = (reference.pitch, estimate.pitch, estimate.pitch)
    # Whole numbers that sort by pitch, then time, exactly: ranks in place of seconds.
    times, rank = np.unique(np.concatenate(onsets), return_inverse=True)
    keys = np.concatenate(pitches).astype(np.int64) * len(times) + rank
    keys, earliest, latest = np.split(keys, [len(reference), len(reference) + len(estimate)])
    order = np.argsort(keys, kind="stable")
    first = np.searchsorted(keys, earliest, side="left", sorter=order)
    counts = np.searchsorted(keys, latest, side="right", sorter=order) - first
    if counts.sum() > _MAX_CANDIDATES:
        raise ValueError(
            f"{len(reference)} reference and {len(estimate)} estimated notes have {counts.sum()} pairs of "
            f"one pitch and time, above the limit of {_MAX_CANDIDATES}; remove the duplicate notes."
        )
    pairs = Pairs(order[_ranges(first, counts)], np.repeat(np.arange(len(estimate)), counts))
    distance = np.abs(reference.onset_seconds[pairs.reference] - estimate.onset_seconds[pairs.estimate])
    pairs = pairs[np.around(distance, _DISTANCE_DECIMALS) <= tolerance_seconds]
    by_reference = np.lexsort((pairs.estimate, pairs.reference))
    return Pairs(pairs.reference[by_reference], pairs.estimate[by_reference])


def offsets_agree(
    reference: Notes,
    estimate: Notes,
    pairs: Pairs,
    ratio: float = OFFSET_TOLERANCE_RATIO,
    min_tolerance_seconds: float = OFFSET_TOLERANCE_SECONDS,
) -> np.ndarray:
    """bool [num_pairs]: offsets within `ratio` of the reference note's length or the minimum."""
    offset = reference.offset_seconds[pairs.reference]
    distance = np.abs(offset - estimate.offset_seconds[pairs.estimate])
    length = np.abs(offset - reference.onset_seconds[pairs.reference])
    return np.around(distance, _DISTANCE_DECIMALS) <= np.maximum(ratio * length, min_tolerance_seconds)


def velocities_agree(
    reference: Notes, estimate: Notes, matching: Pairs, tolerance: float = VELOCITY_TOLERANCE
) -> np.ndarray:
    """bool [num_pairs]: which pairs of a matching also agree in velocity.

    Reference velocities are scaled so that those of all reference notes span
    [0, 1]; estimated ones by the line that fits the matched pairs best in the
    least squares sense (C. Hawthorne et al., "Onsets and frames", ISMIR 2018).
    """
    if not len(matching):
        return np.zeros(0, bool)
    lowest, highest = reference.velocity.min(), reference.velocity.max()
    target = (reference.velocity[matching.reference] - lowest) / max(1.0, float(highest - lowest))
    velocity = estimate.velocity[matching.estimate]
    line = np.stack([velocity, np.ones(len(velocity))], axis=1)
    slope, intercept = np.linalg.lstsq(line, target, rcond=None)[0]
    return np.abs(slope * velocity + intercept - target) < tolerance


def maximum_matching(candidates: Pairs) -> Pairs:
    """As many of `candidates` as can be, such that no note is in two.

    Of several such choices it is mir_eval's: J. Hopcroft and R. Karp's
    algorithm, started from a greedy choice, with estimates in the order of
    their first candidate and references in ascending order.
    """
    references_alone = np.bincount(candidates.reference)[candidates.reference] == 1
    estimates_alone = np.bincount(candidates.estimate)[candidates.estimate] == 1
    # Most notes have one candidate, whose only candidate they are: nothing to search for.
    certain = candidates[references_alone & estimates_alone]
    contested = candidates[~(references_alone & estimates_alone)]
    matched = _hopcroft_karp(zip(contested.reference.tolist(), contested.estimate.tolist(), strict=True))
    references = np.concatenate([certain.reference, np.fromiter(matched.keys(), np.int64, len(matched))])
    estimates = np.concatenate([certain.estimate, np.fromiter(matched.values(), np.int64, len(matched))])
    order = np.argsort(references)
    return Pairs(references[order], estimates[order])


def _ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """start, start + 1, ..., start + count - 1 of each pair, one after another."""
    ends = np.cumsum(counts)
    total = int(ends[-1]) if len(ends) else 0
    return np.arange(total) + np.repeat(starts - (ends - counts), counts)


def _hopcroft_karp(candidates: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Reference -> estimate of a maximum matching, from sorted (reference, estimate) pairs."""
    references_of: dict[int, list[int]] = {}
    for reference, estimate in candidates:
        references_of.setdefault(estimate, []).append(reference)
    estimate_of: dict[int, int] = {}
    for estimate, references in references_of.items():
        free = next((reference for reference in references if reference not in estimate_of), None)
        if free is not None:
            estimate_of[free] = estimate
    while True:
        reference_of = {estimate: reference for reference, estimate in estimate_of.items()}
        parents, ends = _shortest_paths(references_of, reference_of, estimate_of)
        if not ends:
            return estimate_of
        visited: set[int] = set()
        for end in ends:
            _augment(end, parents, visited, reference_of, estimate_of)


def _shortest_paths(
    references_of: dict[int, list[int]], reference_of: dict[int, int], estimate_of: dict[int, int]
) -> tuple[dict[int, list[int]], list[int]]:
    """Breadth first from the free estimates, until a layer has free references.

    Returns the estimates from which each reference was reached, and the free references.
    """
    parents: dict[int, list[int]] = {}
    ends: list[int] = []
    layer = [estimate for estimate in references_of if estimate not in reference_of]
    while layer and not ends:
        reached: dict[int, list[int]] = {}
        for estimate in layer:
            for reference in references_of[estimate]:
                if reference not in parents:
                    reached.setdefault(reference, []).append(estimate)
        parents.update(reached)
        ends = [reference for reference in reached if reference not in estimate_of]
        layer = [estimate_of[reference] for reference in reached if reference in estimate_of]
    return parents, ends


def _augment(
    end: int,
    parents: dict[int, list[int]],
    visited: set[int],
    reference_of: dict[int, int],
    estimate_of: dict[int, int],
) -> None:
    """Depth first from a free reference back to a free estimate; if found, the path's pairs change over.

    Uses up `parents` and extends `visited` (estimates), so that the paths of one phase are disjoint.
    Without recursion: a path may be as long as a run of repeated notes.
    """
    path = [(end, iter(parents.pop(end)))]
    chosen: list[int] = []
    while path:
        estimate = next((estimate for estimate in path[-1][1] if estimate not in visited), None)
        if estimate is None:
            path.pop()
            if chosen:
                chosen.pop()
            continue
        visited.add(estimate)
        if estimate not in reference_of:
            for (reference, _), partner in zip(path, [*chosen, estimate], strict=True):
                estimate_of[reference] = partner
            return
        reference = reference_of[estimate]
        if reference in parents:
            path.append((reference, iter(parents.pop(reference))))
            chosen.append(estimate)
