"""Pictures of an estimate against its reference: piano rolls as arrays of pixels.

Every instrument has a strip of its own under its name; colours say what is in
both, in the reference alone (missed) and in the estimate alone (too much). They
differ in lightness as well as in hue, so that they can be told apart with any
colour vision and in print. A picture never grows beyond `MAX_SIZE_PIXELS`,
whatever it is of. Pillow writes the words, and is imported when a picture is made.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator

import numpy as np

from mt3.evaluation.note_matching import maximum_matching, onset_pairs
from mt3.symbolic.general_midi import PROGRAM_NAMES, program_name
from mt3.symbolic.notes import Notes

# Of the palette of Okabe and Ito, "Color universal design" (2008), and a grey that is darker than both.
COLOURS: dict[str, tuple[int, int, int]] = {
    "both": (40, 40, 40),
    "reference only": (230, 159, 0),
    "estimate only": (0, 114, 178),
}
# (height, width) of the largest picture.
MAX_SIZE_PIXELS = (1800, 1000)
PIXELS_PER_SECOND = 50  # of pictures of 20 s or less
# Instruments beyond the most used so many share a last strip.
MAX_STRIPS = 12
LINE_PIXELS = 12  # height of a line of words; there is one above each strip, the key, and the seconds

_MAX_CELL_PIXELS = 4  # height of a pitch
_PITCHES_AROUND = 2
_BACKGROUND, _BLACK_KEYS, _BORDERS = (255, 255, 255), (240, 240, 240), (200, 200, 200)
_WORDS = (0, 0, 0)
_IS_BLACK_KEY = np.isin(np.arange(128) % 12, (1, 3, 6, 8, 10))
# Width of an onset in pictures of onsets.
_ONSET_SECONDS = 0.08
_MAX_PITCH = 127


@dataclasses.dataclass(frozen=True, eq=False)
class _Strip:
    """Instruments that are drawn together, with their notes and the pitches that are shown."""

    name: str
    reference: Notes
    estimate: Notes

    @property
    def pitches(self) -> range:
        pitch = np.concatenate([self.reference.pitch, self.estimate.pitch])
        lowest, highest = (int(pitch.min()), int(pitch.max())) if len(pitch) else (60, 71)
        return range(max(lowest - _PITCHES_AROUND, 0), min(highest + _PITCHES_AROUND, _MAX_PITCH) + 1)


def piano_roll_image(
    reference: Notes,
    estimate: Notes,
    num_seconds: float,
    *,
    onsets_only: bool = False,
    border_seconds: float | None = None,
) -> np.ndarray:
    """A picture of the first `num_seconds` of a reference and an estimate.

    Time goes from left to right, `pixels_per_second(num_seconds)` each; pitch from bottom to top.

    Args:
      reference: what there is to hear. Notes whose times are not finite, or whose
        pitch is outside 0..127, are left out.
      estimate: what was transcribed.
      num_seconds: that are shown.
      onsets_only: draw a mark for every onset, and not what sounds. Marks are of one
        colour where the onset rule pairs them (`note_matching`: equal pitch, 50 ms),
        instrument by instrument; a pair is drawn at the reference's time.
      border_seconds: where not None, a line every so often: the model's segments.

    Returns:
      uint8 [height, width, 3]: red, green, blue.

    Raises:
      ValueError: `num_seconds` is not positive.
    """
    per_second = pixels_per_second(num_seconds)
    width = math.ceil(num_seconds * per_second)
    strips = _strips(_drawable(reference, num_seconds), _drawable(estimate, num_seconds))
    cell = _cell_pixels(sum(len(strip.pitches) for strip in strips), len(strips))
    draw = _onset_cells if onsets_only else _sounding_cells
    rows = []
    for strip in strips:
        cells = draw(strip.reference, strip.estimate, width, per_second)
        pixels = _colour(cells, border_seconds, per_second)[strip.pitches.start : strip.pitches.stop]
        rows += [_words_line(width, [(0, strip.name)]), np.repeat(pixels[::-1], cell, axis=0)]
    return np.concatenate([_key_line(width), *rows, _seconds_line(width, num_seconds, per_second)])


def pixels_per_second(num_seconds: float) -> float:
    """Of a picture that is so long: as many as fit, `PIXELS_PER_SECOND` at most.

    Raises:
      ValueError: it is not positive.
    """
    if not 0 < num_seconds < math.inf:
        raise ValueError(f"A picture of {num_seconds} s cannot be drawn; give more than 0 s.")
    return min(PIXELS_PER_SECOND, MAX_SIZE_PIXELS[1] / num_seconds)


def _drawable(notes: Notes, num_seconds: float) -> Notes:
    # A little longer than the picture: what is paired with its last notes may come after it.
    with np.errstate(invalid="ignore"):
        seen = (notes.onset_seconds < num_seconds + 1) & (notes.offset_seconds >= 0)
    finite = np.isfinite(notes.onset_seconds) & np.isfinite(notes.offset_seconds)
    return notes[seen & finite & (notes.pitch >= 0) & (notes.pitch <= _MAX_PITCH)]


def _strips(reference: Notes, estimate: Notes) -> list[_Strip]:
    """One an instrument, in the order of programs, drums last; the least used ones together."""
    both = Notes.concatenate([reference, estimate])
    counts = {instrument: int(_plays(both, [instrument]).sum()) for instrument in both.instruments}
    most_used = sorted(counts, key=lambda instrument: -counts[instrument])
    alone = most_used if len(counts) <= MAX_STRIPS else most_used[: MAX_STRIPS - 1]
    groups = {_name(*instrument): [instrument] for instrument in counts if instrument in alone}
    if others := [instrument for instrument in counts if instrument not in alone]:
        groups[f"{len(others)} other instruments"] = others
    strips = [
        _Strip(name, reference[_plays(reference, members)], estimate[_plays(estimate, members)])
        for name, members in groups.items()
    ]
    return strips or [_Strip("no notes", reference, estimate)]


def _plays(notes: Notes, instruments: list[tuple[int, bool]]) -> np.ndarray:
    """bool [notes]: which are played by one of `instruments`."""
    played = np.zeros(len(notes), bool)
    for program, is_drum in instruments:
        played |= (notes.program == program) & (notes.is_drum == is_drum)
    return played


def _name(program: int, is_drum: bool) -> str:
    known = is_drum or 0 <= program < len(PROGRAM_NAMES)
    number = "" if is_drum and not program else f" ({program})"
    return (program_name(program, is_drum) if known else "unknown program") + number


def _cell_pixels(num_pitches: int, num_strips: int) -> int:
    room = MAX_SIZE_PIXELS[0] - LINE_PIXELS * (num_strips + 2)
    return min(max(room // num_pitches, 1), _MAX_CELL_PIXELS)


def _sounding_cells(reference: Notes, estimate: Notes, width: int, per_second: float) -> np.ndarray:
    """int [128, width]: 0 silence, 1 both, 2 reference only, 3 estimate only."""
    spans = [
        (notes.pitch, np.floor(notes.onset_seconds * per_second), np.ceil(notes.offset_seconds * per_second))
        for notes in (reference, estimate)
    ]
    there, heard = (_filled(*span, width) for span in spans)
    return np.select([there & heard, there, heard], [1, 2, 3], 0)


def _onset_cells(reference: Notes, estimate: Notes, width: int, per_second: float) -> np.ndarray:
    """The same for onsets."""
    pairs = maximum_matching(onset_pairs(reference, estimate))
    missed = np.setdiff1d(np.arange(len(reference)), pairs.reference)
    extra = np.setdiff1d(np.arange(len(estimate)), pairs.estimate)
    marks = []
    for notes in (reference[pairs.reference], reference[missed], estimate[extra]):
        first = np.floor(notes.onset_seconds * per_second)
        last = first + max(round(_ONSET_SECONDS * per_second), 1)
        marks.append(_filled(notes.pitch, first, last, width))
    return np.select(marks, [1, 2, 3], 0)


def _filled(pitch: np.ndarray, first: np.ndarray, last: np.ndarray, width: int) -> np.ndarray:
    """bool [128, width]: true from `first` to before `last` of each note, one cell at least."""
    first = np.clip(first, 0, width).astype(np.int64)
    last = np.clip(np.maximum(last, first + 1), 0, width).astype(np.int64)
    changes = np.zeros((_MAX_PITCH + 1, width + 1), np.int64)
    np.add.at(changes, (pitch, first), 1)
    np.add.at(changes, (pitch, last), -1)
    return np.cumsum(changes, axis=1)[:, :width] > 0


def _colour(cells: np.ndarray, border_seconds: float | None, per_second: float) -> np.ndarray:
    """uint8 [128, width, 3] of cells, with what is behind them."""
    width = cells.shape[1]
    behind = np.where(_IS_BLACK_KEY[:, None, None], _BLACK_KEYS, _BACKGROUND).repeat(width, axis=1)
    if border_seconds is not None:
        columns = np.floor(np.arange(0, width / per_second, border_seconds) * per_second).astype(np.int64)
        behind[:, columns] = _BORDERS
    palette = np.array([_BACKGROUND, *COLOURS.values()])
    return np.where(cells[..., None] > 0, palette[cells], behind).astype(np.uint8)


def _key_line(width: int) -> np.ndarray:
    """What the colours mean."""
    line = _words_line(width, [(110 * k + LINE_PIXELS + 2, name) for k, name in enumerate(COLOURS)])
    for k, colour in enumerate(COLOURS.values()):
        line[1:-1, 110 * k : 110 * k + LINE_PIXELS - 2] = colour
    return line


def _seconds_line(width: int, num_seconds: float, per_second: float) -> np.ndarray:
    return _words_line(width, [(int(second * per_second), f"{second:g} s") for second in _ticks(num_seconds)])


def _ticks(num_seconds: float) -> Iterator[float]:
    """Round numbers of seconds: about ten."""
    step = 10.0 ** math.floor(math.log10(num_seconds / 5))
    step *= next(factor for factor in (1, 2, 5, 10) if num_seconds / (step * factor) <= 10)
    for k in range(math.ceil(num_seconds / step)):
        yield round(k * step, 9)


def _words_line(width: int, words: list[tuple[int, str]]) -> np.ndarray:
    """uint8 [LINE_PIXELS, width, 3] with words from the given columns on."""
    from PIL import Image, ImageDraw, ImageFont

    line = Image.new("RGB", (width, LINE_PIXELS), _BACKGROUND)
    draw = ImageDraw.Draw(line)
    for column, text in words:
        draw.text((column, 0), text, fill=_WORDS, font=ImageFont.load_default())
    return np.array(line)
