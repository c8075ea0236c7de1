"""Segments, batches and the assembly of notes; a stand-in for the network where that only gets in the way."""

import dataclasses

import jax
import numpy as np
import pytest

from mt3.audio.io import AudioError, resample, write_audio
from mt3.audio.spectrograms import SpectrogramConfig, log_mel
from mt3.inference.transcriber import DecodingOptions, Transcriber
from mt3.models.checkpoints import CheckpointError
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.transformer import TransformerConfig
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import EOS_ID, VocabularyConfig
from mt3.training.loop import train
from mt3.training.optimizers import OptimizerConfig

SAMPLE_RATE = 16000
INPUT_FRAMES = 32
SEGMENT_SAMPLES = INPUT_FRAMES * 128
SEGMENT_SECONDS = SEGMENT_SAMPLES / SAMPLE_RATE

NETWORK = TransformerConfig(
    vocab_size=640,
    emb_dim=16,
    num_heads=2,
    head_dim=8,
    mlp_dim=16,
    num_encoder_layers=1,
    num_decoder_layers=1,
)
SPEC = ModelSpec(
    network=NETWORK,
    spectrogram=SpectrogramConfig(num_mel_bins=32),
    tokenizer=Tokenizer(VocabularyConfig(num_velocity_bins=1, max_shift_seconds=1), ties=False),
    input_frames=INPUT_FRAMES,
    max_target_tokens=16,
)


@pytest.fixture(scope="module")
def params():
    return TranscriptionModel(SPEC).init(jax.random.key(3))


@pytest.fixture
def listener(monkeypatch):
    """In the network's place: hears a note at the start of each segment, of the pitch that the
    segment's first sample tells, until the segment's end. Keeps what it was handed."""
    batches = []

    def generate(self, params, inputs, *, max_tokens, **options):
        batches.append(np.array(inputs))
        pitches = np.clip(np.rint(1000 * np.asarray(inputs)[:, 0, 0]), 0, 127).astype(int)
        tokens = np.zeros((len(inputs), max_tokens), np.int32)
        for row, pitch in zip(tokens, pitches, strict=True):
            notes = [(0.0, SEGMENT_SECONDS - 0.016, pitch, 80, 0, False)] if pitch else []
            target = SPEC.tokenizer.encode(
                SPEC.tokenizer.prepare(Notes.from_rows(notes)), 0, self.spec.input_frames
            )
            row[: len(target)] = target
        return tokens

    monkeypatch.setattr(TranscriptionModel, "generate", generate)
    return batches


def audio(num_segments, *, extra_samples=0):
    """Noise in which segment number n begins with a sample of (60 + n) / 1000."""
    rng = np.random.default_rng(0)
    samples = rng.uniform(-0.5, 0.5, num_segments * SEGMENT_SAMPLES + extra_samples).astype(np.float32)
    starts = np.arange(0, len(samples), SEGMENT_SAMPLES)
    samples[starts] = (60 + np.arange(len(starts))) / 1000
    return samples


def music(seconds=1.1, seed=0):
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE
    tones = [np.sin(2 * np.pi * hz * time) for hz in rng.uniform(100, 3000, 4)]
    return (0.1 * np.sum(tones, 0) + rng.normal(0, 0.01, len(time))).astype(np.float32)


def test_segments_follow_each_other_and_the_last_is_padded_with_silence(listener):
    samples = audio(2, extra_samples=100)
    Transcriber(SPEC, None, batch_segments=4).transcribe(samples)
    (batch,) = listener
    assert batch.shape == (4, INPUT_FRAMES, 128)
    padded = np.pad(samples, (0, 4 * SEGMENT_SAMPLES - len(samples)))
    np.testing.assert_array_equal(batch.reshape(-1), padded)


def test_whole_segments_need_no_further_one(listener):
    Transcriber(SPEC, None, batch_segments=1).transcribe(audio(3))
    assert [len(batch) for batch in listener] == [1, 1, 1]


@pytest.mark.parametrize(
    ("num_segments", "batch_segments", "sizes"),
    [(1, 8, [1]), (3, 8, [4]), (11, 8, [8, 4]), (13, 6, [6, 6, 1]), (11, 6, [6, 6])],
)
def test_batches_are_powers_of_two_or_full(listener, num_segments, batch_segments, sizes):
    result = Transcriber(SPEC, None, batch_segments=batch_segments).transcribe(audio(num_segments))
    assert [len(batch) for batch in listener] == sizes
    assert result.notes.pitch.tolist() == list(range(60, 60 + num_segments))


def test_notes_are_placed_by_their_segment(listener):
    result = Transcriber(SPEC, None, batch_segments=2).transcribe(audio(5))
    assert len(result.notes) == 5
    # Times are whole hundredths, counted from the last one before the segment.
    onset_seconds = np.floor(100 * SEGMENT_SECONDS * np.arange(5)) / 100
    np.testing.assert_allclose(result.notes.onset_seconds, onset_seconds, atol=1e-6)
    np.testing.assert_allclose(result.notes.duration_seconds, SEGMENT_SECONDS - 0.016, atol=0.01)
    assert (result.invalid_events, result.dropped_events, result.truncated_segments) == (0, 0, 0)


def test_nothing_sounds_after_the_end_of_the_audio(listener):
    """The last segment's note would end in its padding."""
    result = Transcriber(SPEC, None).transcribe(audio(1, extra_samples=SEGMENT_SAMPLES // 4))
    assert result.duration_seconds == 1.25 * SEGMENT_SECONDS
    assert result.notes.offset_seconds.tolist()[-1] == result.duration_seconds
    assert result.notes.pitch.tolist() == [60, 61]


def test_note_that_begins_after_the_end_is_left_out(monkeypatch):
    late = Notes.from_rows([(0.0, 0.05, 50, 80, 0, False), (0.1, 0.2, 60, 80, 0, False)])
    target = SPEC.tokenizer.encode(SPEC.tokenizer.prepare(late), 0, INPUT_FRAMES)
    monkeypatch.setattr(
        TranscriptionModel, "generate", lambda self, params, inputs, **options: np.array([target])
    )
    result = Transcriber(SPEC, None).transcribe(np.zeros(SAMPLE_RATE // 16, np.float32))
    assert result.notes.pitch.tolist() == [50]


def test_no_samples_are_no_notes(listener):
    result = Transcriber(SPEC, None).transcribe(np.zeros(0, np.float32))
    assert len(result.notes) == 0
    assert result.duration_seconds == 0.0
    assert listener == []


def test_segments_without_an_end_are_counted(monkeypatch):
    tokens = np.array([[5, EOS_ID, 0], [5, 5, 5], [5, 5, EOS_ID], [EOS_ID, 0, 0]])
    monkeypatch.setattr(TranscriptionModel, "generate", lambda self, params, inputs, **options: tokens)
    result = Transcriber(SPEC, None, batch_segments=4).transcribe(audio(4))
    assert (result.truncated_segments, result.num_events) == (1, 1 + 3 + 2 + 0)


def test_progress_tells_the_seconds_decoded(listener):
    seen = []
    Transcriber(SPEC, None, batch_segments=2).transcribe(audio(5), progress=seen.append)
    np.testing.assert_allclose(seen, [2 * SEGMENT_SECONDS, 4 * SEGMENT_SECONDS, 5 * SEGMENT_SECONDS])


@pytest.mark.parametrize("seconds", [0.9, 23.0])
def test_file_equals_its_samples(listener, tmp_path, seconds):
    """However the file is read in blocks."""
    samples = music(seconds)
    path = tmp_path / "music.wav"
    write_audio(path, samples, SAMPLE_RATE, bits=32)
    of_file = Transcriber(SPEC, None).transcribe(path)
    heard = [batch.copy() for batch in listener]
    listener.clear()
    of_samples = Transcriber(SPEC, None).transcribe(samples)
    assert of_file == of_samples
    assert Transcriber(SPEC, None).transcribe(str(path)) == of_samples
    for of_the_file, of_the_samples in zip(heard, listener, strict=False):
        np.testing.assert_array_equal(of_the_file, of_the_samples)


@pytest.mark.parametrize("sample_rate", [8000, 44100])
def test_other_sample_rates_are_converted(listener, tmp_path, sample_rate):
    samples = resample(music(), SAMPLE_RATE, sample_rate)
    path = tmp_path / "music.wav"
    write_audio(path, samples, sample_rate, bits=32)
    transcriber = Transcriber(SPEC, None)
    results = [transcriber.transcribe(samples, sample_rate), transcriber.transcribe(path)]
    for result in results:
        assert result.duration_seconds == pytest.approx(1.1, abs=1e-3)
    of_samples, of_file = listener
    np.testing.assert_array_equal(of_samples, of_file)
    expected = resample(samples, sample_rate, SAMPLE_RATE)
    np.testing.assert_array_equal(of_samples.reshape(-1)[: len(expected)], expected)


def test_samples_are_mono(listener):
    with pytest.raises(ValueError, match=r"samples have shape \(100, 2\): give mono audio"):
        Transcriber(SPEC, None).transcribe(np.zeros((100, 2)))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(AudioError, match=r"song\.wav does not exist"):
        Transcriber(SPEC, None).transcribe(tmp_path / "song.wav")


def test_batches_hold_at_least_one_segment():
    with pytest.raises(ValueError, match="batch_segments is 0: give at least 1"):
        Transcriber(SPEC, None, batch_segments=0)


def tokens_of(transcriber, samples, monkeypatch):
    """All tokens that the model itself emits; random parameters emit few whole notes."""
    seen = []
    decode = Transcriber._decode

    def keep(self, batch):
        tokens = decode(self, batch)
        seen.extend(tokens)
        return tokens

    with monkeypatch.context() as patch:
        patch.setattr(Transcriber, "_decode", keep)
        result = transcriber.transcribe(samples)
    return np.array(seen), result


def test_result_does_not_depend_on_the_batches(params, monkeypatch):
    results = [
        tokens_of(Transcriber(SPEC, params, batch_segments=size), music(), monkeypatch) for size in (1, 8, 4)
    ]
    (tokens, result), *others = results
    assert len(np.unique(tokens, axis=0)) > 1  # the audio matters
    for other_tokens, other_result in others:
        np.testing.assert_array_equal(other_tokens, tokens)
        assert other_result == result


def test_log_mel_models_hear_the_same(params, monkeypatch):
    """A model whose batches carry log-mel gets it computed from the audio."""
    of_log_mel = dataclasses.replace(SPEC, input_kind="log_mel")
    expected, _ = tokens_of(Transcriber(SPEC, params), music(), monkeypatch)
    tokens, _ = tokens_of(Transcriber(of_log_mel, params), music(), monkeypatch)
    np.testing.assert_array_equal(tokens, expected)


def test_log_mel_models_are_handed_log_mel(listener):
    samples = audio(1)
    Transcriber(dataclasses.replace(SPEC, input_kind="log_mel"), None).transcribe(samples)
    expected = log_mel(samples.reshape(1, INPUT_FRAMES, 128), SPEC.spectrogram)
    np.testing.assert_allclose(listener[0], expected, atol=1e-5)


def test_decoding_options_reach_the_model(monkeypatch):
    seen = []

    def generate(self, params, inputs, **options):
        seen.append(options)
        return np.full((len(inputs), 2), EOS_ID)

    monkeypatch.setattr(TranscriptionModel, "generate", generate)
    for decoding in (DecodingOptions(), DecodingOptions(max_tokens=5, temperature=0.5, seed=3)):
        Transcriber(SPEC, None, decoding=decoding).transcribe(audio(1))
    greedy, sampled = seen
    assert greedy == {"max_tokens": 16, "temperature": 0.0, "beam_size": 1, "rng": None}
    assert (sampled["max_tokens"], sampled["temperature"]) == (5, 0.5)
    expected = jax.random.fold_in(jax.random.key(3), 0)
    assert jax.random.key_data(sampled["rng"]).tolist() == [jax.random.key_data(expected).tolist()]


def test_sampling_is_repeatable(params, monkeypatch):
    def sampled(seed):
        decoding = DecodingOptions(temperature=5.0, seed=seed)
        return tokens_of(Transcriber(SPEC, params, decoding=decoding), music(0.2), monkeypatch)[0]

    np.testing.assert_array_equal(sampled(0), sampled(0))
    assert not np.array_equal(sampled(0), sampled(1))


def test_recordings_share_batches_of_one_size(listener):
    """Each comes out as by itself, in order; also what is empty."""
    samples = [audio(3), audio(0), audio(1, extra_samples=100), audio(7), audio(0)]
    results = list(Transcriber(SPEC, None, batch_segments=4).transcribe_all(samples))
    assert [len(batch) for batch in listener] == [4, 4, 4]
    assert results == [Transcriber(SPEC, None).transcribe(own) for own in samples]
    assert [len(result.notes) for result in results] == [3, 0, 2, 7, 0]


def test_recordings_are_read_when_their_turn_comes(listener):
    """Whoever has come out was not waited for longer than its last batch takes to fill."""
    read = []

    def recordings():
        for number in range(4):
            read.append(number)
            yield audio(4)

    results = Transcriber(SPEC, None, batch_segments=4).transcribe_all(recordings())
    next(results)
    assert read == [0, 1]
    next(results)
    assert read == [0, 1, 2]


def test_what_is_sampled_does_not_depend_on_other_recordings(params):
    decoding = DecodingOptions(temperature=2.0, seed=1)
    samples = [music(0.7), music(0.2, seed=1)]
    one, two = (Transcriber(SPEC, params, decoding=decoding, batch_segments=size) for size in (1, 2))
    together = list(two.transcribe_all(samples))
    assert together == [one.transcribe(own) for own in samples]
    assert list(two.transcribe_all(samples[::-1])) == together[::-1]
    assert sum(len(result.notes) + result.invalid_events for result in together) > 0


def silent_batch():
    tokens = np.full((2, 4), EOS_ID, np.int32)
    return {
        "inputs": np.zeros((2, INPUT_FRAMES, 128), np.float32),
        "decoder_input_tokens": np.zeros((2, 4), np.int32),
        "decoder_target_tokens": tokens,
        "decoder_loss_weights": np.ones((2, 4), np.float32),
    }


@pytest.mark.slow
def test_checkpoint_of_a_training_run_is_transcribed_with(tmp_path, monkeypatch):
    state = train(
        TranscriptionModel(SPEC),
        iter([silent_batch()]),
        num_steps=1,
        run_dir=tmp_path,
        optimizer=OptimizerConfig(name="adamw"),  # quicker to compile
        progress=False,
        tensorboard=False,
    )
    expected, _ = tokens_of(Transcriber(SPEC, state.params), music(0.4), monkeypatch)
    for path in (tmp_path, tmp_path / "checkpoints" / "1"):
        transcriber = Transcriber.from_checkpoint(path, batch_segments=2)
        assert transcriber.spec == SPEC
        assert transcriber.batch_segments == 2
        np.testing.assert_array_equal(tokens_of(transcriber, music(0.4), monkeypatch)[0], expected)


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no checkpoint: give a run's directory"):
        Transcriber.from_checkpoint(tmp_path)
