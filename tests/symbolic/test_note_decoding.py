import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt3.symbolic.note_decoding import NoteDecoder, decode_segments
from mt3.symbolic.notes import Notes
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


SEGMENTS = st.lists(st.lists(st.one_of(st.integers(-5, 1500), st.integers(0, 40)), max_size=60), max_size=5)


@settings(deadline=None, max_examples=100)
@given(segments=SEGMENTS, ties=st.booleans(), onsets_only=st.booleans(), takes=st.sets(st.integers(0, 4)))
def test_segments_one_by_one_give_the_same_whenever_notes_are_taken(segments, ties, onsets_only, takes):
    numbered = [(200 * index, np.array(tokens, int)) for index, tokens in enumerate(segments)]
    whole = decode_segments(numbered, CONFIG, ties=ties, onsets_only=onsets_only)
    decoder, parts = NoteDecoder(CONFIG, ties=ties, onsets_only=onsets_only), []
    for index, (start_step, tokens) in enumerate(numbered):
        # The last segment's end is named too: whether it is the last one is not known then.
        decoder.add(start_step, tokens, end_step=start_step + 200)
        if index in takes:
            parts.append(decoder.take()[0])
    decoder.finish()
    parts.append(decoder.take()[0])
    assert Notes.concatenate(parts) == whole.notes
    assert (decoder.invalid_events, decoder.dropped_events) == (whole.invalid_events, whole.dropped_events)
    assert len(decoder.take()[0]) == 0


def test_segments_come_in_order():
    decoder = NoteDecoder(CONFIG)
    decoder.add(200, _ids("tie 0"))
    with pytest.raises(ValueError, match="starts at step 100, before the last one at 200"):
        decoder.add(100, _ids("tie 0"))


def test_confidence_is_of_the_tokens_that_state_the_onset():
    events = ["tie 0", "program 3", "velocity 1", "pitch 60", "shift 10", "shift 20", "pitch 64"]
    events += ["shift 40", "velocity 0", "pitch 60", "drum 38", "velocity 1", "drum 38"]
    probability = np.array([0.1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.95, 0.3, 0.2, 0.1, 0.85, 0.75])
    decoded = decode_segments([(0, _ids(*events))], CONFIG, log_probs=[np.log(probability)])
    assert decoded.notes.pitch.tolist() == [60, 38, 64]
    assert decoded.confidence is not None
    assert decoded.confidence.dtype == np.float32
    expected = [0.9 * 0.8 * 0.7, 0.95 * 0.85 * 0.75, 0.9 * 0.8 * 0.6 * 0.5 * 0.4]
    np.testing.assert_allclose(decoded.confidence, expected, rtol=1e-6)


def test_a_segment_begins_at_a_known_time():
    """The last shift of the segment before says nothing of it; its program and velocity do."""
    first, second = _ids("program 3", "velocity 1", "shift 10", "pitch 60"), _ids("pitch 62")
    log_probs = [np.log([0.9, 0.8, 0.5, 0.7]), np.log([0.6])]
    decoded = decode_segments([(0, first), (200, second)], CONFIG, ties=False, log_probs=log_probs)
    np.testing.assert_allclose(decoded.confidence, [0.9 * 0.8 * 0.5 * 0.7, 0.9 * 0.8 * 0.6], rtol=1e-6)


def test_without_probabilities_all_is_certain():
    decoded = decode_segments([(0, _ids("velocity 1", "pitch 60", "drum 38"))], CONFIG, ties=False)
    assert decoded.confidence is not None
    assert decoded.confidence.tolist() == [1.0, 1.0]


def test_events_beyond_the_last_segment_are_read_at_the_end():
    decoder = NoteDecoder(CONFIG, ties=False)
    decoder.add(
        0, _ids("velocity 1", "pitch 60", "shift 150", "shift 60", "velocity 0", "pitch 60"), end_step=200
    )
    assert decoder.late_events == 3
    assert [note.onset_step for note in decoder.sounding(200)] == [0]
    decoder.finish()
    assert _rows(decoder.take()[0]) == [(0.0, 2.1, 60, 0)]
    assert decoder.dropped_events == 0


def test_many_notes_keep_their_order():
    """More than are kept as rows."""
    events = ["velocity 1"] + [event for index in range(2500) for event in (f"shift {index // 3}", "drum 38")]
    decoded = decode_segments([(0, _ids(*events))], CONFIG, ties=False)
    np.testing.assert_allclose(decoded.notes.onset_seconds, np.arange(2500) // 3 / 100)
