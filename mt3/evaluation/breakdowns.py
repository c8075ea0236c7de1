"""Where a transcription succeeds: its notes counted by instrument, pitch, polyphony and loudness.

A `Breakdown` is a table of counts: for each group of notes, how many reference
and how many estimated notes are of each kind of `note_errors`. Counts add up
over recordings, so that scores of a group are pooled over all its notes, where
means over recordings would be led by recordings with few of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from mt3.evaluation.metrics import DRUMS_INSTRUMENT, Counts, instruments_of
from mt3.evaluation.note_errors import (
    GRANULARITY,
    KINDS,
    OCTAVE_SEMITONES,
    RIGHT,
    WRONG_INSTRUMENT,
    WRONG_OFFSET,
    NoteErrors,
)
from mt3.symbolic.general_midi import family_name, program_name
from mt3.symbolic.notes import Notes

# Least value of each group; a group ends where the next one starts.
POLYPHONY_BOUNDS = (0, 1, 2, 3, 4, 5, 7, 9, 13)
VELOCITY_BOUNDS = (0, 1, 33, 49, 65, 81, 97, 113)
_MAX_VELOCITY = 127


@dataclasses.dataclass(frozen=True, eq=False)
class Breakdown:
    """Notes counted by group and kind.

    Attributes:
      groups: the keys of the groups, ascending; only groups that have notes.
      reference: int64 [groups, kinds], reference notes.
      estimate: int64 [groups, kinds], estimated notes.
    """

    groups: tuple[int, ...]
    reference: np.ndarray
    estimate: np.ndarray

    def __add__(self, other: Breakdown) -> Breakdown:
        groups = sorted({*self.groups, *other.groups})
        totals = np.zeros((2, len(groups), len(KINDS)), np.int64)
        for part in (self, other):
            rows = np.searchsorted(groups, part.groups)
            totals[0, rows] += part.reference
            totals[1, rows] += part.estimate
        return Breakdown(tuple(groups), *totals)

    @classmethod
    def empty(cls) -> Breakdown:
        """Of no notes."""
        nothing = np.zeros((0, len(KINDS)), np.int64)
        return cls((), nothing, nothing)

    def counts(self, row: int, kinds: tuple[int, ...]) -> Counts:
        """What precision and recall of a group are made of, where notes of `kinds` are hits.

        Both notes of a hit are in one group, but for those of the wrong
        instrument in a breakdown by instrument.
        """
        return Counts(
            int(self.reference[row, list(kinds)].sum()),
            int(self.reference[row].sum()),
            int(self.estimate[row].sum()),
        )


@dataclasses.dataclass(frozen=True)
class Grouping:
    """One way to group notes.

    Attributes:
      title: what it is by.
      explanation: which notes are in a group, for readers of a report.
      group: both sides' group of every note, int64 [reference notes], [estimated notes].
      label: the name of a group.
      onset_hits: the kinds that count as found where only pitch and onset are judged.
    """

    title: str
    explanation: str
    group: Callable[[NoteErrors], tuple[np.ndarray, np.ndarray]]
    label: Callable[[int], str]
    onset_hits: tuple[int, ...] = (RIGHT, WRONG_OFFSET, WRONG_INSTRUMENT)


def break_down(errors: NoteErrors, grouping: Grouping) -> Breakdown:
    """Counts the notes of one recording; a group of -1 is left out."""
    reference_group, estimate_group = grouping.group(errors)
    groups = np.unique(np.concatenate([reference_group, estimate_group]))
    groups = groups[groups >= 0]
    return Breakdown(
        tuple(groups.tolist()),
        _count(groups, reference_group, errors.reference_kind),
        _count(groups, estimate_group, errors.estimate_kind),
    )


def polyphony_at(notes: Notes, seconds: np.ndarray) -> np.ndarray:
    """int64, shaped as `seconds`: how many notes sound, each from its onset until before its offset."""
    started = np.searchsorted(np.sort(notes.onset_seconds), seconds, side="right")
    ended = np.searchsorted(np.sort(notes.offset_seconds), seconds, side="right")
    return started - ended


def _count(groups: np.ndarray, group: np.ndarray, kind: np.ndarray) -> np.ndarray:
    kept = group >= 0
    counts = np.zeros((len(groups), len(KINDS)), np.int64)
    np.add.at(counts, (np.searchsorted(groups, group[kept]), kind[kept]), 1)
    return counts


def _by_instrument(errors: NoteErrors) -> tuple[np.ndarray, np.ndarray]:
    return instruments_of(errors.reference, GRANULARITY), instruments_of(errors.estimate, GRANULARITY)


def _by_pitch(errors: NoteErrors) -> tuple[np.ndarray, np.ndarray]:
    reference, estimate = (
        np.where(notes.is_drum, -1, notes.pitch // OCTAVE_SEMITONES)
        for notes in (errors.reference, errors.estimate)
    )
    return reference, _of_partners(errors, reference, estimate)


def _by_polyphony(errors: NoteErrors) -> tuple[np.ndarray, np.ndarray]:
    reference, estimate = (
        _bin(polyphony_at(errors.reference, notes.onset_seconds), POLYPHONY_BOUNDS)
        for notes in (errors.reference, errors.estimate)
    )
    return reference, _of_partners(errors, reference, estimate)


def _by_velocity(errors: NoteErrors) -> tuple[np.ndarray, np.ndarray]:
    reference = _bin(errors.reference.velocity, VELOCITY_BOUNDS)
    nearest = _nearest(errors.reference.onset_seconds, errors.estimate.onset_seconds)
    estimate = reference[nearest] if len(reference) else np.zeros(len(errors.estimate), np.int64)
    return reference, _of_partners(errors, reference, estimate)


def _of_partners(errors: NoteErrors, reference: np.ndarray, estimate: np.ndarray) -> np.ndarray:
    """The groups of estimated notes, where those with a reference note are in that one's."""
    groups = estimate.copy()
    groups[errors.pairs.estimate] = reference[errors.pairs.reference]
    return groups


def _nearest(sorted_values: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Index of the nearest of `sorted_values` for each of `values`; of two, the earlier."""
    if not len(sorted_values):
        return np.zeros(len(values), np.int64)
    right = np.clip(np.searchsorted(sorted_values, values), 1, max(1, len(sorted_values) - 1))
    right = np.minimum(right, len(sorted_values) - 1)
    left = np.maximum(right - 1, 0)
    return np.where(values - sorted_values[left] <= sorted_values[right] - values, left, right)


def _bin(values: np.ndarray, bounds: tuple[int, ...]) -> np.ndarray:
    """Index of the group of each value."""
    return np.searchsorted(bounds, values, side="right") - 1


def _instrument_label(instrument: int) -> str:
    return program_name(0, is_drum=True) if instrument == DRUMS_INSTRUMENT else family_name(instrument)


def _octave_label(octave: int) -> str:
    # MIDI pitch 60 is C4.
    return f"C{octave - 1} to B{octave - 1}"


def _range_label(bounds: tuple[int, ...], last: int | None = None) -> Callable[[int], str]:
    """Names groups by their least and greatest value."""

    def label(group: int) -> str:
        least = bounds[group]
        greatest = bounds[group + 1] - 1 if group + 1 < len(bounds) else last
        if greatest is None:
            return f"{least} or more"
        return str(least) if greatest == least else f"{least} to {greatest}"

    return label


def _velocity_label(group: int) -> str:
    return "unknown" if not group else _range_label(VELOCITY_BOUNDS, _MAX_VELOCITY)(group)


GROUPINGS: Mapping[str, Grouping] = {
    "instrument": Grouping(
        "Instrument",
        "The families of General MIDI (midi_class); drums are one instrument.",
        _by_instrument,
        _instrument_label,
        onset_hits=(RIGHT, WRONG_OFFSET),
    ),
    "pitch": Grouping(
        "Pitch",
        "Octaves from C to B, where C4 is MIDI pitch 60; drums are left out.",
        _by_pitch,
        _octave_label,
    ),
    "polyphony": Grouping(
        "Polyphony",
        "How many reference notes sound at the note's onset, itself included.",
        _by_polyphony,
        _range_label(POLYPHONY_BOUNDS),
    ),
    "velocity": Grouping(
        "Loudness",
        "The MIDI velocity of the reference note; an extra note counts where the reference note nearest in "
        "time does, as not every system estimates velocities.",
        _by_velocity,
        _velocity_label,
    ),
}
