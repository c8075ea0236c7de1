import numpy as np
import pytest

from mt3.symbolic.run_length import (
    ABSENT,
    changes,
    merge_streams,
    read_streams,
    tokens_needed,
    write_tokens,
)
from mt3.symbolic.vocabularies import VocabularyConfig, build_codec

CODEC = build_codec(VocabularyConfig(num_velocity_bins=1))


def _ids(*events):
    """Event ids of ("kind", value) pairs written as "kind value"."""
    pairs = (event.split() for event in events)
    return [int(CODEC.encode(kind, int(value))) for kind, value in pairs]


def test_merging_equals_the_published_code(read_golden):
    for case in read_golden("merge.json"):
        published = merge_streams(case["tracks"], CODEC, remove_redundant=False, join_ties=False)
        assert published.tolist() == case["merged"]
        thinned = merge_streams(case["tracks"], CODEC, join_ties=False)
        assert thinned.tolist() == case["merged_without_redundant"]


def test_tie_sections_are_joined():
    first = _ids("program 8", "pitch 60", "pitch 62", "tie 0", "shift 3", "velocity 0", "pitch 60")
    second = _ids(
        "program 0", "pitch 70", "program 8", "pitch 60", "tie 0", "program 0", "velocity 1", "pitch 71"
    )
    assert merge_streams([first, second], CODEC).tolist() == _ids(
        *("program 0", "pitch 70", "program 8", "pitch 60", "pitch 62", "tie 0"),
        *("program 0", "velocity 1", "pitch 71"),
        *("shift 3", "program 8", "velocity 0", "pitch 60"),
    )


def test_a_state_left_out_as_redundant_is_restored_in_the_merge():
    piano = _ids("shift 1", "program 0", "velocity 1", "pitch 60", "shift 5", "pitch 61")
    organ = _ids("shift 3", "program 16", "velocity 0", "pitch 40")
    assert merge_streams([piano, organ], CODEC).tolist() == _ids(
        *("shift 1", "program 0", "velocity 1", "pitch 60"),
        *("shift 3", "program 16", "velocity 0", "pitch 40"),
        *("shift 5", "program 0", "velocity 1", "pitch 61"),
    )


def test_drums_leave_the_program_alone():
    stream = _ids("program 5", "velocity 1", "pitch 60", "drum 38", "shift 2", "pitch 62")
    assert merge_streams([stream], CODEC).tolist() == stream


def test_adjacent_shifts_add_up_and_are_written_so():
    stream = _ids("shift 1000", "shift 500", "velocity 1", "pitch 60", "shift 1000", "shift 1000", "pitch 61")
    table = read_streams([stream], CODEC).table
    assert table[:, 0].tolist() == [1500, 2000]
    assert write_tokens(table, tokens_needed(table), 1000).tolist() == stream


def test_streams_do_not_leak_into_each_other():
    parsed = read_streams(
        [_ids("shift 9", "program 3", "velocity 1", "pitch 60"), _ids("pitch 61", "tie 0")], CODEC
    )
    assert parsed.table[1].tolist() == [0, ABSENT, ABSENT, *_ids("pitch 61")]
    assert parsed.track.tolist() == [0, 1, 1]
    assert parsed.is_tied.tolist() == [False, True, False]


@pytest.mark.parametrize("streams", [[], [[]], [[], _ids("shift 4", "program 2")], [[-3, 5000]]])
def test_streams_without_events_give_none(streams):
    assert merge_streams(streams, CODEC).tolist() == []


def test_changes():
    column = np.array([ABSENT, 4, ABSENT, 4, 5, ABSENT, 4])
    assert changes(column).tolist() == [False, True, False, False, True, False, True]
    assert changes(np.array([ABSENT])).tolist() == [False]
