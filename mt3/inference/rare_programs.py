"""Gives the notes of a recording's rare programs to the likeliest other one.

A model that hears segments apart takes an instrument for another one now and
then. What it names only now and then is hardly there: a program with less than a
share of the pitched notes is rare, and each of its notes goes to the program
that plays most nearby, in time and in pitch, and is of the same family if there
is such a one.
"""

from __future__ import annotations

import numpy as np

from mt3.symbolic.general_midi import FAMILY_SIZE
from mt3.symbolic.notes import Notes
from mt3.symbolic.vocabularies import NUM_PROGRAMS

# How fast a neighbour's weight falls, by a factor e.
_NEAR_SECONDS = 4.0
_NEAR_SEMITONES = 4.0
# A program of the same family weighs so much more.
_FAMILY_WEIGHT = 4.0
# Neighbours looked at, half of them before, half after.
_NUM_NEIGHBOURS = 256
# So that a program without neighbours is not impossible.
_LEAST_WEIGHT = 1e-9
_NOTES_AT_A_TIME = 1024


def reassign_rare_programs(notes: Notes, confidence: np.ndarray, least_share: float) -> Notes:
    """The notes with the programs of rare ones replaced; nothing else changes.

    Args:
      notes: in order of onset.
      confidence: float [num_notes]: how much each counts.
      least_share: of the pitched notes, below which a program is rare. The
        commonest is never rare.
    """
    pitched = np.flatnonzero(~notes.is_drum)
    weight = np.bincount(notes.program[pitched], confidence[pitched], minlength=NUM_PROGRAMS)
    if least_share <= 0 or not weight.any():
        return notes
    common = weight >= min(least_share * weight.sum(), weight.max())
    is_rare = ~common[notes.program[pitched]]
    rare, kept = pitched[is_rare], pitched[~is_rare]
    program = notes.program.copy()
    for start in range(0, len(rare), _NOTES_AT_A_TIME):
        part = rare[start : start + _NOTES_AT_A_TIME]
        program[part] = _likeliest(notes, confidence, part, kept, weight * common)
    return notes.replace(program=program)


def _likeliest(
    notes: Notes, confidence: np.ndarray, rare: np.ndarray, kept: np.ndarray, weight: np.ndarray
) -> np.ndarray:
    """int64 [num_rare], the program among those of `kept` for each note of `rare`."""
    neighbours = _nearest_in_time(notes.onset_seconds[kept], notes.onset_seconds[rare])
    others = kept[neighbours]
    seconds = np.abs(notes.onset_seconds[others] - notes.onset_seconds[rare][:, None])
    semitones = np.abs(notes.pitch[others] - notes.pitch[rare][:, None])
    nearness = confidence[others] * np.exp(-seconds / _NEAR_SECONDS - semitones / _NEAR_SEMITONES)
    score = np.tile(_LEAST_WEIGHT * weight / weight.sum(), (len(rare), 1))
    np.add.at(score, (np.arange(len(rare))[:, None], notes.program[others]), nearness)
    family = notes.program[rare] // FAMILY_SIZE
    is_family = np.arange(NUM_PROGRAMS) // FAMILY_SIZE == family[:, None]
    return np.argmax(score * np.where(is_family, _FAMILY_WEIGHT, 1.0), axis=1)


def _nearest_in_time(seconds: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """int64 [num_wanted, num_neighbours], places in the sorted `seconds` around each wanted time."""
    count = min(_NUM_NEIGHBOURS, len(seconds))
    first = np.searchsorted(seconds, wanted) - count // 2
    first = np.clip(first, 0, len(seconds) - count)
    return first[:, None] + np.arange(count)
