"""Joins segments that overlap into one recording's notes.

Every segment is trusted in its middle: half-way through what two neighbours both
hear is a seam, before which the first one is believed and after which the second.
Where they meet they must agree:

- a note that both hear is one note, whose onset and end are those of the
  neighbour that is trusted there;
- a note that sounds through the seam goes on if both hear it. If only the second
  does, it is left out. If only the first does, it ends as that one says; where that
  one heard no end, the segment after next may still know the note and carry it on;
- a note that is heard from different instruments has the one that speaks for
  itself most: the sum of the probabilities with which segments heard it, times the
  number of notes that the instrument has in the recording so far.

Segments are decoded each by itself, so that a mistaken tie misleads none but its own.
"""

from __future__ import annotations

import collections
import dataclasses
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import NamedTuple

from mt3.symbolic.sounding_notes import HeardNote

# Places of a note before and of the same note after a seam.
_Pair = tuple[int, int]


@dataclasses.dataclass(frozen=True)
class HeardSegment:
    """What was heard in one segment.

    Attributes:
      start_step, end_step: of the segment.
      notes: in any order, at steps of the recording.
    """

    start_step: int
    end_step: int
    notes: Sequence[HeardNote]


class _Carried(NamedTuple):
    """A note that further segments may change.

    Attributes:
      note: as it is known so far.
      votes: program -> sum of the probabilities with which segments heard it.
      heard_until: where it ends unless the next segment knows it, of a note that the last one missed.
    """

    note: HeardNote
    votes: dict[int, float]
    heard_until: int | None = None

    @property
    def final(self) -> HeardNote:
        """If no segment has more to say."""
        return self.note if self.heard_until is None else self.note._replace(offset_step=self.heard_until)


class SeamJoiner:
    """Takes segments in their order and hands on notes when nothing can change them."""

    def __init__(self, tolerance_steps: int, emit: Callable[[HeardNote], None]) -> None:
        """
        Args:
          tolerance_steps: onsets of one note differ by no more than this.
          emit: is called with each note that is final.
        """
        self._tolerance = tolerance_steps
        self._emit = emit
        self._carried: list[_Carried] = []
        self._end_step: int | None = None  # of the last segment
        # Program -> expected number of notes, as segments heard them: what is decided here is
        # no evidence, or the commonest instrument would swallow the others.
        self._evidence: dict[int, float] = {}

    def add(self, segment: HeardSegment) -> None:
        """Joins the next segment on."""
        last_end_step = segment.start_step if self._end_step is None else self._end_step
        seam = (segment.start_step + last_end_step) // 2
        self._count(segment.notes)
        before, after = self._carried, segment.notes
        pairs = self._pairs(before, after, segment.start_step, seam)
        known_before, known_after = {i for i, _ in pairs}, {j for _, j in pairs}
        carried = [self._one_note(before[i], after[j], seam, segment.end_step) for i, j in pairs]
        # A tie of what nobody heard being struck is not believed: its onset is unknown.
        carried += [
            _Carried(note, {note.program: _probability(note)})
            for j, note in enumerate(after)
            if j not in known_after and note.onset_step >= seam and not note.is_adopted
        ]
        over = [one for i, one in enumerate(before) if i not in known_before and one.note.onset_step < seam]
        self._carried = _without_overlaps(carried)
        onsets = _onsets(one.note for one in self._carried)
        for one in over:
            note = _cut(one.final, onsets)
            if note.is_open and note == one.note and note.offset_step > seam:
                missed = note._replace(offset_step=segment.end_step)
                self._carried.append(one._replace(note=missed, heard_until=note.offset_step))
            else:
                self._emit(note)
        self._end_step = segment.end_step

    def finish(self) -> None:
        """There are no more segments."""
        for one in self._carried:
            self._emit(one.final)
        self._carried = []

    def _count(self, notes: Sequence[HeardNote]) -> None:
        for note in notes:
            if not note.is_drum and not note.is_adopted:
                self._evidence[note.program] = self._evidence.get(note.program, 0.0) + _probability(note)

    def _pairs(
        self, before: Sequence[_Carried], after: Sequence[HeardNote], start_step: int, seam: int
    ) -> list[_Pair]:
        """The notes that both hear: those of one instrument first, then of different ones."""
        pairs: dict[int, int] = {}
        for key in (_instrument_and_pitch, _pitch):
            by_key = collections.defaultdict(list)
            for i, one in enumerate(before):
                if i not in pairs:
                    by_key[key(one.note)].append(i)
            taken = set(pairs.values())
            candidates = sorted(
                (abs(before[i].note.onset_step - note.onset_step), i, j)
                for j, note in enumerate(after)
                if j not in taken
                for i in by_key[key(note)]
                if self._is_same(before[i].note, note, start_step, seam)
            )
            for _, i, j in candidates:  # the nearest onsets first
                if i not in pairs and j not in taken:
                    pairs[i] = j
                    taken.add(j)
        return list(pairs.items())

    def _is_same(self, first: HeardNote, second: HeardNote, start_step: int, seam: int) -> bool:
        """Of notes of one pitch: whether they start together, or sound together where both are heard."""
        if second.is_adopted:
            return first.onset_step <= start_step + self._tolerance and first.offset_step > start_step
        starts_together = abs(first.onset_step - second.onset_step) <= self._tolerance
        return starts_together or all(note.onset_step < seam < note.offset_step for note in (first, second))

    def _one_note(self, first: _Carried, second: HeardNote, seam: int, end_step: int) -> _Carried:
        """The note that two neighbours hear, the second of which ends at `end_step`."""
        begun = first.note if first.note.onset_step < seam or second.is_adopted else second
        votes = first.votes.copy()
        votes[second.program] = votes.get(second.program, 0.0) + _probability(second)
        program = max(votes, key=lambda program: votes[program] * self._evidence.get(program, 0.0))
        note = begun._replace(program=program)
        if first.note.offset_step <= seam:
            return _Carried(note._replace(offset_step=first.note.offset_step, is_open=False), votes)
        if second.offset_step <= seam and first.note.is_open:
            return _Carried(note._replace(offset_step=end_step, is_open=True), votes, heard_until=seam)
        offset_step = max(second.offset_step, seam)
        return _Carried(note._replace(offset_step=offset_step, is_open=second.is_open), votes)


def _without_overlaps(carried: Sequence[_Carried]) -> list[_Carried]:
    """Ends each note where the next of its pitch and instrument starts; of several at one step, one stays."""
    kept = {(_instrument_and_pitch(one.note), one.note.onset_step): one for one in carried}
    onsets = _onsets(one.note for one in kept.values())
    return [one._replace(note=_cut(one.note, onsets)) for one in kept.values()]


_Onsets = Mapping[Hashable, Sequence[int]]


def _onsets(notes: Iterable[HeardNote]) -> _Onsets:
    """Of each pitch and instrument."""
    onsets = collections.defaultdict(list)
    for note in notes:
        onsets[_instrument_and_pitch(note)].append(note.onset_step)
    return onsets


def _cut(note: HeardNote, onsets: _Onsets) -> HeardNote:
    """The note, ended where the next of its pitch and instrument starts."""
    later = [step for step in onsets.get(_instrument_and_pitch(note), ()) if step > note.onset_step]
    return note._replace(offset_step=min([note.offset_step, *later]))


def _probability(note: HeardNote) -> float:
    return math.exp(min(note.log_prob, 0.0))


def _instrument_and_pitch(note: HeardNote) -> Hashable:
    return note.pitch, note.program, note.is_drum


def _pitch(note: HeardNote) -> Hashable:
    return note.pitch, note.is_drum
