"""A beat grid for notes that were heard without one: where the beats are, and which begin a measure.

Onsets become a curve of onset strength. Its autocorrelation in windows of 12 s says
which beat lengths it repeats at; the likeliest course of the tempo through all
windows is found with the Viterbi algorithm, and the beats by dynamic programming
that trades strength against even spacing (Ellis, "Beat tracking by dynamic
programming", Journal of New Music Research 36, 2007). Beats then move onto the
onsets around them. Measures begin where accents return every so many beats.

What it cannot know: which of two tempi, one twice the other, a musician would count
(what lies nearer to 110 a minute wins); a beat within free or very sparse music; and
measures of five, seven or changing length (it tells threes from fours). Compound time
comes out as beats of three parts, or as a measure of three. `BeatGrid` can be made by
hand where the beats are known.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np

from mt3.symbolic.notes import Notes

BEATS_PER_MINUTE = (40.0, 240.0)
DEFAULT_BEATS_PER_MINUTE = 120.0  # of music with too few onsets to tell
DEFAULT_BEATS_PER_MEASURE = 4

_FRAME_SECONDS = 0.01
_MIN_ONSETS = 6  # distinct ones
_SMOOTHING_SECONDS = 0.025  # standard deviation: how far simultaneous onsets may lie apart
# The tempo: windows, their distance, and beat lengths that are told apart.
_WINDOW_FRAMES, _WINDOW_HOP_FRAMES, _WINDOWS_AT_ONCE = 1200, 300, 256
_NUM_PERIODS = 96
_COMB_WEIGHTS = (1.0, 0.7, 0.4, 0.5)  # of one, two, three and four beats
_PREFERRED_BEATS_PER_MINUTE, _PREFERENCE_OCTAVES = 110.0, 0.8
_EMISSION, _CHANGE_COST = 12.0, 80.0  # of the Viterbi algorithm: a change by an octave costs the latter
# The beats: how far a beat may be from its expected length, and what unevenness costs.
_SHORTEST, _LONGEST, _UNEVENNESS_COST = 0.7, 1.45, 60.0
_SNAP_BEATS = 0.14  # an onset this near to a beat is on it
_LONGEST_SECONDS = 1.5  # that a note counts for
_KICK_DRUMS = (35, 36)
_BACKBEAT_DRUMS = (*_KICK_DRUMS, 38, 40)
# Threes have to be this much clearer than fours.
_THREE_ADVANTAGE = 1.1


@dataclasses.dataclass(frozen=True, eq=False)
class BeatGrid:
    """Beats of a recording.

    Attributes:
      beat_seconds: float64 [num_beats], increasing, two or more.
      beats_per_measure: how many beats a measure has.
      first_downbeat: index of the first beat that begins a measure, below beats_per_measure.

    Raises:
      ValueError: for beats that are too few or do not increase, or a downbeat out of range.
    """

    beat_seconds: np.ndarray
    beats_per_measure: int = DEFAULT_BEATS_PER_MEASURE
    first_downbeat: int = 0

    def __post_init__(self) -> None:
        beats = np.array(self.beat_seconds, np.float64)
        if beats.ndim != 1 or len(beats) < 2 or not np.isfinite(beats).all() or (np.diff(beats) <= 0).any():
            raise ValueError(f"beat_seconds of shape {beats.shape} must be two or more increasing times.")
        if not 0 <= self.first_downbeat < self.beats_per_measure:
            raise ValueError(
                f"first_downbeat is {self.first_downbeat}; it must lie in 0..{self.beats_per_measure - 1}."
            )
        beats.flags.writeable = False
        object.__setattr__(self, "beat_seconds", beats)

    def positions(self, seconds: np.ndarray) -> np.ndarray:
        """Times as beats: float64, 0 at the first beat; beyond the first and last at their tempo."""
        return _interpolate(seconds, self.beat_seconds, np.arange(len(self.beat_seconds), dtype=np.float64))

    def seconds(self, positions: np.ndarray) -> np.ndarray:
        """The inverse of `positions`."""
        return _interpolate(positions, np.arange(len(self.beat_seconds), dtype=np.float64), self.beat_seconds)

    @property
    def beats_per_minute(self) -> float:
        """The median tempo."""
        return 60.0 / float(np.median(np.diff(self.beat_seconds)))


def _interpolate(at: np.ndarray, known: np.ndarray, values: np.ndarray) -> np.ndarray:
    at = np.asarray(at, np.float64)
    part = np.clip(np.searchsorted(known, at, side="right") - 1, 0, len(known) - 2)
    share = (at - known[part]) / (known[part + 1] - known[part])
    return values[part] + share * (values[part + 1] - values[part])


def estimate_beats(notes: Notes, *, beats_per_measure: int | None = None) -> BeatGrid:
    """The beats of notes, from the first onset or before it to the last offset or after it.

    Takes about a second for an hour of music.

    Args:
      notes: in any order; times that are not finite are left out.
      beats_per_measure: where it is known; None tells 3 from 4.
    """
    notes = notes[np.isfinite(notes.onset_seconds) & np.isfinite(notes.offset_seconds)].sorted()
    num_default = beats_per_measure or DEFAULT_BEATS_PER_MEASURE
    if len(np.unique(np.rint(notes.onset_seconds / 0.05))) < _MIN_ONSETS:
        return _even_grid(notes, num_default)
    start = float(notes.onset_seconds[0])
    strength = _onset_strength(notes.shift(-start))
    period_frames = _local_periods(strength)
    frames = _beat_frames(strength, period_frames)
    beats = _onto_onsets(frames * _FRAME_SECONDS + start, notes.onset_seconds)
    beats = _covering(beats, start, notes.end_seconds)
    return BeatGrid(beats, *_measures(notes, beats, beats_per_measure))


def _even_grid(notes: Notes, beats_per_measure: int) -> BeatGrid:
    period = 60.0 / DEFAULT_BEATS_PER_MINUTE
    start = float(notes.onset_seconds[0]) if len(notes) else 0.0
    num_beats = max(math.ceil((notes.end_seconds - start) / period), 1) + 1
    return BeatGrid(start + period * np.arange(num_beats), beats_per_measure)


def _onset_strength(notes: Notes) -> np.ndarray:
    """float64 [num_frames]: more where more begins, though less than in proportion; mean square 1.

    Long notes count for more than short ones, and kick and snare drums for more than others.
    """
    frame = np.rint(notes.onset_seconds / _FRAME_SECONDS).astype(np.int64)
    length = np.clip(notes.duration_seconds, 0.0, _LONGEST_SECONDS)
    weight = 0.5 + np.where(notes.is_drum, 0.5 * np.isin(notes.pitch, _BACKBEAT_DRUMS), length)
    counts = np.bincount(frame, weight, minlength=int(frame[-1]) + 2)
    deviation = _SMOOTHING_SECONDS / _FRAME_SECONDS
    reach = math.ceil(3 * deviation)
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / deviation) ** 2)
    strength = np.log1p(np.convolve(counts, kernel, mode="full")[reach:-reach])
    return strength / math.sqrt(float(np.mean(strength**2)))


def _local_periods(strength: np.ndarray) -> np.ndarray:
    """float64 [num_frames], the likeliest beat length around each frame, in frames."""
    slowest, fastest = (60.0 / one / _FRAME_SECONDS for one in BEATS_PER_MINUTE)
    periods = np.geomspace(fastest, slowest, _NUM_PERIODS)
    salience = _salience(strength, periods)
    octaves = np.log2(periods * _FRAME_SECONDS * _PREFERRED_BEATS_PER_MINUTE / 60.0)
    preference = -0.5 * (octaves / _PREFERENCE_OCTAVES) ** 2
    path = _likeliest_path(
        _EMISSION * salience + preference, _CHANGE_COST * np.abs(octaves[:, None] - octaves)
    )
    centre = np.arange(len(path)) * _WINDOW_HOP_FRAMES
    return np.interp(np.arange(len(strength)), centre, periods[path])


def _salience(strength: np.ndarray, periods: np.ndarray) -> np.ndarray:
    """float64 [num_windows, num_periods], how well a window repeats itself after one to four beats.

    Windows are centred at multiples of the hop. Their autocorrelation is relative to that at lag 0 and
    to what strength spread evenly would have.
    """
    half = _WINDOW_FRAMES // 2
    padded = np.pad(strength, (half, half + _WINDOW_FRAMES))
    windows = np.lib.stride_tricks.sliding_window_view(padded, _WINDOW_FRAMES)[
        : len(strength) : _WINDOW_HOP_FRAMES
    ]
    overlap = 1.0 / (1.0 - np.arange(_WINDOW_FRAMES) / _WINDOW_FRAMES).clip(0.25)
    parts = []
    for first in range(0, len(windows), _WINDOWS_AT_ONCE):
        some = windows[first : first + _WINDOWS_AT_ONCE]
        some = some - some.mean(axis=1, keepdims=True)
        spectrum = np.abs(np.fft.rfft(some, 2 * _WINDOW_FRAMES)) ** 2
        correlation = np.fft.irfft(spectrum)[:, :_WINDOW_FRAMES]
        correlation = correlation * overlap / np.maximum(correlation[:, :1], 1e-9)
        total = np.zeros((len(some), len(periods)))
        for beats, weight in enumerate(_COMB_WEIGHTS, start=1):
            total += weight * _at(correlation, np.minimum(beats * periods, _WINDOW_FRAMES - 2))
        parts.append(total / sum(_COMB_WEIGHTS))
    return np.concatenate(parts)


def _at(rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Rows between their columns."""
    whole = columns.astype(np.int64)
    share = columns - whole
    return rows[:, whole] * (1 - share) + rows[:, whole + 1] * share


def _likeliest_path(emission: np.ndarray, change_cost: np.ndarray) -> np.ndarray:
    """int64 [num_steps], the states with the highest sum of emissions less costs (Viterbi)."""
    best, came_from = emission[0], []
    for row in emission[1:]:
        options = best[:, None] - change_cost
        came_from.append(options.argmax(axis=0))
        best = options.max(axis=0) + row
    path = [int(best.argmax())]
    for row in reversed(came_from):
        path.append(int(row[path[-1]]))
    return np.array(path[::-1])


def _beat_frames(strength: np.ndarray, period_frames: np.ndarray) -> np.ndarray:
    """int64 [num_beats], the frames of the beats.

    The score of a beat is the strength there, plus that of the best beat before it, less the square of
    the logarithm of its distance from what is expected. As no beat depends on one nearer than the
    shortest distance, so many frames are computed at once.
    """
    num_frames = len(strength)
    score, previous = strength.copy(), np.full(num_frames, -1)
    first = 0
    while first < num_frames:
        shortest = max(int(_SHORTEST * period_frames[first]) - 1, 1)
        frames = np.arange(first, min(first + shortest, num_frames))
        here = period_frames[frames]
        distance = np.arange(shortest + 1, int(_LONGEST * here.max()) + 2)
        before = frames[:, None] - distance
        unevenness = np.log(distance / here[:, None]) ** 2
        options = np.where(before >= 0, score[np.maximum(before, 0)], 0.0) - _UNEVENNESS_COST * unevenness
        best = options.argmax(axis=1)
        rows = np.arange(len(frames))
        score[frames] += options[rows, best]
        previous[frames] = before[rows, best]
        first += len(frames)
    last_stretch = int(num_frames - period_frames[-1])
    beats = [max(last_stretch, 0) + int(score[max(last_stretch, 0) :].argmax())]
    while previous[beats[-1]] >= 0:
        beats.append(int(previous[beats[-1]]))
    return np.array(beats[::-1])


def _onto_onsets(beats: np.ndarray, onset_seconds: np.ndarray) -> np.ndarray:
    """Beats at the mean of the onsets on them; those without any lie evenly between others."""
    if len(beats) < 2:
        return beats
    index = _nearest(beats, onset_seconds)
    period = np.gradient(beats)
    near = np.abs(onset_seconds - beats[index]) < _SNAP_BEATS * period[index]
    count = np.bincount(index[near], minlength=len(beats))
    total = np.bincount(index[near], onset_seconds[near], minlength=len(beats))
    known = count > 0
    if known.sum() < 2:
        return beats
    moved = np.where(known, total / np.maximum(count, 1), beats)
    numbers = np.arange(len(beats))
    between = np.interp(numbers, numbers[known], moved[known])
    inside = (numbers > numbers[known][0]) & (numbers < numbers[known][-1])
    moved = np.where(known | ~inside, moved, between)
    return moved if (np.diff(moved) > 0).all() else beats


def _nearest(grid: np.ndarray, values: np.ndarray) -> np.ndarray:
    """int64 [num_values], the index of the nearest of `grid`, which increases."""
    return np.searchsorted((grid[:-1] + grid[1:]) / 2, values)


def _covering(beats: np.ndarray, start_seconds: float, end_seconds: float) -> np.ndarray:
    """Beats carried on at both ends, so that all lies between the first and the last."""
    if len(beats) < 2:
        beats = np.array([beats[0], beats[0] + 60.0 / DEFAULT_BEATS_PER_MINUTE])
    first, last = (float(np.median(part)) for part in (np.diff(beats)[:8], np.diff(beats)[-8:]))
    # An onset just before a beat is on it.
    num_before = max(math.ceil((beats[0] - start_seconds) / first - _SNAP_BEATS), 0)
    num_after = max(math.ceil((end_seconds - beats[-1]) / last), 0)
    before = beats[0] - first * np.arange(num_before, 0, -1)
    return np.concatenate([before, beats, beats[-1] + last * np.arange(1, num_after + 1)])


def _measures(notes: Notes, beats: np.ndarray, beats_per_measure: int | None) -> tuple[int, int]:
    """Beats of a measure, and the first that begins one: where accents stand out most."""
    accent = _accents(notes, beats)
    found = {
        number: _standing_out(accent, number)
        for number in ((3, 4) if beats_per_measure is None else (beats_per_measure,))
    }
    if beats_per_measure is None:
        beats_per_measure = 3 if found[3][0] > _THREE_ADVANTAGE * found[4][0] else 4
    return beats_per_measure, found[beats_per_measure][1]


def _accents(notes: Notes, beats: np.ndarray) -> np.ndarray:
    """float64 [num_beats], how much a beat is stressed: by number and length of notes, bass and kick drum."""
    index = _nearest(beats, notes.onset_seconds)
    period = np.gradient(beats)[index]
    on_beat = np.abs(notes.onset_seconds - beats[index]) < _SNAP_BEATS * period
    length = np.minimum(notes.duration_seconds / period, 4.0)
    bass = np.clip((60 - notes.pitch) / 12, 0, 2)
    weight = np.where(notes.is_drum, 2.0 * np.isin(notes.pitch, _KICK_DRUMS), 0.3 + length * (0.5 + bass))
    return np.sqrt(np.bincount(index[on_beat], weight[on_beat], minlength=len(beats)))


def _standing_out(accent: np.ndarray, beats_per_measure: int) -> tuple[float, int]:
    """How far the most stressed beat of the measure is above the others, and which it is."""
    if len(accent) < 2 * beats_per_measure:
        return 0.0, 0
    whole = accent[: len(accent) // beats_per_measure * beats_per_measure]
    mean = whole.reshape(-1, beats_per_measure).mean(axis=0)
    best = int(mean.argmax())
    others = np.delete(mean, best)
    return float(mean[best] - (others.mean() if len(others) else 0.0)), best
