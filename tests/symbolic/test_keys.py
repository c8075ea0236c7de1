"""Keys and the names of pitches."""

import pytest

from mt3.symbolic.keys import Key, estimate_key
from mt3.symbolic.notes import Notes

MAJOR, HARMONIC_MINOR = (0, 2, 4, 5, 7, 9, 11), (0, 2, 3, 5, 7, 8, 11)


def scale(tonic, steps):
    """Up and down, with the tonic's triad held at the end."""
    pitches = [tonic + step for step in (*steps, 12, *reversed(steps))]
    rows = [(0.5 * k, 0.5 * k + 0.5, pitch, 80, 0, False) for k, pitch in enumerate(pitches)]
    rows += [(8.0, 10.0, tonic + steps[k], 80, 0, False) for k in (0, 2, 4)]
    return Notes.from_rows(rows)


@pytest.mark.parametrize(
    ("tonic", "steps", "key"),
    [
        (60, MAJOR, Key(0)),
        (67, MAJOR, Key(1)),
        (62, MAJOR, Key(2)),
        (65, MAJOR, Key(-1)),
        (63, MAJOR, Key(-3)),
        (66, MAJOR, Key(6)),
        (57, HARMONIC_MINOR, Key(0, True)),
        (62, HARMONIC_MINOR, Key(-1, True)),
        (64, HARMONIC_MINOR, Key(1, True)),
        (60, HARMONIC_MINOR, Key(-3, True)),
    ],
)
def test_scales_have_their_signature(tonic, steps, key):
    assert estimate_key(scale(tonic, steps)) == key


@pytest.mark.parametrize(
    "notes",
    [Notes.empty(), Notes.from_rows([(0, 1, 38, 80, 0, True)]), Notes.from_rows([(0, 0, 60, 80, 0, False)])],
)
def test_without_sounding_pitches_there_is_no_signature(notes):
    assert estimate_key(notes) == Key()


@pytest.mark.parametrize(
    ("key", "pitch", "name"),
    [
        (Key(0), 60, ("C", 0, 4)),
        (Key(0), 66, ("F", 1, 4)),
        (Key(0), 70, ("B", -1, 4)),
        (Key(0, True), 68, ("G", 1, 4)),  # the leading tone of A minor
        (Key(-3, True), 71, ("B", 0, 4)),
        (Key(-3), 68, ("A", -1, 4)),
        (Key(6), 65, ("E", 1, 4)),
        (Key(6), 60, ("B", 1, 3)),
        (Key(-5), 59, ("C", -1, 4)),  # below middle C, named C
    ],
)
def test_pitches_are_spelled_as_the_key_has_them(key, pitch, name):
    assert key.spell(pitch) == name


def test_every_spelling_sounds_at_its_pitch():
    classes = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
    for fifths in range(-6, 7):
        for is_minor in (False, True):
            for pitch in range(128):
                step, alteration, octave = Key(fifths, is_minor).spell(pitch)
                assert 12 * (octave + 1) + classes[step] + alteration == pitch
                assert abs(alteration) <= 2


def test_the_shortest_of_notes_is_no_trouble():
    assert estimate_key(Notes.from_rows([(0, 5e-324, 60, 80, 0, False)])).fifths in range(-6, 7)
