"""Piano rolls: every pixel's colour of small examples worked out by hand, and bounds for large ones."""

import itertools

import numpy as np
import pytest

from mt3.evaluation.piano_rolls import (
    COLOURS,
    LINE_PIXELS,
    MAX_SIZE_PIXELS,
    MAX_STRIPS,
    PIXELS_PER_SECOND,
    piano_roll_image,
)
from mt3.symbolic.notes import Notes

CELL = 4  # pixels a pitch in small pictures
BOTH, REFERENCE, ESTIMATE = COLOURS.values()


def notes(*rows):
    """Of (onset, offset, pitch) or (onset, offset, pitch, program) or with is_drum after these."""
    return Notes.from_rows((*row[:3], 80, *row[3:], *(0, False)[len(row) - 3 :]) for row in rows)


def coloured(image, colour):
    """bool [height, width], below the line that explains the colours."""
    return (image[LINE_PIXELS:] == colour).all(axis=2)


def strip(image, colour, index=0, num_pitches=5):
    """bool [pitches, width]: where a strip has a colour, lowest pitch first; one row of pixels a pitch."""
    height = LINE_PIXELS + CELL * num_pitches
    rows = coloured(image, colour)[height * index + LINE_PIXELS : height * (index + 1)]
    assert (rows.reshape(num_pitches, CELL, -1) == rows[::CELL][:, None]).all()
    return rows[::CELL][::-1]


def spans(row):
    """(first, last + 1) columns of a row of booleans."""
    return [tuple(pair) for pair in np.flatnonzero(np.diff(row, prepend=False, append=False)).reshape(-1, 2)]


def test_colours_say_who_has_a_note():
    """Reference 0.2 to 0.6 s, estimate 0.4 to 0.8 s, of one pitch: 10 columns of each colour."""
    image = piano_roll_image(notes((0.2, 0.6, 60)), notes((0.4, 0.8, 60)), 2.0)
    assert image.dtype == np.uint8
    assert image.shape == (3 * LINE_PIXELS + 5 * CELL, 100, 3)
    middle = {"reference": REFERENCE, "both": BOTH, "estimate": ESTIMATE}
    found = {name: spans(strip(image, colour)[2]) for name, colour in middle.items()}
    assert found == {"reference": [(10, 20)], "both": [(20, 30)], "estimate": [(30, 40)]}
    for colour in COLOURS.values():
        assert not strip(image, colour)[[0, 1, 3, 4]].any()


def test_higher_is_above():
    image = piano_roll_image(notes((0, 1, 60), (0, 1, 63)), Notes.empty(), 1.0)
    assert np.flatnonzero(strip(image, REFERENCE, num_pitches=8).any(axis=1)).tolist() == [2, 5]


def test_each_instrument_has_a_strip():
    """The same notes by another instrument: missed in one strip, too much in the other."""
    image = piano_roll_image(
        notes((0, 1, 60, 0), (0, 1, 60, 0, True)), notes((0, 1, 60, 32), (0, 1, 60, 0, True)), 1.0
    )
    for index, colour in enumerate((REFERENCE, ESTIMATE, BOTH)):  # piano, bass, drums
        assert spans(strip(image, colour, index)[2]) == [(0, 50)]


def test_onsets_are_paired_as_the_metric_pairs_them():
    """40 ms apart is a hit, drawn at the reference's time; 60 ms is a miss and one too much."""
    reference, estimate = notes((0.2, 0.9, 60), (1.2, 1.9, 60)), notes((0.24, 0.3, 60), (1.26, 1.3, 60))
    image = piano_roll_image(reference, estimate, 2.0, onsets_only=True)
    found = {name: spans(strip(image, colour)[2]) for name, colour in COLOURS.items()}
    # A mark is 80 ms wide; the missed one, on top, hides the first column of the one too much.
    assert found == {"both": [(10, 14)], "reference only": [(60, 64)], "estimate only": [(64, 67)]}


def test_what_is_outside_is_left_out():
    odd = notes((5.0, 6.0, 60), (-2.0, -1.0, 60), (-1.0, 0.1, 60), (0.5, 0.5, 60), (0, 1, 128), (0, 1, -1))
    odd = Notes.concatenate([odd, notes((np.nan, 1.0, 60), (0.0, np.inf, 60))])
    image = piano_roll_image(odd, odd, 1.0)
    # What began before the picture, and a note of no length.
    assert spans(strip(image, BOTH)[2]) == [(0, 5), (25, 26)]
    assert strip(image, BOTH).sum() == 6
    assert piano_roll_image(odd, Notes.empty(), 1.0, onsets_only=True).shape == image.shape


def test_lines_at_borders_are_behind_the_notes():
    image = piano_roll_image(notes((0.5, 1.5, 60)), Notes.empty(), 2.0, border_seconds=1.0)
    plain = piano_roll_image(notes((0.5, 1.5, 60)), Notes.empty(), 2.0)
    differs = (image != plain).any(axis=2)
    assert np.flatnonzero(differs.any(axis=0)).tolist() == [0, 50]
    assert (strip(image, REFERENCE) == strip(plain, REFERENCE)).all()


@pytest.mark.parametrize("onsets_only", [False, True])
def test_size_is_bounded(onsets_only):
    """All instruments over all pitches for ten minutes; more instruments than strips share the last one."""
    rng = np.random.default_rng(0)
    program, pitch = map(np.ravel, np.meshgrid(np.arange(128), np.arange(0, 128, 2)))
    onset = rng.uniform(0, 600, len(pitch))
    columns = (onset, onset + 1, pitch, np.full(len(pitch), 80), program)
    music = Notes(*columns, np.zeros(len(pitch), bool))
    image = piano_roll_image(music, music[::2], 600.0, onsets_only=onsets_only)
    assert image.shape[0] <= MAX_SIZE_PIXELS[0]
    assert image.shape[1] == MAX_SIZE_PIXELS[1]
    few = piano_roll_image(music[program < MAX_STRIPS], Notes.empty(), 600.0, onsets_only=onsets_only)
    assert few.shape == image.shape


def test_no_notes_are_a_picture_too():
    image = piano_roll_image(Notes.empty(), Notes.empty(), 0.01)
    assert image.shape[1] == 1
    assert not any(strip(image, colour, num_pitches=16).any() for colour in COLOURS.values())


@pytest.mark.parametrize("num_seconds", [0.0, -1.0, np.inf, np.nan])
def test_length_must_be_positive(num_seconds):
    with pytest.raises(ValueError, match="give more than 0 s"):
        piano_roll_image(Notes.empty(), Notes.empty(), num_seconds)


# From the colours that are seen to those that are seen without one kind of cone, in linear RGB: H. Brettel,
# F. Viénot and J. Mollon's projections in the form of F. Viénot et al., Color Res. Appl. 24, 1999.
TO_CONES = np.array(
    [[17.8824, 43.5161, 4.11935], [3.45565, 27.1554, 3.86714], [0.0299566, 0.184309, 1.46709]]
)
WITHOUT = {
    "protanope": np.array([[0, 2.02344, -2.52581], [0, 1, 0], [0, 0, 1]]),
    "deuteranope": np.array([[1, 0, 0], [0.494207, 0, 1.24827], [0, 0, 1]]),
}


@pytest.mark.parametrize("eyes", WITHOUT)
def test_colours_can_be_told_apart(eyes):
    """Without one kind of cone, and by lightness alone, on the white behind them."""
    colours = [(255, 255, 255), *COLOURS.values()]
    linear = (np.array(colours) / 255) ** 2.2
    seen = linear @ (np.linalg.inv(TO_CONES) @ WITHOUT[eyes] @ TO_CONES).T
    lightness = 116 * np.cbrt(linear @ (0.2126, 0.7152, 0.0722)) - 16
    for first, second in itertools.combinations(range(len(colours)), 2):
        assert (
            np.abs(np.clip(seen[first], 0, 1) ** (1 / 2.2) - np.clip(seen[second], 0, 1) ** (1 / 2.2)).max()
            > 0.2
        )
        assert abs(lightness[first] - lightness[second]) > 20


def test_columns_are_seconds():
    image = piano_roll_image(notes((1.0, 2.0, 60)), Notes.empty(), 3.0)
    assert spans(strip(image, REFERENCE)[2]) == [(PIXELS_PER_SECOND, 2 * PIXELS_PER_SECOND)]
