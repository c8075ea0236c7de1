"""Which instruments are taken for which.

A `ConfusionMatrix` counts the notes of a transcription by the instrument that
they have in the reference and the one that they have in the estimate, whatever
their offset. `mt3 report` draws it. Matrices of recordings add up.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np

from mt3.evaluation.metrics.comparison import DRUMS_INSTRUMENT, Comparison, Metric, Scores, instruments_of
from mt3.evaluation.note_matching import Pairs, maximum_matching
from mt3.symbolic.general_midi import DRUMS_NAME, family_name, program_name
from mt3.symbolic.vocabularies import PROGRAM_GRANULARITIES

_NAMES = {"flat": lambda program: "Pitched", "midi_class": family_name, "full": program_name}


@dataclasses.dataclass(frozen=True, eq=False)
class ConfusionMatrix:
    """Notes by instrument in the reference and in the estimate.

    Attributes:
      granularity: how finely instruments are told apart, of `PROGRAM_GRANULARITIES`.
      instruments: ascending, those that either side has: the program that stands
        for its group, or `DRUMS_INSTRUMENT`.
      counts: int64 [instruments + 1, instruments + 1], [reference, estimate]. The
        last column holds reference notes that were missed, the last row
        estimated notes that are extra; their common cell is 0. So a row sums up
        to the reference notes of an instrument, a column to the estimated ones.
    """

    granularity: str
    instruments: tuple[int, ...]
    counts: np.ndarray

    @classmethod
    def empty(cls, granularity: str) -> ConfusionMatrix:
        """Of no notes."""
        return cls(granularity, (), np.zeros((1, 1), np.int64))

    @property
    def names(self) -> tuple[str, ...]:
        """What the instruments are called."""
        name = _NAMES[self.granularity]
        return tuple(DRUMS_NAME if one == DRUMS_INSTRUMENT else name(one) for one in self.instruments)

    def __add__(self, other: ConfusionMatrix) -> ConfusionMatrix:
        """
        Raises:
          ValueError: when the granularities differ.
        """
        if self.granularity != other.granularity:
            raise ValueError(
                f"Confusion matrices of {self.granularity!r} and {other.granularity!r} do not add up; "
                "make both at one granularity."
            )
        instruments = sorted({*self.instruments, *other.instruments})
        counts = np.zeros((len(instruments) + 1,) * 2, np.int64)
        for part in (self, other):
            places = [*np.searchsorted(instruments, part.instruments), len(instruments)]
            counts[np.ix_(places, places)] += part.counts
        return ConfusionMatrix(self.granularity, tuple(instruments), counts)


def confusion_matrix(comparison: Comparison, granularity: str) -> ConfusionMatrix:
    """The confusion matrix of one recording.

    Notes are matched by pitch and onset (50 ms), first those of one instrument,
    then what is left, whatever the instrument, each time as many as can be. So
    no confusion is counted where the instruments' own notes answer one another;
    in return a few notes less may be matched than by pitch and onset alone. Of
    equally many matches the choice is that of `maximum_matching`, the same for
    the same notes. Drums match drums only: that a drum has a pitched note's
    number means nothing.

    Raises:
      ValueError: for an unknown granularity or a program outside 0..127.
    """
    notes = comparison.matchable
    reference, estimate = (instruments_of(side, granularity) for side in (notes.reference, notes.estimate))
    pairs = comparison.onset_pairs
    is_drum = (reference == DRUMS_INSTRUMENT)[pairs.reference]
    pairs = pairs[is_drum == (estimate == DRUMS_INSTRUMENT)[pairs.estimate]]
    matched = _match_own_first(pairs, reference, estimate)

    instruments = np.union1d(reference, estimate)
    size = len(instruments) + 1
    answer = np.full(len(reference), size - 1)
    answer[matched.reference] = np.searchsorted(instruments, estimate[matched.estimate])
    counts = np.zeros((size, size), np.int64)
    np.add.at(counts, (np.searchsorted(instruments, reference), answer), 1)
    extra = np.ones(len(estimate), bool)
    extra[matched.estimate] = False
    np.add.at(counts[-1], np.searchsorted(instruments, estimate[extra]), 1)
    return ConfusionMatrix(granularity, tuple(instruments.tolist()), counts)


def program_accuracy_scores(comparison: Comparison, granularity: str) -> Scores:
    """Of the notes right in pitch and onset, the share with the right instrument.

    From the confusion matrix: its diagonal over all its matched notes. Left out
    where no note is matched.
    """
    matched = confusion_matrix(comparison, granularity).counts[:-1, :-1]
    if not matched.sum():
        return {}
    return {f"Program accuracy ({granularity})": float(np.trace(matched) / matched.sum())}


def _match_own_first(pairs: Pairs, reference: np.ndarray, estimate: np.ndarray) -> Pairs:
    """A matching within instruments, and one of the notes that it leaves over."""
    own = maximum_matching(pairs[reference[pairs.reference] == estimate[pairs.estimate]])
    rest = pairs[~np.isin(pairs.reference, own.reference) & ~np.isin(pairs.estimate, own.estimate)]
    other = maximum_matching(rest)
    return Pairs(
        np.concatenate([own.reference, other.reference]), np.concatenate([own.estimate, other.estimate])
    )


CONFUSION: dict[str, Metric] = {
    f"program_accuracy_{granularity}": Metric(
        functools.partial(program_accuracy_scores, granularity=granularity), all_notes=True
    )
    for granularity in PROGRAM_GRANULARITIES
    if granularity != "flat"
}
