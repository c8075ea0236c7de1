"""What became of each note: found, found with a fault, missed, or made up.

Reference and estimated notes are paired in stages, from the strictest rule to
the loosest; a pair that one stage makes is closed to the next, so that every
note has exactly one kind. The first stage is the rule of
`Onset + offset + program F1`: the notes that are "right" are its hits. Notes of
no length take no part, as in the metrics.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from mt3.evaluation.metrics import Comparison, instruments_of
from mt3.evaluation.note_matching import (
    ONSET_TOLERANCE_SECONDS,
    Pairs,
    maximum_matching,
    offsets_agree,
    onset_pairs,
)
from mt3.symbolic.notes import Notes

# How far apart the onsets of a pair may be that differs in its onset alone.
LATE_ONSET_TOLERANCE_SECONDS = 0.2
OCTAVE_SEMITONES = 12
# How finely instruments are told apart, unless asked otherwise: by the 16 families of General MIDI.
GRANULARITY = "midi_class"

RIGHT, WRONG_OFFSET, WRONG_INSTRUMENT, WRONG_ONSET, WRONG_OCTAVE, MISSED, EXTRA = range(7)
KINDS = (
    "right",
    "wrong offset",
    "wrong instrument",
    "wrong onset",
    "wrong octave",
    "missed",
    "extra",
)


@dataclasses.dataclass(frozen=True, eq=False)
class NoteErrors:
    """The notes of both sides, sorted by onset, each with its kind.

    Attributes:
      reference, estimate: the notes that last.
      reference_kind: int8 [reference notes], index into `KINDS`; never EXTRA.
      estimate_kind: int8 [estimated notes]; never MISSED.
      pairs: the notes that answer one another; both of a pair have one kind.
    """

    reference: Notes
    estimate: Notes
    reference_kind: np.ndarray
    estimate_kind: np.ndarray
    pairs: Pairs


def find_note_errors(reference: Notes, estimate: Notes, granularity: str = GRANULARITY) -> NoteErrors:
    """Pairs the notes and names what is wrong with each.

    In this order, among notes not yet paired (onsets agree within 50 ms):
      right: pitch, onset, offset and instrument; drums by pitch and onset;
      wrong offset: pitch, onset and instrument;
      wrong instrument: pitch and onset; a drum and a pitched note never pair;
      wrong onset: pitch and instrument, with onsets at most 0.2 s apart;
      wrong octave: onset and instrument, with pitches whole octaves apart; no drums.
    What is left is missed or extra.

    Args:
      reference: the true notes.
      estimate: the transcription.
      granularity: how finely instruments are told apart, of `PROGRAM_GRANULARITIES`.

    Raises:
      ValueError: for an unknown granularity or a program outside 0..127.
    """
    lasting = Comparison(reference.sorted(), estimate.sorted()).matchable
    sides = _Sides(
        lasting.reference,
        lasting.estimate,
        instruments_of(lasting.reference, granularity),
        instruments_of(lasting.estimate, granularity),
    )
    reference_kind = np.full(len(sides.reference), MISSED, np.int8)
    estimate_kind = np.full(len(sides.estimate), EXTRA, np.int8)
    found = []
    for kind, candidates in _STAGES.items():
        pairs = candidates(sides)
        free = (reference_kind[pairs.reference] == MISSED) & (estimate_kind[pairs.estimate] == EXTRA)
        pairs = maximum_matching(pairs[free])
        reference_kind[pairs.reference] = kind
        estimate_kind[pairs.estimate] = kind
        found.append(pairs)
    pairs = Pairs(
        np.concatenate([pairs.reference for pairs in found]),
        np.concatenate([pairs.estimate for pairs in found]),
    )
    order = np.argsort(pairs.reference)
    return NoteErrors(sides.reference, sides.estimate, reference_kind, estimate_kind, pairs[order])


@dataclasses.dataclass(frozen=True, eq=False)
class _Sides:
    """Both sides and their notes' instruments."""

    reference: Notes
    estimate: Notes
    reference_instrument: np.ndarray
    estimate_instrument: np.ndarray

    def pairs(self, tolerance_seconds: float = ONSET_TOLERANCE_SECONDS) -> Pairs:
        """Of one pitch and about one onset, drums with drums."""
        return self.drums_apart(onset_pairs(self.reference, self.estimate, tolerance_seconds))

    def drums_apart(self, pairs: Pairs) -> Pairs:
        return pairs[self.reference.is_drum[pairs.reference] == self.estimate.is_drum[pairs.estimate]]

    def of_one_instrument(self, pairs: Pairs) -> Pairs:
        return pairs[self.reference_instrument[pairs.reference] == self.estimate_instrument[pairs.estimate]]


def _right(sides: _Sides) -> Pairs:
    pairs = sides.of_one_instrument(sides.pairs())
    is_drum = sides.reference.is_drum[pairs.reference]
    return pairs[is_drum | offsets_agree(sides.reference, sides.estimate, pairs)]


def _wrong_offset(sides: _Sides) -> Pairs:
    return sides.of_one_instrument(sides.pairs())


def _wrong_instrument(sides: _Sides) -> Pairs:
    return sides.pairs()


def _wrong_onset(sides: _Sides) -> Pairs:
    return sides.of_one_instrument(sides.pairs(LATE_ONSET_TOLERANCE_SECONDS))


def _wrong_octave(sides: _Sides) -> Pairs:
    reference, estimate = (
        notes.replace(pitch=notes.pitch % OCTAVE_SEMITONES) for notes in (sides.reference, sides.estimate)
    )
    pairs = sides.of_one_instrument(sides.drums_apart(onset_pairs(reference, estimate)))
    return pairs[~sides.reference.is_drum[pairs.reference]]


# Kind -> the pairs that may be of it, strictest first.
_STAGES: dict[int, Callable[[_Sides], Pairs]] = {
    RIGHT: _right,
    WRONG_OFFSET: _wrong_offset,
    WRONG_INSTRUMENT: _wrong_instrument,
    WRONG_ONSET: _wrong_onset,
    WRONG_OCTAVE: _wrong_octave,
}
