"""How well one set of notes transcribes another: the published MT3 scores.

`score` gives a flat dictionary of metric name -> value in [0, 1] for one
recording; means over recordings are `mt3.evaluation.evaluator`'s job. A metric
is one function from a `Comparison` to named values, and one row of `METRICS`.
What several metrics need (candidate pairs, matchings) a `Comparison` computes
once. Nothing but NumPy is imported.

Scores are defined for notes at any time, negative ones included: without reference notes,
without estimated notes or without both, precision, recall and F1 are 0.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mt3.evaluation.frame_metrics import count_frames
from mt3.evaluation.note_matching import (
    Pairs,
    maximum_matching,
    offsets_agree,
    onset_pairs,
    velocities_agree,
)
from mt3.symbolic.notes import Notes
from mt3.symbolic.vocabularies import PROGRAM_GRANULARITIES, map_programs

Scores = dict[str, float]

# Far beyond any recording; keeps frame numbers within int64.
_MAX_SECONDS = 1e9


@dataclasses.dataclass(frozen=True)
class Track:
    """An instrument that is also scored on its own, under 'NAME/...'.

    Attributes:
      name: what its scores are called by.
      program: 0-based General MIDI program, matched exactly.
      is_drum: bool.
    """

    name: str
    program: int
    is_drum: bool = False

    @classmethod
    def of(cls, track: Track | Mapping[str, Any]) -> Track:
        """`track` itself, or from a mapping of its fields.

        Raises:
          ValueError: a field is unknown, or missing.
        """
        if isinstance(track, Track):
            return track
        try:
            return cls(**track)
        except TypeError as error:
            known = ", ".join(field.name for field in dataclasses.fields(cls))
            raise ValueError(
                f"the track {track!r} is not of the fields {known}; give name and program"
            ) from error

    def select(self, notes: Notes) -> Notes:
        """The notes of this instrument."""
        return notes[(notes.program == self.program) & (notes.is_drum == self.is_drum)]


@dataclasses.dataclass(frozen=True, eq=False)
class Comparison:
    """A reference and an estimate side by side, with what metrics share computed once."""

    reference: Notes
    estimate: Notes

    def select(self, function: Callable[[Notes], Notes]) -> Comparison:
        """The comparison of a selection of the notes of both sides."""
        return Comparison(function(self.reference), function(self.estimate))

    @functools.cached_property
    def pitched(self) -> Comparison:
        """Of the notes that are not drums."""
        return self.select(lambda notes: notes[~notes.is_drum])

    @functools.cached_property
    def drums(self) -> Comparison:
        """Of the drums."""
        return self.select(lambda notes: notes[notes.is_drum])

    @functools.cached_property
    def matchable(self) -> Comparison:
        """Of the notes that last: as published, those of no length take no part in note matching."""
        return self.select(lambda notes: notes[notes.duration_seconds > 0])

    @functools.cached_property
    def onset_pairs(self) -> Pairs:
        """Pairs of one pitch and about one onset; indices into `matchable`."""
        return onset_pairs(self.matchable.reference, self.matchable.estimate)

    @functools.cached_property
    def onset_offset_pairs(self) -> Pairs:
        """Those of `onset_pairs` with about one offset."""
        pairs = self.onset_pairs
        return pairs[offsets_agree(self.matchable.reference, self.matchable.estimate, pairs)]

    @functools.cached_property
    def onset_matching(self) -> Pairs:
        """The notes that are right in pitch and onset, each with its reference note."""
        return maximum_matching(self.onset_pairs)

    @functools.cached_property
    def onset_offset_matching(self) -> Pairs:
        """The notes that are right in pitch, onset and offset, each with its reference note."""
        return maximum_matching(self.onset_offset_pairs)


@dataclasses.dataclass(frozen=True)
class Counts:
    """What precision and recall are made of: hits among reference and among estimated things."""

    hits: int
    reference: int
    estimate: int

    def __add__(self, other: Counts) -> Counts:
        return Counts(
            self.hits + other.hits, self.reference + other.reference, self.estimate + other.estimate
        )

    def scores(self, name: str, words: Sequence[str] = ("precision", "recall", "F1")) -> Scores:
        """Precision, recall and F1, 0 where undefined; `name` has a place {} for the words."""
        precision = self.hits / self.estimate if self.estimate else 0.0
        recall = self.hits / self.reference if self.reference else 0.0
        f1 = 2 * precision * recall / (precision + recall) if self.hits else 0.0
        return {name.format(word): value for word, value in zip(words, (precision, recall, f1), strict=True)}


def _note_counts(comparison: Comparison, hits: int) -> Counts:
    return Counts(hits, len(comparison.matchable.reference), len(comparison.matchable.estimate))


def onset_scores(comparison: Comparison) -> Scores:
    """Notes with the right pitch and an onset within 50 ms (mir_eval.transcription without offsets)."""
    return _note_counts(comparison, len(comparison.onset_matching)).scores("Onset {}")


def onset_offset_scores(comparison: Comparison) -> Scores:
    """And an offset within 50 ms or 20 % of the note's length (mir_eval.transcription)."""
    return _note_counts(comparison, len(comparison.onset_offset_matching)).scores("Onset + offset {}")


def onset_velocity_scores(comparison: Comparison) -> Scores:
    """Pitch, onset and, after a linear rescaling, velocity (mir_eval.transcription_velocity)."""
    return _velocity_counts(comparison, comparison.onset_matching).scores("Onset + velocity {}")


def onset_offset_velocity_scores(comparison: Comparison) -> Scores:
    """Pitch, onset, offset and velocity (mir_eval.transcription_velocity)."""
    counts = _velocity_counts(comparison, comparison.onset_offset_matching)
    return counts.scores("Onset + offset + velocity {}")


def _velocity_counts(comparison: Comparison, matching: Pairs) -> Counts:
    notes = comparison.matchable
    hits = velocities_agree(notes.reference, notes.estimate, matching)
    return _note_counts(comparison, int(hits.sum()))


def frame_scores(comparison: Comparison) -> Scores:
    """Cells of the piano roll, see `frame_metrics`; quiet reference notes count as silent."""
    both, reference, estimate = count_frames(comparison.reference, comparison.estimate)
    return Counts(both, reference, estimate).scores("Frame {}", ("Precision", "Recall", "F1"))


def program_scores(comparison: Comparison, granularity: str) -> Scores:
    """Pitch, onset, offset and instrument (J. Gardner et al., "MT3", ICLR 2022).

    A note matches only notes of its own instrument, told apart at a granularity
    of `PROGRAM_GRANULARITIES`. Drums match drums, by onset only.
    """
    pitched, drums = comparison.pitched, comparison.drums
    reference, estimate = (
        map_programs(notes.program, granularity)
        for notes in (pitched.matchable.reference, pitched.matchable.estimate)
    )
    pairs = pitched.onset_offset_pairs
    matching = maximum_matching(pairs[reference[pairs.reference] == estimate[pairs.estimate]])
    pitched_counts = _note_counts(pitched, len(matching))
    drum_counts = _note_counts(drums, len(drums.onset_matching))
    return {
        **(pitched_counts + drum_counts).scores(f"Onset + offset + program {{}} ({granularity})"),
        **drum_counts.scores(f"Drum onset {{}} ({granularity})"),
        **pitched_counts.scores(f"Nondrum onset + offset + program {{}} ({granularity})"),
    }


@dataclasses.dataclass(frozen=True)
class Metric:
    """What is computed, on which notes, and where it makes sense.

    Attributes:
      function: named scores of a comparison.
      uses: which of "offset" and "velocity" it judges; what has none is not scored by it.
      all_notes: it gets drums and all, once. Otherwise it gets the pitched notes,
        and the notes of each track.
    """

    function: Callable[[Comparison], Scores]
    uses: frozenset[str] = frozenset()
    all_notes: bool = False


METRICS: dict[str, Metric] = {
    "onset": Metric(onset_scores),
    "onset_offset": Metric(onset_offset_scores, frozenset({"offset"})),
    "onset_velocity": Metric(onset_velocity_scores, frozenset({"velocity"})),
    "onset_offset_velocity": Metric(onset_offset_velocity_scores, frozenset({"offset", "velocity"})),
    "frame": Metric(frame_scores),
    # The published set has these for onsets-only models too, although they judge offsets.
    **{
        f"program_{granularity}": Metric(
            functools.partial(program_scores, granularity=granularity), all_notes=True
        )
        for granularity in PROGRAM_GRANULARITIES
    },
}

PUBLISHED_METRICS: tuple[str, ...] = tuple(METRICS)


def score(
    reference: Notes,
    estimate: Notes,
    *,
    onsets_only: bool = False,
    tracks: Iterable[Track | Mapping[str, Any]] | None = None,
    metrics: Sequence[str] = PUBLISHED_METRICS,
) -> Scores:
    """The scores of one recording, under the names of the published code.

    Args:
      reference: the true notes.
      estimate: the transcription.
      onsets_only: the estimate has neither offsets nor velocities worth judging.
      tracks: instruments to score on their own as well, as 'NAME/Onset F1'
        (a `Track`, or a mapping of its fields).
      metrics: which rows of `METRICS`.

    Raises:
      ValueError: for a time beyond 1e9 s or not finite, a program outside 0..127, an unknown metric.
    """
    for side, notes in (("reference", reference), ("estimate", estimate)):
        _check_times(side, notes)
    judged = frozenset() if onsets_only else frozenset({"offset", "velocity"})
    chosen = [lookup(name) for name in metrics]
    comparison = Comparison(reference, estimate)
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


def lookup(name: str) -> Metric:
    """A row of `METRICS`.

    Raises:
      ValueError: when there is none of that name.
    """
    if name not in METRICS:
        raise ValueError(f"Metric {name!r} is none of {', '.join(METRICS)}.")
    return METRICS[name]


def _check_times(side: str, notes: Notes) -> None:
    for column in ("onset_seconds", "offset_seconds"):
        values = getattr(notes, column)
        wrong = np.flatnonzero(~(np.abs(values) <= _MAX_SECONDS))
        if len(wrong):
            raise ValueError(
                f"{column} of {side} note {wrong[0]} is {values[wrong[0]]}; times must be numbers within "
                f"{_MAX_SECONDS:g} s: remove the note or correct its unit."
            )
