import pytest

from mt3.inference.continuity import MAX_OVERLAP, TIE_RULES, ContinuityOptions
from mt3.symbolic.sounding_notes import TieRule


def test_nothing_is_done_without_being_asked_for():
    assert ContinuityOptions() == ContinuityOptions(0.0, "published", 0.0, False, None)
    assert TIE_RULES["published"] == TieRule(False, False, False, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"overlap": 0.8}, r"overlap is 0\.8: give a share of a segment from 0 to 0\.75"),
        ({"overlap": -0.1}, r"overlap is -0\.1"),
        ({"overlap": float("nan")}, r"overlap is nan"),
        ({"tie_consistency": "never"}, r"tie_consistency is 'never': choose one of published, "),
        ({"smooth_programs": 1.0}, r"smooth_programs is 1\.0: give a share of the notes"),
    ],
)
def test_what_is_out_of_range_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        ContinuityOptions(**options)


def test_the_largest_overlap_is_one():
    assert ContinuityOptions(overlap=MAX_OVERLAP).overlap == 0.75


@pytest.mark.parametrize(("overlap", "frames"), [(0.0, 256), (0.25, 192), (0.3, 179), (0.75, 64)])
def test_overlap_is_a_whole_number_of_frames(overlap, frames):
    assert ContinuityOptions(overlap=overlap).hop_frames(256) == frames


def test_segments_move_on():
    assert ContinuityOptions(overlap=0.75).hop_frames(1) == 1
