"""True tokens give the true notes, however segments overlap; wrong ones do little harm."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt3.inference.continuity import ContinuityOptions
from mt3.inference.note_assembly import NoteAssembler
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import EOS_ID, VocabularyConfig

TOKENIZER = Tokenizer(VocabularyConfig(num_velocity_bins=1, program_granularity="full"))
FRAMES = 256
SEGMENT_SECONDS = FRAMES / 125
OVERLAPS = (0.0, 0.25, 0.5, 0.75)


def random_notes(seed, num_notes=120, seconds=20.0):
    rng = np.random.default_rng(seed)
    onset_seconds = rng.uniform(0, seconds, num_notes).round(2)
    return Notes(
        onset_seconds=onset_seconds,
        offset_seconds=onset_seconds + rng.choice([0.05, 0.3, 1.0, 5.0], num_notes),
        pitch=rng.integers(40, 80, num_notes),
        velocity=np.full(num_notes, 127),
        program=rng.choice([0, 24, 40], num_notes),
        is_drum=rng.random(num_notes) < 0.2,
    )


def segments_of(notes, overlap, seconds, tokenizer=TOKENIZER):
    hop_frames = round(FRAMES * (1 - overlap))
    starts = np.arange(0, int(seconds * 125), hop_frames)
    return tokenizer.encode_segments(tokenizer.prepare(notes), starts, FRAMES)


def assemble(segments, overlap=0.0, seconds=30.0, tokenizer=TOKENIZER, log_probs=None, **options):
    """What was assembled, and what was taken segment by segment."""
    assembler = NoteAssembler(
        tokenizer,
        SEGMENT_SECONDS,
        SEGMENT_SECONDS * (1 - overlap),
        ContinuityOptions(overlap=overlap, **options),
    )
    taken = []
    for index, tokens in enumerate(segments):
        assembler.add(tokens, None if log_probs is None else log_probs[index])
        taken.append(assembler.take())
    result = assembler.finish(seconds)
    taken.append(assembler.take())
    assert len(assembler.take()[0]) == 0
    return result, taken


@pytest.mark.parametrize("overlap", OVERLAPS)
@pytest.mark.parametrize("seed", [0, 1])
def test_true_tokens_give_the_notes_whatever_the_overlap(overlap, seed):
    notes = random_notes(seed)
    result, taken = assemble(segments_of(notes, overlap, 30.0), overlap)
    expected = TOKENIZER.decode([(0.0, TOKENIZER.encode(TOKENIZER.prepare(notes), 0, 30 * 125))]).notes
    assert result.notes == expected.sorted()
    assert (result.invalid_events, result.dropped_events) == (0, 0)
    assert Notes.concatenate(part for part, _ in taken).sorted() == result.notes
    assert result.confidence.tolist() == [1.0] * len(result.notes)


@pytest.mark.parametrize("tie_consistency", ["same_note", "lasting", "adopt"])
def test_tie_rules_change_nothing_of_what_is_consistent(tie_consistency):
    segments = segments_of(random_notes(2), 0.0, 30.0)
    assert assemble(segments, tie_consistency=tie_consistency)[0].notes == assemble(segments)[0].notes


def test_without_ties_notes_are_joined_by_their_ends():
    tokenizer = Tokenizer(TOKENIZER.vocabulary, ties=False)
    notes = Notes.from_rows([(0.3, 3.0, 60, 127, 0, False), (2.5, 2.9, 64, 127, 40, False)])
    result, _ = assemble(segments_of(notes, 0.5, 6.0, tokenizer), 0.5, 6.0, tokenizer)
    np.testing.assert_allclose(result.notes.onset_seconds, [0.3, 2.5])
    np.testing.assert_allclose(result.notes.offset_seconds, [3.0, 2.9])


@settings(deadline=None, max_examples=60)
@given(
    segments=st.lists(st.lists(st.integers(0, 1500), max_size=40), max_size=6),
    overlap=st.sampled_from(OVERLAPS),
    tie_consistency=st.sampled_from(["published", "lasting", "adopt"]),
)
def test_whatever_a_model_writes_becomes_notes(segments, overlap, tie_consistency):
    rng = np.random.default_rng(len(segments))
    log_probs = [-rng.exponential(size=len(tokens)) for tokens in segments]
    seconds = SEGMENT_SECONDS * (1 + (1 - overlap) * max(len(segments) - 1, 0)) - 0.3
    result, taken = assemble(
        [np.array(tokens, np.int32) for tokens in segments],
        overlap,
        seconds,
        log_probs=log_probs,
        tie_consistency=tie_consistency,
        smooth_programs=0.1,
    )
    notes = result.notes
    assert ((notes.onset_seconds >= 0) & (notes.onset_seconds < seconds)).all()
    assert (notes.offset_seconds <= seconds).all()
    assert notes.sorted() == notes
    assert len(result.confidence) == len(notes)
    assert ((result.confidence >= 0) & (result.confidence <= 1)).all()
    assert sum(len(part) for part, _ in taken) >= len(notes)
    for part, confidence in taken:
        assert len(part) == len(confidence)


def test_published_decoding_is_the_default():
    rng = np.random.default_rng(0)
    segments = [rng.integers(0, 1300, 50).astype(np.int32) for _ in range(8)]
    log_probs = [-rng.exponential(size=50) for _ in segments]
    result, _ = assemble(segments, log_probs=log_probs)
    decoded = TOKENIZER.decode(
        [(index * SEGMENT_SECONDS, tokens) for index, tokens in enumerate(segments)], log_probs
    )
    assert decoded.confidence is not None
    order = decoded.notes.order()
    assert result.notes == decoded.notes.sorted()
    np.testing.assert_array_equal(result.confidence, decoded.confidence[order])
    counts = (result.invalid_events, result.dropped_events)
    assert counts == (decoded.invalid_events, decoded.dropped_events)


@pytest.mark.parametrize("overlap", [0.0, 0.5])
def test_notes_end_with_the_audio(overlap):
    notes = Notes.from_rows([(0.5, 9.0, 60, 127, 0, False), (2.9, 2.95, 64, 127, 0, False)])
    result, taken = assemble(segments_of(notes, overlap, 4.0), overlap, seconds=2.8)
    assert result.notes.offset_seconds.tolist() == [2.8]
    assert taken[-1][0].offset_seconds.tolist() == [2.8]


def test_confidence_follows_its_note():
    notes = Notes.from_rows([(0.2, 1.5, 72, 127, 0, False), (0.4, 0.6, 60, 127, 0, False)])
    (tokens,) = segments_of(notes, 0.0, 2.0)
    log_probs = np.zeros(len(tokens))
    pitches = TOKENIZER.codec.encode("pitch", [72, 60]) + 3
    log_probs[np.flatnonzero(tokens == pitches[0])[0]] = np.log(0.25)
    log_probs[np.flatnonzero(tokens == pitches[1])[0]] = np.log(0.5)
    result, _ = assemble([tokens], log_probs=[log_probs])
    # The one that ends first begins last.
    assert result.notes.pitch.tolist() == [72, 60]
    np.testing.assert_allclose(result.confidence, [0.25, 0.5], rtol=1e-6)


def test_parts_taken_one_by_one_stay_whole():
    """More of them than are kept apart."""
    notes = Notes.from_rows([(2.0 * index, 2.0 * index + 0.5, 60, 127, 0, False) for index in range(200)])
    result, taken = assemble(segments_of(notes, 0.0, 400.0), seconds=400.0)
    assert len(taken) > 190
    np.testing.assert_allclose(result.notes.onset_seconds, notes.onset_seconds)
    assert Notes.concatenate(part for part, _ in taken).sorted() == result.notes


def test_rare_programs_are_smoothed_at_the_end_only():
    notes = Notes.from_rows(
        [(0.1 * index, 0.1 * index + 0.05, 60, 127, 40 if index == 9 else 0, False) for index in range(19)]
    )
    result, taken = assemble(segments_of(notes, 0.0, 2.0), smooth_programs=0.1)
    assert set(result.notes.program.tolist()) == {0}
    assert set(Notes.concatenate(part for part, _ in taken).program.tolist()) == {0, 40}


def test_a_wrong_segment_spoils_no_other():
    """One of the segments hears nothing; what its neighbours heard together is there all the same."""
    notes = Notes.from_rows(
        [(0.5 * index, 0.5 * index + 0.4, 60 + index, 127, 0, False) for index in range(20)]
    )
    segments = segments_of(notes, 0.5, 12.0)
    segments[3] = np.array([EOS_ID], np.int32)
    heard, _ = assemble(segments, 0.5, 12.0)
    deaf_from, deaf_to = 3 * SEGMENT_SECONDS / 2 + 0.5, 3 * SEGMENT_SECONDS / 2 + 1.55
    expected = [60 + index for index in range(20) if not deaf_from <= 0.5 * index < deaf_to]
    assert heard.notes.pitch.tolist() == expected


@pytest.mark.parametrize("hop_seconds", [0.0, 3.0])
def test_segments_leave_no_gap(hop_seconds):
    with pytest.raises(ValueError, match=f"hop_seconds is {hop_seconds}"):
        NoteAssembler(TOKENIZER, SEGMENT_SECONDS, hop_seconds)
