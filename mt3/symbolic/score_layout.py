"""Notes on a beat grid as what a score shows: parts, staves, voices, chords.

Onsets move to sixteenths of a beat's four or, beat by beat where those fit clearly
better, to triplets. Ends, which transcribers know less well, move further: small gaps
and overlaps close, and where more than two voices would be needed on a staff the note
that ends first is cut short. No onset is lost, but for those of one pitch that fall together.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mt3.symbolic.beats import BeatGrid
from mt3.symbolic.keys import Key, estimate_key
from mt3.symbolic.notes import Notes

TICKS_PER_BEAT = 12  # sixteenths are 3, triplets 4

_SIXTEENTH, _TRIPLET = 3, 4
_NEXT_BEAT = 1 / 24  # an onset so little before a beat belongs to it
# Triplets have to fit so much better, and sixteenths so badly (mean error in beats).
_TRIPLET_ADVANTAGE, _POOR_FIT = 0.5, 0.035
# Overlaps and gaps up to this share of a note are smoothed out, and any up to a sixteenth.
_SMOOTHED_SHARE = 0.3
_NUM_VOICES = 2
# Pianos, organs and accordions, and the harp have two staves, divided at middle C.
_GRAND_STAFF_PROGRAMS = frozenset((*range(8), *range(16, 24), 46))
_MIDDLE_C = 60
_ONE_STAFF_SEMITONES = 5  # that a single staff may reach beyond middle C


@dataclasses.dataclass
class Chord:
    """Pitches struck together, from `start` to `end` ticks."""

    start: int
    end: int
    pitches: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Staff:
    """One or two voices, each of chords that do not overlap; and the median pitch."""

    voices: tuple[list[Chord], ...]
    median_pitch: float


@dataclasses.dataclass(frozen=True)
class Part:
    """What an instrument plays."""

    program: int
    is_drum: bool
    staves: tuple[Staff, ...]


@dataclasses.dataclass(frozen=True, eq=False)
class Score:
    """A score; ticks count from the start of its first measure.

    Attributes:
      parts: by program, drums last.
      key: of the whole.
      beats_per_measure: of all measures.
      measure_seconds: float64 [num_measures + 1], when measures begin, and the last ends.
    """

    parts: tuple[Part, ...]
    key: Key
    beats_per_measure: int
    measure_seconds: np.ndarray

    @property
    def num_measures(self) -> int:
        return len(self.measure_seconds) - 1


def lay_out_score(notes: Notes, grid: BeatGrid) -> Score:
    """The score of notes, in any order; velocities have no part in it.

    Raises:
      ValueError: for notes out of MIDI's range.
    """
    for name in ("pitch", "program"):
        values = getattr(notes, name)
        outside = (values < 0) | (values > 127)
        if outside.any():
            raise ValueError(f"{name} {values[outside][0]} is outside MIDI's 0..127.")
    notes = notes.replace(program=np.where(notes.is_drum, 0, notes.program)).sorted()
    per_measure = grid.beats_per_measure
    onset = grid.positions(notes.onset_seconds) - grid.first_downbeat
    offset = grid.positions(notes.offset_seconds) - grid.first_downbeat
    earliest = float(onset.min()) if len(onset) else 0.0
    first_beat = int(np.floor((earliest + _NEXT_BEAT) / per_measure)) * per_measure
    ticks = _quantized(onset - first_beat, offset - first_beat)
    last = int(ticks[:, 1].max()) if len(ticks) else 1
    num_measures = -(-last // (per_measure * TICKS_PER_BEAT))
    starts = grid.first_downbeat + first_beat + per_measure * np.arange(num_measures + 1)
    parts = tuple(
        _part(ticks[rows], notes.pitch[rows], program, is_drum)
        for program, is_drum in notes.instruments
        for rows in [(notes.program == program) & (notes.is_drum == is_drum)]
    )
    return Score(parts, estimate_key(notes), per_measure, grid.seconds(starts))


def _quantized(onset: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """int64 [num_notes, 2], ticks of times in beats; notes last at least the unit of their beat."""
    if not len(onset):
        return np.zeros((0, 2), np.int64)
    beat = np.floor(onset + _NEXT_BEAT).astype(np.int64)
    within = onset - beat
    errors = [np.abs(within - np.rint(within * parts) / parts) for parts in (4, 3)]
    shift = max(-int(beat.min()), 0)
    size = max(int(beat.max()), int(np.ceil(offset.max()))) + shift + 2
    off_beat = np.abs(within) > 1 / 8
    fits = [np.bincount(beat + shift, error, size) for error in errors]
    count = np.bincount(beat + shift, off_beat, size)
    poor = fits[0] > _POOR_FIT * np.maximum(np.bincount(beat + shift, minlength=size), 1)
    is_triplet = (fits[1] < _TRIPLET_ADVANTAGE * fits[0]) & poor & (count > 0)
    unit = np.where(is_triplet, _TRIPLET, _SIXTEENTH)

    def placed(times: np.ndarray, beats: np.ndarray) -> np.ndarray:
        units = unit[beats + shift]
        return beats * TICKS_PER_BEAT + np.rint((times - beats) * TICKS_PER_BEAT / units).astype(int) * units

    start = np.maximum(placed(onset, beat), 0)
    end_beat = np.maximum(np.floor(offset).astype(np.int64), -shift)
    start_unit = unit[start // TICKS_PER_BEAT + shift]
    end = np.maximum(placed(offset, end_beat), start + start_unit)
    return np.stack([start, end], 1)


def _part(ticks: np.ndarray, pitch: np.ndarray, program: int, is_drum: bool) -> Part:
    if is_drum:
        return Part(0, True, (Staff((_strokes(_groups(ticks, pitch)),), 0.0),))
    is_high = pitch >= _MIDDLE_C
    divided = (
        program in _GRAND_STAFF_PROGRAMS
        and pitch.min() < _MIDDLE_C - _ONE_STAFF_SEMITONES
        and pitch.max() > _MIDDLE_C + _ONE_STAFF_SEMITONES
    )
    halves = (is_high, ~is_high) if divided else (np.ones(len(pitch), bool),)
    staves = tuple(
        Staff(_voices(_groups(ticks[rows], pitch[rows])), float(np.median(pitch[rows]))) for rows in halves
    )
    return Part(program, False, staves)


def _groups(ticks: np.ndarray, pitch: np.ndarray) -> list[tuple[int, dict[int, int]]]:
    """(start, pitch -> end) in order of start."""
    groups: dict[int, dict[int, int]] = {}
    for (start, end), key in zip(ticks.tolist(), pitch.tolist(), strict=True):
        ends = groups.setdefault(start, {})
        ends[key] = max(end, ends.get(key, 0))
    return sorted(groups.items())


def _strokes(groups: list[tuple[int, dict[int, int]]]) -> list[Chord]:
    """Drums: each stroke is written up to the next, or to the end of its beat."""
    following = [start for start, _ in groups[1:]] + [groups[-1][0] + TICKS_PER_BEAT] if groups else []
    return [
        Chord(start, min(after, (start // TICKS_PER_BEAT + 1) * TICKS_PER_BEAT), tuple(sorted(ends)))
        for (start, ends), after in zip(groups, following, strict=True)
    ]


def _voices(groups: list[tuple[int, dict[int, int]]]) -> tuple[list[Chord], ...]:
    """Chords on two voices; the first has all that fits into it, and the upper of two."""
    voices: tuple[list[Chord], ...] = tuple([] for _ in range(_NUM_VOICES))
    free_from = [0] * _NUM_VOICES
    next_of_pitch: dict[int, int] = {}
    for start, ends in reversed(groups):
        for pitch, end in ends.items():
            ends[pitch] = min(end, next_of_pitch.get(pitch, end))
            next_of_pitch[pitch] = start
    for number, (start, ends) in enumerate(groups):
        after = groups[number + 1][0] if number + 1 < len(groups) else None
        chords = _chords(start, ends, after)
        free = [voice for voice in range(_NUM_VOICES) if free_from[voice] <= start]
        if not free:
            free = [min(range(_NUM_VOICES), key=lambda voice: free_from[voice])]
            voices[free[0]][-1].end = start
        if len(chords) > len(free):
            chords = [Chord(start, chords[0].end, tuple(sorted(ends)))]
        elif len(chords) > 1:
            chords.sort(key=lambda chord: -sum(chord.pitches) / len(chord.pitches))
        for voice, chord in zip(free, chords, strict=False):
            voices[voice].append(chord)
            free_from[voice] = chord.end
    return voices if voices[1] else voices[:1]


def _chords(start: int, ends: dict[int, int], after: int | None) -> list[Chord]:
    """What ends before the next chord, and what sounds on, each as one chord."""
    if after is None:
        return [Chord(start, max(ends.values()), tuple(sorted(ends)))]
    smoothed = {pitch: _smoothed(start, end, after) for pitch, end in ends.items()}
    short = {pitch: end for pitch, end in smoothed.items() if end <= after}
    long = {pitch: end for pitch, end in smoothed.items() if end > after}
    return [Chord(start, max(part.values()), tuple(sorted(part))) for part in (short, long) if part]


def _smoothed(start: int, end: int, after: int) -> int:
    """An end that is nearly at the next onset is there."""
    near = max(_SIXTEENTH, _SMOOTHED_SHARE * (end - start))
    return after if abs(end - after) <= near else end
