"""What every metric is computed from: two sets of notes side by side, and counts of hits.

A metric is one function from a `Comparison` to named values; a `Metric` says on
which notes it is computed. What several metrics need (candidate pairs,
matchings) a `Comparison` computes once.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from mt3.evaluation.note_matching import (
    ONSET_TOLERANCE_SECONDS,
    Pairs,
    maximum_matching,
    offsets_agree,
    onset_pairs,
)
from mt3.symbolic.notes import Notes
from mt3.symbolic.vocabularies import NUM_PROGRAMS, map_programs

Scores = dict[str, float]

# MT3's: 256 frames of 128 samples at 16 kHz.
SEGMENT_SECONDS = 2.048

# Drums are one instrument, beside the 128 programs.
DRUMS_INSTRUMENT = NUM_PROGRAMS
# The class of notes that take no part, see `counts_by_class`.
NO_CLASS = -1


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
    """A reference and an estimate side by side, with what metrics share computed once.

    Attributes:
      reference: the true notes.
      estimate: the transcription.
      segment_seconds: of the segments that it was transcribed in.
    """

    reference: Notes
    estimate: Notes
    segment_seconds: float = SEGMENT_SECONDS

    def select(self, function: Callable[[Notes], Notes]) -> Comparison:
        """The comparison of a selection of the notes of both sides."""
        return Comparison(function(self.reference), function(self.estimate), self.segment_seconds)

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

    @property
    def onset_pairs(self) -> Pairs:
        """Pairs of one pitch and about one onset; indices into `matchable`."""
        return self.onset_pairs_within(ONSET_TOLERANCE_SECONDS)

    def onset_pairs_within(self, tolerance_seconds: float) -> Pairs:
        """The same with another tolerance."""
        if tolerance_seconds not in self._onset_pairs:
            notes = self.matchable
            self._onset_pairs[tolerance_seconds] = onset_pairs(
                notes.reference, notes.estimate, tolerance_seconds
            )
        return self._onset_pairs[tolerance_seconds]

    @functools.cached_property
    def _onset_pairs(self) -> dict[float, Pairs]:
        """Tolerance -> pairs, as far as they were asked for."""
        return {}

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

    @property
    def precision(self) -> float:
        """Share of the estimated things that are right; 0 without any."""
        return self.hits / self.estimate if self.estimate else 0.0

    @property
    def recall(self) -> float:
        """Share of the reference things that were found; 0 without any."""
        return self.hits / self.reference if self.reference else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both; 0 without hits."""
        precision, recall = self.precision, self.recall
        return 2 * precision * recall / (precision + recall) if self.hits else 0.0

    def scores(self, name: str, words: Sequence[str] = ("precision", "recall", "F1")) -> Scores:
        """Precision, recall and F1, 0 where undefined; `name` has a place {} for the words."""
        values = (self.precision, self.recall, self.f1)
        return {name.format(word): value for word, value in zip(words, values, strict=True)}


def instruments_of(notes: Notes, granularity: str) -> np.ndarray:
    """int64 [num_notes]: the program that stands for each note's, or `DRUMS_INSTRUMENT`.

    Raises:
      ValueError: for an unknown granularity or a pitched note's program outside 0..127.
    """
    programs = map_programs(np.where(notes.is_drum, 0, notes.program), granularity)
    return np.where(notes.is_drum, DRUMS_INSTRUMENT, programs).astype(np.int64)


def counts_by_class(
    candidates: Pairs, reference_class: np.ndarray, estimate_class: np.ndarray
) -> dict[int, Counts]:
    """Hits and notes of each class that either side has; a note matches only notes of its class.

    Args:
      candidates: pairs that may match.
      reference_class: int [reference notes]; notes of `NO_CLASS` are neither matched nor counted.
      estimate_class: int [estimated notes].
    """
    classes = reference_class[candidates.reference]
    within = (classes != NO_CLASS) & (classes == estimate_class[candidates.estimate])
    hits = reference_class[maximum_matching(candidates[within]).reference]
    return {
        int(one): Counts(*(int((column == one).sum()) for column in (hits, reference_class, estimate_class)))
        for one in np.union1d(reference_class, estimate_class)
        if one != NO_CLASS
    }


def total(counts: Iterable[Counts]) -> Counts:
    """Of all classes together."""
    return sum(counts, Counts(0, 0, 0))


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
