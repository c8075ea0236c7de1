"""From recordings to chunks to segments: nothing is lost, moved or too long."""

import dataclasses

import numpy as np
import pytest

from mt3.data import preprocessors
from mt3.data.preprocessors import Chunk, SegmentConfig
from mt3.data.recordings import Recording, SampledAudio
from mt3.symbolic.note_cleaning import trim_overlaps
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import EOS_ID, NUM_SPECIAL_IDS, VocabularyConfig

TOKENIZERS = [
    Tokenizer(VocabularyConfig(127), ties=False),
    Tokenizer(VocabularyConfig(1, program_granularity="full"), ties=True),
    Tokenizer(VocabularyConfig(127), ties=False, onsets_only=True),
]


def random_notes(seconds, per_second, seed=0):
    rng = np.random.default_rng(seed)
    num_notes = int(seconds * per_second)
    onset_seconds = rng.uniform(0, seconds, num_notes)
    return Notes(
        onset_seconds,
        onset_seconds + rng.exponential(0.7, num_notes),
        rng.integers(30, 90, num_notes),
        rng.integers(1, 128, num_notes),
        rng.choice([0, 24, 32, 40, 73], num_notes),
        rng.random(num_notes) < 0.2,
    )


def recording(seconds, per_second=20, seed=0):
    # Every sample is a whole number of 16-bit units, and tells where it is.
    num_samples = int(seconds * 16000)
    samples = (np.arange(num_samples) % 32768 / 32768).astype(np.float32)
    return Recording("piece", random_notes(seconds, per_second, seed), SampledAudio(samples, 16000))


@pytest.fixture(scope="module")
def long_recording():
    return recording(37.005)


def test_notes_survive_packing():
    notes = random_notes(10, 20)
    assert preprocessors.unpack_notes(preprocessors.pack_notes(notes)) == notes
    assert preprocessors.unpack_notes(preprocessors.pack_notes(Notes.empty())) == Notes.empty()


def test_notes_out_of_range_are_named():
    notes = Notes.from_rows([(0.0, 1.0, 130, 100, 0, False)])
    with pytest.raises(ValueError, match="pitch 130 is outside"):
        preprocessors.pack_notes(notes)


@pytest.mark.parametrize(
    ("num_samples", "count"),
    [(0, 0), (1, 1), (256000, 1), (256001, 2), (2 * 256000, 2), (2 * 256000 + 129, 3)],
)
def test_number_of_chunks(num_samples, count):
    assert preprocessors.num_chunks(num_samples) == count


def test_chunks_hold_all_samples_once(long_recording):
    chunks = preprocessors.split_recording(long_recording)
    assert len(chunks) == preprocessors.num_chunks(len(long_recording.load_audio())) == 3
    assert [chunk.start_frame for chunk in chunks] == [0, 2000, 4000]
    joined = np.concatenate([chunk.samples for chunk in chunks])
    samples = (long_recording.load_audio() * 32768).astype(np.int16)
    np.testing.assert_array_equal(joined[: len(samples)], samples)
    assert len(joined) % 128 == 0
    assert not joined[len(samples) :].any()
    assert len(joined) - len(samples) < 128


def test_a_whole_recording_can_be_one_chunk(long_recording):
    (chunk,) = preprocessors.split_recording(long_recording, chunk_frames=None)
    assert len(chunk.samples) == -(-592080 // 128) * 128
    assert chunk.notes == trim_overlaps(long_recording.notes)


def test_a_recording_without_samples_has_no_chunks():
    assert preprocessors.split_recording(recording(0)) == []
    assert preprocessors.split_recording(recording(0), chunk_frames=None) == []


def test_chunks_survive_encoding(long_recording):
    chunk = preprocessors.split_recording(long_recording)[1]
    features = preprocessors.encode_chunk(chunk, 16000, 128)
    assert {name: type(value) for name, value in features.items()} == preprocessors.CHUNK_FEATURES
    decoded = preprocessors.decode_chunk(features, 16000, 128)
    assert (decoded.id, decoded.start_frame, decoded.notes) == (chunk.id, chunk.start_frame, chunk.notes)
    np.testing.assert_array_equal(decoded.samples, chunk.samples)
    with pytest.raises(ValueError, match="16000 Hz in frames of 128 samples, wanted are 22050 Hz"):
        preprocessors.decode_chunk(features, 22050, 128)


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
@pytest.mark.parametrize("seed", range(5))
def test_segments_of_chunks_have_the_tokens_of_the_recording(tokenizer, seed):
    """A chunk knows enough: ties, state and rounding do not change at its borders."""
    piece = recording(37.005, seed=seed)
    config = SegmentConfig(tokenizer)
    events = tokenizer.prepare(piece.notes)
    for chunk in preprocessors.split_recording(piece):
        segments = preprocessors.sample_segments(chunk, 8, np.random.default_rng(seed), config)
        last = chunk.start_frame + len(chunk.samples) // 128
        for start, target in zip(segments.start_frames, segments.targets, strict=True):
            expected = tokenizer.encode(events, start, min(256, last - start))
            np.testing.assert_array_equal(target[: len(expected)], expected)
            assert not target[len(expected) :].any()


def test_inputs_are_the_frames_where_the_segment_starts(long_recording):
    chunk = preprocessors.split_recording(long_recording)[1]
    config = SegmentConfig(TOKENIZERS[0])
    segments = preprocessors.sample_segments(chunk, 8, np.random.default_rng(0), config)
    samples = (long_recording.load_audio() * 32768).astype(np.int16)
    assert segments.inputs.dtype == np.int16
    for start, inputs in zip(segments.start_frames, segments.inputs, strict=True):
        np.testing.assert_array_equal(inputs.ravel(), samples[start * 128 :][: 256 * 128])


def test_consecutive_segments_cover_the_recording(long_recording):
    (chunk,) = preprocessors.split_recording(long_recording, chunk_frames=None)
    tokenizer = TOKENIZERS[1]
    segments = preprocessors.consecutive_segments(chunk, SegmentConfig(tokenizer))
    assert segments.start_frames.tolist() == list(range(0, 4626, 256))
    joined = segments.inputs.ravel()
    np.testing.assert_array_equal(joined[: len(chunk.samples)], chunk.samples)
    assert not joined[len(chunk.samples) :].any()
    decoded = tokenizer.decode(
        [(start / 125, target) for start, target in zip(segments.start_frames, segments.targets, strict=True)]
    )
    assert decoded.invalid_events == decoded.dropped_events == 0
    # All notes but those that the 10 ms grid leaves without length.
    assert len(decoded.notes) >= 0.95 * len(trim_overlaps(long_recording.notes).crop(0, 37.0))


def test_starts_are_spread_over_the_chunk():
    starts = np.stack(
        [preprocessors.random_starts(2000, 256, 8, np.random.default_rng(seed)) for seed in range(2000)]
    )
    assert starts.min() >= 0
    assert starts.max() <= 2000 - 256
    assert (np.diff(starts, axis=1) >= 0).all()
    counts, _ = np.histogram(starts, bins=5, range=(0, 1745))
    np.testing.assert_allclose(counts / starts.size, 0.2, atol=0.01)


def test_a_chunk_shorter_than_a_segment_is_filled_with_silence():
    piece = recording(1.0)
    (chunk,) = preprocessors.split_recording(piece)
    segments = preprocessors.sample_segments(chunk, 3, np.random.default_rng(0), SegmentConfig(TOKENIZERS[0]))
    assert segments.start_frames.tolist() == [0, 0, 0]
    assert segments.inputs.shape == (3, 256, 128)
    assert not segments.inputs[:, 125:].any()
    expected = TOKENIZERS[0].encode(TOKENIZERS[0].prepare(piece.notes), 0, 125)
    np.testing.assert_array_equal(segments.targets[0, : len(expected)], expected)


def dense_chunk():
    """8 s of which the first half has 60 notes a second, the second half almost none."""
    dense, sparse = random_notes(8, 60), random_notes(8, 1, seed=1).shift(8)
    return Chunk("dense", 0, np.zeros(256000, np.int16), trim_overlaps(Notes.concatenate([dense, sparse])))


@pytest.mark.parametrize("tokenizer", TOKENIZERS)
def test_truncate_keeps_every_segment_and_whole_events(tokenizer):
    config = SegmentConfig(tokenizer, max_target_tokens=64, long_targets="truncate")
    chunk = dense_chunk()
    segments = preprocessors.sample_segments(chunk, 16, np.random.default_rng(0), config)
    assert len(segments.inputs) == 16
    assert 4 <= segments.num_too_long <= 12
    assert segments.num_dropped == 0
    events = tokenizer.prepare(chunk.notes)
    codec = tokenizer.codec
    for start, target in zip(segments.start_frames, segments.targets, strict=True):
        whole = tokenizer.encode(events, start, 256)
        length = np.count_nonzero(target)
        assert target[length - 1] == EOS_ID
        np.testing.assert_array_equal(target[: length - 1], whole[: length - 1])
        if len(whole) > 64:
            kinds, _ = codec.decode(target[length - 2] - NUM_SPECIAL_IDS)
            assert codec.kinds[kinds] in ("pitch", "drum", "tie")
            # No further event would have fitted: at most shift, program, velocity and itself are missing.
            assert length > 64 - 4


def test_drop_leaves_out_what_is_too_long():
    config = SegmentConfig(TOKENIZERS[1], max_target_tokens=64, long_targets="drop")
    segments = preprocessors.sample_segments(dense_chunk(), 16, np.random.default_rng(0), config)
    assert segments.num_dropped == segments.num_too_long > 0
    assert (
        len(segments.inputs)
        == len(segments.targets)
        == len(segments.start_frames)
        == 16 - segments.num_dropped
    )
    events = TOKENIZERS[1].prepare(dense_chunk().notes)
    for start, target in zip(segments.start_frames, segments.targets, strict=True):
        expected = TOKENIZERS[1].encode(events, start, 256)
        np.testing.assert_array_equal(target[: len(expected)], expected)


def test_resample_draws_other_segments():
    def sample(rule):
        config = SegmentConfig(TOKENIZERS[1], max_target_tokens=64, long_targets=rule)
        return preprocessors.sample_segments(dense_chunk(), 16, np.random.default_rng(0), config)

    dropped, resampled = sample("drop"), sample("resample")
    assert resampled.num_too_long == dropped.num_too_long
    assert resampled.num_dropped < dropped.num_dropped
    events = TOKENIZERS[1].prepare(dense_chunk().notes)
    for start, target in zip(resampled.start_frames, resampled.targets, strict=True):
        expected = TOKENIZERS[1].encode(events, start, 256)
        np.testing.assert_array_equal(target[: len(expected)], expected)


def test_all_segments_may_be_dropped():
    config = SegmentConfig(TOKENIZERS[1], max_target_tokens=2, long_targets="drop")
    chunk = dataclasses.replace(dense_chunk(), notes=random_notes(16, 60))
    segments = preprocessors.sample_segments(chunk, 4, np.random.default_rng(0), config)
    assert segments.inputs.shape == (0, 256, 128)
    assert segments.targets.shape == (0, 2)
    assert segments.num_dropped == 4


def test_consecutive_segments_are_never_dropped():
    config = SegmentConfig(TOKENIZERS[1], max_target_tokens=64, long_targets="drop")
    segments = preprocessors.consecutive_segments(dense_chunk(), config)
    assert len(segments.inputs) == 8
    assert segments.num_dropped == 0 < segments.num_too_long


def test_truncation_by_hand():
    codec = TOKENIZERS[1].codec
    shift, program, velocity, pitch = (
        int(codec.encode(kind, value)) + NUM_SPECIAL_IDS
        for kind, value in (("shift", 7), ("program", 24), ("velocity", 1), ("pitch", 60))
    )
    target = np.array([shift, program, velocity, pitch, shift, program, pitch, EOS_ID])
    assert preprocessors.truncate_target(target, 8, codec).tolist() == target.tolist()
    for bound in (5, 6, 7):
        assert preprocessors.truncate_target(target, bound, codec).tolist() == [
            shift, program, velocity, pitch, EOS_ID,
        ]  # fmt: skip
    assert preprocessors.truncate_target(target, 4, codec).tolist() == [EOS_ID]
    assert preprocessors.truncate_target(target, 1, codec).tolist() == [EOS_ID]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"long_targets": "ignore"}, "'ignore'; choose one of truncate, drop, resample"),
        ({"segment_frames": 0}, "segment_frames is 0"),
        ({"max_target_tokens": 0}, "max_target_tokens is 0"),
    ],
)
def test_settings_out_of_range_are_named(settings, message):
    with pytest.raises(ValueError, match=message):
        SegmentConfig(TOKENIZERS[0], **settings)
