"""The layout of a piano roll: what is drawn where, in pixels, before it becomes a picture of some format.

Time goes from left to right in rows, as in a score; a colour an instrument, named in
a legend; drums have bands of their own below the pitches. A picture stays within
`WIDTH_PIXELS` and a height that the number of rows bounds, and what would fall on one
half of a pixel is drawn once, so that ten hours make a picture of the size of ten minutes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from mt3.inference.formats.documents import NoteDocument
from mt3.symbolic.general_midi import program_name
from mt3.symbolic.instrument_colours import instrument_colour
from mt3.symbolic.notes import Notes

WIDTH_PIXELS = 1600
MAX_ROWS = 40

_ROW_SECONDS = (5, 10, 15, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
_ROWS = 12  # at most, where the length of a row is not asked for
_TICK_SECONDS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_TICKS = 12  # at most, a row
_LEFT, _RIGHT, _TOP = 72.0, 24.0, 12.0
_TITLE_HEIGHT, _LEGEND_LINE, _LEGEND_COLUMNS = 26.0, 18.0, 5
_AXIS_HEIGHT, _ROW_GAP, _BAND_HEIGHT, _BAND_GAP = 18.0, 14.0, 9.0, 4.0
_TEXT_SIZE, _TITLE_SIZE = 12, 16
_PLOT_WIDTH = WIDTH_PIXELS - _LEFT - _RIGHT
_BLACK_KEYS = (1, 3, 6, 8, 10)
_NARROWEST = 1.0  # width of a note
_GRID = 0.5  # steps in which notes are placed

Colour = tuple[float, float, float]
_WORDS: Colour = (0.13, 0.13, 0.13)
_LINES: Colour = (0.84, 0.84, 0.84)
_SHADE: Colour = (0.95, 0.95, 0.95)

# Bands of drums from top to bottom: General MIDI's keys.
_DRUM_BANDS: dict[str, tuple[int, ...]] = {
    "cymbals": (49, 51, 52, 53, 55, 57, 59),
    "hi-hat": (42, 44, 46),
    "toms": (41, 43, 45, 47, 48, 50),
    "snare": (37, 38, 39, 40),
    "kick": (35, 36),
    "other": (),
}


@dataclasses.dataclass(frozen=True)
class Text:
    """Words: `x` is their left or right end or their middle, `y` the baseline."""

    x: float
    y: float
    words: str
    size: int = _TEXT_SIZE
    anchor: str = "start"  # "middle", "end"


@dataclasses.dataclass(frozen=True, eq=False)
class Boxes:
    """Rectangles of one colour: float64 [num_boxes, 4], left, top, width, height."""

    boxes: np.ndarray
    colour: Colour


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A picture of `width` x `height` pixels: its parts, from the back to the front."""

    width: int
    height: int
    parts: tuple[Boxes | Text, ...]


@dataclasses.dataclass(frozen=True)
class _Frame:
    """What all rows have in common."""

    seconds_per_row: float
    num_rows: int
    pitches: range
    cell: float  # height of a pitch
    bands: tuple[str, ...]

    @property
    def roll_height(self) -> float:
        return len(self.pitches) * self.cell

    @property
    def row_height(self) -> float:
        bands = _BAND_GAP + len(self.bands) * _BAND_HEIGHT if self.bands else 0.0
        return self.roll_height + bands + _AXIS_HEIGHT + _ROW_GAP

    @property
    def pixels_per_second(self) -> float:
        return _PLOT_WIDTH / self.seconds_per_row


def draw_piano_roll(document: NoteDocument) -> Drawing:
    """The piano roll of a document's notes from 0 s to its end.

    Raises:
      ValueError: for notes that are not finite or out of MIDI's range, or rows so short that there
        would be more than `MAX_ROWS`.
    """
    notes = _checked(document.notes)
    frame = _frame(notes, document.end_seconds, document.options.seconds_per_row)
    parts: list[Boxes | Text] = [Text(_LEFT, _TOP + 16, document.title, _TITLE_SIZE)]
    instruments = sorted(notes.instruments, key=lambda one: (one[1], one[0]))
    legend, top = _legend(notes, instruments, _TOP + _TITLE_HEIGHT)
    parts += legend
    for row in range(frame.num_rows):
        parts += _row(notes, instruments, frame, row, top + row * frame.row_height)
    return Drawing(WIDTH_PIXELS, math.ceil(top + frame.num_rows * frame.row_height), tuple(parts))


def _checked(notes: Notes) -> Notes:
    """The notes, with program 0 for all drums."""
    for name in ("onset_seconds", "offset_seconds"):
        if not np.isfinite(getattr(notes, name)).all():
            raise ValueError(
                f"{name} has values that are not finite, which cannot be drawn; remove those notes."
            )
    for name in ("pitch", "program"):
        values = getattr(notes, name)
        outside = (values < 0) | (values > 127)
        if outside.any():
            raise ValueError(f"{name} {values[outside][0]} is outside MIDI's 0..127.")
    return notes.replace(program=np.where(notes.is_drum, 0, notes.program))


def _frame(notes: Notes, end_seconds: float, seconds_per_row: float | None) -> _Frame:
    end = max(end_seconds, 1.0)
    if seconds_per_row is None:
        fitting = (one for one in _ROW_SECONDS if end <= one * _ROWS)
        seconds_per_row = float(next(fitting, math.ceil(end / _ROWS)))
    num_rows = math.ceil(end / seconds_per_row)
    if num_rows > MAX_ROWS:
        raise ValueError(
            f"{end:.0f} s in rows of {seconds_per_row:g} s are {num_rows} rows; the most are {MAX_ROWS}: "
            f"give seconds_per_row of {end / MAX_ROWS:.1f} or more."
        )
    pitch = notes.pitch[~notes.is_drum]
    low, high = (int(pitch.min()), int(pitch.max())) if len(pitch) else (60, 60)
    room = max(2, -(-(24 - (high - low)) // 2))
    pitches = range(max(low - room, 0), min(high + room, 127) + 1)
    keys = set(np.unique(notes.pitch[notes.is_drum]).tolist())
    bands = tuple(name for name in _DRUM_BANDS if any(_band_of(key) == name for key in keys))
    cell = min(max(round(300 / len(pitches)), 2), 6)
    return _Frame(seconds_per_row, num_rows, pitches, float(cell), bands)


def _band_of(key: int) -> str:
    return next((name for name, keys in _DRUM_BANDS.items() if key in keys), "other")


def _legend(
    notes: Notes, instruments: list[tuple[int, bool]], top: float
) -> tuple[list[Boxes | Text], float]:
    """A patch, the name and the number of notes of each instrument; and where it ends."""
    parts: list[Boxes | Text] = []
    column_width = _PLOT_WIDTH / _LEGEND_COLUMNS
    for number, (program, is_drum) in enumerate(instruments):
        x = _LEFT + number % _LEGEND_COLUMNS * column_width
        y = top + number // _LEGEND_COLUMNS * _LEGEND_LINE
        count = int(((notes.program == program) & (notes.is_drum == is_drum)).sum())
        parts.append(Boxes(np.array([[x, y, 12.0, 12.0]]), instrument_colour(program, is_drum)))
        parts.append(Text(x + 18, y + 10, f"{program_name(program, is_drum)} ({count})"))
    return parts, top + -(-len(instruments) // _LEGEND_COLUMNS) * _LEGEND_LINE + 6


def _row(
    notes: Notes, instruments: list[tuple[int, bool]], frame: _Frame, row: int, top: float
) -> Iterator[Boxes | Text]:
    start = row * frame.seconds_per_row
    yield from _background(frame, start, top)
    here = notes[(notes.onset_seconds < start + frame.seconds_per_row) & (notes.offset_seconds >= start)]
    for rank, (program, is_drum) in enumerate(instruments):
        own = here[(here.program == program) & (here.is_drum == is_drum)]
        if is_drum:
            boxes = _drum_boxes(own[own.onset_seconds >= start], frame, start, top)
        else:
            # Later instruments are drawn thinner, so that all that play one pitch are seen.
            share = 1.0 - 0.5 * rank / max(len(instruments) - 1, 1)
            boxes = _note_boxes(own, frame, start, top, share)
        if len(boxes):
            yield Boxes(boxes, instrument_colour(program, is_drum))


def _background(frame: _Frame, start_seconds: float, top: float) -> Iterator[Boxes | Text]:
    """Black keys, octaves, bands of drums, and seconds."""
    shaded = [pitch for pitch in frame.pitches if pitch % 12 in _BLACK_KEYS]
    yield Boxes(
        np.array([[_LEFT, _pitch_top(frame, top, pitch), _PLOT_WIDTH, frame.cell] for pitch in shaded]),
        _SHADE,
    )
    bottom = top + frame.roll_height
    for number, band in enumerate(frame.bands):
        y = bottom + _BAND_GAP + number * _BAND_HEIGHT
        yield Text(_LEFT - 6, y + _BAND_HEIGHT - 1, band, 10, "end")
    if frame.bands:
        bottom += _BAND_GAP + len(frame.bands) * _BAND_HEIGHT
    step = next((one for one in _TICK_SECONDS if frame.seconds_per_row <= one * _TICKS), _TICK_SECONDS[-1])
    ticks = np.arange(math.ceil(start_seconds / step), (start_seconds + frame.seconds_per_row) / step + 1e-6)
    x = _LEFT + (ticks * step - start_seconds) * frame.pixels_per_second
    lines = [[one, top, 1.0, bottom - top] for one in x]
    octaves = [pitch for pitch in frame.pitches if pitch % 12 == 0]
    lines += [[_LEFT, _pitch_top(frame, top, pitch) + frame.cell, _PLOT_WIDTH, 1.0] for pitch in octaves]
    yield Boxes(np.array(lines), _LINES)
    for pitch in octaves:
        yield Text(_LEFT - 6, _pitch_top(frame, top, pitch) + frame.cell, f"C{pitch // 12 - 1}", anchor="end")
    for position, number in zip(x.tolist(), ticks.tolist(), strict=True):
        yield Text(position, bottom + 13, clock(number * step, step < 1), anchor="middle")


def clock(seconds: float, with_tenths: bool = False) -> str:
    """1:05 or 1:02:05, and 1:05.5 with tenths."""
    tenths = round(seconds * 10)
    whole, tenth = divmod(tenths, 10)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    words = f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    return f"{words}.{tenth}" if with_tenths else words


def _pitch_top(frame: _Frame, top: float, pitch: float) -> float:
    return top + (frame.pitches[-1] - pitch) * frame.cell


def _note_boxes(notes: Notes, frame: _Frame, start_seconds: float, top: float, share: float) -> np.ndarray:
    """float64 [num_boxes, 4]; overlapping notes of a pitch become one."""
    left, right = (
        np.clip((times - start_seconds) * frame.pixels_per_second, 0, _PLOT_WIDTH)
        for times in (notes.onset_seconds, notes.offset_seconds)
    )
    left = np.floor(left / _GRID) * _GRID
    # A little shorter than they are: repeated notes are seen apart.
    right = np.maximum(np.floor(right / _GRID) * _GRID - _GRID, left + _NARROWEST)
    order = np.lexsort((left, notes.pitch))
    # Each pitch is moved to a stretch of its own, so that one pass finds the runs of all.
    apart = notes.pitch[order] * (4.0 * WIDTH_PIXELS)
    left, right, pitch = left[order], right[order] + apart, notes.pitch[order]
    reach = np.maximum.accumulate(right)
    first = np.append(True, left[1:] + apart[1:] >= reach[:-1])[: len(left)]
    starts = np.flatnonzero(first)
    ends = np.append(starts[1:], len(left)) - 1 if len(starts) else starts
    width = reach[ends] - apart[starts] - left[starts]
    height = frame.cell * share
    y = top + (frame.pitches[-1] - pitch[starts]) * frame.cell + (frame.cell - height) / 2
    return np.stack([_LEFT + left[starts], y, width, np.full(len(starts), height)], 1)


def _drum_boxes(notes: Notes, frame: _Frame, start_seconds: float, top: float) -> np.ndarray:
    """float64 [num_boxes, 4]: a mark an onset."""
    band = np.array([frame.bands.index(_band_of(key)) for key in notes.pitch.tolist()], np.float64)
    x = np.floor((notes.onset_seconds - start_seconds) * frame.pixels_per_second / _GRID) * _GRID
    y = top + frame.roll_height + _BAND_GAP + band * _BAND_HEIGHT + 1
    places = np.unique(np.stack([_LEFT + x, y], 1), axis=0)
    size = np.array([[2.0, _BAND_HEIGHT - 2]])
    return np.concatenate([places, np.repeat(size, len(places), axis=0)], 1)
