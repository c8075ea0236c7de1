import numpy as np
import pytest

from mt3.symbolic.notes import Notes

NOTES = Notes.from_rows(
    [
        (1.0, 2.0, 60, 80, 0, False),
        (0.0, 3.0, 38, 90, 0, True),
        (0.5, 0.7, 64, 70, 40, False),
    ]
)


@pytest.mark.parametrize(
    ("index", "pitches"),
    [
        ([], []),
        (np.zeros(0, np.int64), []),
        ([2, 0], [64, 60]),
        (slice(1, None), [38, 64]),
        ([True, False, True], [60, 64]),
        (NOTES.is_drum, [38]),
    ],
)
def test_indexing_selects(index, pitches):
    assert NOTES[index].pitch.tolist() == pitches


def test_empty_notes_can_be_indexed_and_changed():
    empty = Notes.empty()
    assert empty[empty.is_drum] == empty == empty[[]] == empty.sorted() == empty.shift(1.0)
    assert empty.end_seconds == 0.0


def test_columns_are_read_only_and_own_their_data():
    pitch = np.array([60, 38, 64])
    notes = NOTES.replace(pitch=pitch)
    pitch[0] = 1
    assert notes.pitch[0] == 60
    with pytest.raises(ValueError, match="read-only"):
        notes.pitch[0] = 1


def test_columns_must_agree():
    with pytest.raises(ValueError, match="one length"):
        NOTES.replace(pitch=[60])
    with pytest.raises(ValueError, match="one-dimensional"):
        NOTES.replace(pitch=[[60, 61, 62]])


def test_sorted_shift_and_crop():
    assert NOTES.sorted().pitch.tolist() == [38, 64, 60]
    assert NOTES.shift(-0.5).onset_seconds.tolist() == [0.5, -0.5, 0.0]
    cropped = NOTES.crop(0.6, 1.0)
    assert cropped.onset_seconds.tolist() == [0.6, 0.6]
    assert cropped.offset_seconds.tolist() == [1.0, 0.7]


def test_instruments_lists_pitched_before_drums():
    assert NOTES.instruments == [(0, False), (40, False), (0, True)]
