"""Each tie rule by hand: segments of 2 s, of which the second contradicts the first."""

import numpy as np
import pytest

from mt3.symbolic.note_decoding import decode_segments
from mt3.symbolic.sounding_notes import PUBLISHED_TIES, TieRule
from mt3.symbolic.vocabularies import VocabularyConfig, build_codec

CONFIG = VocabularyConfig(num_velocity_bins=1, program_granularity="full")
FOLLOW, RESUME, ADOPT, HOLD = (
    TieRule(**{name: True}) for name in ("follow_pitch", "resume", "adopt", "hold")
)


def ids(text):
    codec = build_codec(CONFIG)
    pairs = (event.split() for event in text.split(", "))
    return np.array([int(codec.encode(kind, int(value))) for kind, value in pairs])


def decode(rule, *segments):
    """Rows of (onset, offset, pitch, program), and how many events were invalid."""
    decoded = decode_segments(
        [(200 * index, ids(text)) for index, text in enumerate(segments)], CONFIG, tie_rule=rule
    )
    notes = decoded.notes
    columns = (notes.onset_seconds, notes.offset_seconds, notes.pitch, notes.program)
    return list(zip(*(column.tolist() for column in columns), strict=True)), decoded.invalid_events


STRUCK = "tie 0, program 3, velocity 1, shift 100, pitch 60"
ENDS_IT = "program 5, shift 20, velocity 0, pitch 60, program 3, shift 50, pitch 60"
UNDER_ANOTHER_PROGRAM = "program 5, pitch 60, tie 0, shift 50, velocity 0, pitch 60"


@pytest.mark.parametrize(
    ("rule", "rows", "invalid"),
    [
        (PUBLISHED_TIES, [(1.0, 2.0, 60, 3)], 2),
        (FOLLOW, [(1.0, 2.5, 60, 3)], 0),
        (RESUME, [(1.0, 2.0, 60, 3)], 2),
        (ADOPT, [(1.0, 2.0, 60, 3), (2.0, 2.5, 60, 5)], 0),
        # Known again by its own end only, which this is not.
        (HOLD, [(1.0, 2.0, 60, 3)], 2),
    ],
)
def test_tied_under_another_program(rule, rows, invalid):
    assert decode(rule, STRUCK, UNDER_ANOTHER_PROGRAM) == (rows, invalid)


def test_what_is_tied_itself_is_not_followed():
    both = "program 3, pitch 60, program 5, pitch 60, tie 0, shift 50, program 3, velocity 0, pitch 60"
    assert decode(FOLLOW, STRUCK, both) == ([(1.0, 2.5, 60, 3)], 1)


def test_a_note_can_be_followed_through_several_segments():
    middle = "program 5, pitch 60, tie 0"
    rows, invalid = decode(FOLLOW, STRUCK, middle, UNDER_ANOTHER_PROGRAM)
    assert (rows, invalid) == ([(1.0, 4.5, 60, 3)], 0)


def test_what_is_struck_again_has_the_instrument_that_it_is_struck_with():
    again = "program 5, pitch 60, tie 0, shift 50, velocity 1, pitch 60, shift 80, velocity 0, pitch 60"
    assert decode(FOLLOW, STRUCK, again) == ([(1.0, 2.5, 60, 3), (2.5, 2.8, 60, 5)], 0)


def test_following_ends_with_the_segment():
    """The third segment's end is of its own program's note, which does not sound."""
    rows, invalid = decode(
        FOLLOW, STRUCK, "program 5, pitch 60, tie 0", "program 3, pitch 60, tie 0, " + ENDS_IT
    )
    assert (rows, invalid) == ([(1.0, 4.5, 60, 3)], 1)


@pytest.mark.parametrize(
    ("rule", "ended", "rows", "invalid"),
    [
        (PUBLISHED_TIES, 95, [(1.0, 1.95, 60, 3)], 2),
        (RESUME, 95, [(1.0, 2.5, 60, 3)], 0),
        (RESUME, 80, [(1.0, 1.8, 60, 3)], 2),  # too long ago
    ],
)
def test_tied_after_its_end(rule, ended, rows, invalid):
    first = f"tie 0, program 3, velocity 1, shift 100, pitch 60, shift {100 + ended}, velocity 0, pitch 60"
    second = "program 3, pitch 60, tie 0, shift 50, velocity 0, pitch 60"
    assert decode(rule, first, second) == (rows, invalid)


def test_an_end_of_what_does_not_sound_is_adopted():
    assert decode(ADOPT, "tie 0, program 3, shift 50, velocity 0, pitch 60") == ([(0.0, 0.5, 60, 3)], 0)


@pytest.mark.parametrize(
    ("after", "end_seconds"),
    [
        (["tie 0, shift 50, program 3, velocity 0, pitch 60"], 2.5),  # its own end
        (["tie 0", "program 3, pitch 60, tie 0, shift 50, velocity 0, pitch 60"], 4.5),  # tied again
        (["tie 0", "tie 0, shift 50, velocity 1, drum 38"], 2.0),  # left out again
        (["tie 0, shift 50, velocity 1, drum 38"], 2.0),  # nothing more
    ],
)
def test_left_out_once(after, end_seconds):
    rows, invalid = decode(HOLD, STRUCK, *after)
    assert (1.0, end_seconds, 60, 3) in rows
    assert invalid == 0


def test_a_held_note_that_is_struck_again_ended_where_it_was_left_out():
    rows, _ = decode(
        HOLD, STRUCK, "tie 0, shift 50, program 3, velocity 1, pitch 60, shift 80, velocity 0, pitch 60"
    )
    assert rows == [(1.0, 2.0, 60, 3), (2.5, 2.8, 60, 3)]


def test_a_tie_section_without_an_end_leaves_its_ties_invalid():
    assert decode(ADOPT, "program 3, pitch 60") == ([], 1)
    assert decode(ADOPT, "program 3, pitch 60", "tie 0") == ([], 1)
