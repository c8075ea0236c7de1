"""All metrics by name, in groups, and the scores of one recording.

A metric is added by a file of this package that ends in a table of its rows,
and by that table's line in `_FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mt3.evaluation.metrics.comparison import SEGMENT_SECONDS, Comparison, Metric, Scores, Track
from mt3.evaluation.metrics.confusion import CONFUSION
from mt3.evaluation.metrics.drum_pieces import DRUMS
from mt3.evaluation.metrics.instrument_activity import ACTIVITY
from mt3.evaluation.metrics.instrument_classes import CLASSES
from mt3.evaluation.metrics.instruments import INSTRUMENTS
from mt3.evaluation.metrics.published import PUBLISHED
from mt3.evaluation.metrics.rolls import ROLLS
from mt3.evaluation.metrics.segment_borders import SEGMENTS
from mt3.evaluation.metrics.tolerances import LEADERBOARDS, TOLERANCES
from mt3.symbolic.notes import Notes
from mt3.symbolic.vocabularies import map_programs

# Far beyond any recording; keeps frame numbers within int64.
_MAX_SECONDS = 1e9

# Family of metrics -> its rows.
_FAMILIES: dict[str, dict[str, Metric]] = {
    "published": PUBLISHED,
    "tolerances": TOLERANCES,
    "leaderboards": LEADERBOARDS,
    "instruments": INSTRUMENTS,
    "classes": CLASSES,
    "drums": DRUMS,
    "rolls": ROLLS,
    "activity": ACTIVITY,
    "segments": SEGMENTS,
    "confusion": CONFUSION,
}

METRICS: dict[str, Metric] = {name: row for family in _FAMILIES.values() for name, row in family.items()}

PUBLISHED_METRICS: tuple[str, ...] = tuple(PUBLISHED)

# What stands for several metrics wherever metrics are named: the families, all that
# are not published, all.
METRIC_GROUPS: dict[str, tuple[str, ...]] = {
    **{name: tuple(family) for name, family in _FAMILIES.items()},
    "extended": tuple(name for name in METRICS if name not in PUBLISHED),
    "all": tuple(METRICS),
}


def score(
    reference: Notes,
    estimate: Notes,
    *,
    onsets_only: bool = False,
    tracks: Iterable[Track | Mapping[str, Any]] | None = None,
    metrics: Sequence[str] = PUBLISHED_METRICS,
    segment_seconds: float = SEGMENT_SECONDS,
) -> Scores:
    """The scores of one recording, under the names of the published code.

    Args:
      reference: the true notes.
      estimate: the transcription.
      onsets_only: the estimate has neither offsets nor velocities worth judging.
      tracks: instruments to score on their own as well, as 'NAME/Onset F1'
        (a `Track`, or a mapping of its fields).
      metrics: which rows of `METRICS`, or groups of `METRIC_GROUPS`.
      segment_seconds: of the segments that it was transcribed in, for the errors at their borders.

    Raises:
      ValueError: for a time beyond 1e9 s or not finite, a program of a pitched note
        outside 0..127, an unknown metric, more candidate pairs than can be held.
    """
    for side, notes in (("reference", reference), ("estimate", estimate)):
        _check_times(side, notes)
        map_programs(notes.program[~notes.is_drum], "flat")
    judged = frozenset() if onsets_only else frozenset({"offset", "velocity"})
    chosen = [METRICS[name] for name in expand(metrics)]
    comparison = Comparison(reference, estimate, segment_seconds)
    scores: Scores = {}
    for metric in chosen:
        if metric.uses <= judged:
            scores |= metric.function(comparison if metric.all_notes else comparison.pitched)
    for track in map(Track.of, tracks or ()):
        notes = comparison.select(track.select)
        judged_here = judged - {"offset"} if track.is_drum else judged
        for metric in chosen:
            if metric.uses <= judged_here and not metric.all_notes:
                scores |= {f"{track.name}/{name}": value for name, value in metric.function(notes).items()}
    return scores


def expand(names: Iterable[str]) -> tuple[str, ...]:
    """Names of rows of `METRICS`, each once, from names of rows and of groups.

    Raises:
      ValueError: when there is none of a name.
    """
    rows: dict[str, None] = {}
    for name in names:
        if name not in METRICS and name not in METRIC_GROUPS:
            raise ValueError(
                f"Metric {name!r} is none of {', '.join(METRICS)}; "
                f"nor of the groups {', '.join(METRIC_GROUPS)}."
            )
        rows |= dict.fromkeys(METRIC_GROUPS.get(name, (name,)))
    return tuple(rows)


def _check_times(side: str, notes: Notes) -> None:
    for column in ("onset_seconds", "offset_seconds"):
        values = getattr(notes, column)
        wrong = np.flatnonzero(~(np.abs(values) <= _MAX_SECONDS))
        if len(wrong):
            raise ValueError(
                f"{column} of {side} note {wrong[0]} is {values[wrong[0]]}; times must be numbers within "
                f"{_MAX_SECONDS:g} s: remove the note or correct its unit."
            )
