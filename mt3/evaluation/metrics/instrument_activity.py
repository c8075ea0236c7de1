"""Which instruments sound in which second, scored by the area under the ROC curve.

Source: Y.-N. Hung, Y.-A. Chen and Y.-H. Yang, "Multitask learning for
frame-level instrument recognition", ICASSP 2019 (arXiv 1811.01143), whose
per-second instrument AUC is on MedleyDB and Mixing Secrets. An instrument is
active in a second of which any part has a note of it.

A network that gives activities is scored with `instrument_auc`. A transcription
has no scores; there an instrument's activity is the share of the second in which
it sounds (`activity_of`). The paper joins the seconds of all recordings; here,
as for all metrics, each recording is scored and the mean is over recordings
(`instrument_auc` takes joined seconds as well).

The AUC is the probability that a second with the instrument has a higher score
than one without, ties counting half (J. Hanley and B. McNeil, 1982). It is left
out for an instrument that sounds in all seconds or in none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mt3.evaluation.metrics.comparison import Comparison, Metric, Scores
from mt3.symbolic.notes import Notes

# Name -> programs, 0-based: what the paper has in common with both its datasets.
INSTRUMENTS: dict[str, tuple[int, ...]] = {
    "piano": tuple(range(0, 8)),
    "guitar": tuple(range(24, 32)),
    "violin": (40,),
    "cello": (42,),
    "flute": (73,),
}

# Shares of a second are rounded to a microsecond, so that whole seconds are equal.
_SHARE_DECIMALS = 6


def instrument_auc_scores(comparison: Comparison) -> Scores:
    """AUC of each of `INSTRUMENTS` that is defined, and their mean.

    The seconds are those from 0, or the first note, to the end of both sides.
    Stretches in which nothing changes count as often as they have seconds, and
    are not spelled out. 0.5 without an estimate.
    """
    whole = _whole_seconds(comparison)
    scores: Scores = {}
    for name, programs in INSTRUMENTS.items():
        reference, estimate = (
            notes[np.isin(notes.program, programs)]
            for notes in (comparison.pitched.reference, comparison.pitched.estimate)
        )
        edges = np.unique(np.concatenate([whole, *_edges(reference), *_edges(estimate)]))
        active = sounding_share(reference, edges) > 0
        value = auc(sounding_share(estimate, edges), active, np.diff(edges))
        if value is not None:
            scores[f"Instrument AUC ({name})"] = value
    if scores:
        scores["Instrument AUC (mean)"] = float(np.mean(list(scores.values())))
    return scores


def instrument_auc(
    activity: np.ndarray, reference: Notes, instruments: Mapping[str, Sequence[int]] = INSTRUMENTS
) -> Scores:
    """AUC of a network's activities against notes, by instrument, and their mean.

    Args:
      activity: float [seconds, instruments], from second 0; higher where an
        instrument is the more likely to sound.
      reference: the true notes.
      instruments: name -> programs, in the order of `activity`'s columns.

    Raises:
      ValueError: when `activity` has another number of columns.
    """
    if activity.ndim != 2 or activity.shape[1] != len(instruments):
        raise ValueError(
            f"activity has shape {activity.shape}; it must be [seconds, {len(instruments)}], "
            f"a column each of {', '.join(instruments)}."
        )
    active = activity_of(reference, len(activity), instruments) > 0
    values = {name: auc(activity[:, column], active[:, column]) for column, name in enumerate(instruments)}
    scores = {f"Instrument AUC ({name})": value for name, value in values.items() if value is not None}
    if scores:
        scores["Instrument AUC (mean)"] = float(np.mean(list(scores.values())))
    return scores


def activity_of(
    notes: Notes, num_seconds: int, instruments: Mapping[str, Sequence[int]] = INSTRUMENTS
) -> np.ndarray:
    """float64 [num_seconds, instruments]: the share of each second in which each instrument sounds."""
    pitched = notes[~notes.is_drum]
    edges = np.arange(num_seconds + 1)
    shares = [
        sounding_share(pitched[np.isin(pitched.program, programs)], edges)
        for programs in instruments.values()
    ]
    return np.stack(shares, axis=1) if shares else np.zeros((num_seconds, 0))


def sounding_share(notes: Notes, edges_seconds: np.ndarray) -> np.ndarray:
    """float64 [num_edges - 1]: the share of the time between edges in which at least one note sounds."""
    notes = notes[notes.duration_seconds > 0]
    if not len(notes):
        return np.zeros(len(edges_seconds) - 1)
    order = np.argsort(notes.onset_seconds, kind="stable")
    onset, until = notes.onset_seconds[order], np.maximum.accumulate(notes.offset_seconds[order])
    # Notes that touch or overlap are one stretch of sound.
    is_first = np.concatenate([[True], onset[1:] > until[:-1]])
    starts, ends = onset[is_first], until[np.concatenate([is_first[1:], [True]])]
    before = np.concatenate([[0.0], np.cumsum(ends - starts)])
    index = np.searchsorted(starts, edges_seconds, side="right")
    last_end = np.concatenate([[-np.inf], ends])[index]
    sounded = before[index] - np.maximum(last_end - edges_seconds, 0)
    return np.around(np.diff(sounded) / np.diff(edges_seconds), _SHARE_DECIMALS)


def auc(scores: np.ndarray, is_positive: np.ndarray, weights: np.ndarray | None = None) -> float | None:
    """The area under the ROC curve, or None where all are positive or none is.

    Args:
      scores: [num_items].
      is_positive: bool [num_items].
      weights: [num_items], how many equal items each stands for; one by default.
    """
    weights = np.ones(len(scores)) if weights is None else np.asarray(weights, float)
    _, rank = np.unique(scores, return_inverse=True)
    positive, negative = (np.bincount(rank, weights * mask) for mask in (is_positive, ~is_positive))
    pairs = positive.sum() * negative.sum()
    if not pairs:
        return None
    lower = np.cumsum(negative) - negative
    return float((positive * (lower + negative / 2)).sum() / pairs)


def _whole_seconds(comparison: Comparison) -> np.ndarray:
    """The first and the last whole second of a recording, [2]."""
    both = Notes.concatenate([comparison.reference, comparison.estimate])
    first = min(0.0, np.floor(both.onset_seconds.min(initial=0.0)))
    last = np.ceil(max(both.offset_seconds.max(initial=0.0), both.onset_seconds.max(initial=0.0)))
    return np.array([first, max(last, first + 1)])


def _edges(notes: Notes) -> list[np.ndarray]:
    """The whole seconds around each start and end of a note."""
    times = np.concatenate([notes.onset_seconds, notes.offset_seconds])
    return [np.floor(times), np.ceil(times)]


ACTIVITY: dict[str, Metric] = {
    "instrument_auc": Metric(instrument_auc_scores, frozenset({"offset"}), all_notes=True),
}
