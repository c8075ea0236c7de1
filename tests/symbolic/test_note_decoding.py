import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt3.symbolic.note_decoding import decode_segments
from mt3.symbolic.vocabularies import VocabularyConfig, build_codec

CONFIG = VocabularyConfig(num_velocity_bins=1, program_granularity="full")


def _ids(*events):
    codec = build_codec(CONFIG)
    pairs = (event.split() for event in events)
    return np.array([int(codec.encode(kind, int(value))) for kind, value in pairs])


def _rows(notes):
    return list(
        zip(
            notes.onset_seconds.tolist(),
            notes.offset_seconds.tolist(),
            notes.pitch.tolist(),
            notes.program.tolist(),
            strict=True,
        )
    )


def test_notes_and_counts_equal_the_published_ones(read_golden, notes_of):
    for case in read_golden("decoding.json"):
        config = VocabularyConfig(case["num_velocity_bins"], program_granularity="full")
        segments = [(round(s["start_time"] * 100), np.array(s["tokens"], int)) for s in case["segments"]]
        decoded = decode_segments(segments, config, ties=case["ties"], onsets_only=case["onsets_only"])
        counts = (decoded.invalid_events, decoded.dropped_events)
        assert counts == (case["invalid_events"], case["dropped_events"]), case["kind"]
        expected = notes_of(case["notes"])
        assert len(decoded.notes) == len(expected)
        for column in ("pitch", "velocity", "program", "is_drum"):
            assert np.array_equal(getattr(decoded.notes, column), getattr(expected, column)), column
        for column in ("onset_seconds", "offset_seconds"):
            np.testing.assert_allclose(
                getattr(decoded.notes, column), getattr(expected, column), rtol=0, atol=1e-6
            )


def test_a_note_that_is_not_tied_ends_at_the_segment():
    first = _ids("tie 0", "program 3", "velocity 1", "pitch 60", "pitch 64")
    second = _ids("program 3", "pitch 64", "tie 0", "shift 50", "velocity 0", "pitch 64")
    decoded = decode_segments([(0, first), (200, second)], CONFIG)
    assert _rows(decoded.notes) == [(0.0, 2.0, 60, 3), (0.0, 2.5, 64, 3)]
    assert decoded.invalid_events == 0


def test_a_note_struck_again_ends_there_and_open_notes_end_with_the_last_event():
    tokens = _ids("velocity 1", "pitch 60", "shift 10", "pitch 60", "shift 30", "drum 38")
    decoded = decode_segments([(0, tokens)], CONFIG, ties=False)
    assert _rows(decoded.notes) == [(0.0, 0.1, 60, 0), (0.3, 0.31, 38, 0), (0.1, 0.3, 60, 0)]


@pytest.mark.parametrize(
    "events",
    [
        ["velocity 0", "pitch 60"],  # ends what does not sound
        ["velocity 0", "drum 38"],  # a silent hit
        ["tie 0"],  # no tie section here
    ],
)
def test_senseless_events_are_counted_and_skipped(events):
    decoded = decode_segments([(0, _ids(*events))], CONFIG, ties=False)
    assert (len(decoded.notes), decoded.invalid_events) == (0, 1)


def test_events_beyond_the_next_segment_are_dropped():
    late = _ids("tie 0", "velocity 1", "shift 201", "pitch 60", "pitch 61")
    decoded = decode_segments([(0, late), (200, _ids("tie 0"))], CONFIG)
    assert (len(decoded.notes), decoded.dropped_events) == (0, 3)


@settings(deadline=None, max_examples=100)
@given(
    segments=st.lists(st.lists(st.integers(-5, 1500), max_size=60), max_size=5),
    ties=st.booleans(),
    onsets_only=st.booleans(),
)
def test_whatever_a_model_writes_decodes_to_notes_that_can_be_written(segments, ties, onsets_only):
    numbered = [(200 * index, np.array(tokens, int)) for index, tokens in enumerate(segments)]
    notes = decode_segments(numbered, CONFIG, ties=ties, onsets_only=onsets_only).notes
    assert (notes.duration_seconds > 0.0099).all()
    assert ((notes.velocity >= 1) & (notes.velocity <= 127)).all()
    assert ((notes.pitch >= 0) & (notes.pitch <= 127) & (notes.program >= 0) & (notes.program <= 127)).all()
