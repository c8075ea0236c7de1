"""Segments, batches and the assembly of notes; a stand-in for the network where that only gets in the way."""

import dataclasses
from concurrent.futures import ThreadPoolExecutor

import jax
import numpy as np
import pytest

from mt3.audio.io import AudioError, resample, write_audio
from mt3.audio.spectrograms import SpectrogramConfig
from mt3.inference.continuity import ContinuityOptions
from mt3.inference.recording import Recording
from mt3.inference.transcriber import DecodingOptions, Transcriber
from mt3.inference.transcription import Cancelled, Failed, Finished, Job, Progress
from mt3.models.checkpoints import CheckpointError
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.segment_decoding import DecodedSegment, DecoderSettings
from mt3.models.transformer import TransformerConfig
from mt3.symbolic.instrument_names import parse_instruments
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


def plain(*arguments, continuity=ContinuityOptions(), **options):
    """A transcriber that decodes as published."""
    return Transcriber(*arguments, continuity=continuity, **options)


@pytest.fixture(scope="module")
def params():
    return TranscriptionModel(SPEC).init(jax.random.key(3))


class StandIn:
    """In the network's place: decodes batches of up to so many segments by a function of their frames."""

    def __init__(self, num_segments, hear):
        self.num_segments, self.hear, self.waiting = num_segments, hear, []

    @property
    def room(self):
        return self.num_segments - len(self.waiting)

    @property
    def is_empty(self):
        return not self.waiting

    def add(self, segments):
        self.waiting += segments
        assert self.room >= 0

    def drop(self, names):
        self.waiting = [segment for segment in self.waiting if segment.name not in names]

    def advance(self, *, more_waiting):
        batch, self.waiting = self.waiting, []
        tokens = self.hear(np.stack([segment.inputs for segment in batch]))
        return [
            DecodedSegment(segment.name, np.array(own, np.int32), np.log(np.full(len(own), 0.5, np.float32)))
            for segment, own in zip(batch, tokens, strict=True)
        ]


@pytest.fixture
def stand_in(monkeypatch):
    """Puts `hear` in the network's place."""

    def put(hear):
        monkeypatch.setattr(TranscriptionModel, "prepare_decoding", lambda *arguments: None)
        monkeypatch.setattr(
            TranscriptionModel,
            "make_decoder",
            lambda self, prepared, settings, num_segments, *rest: StandIn(num_segments, hear),
        )

    return put


@pytest.fixture
def listener(stand_in):
    """Hears a note at the start of each segment, of the pitch that the segment's first sample
    tells, until the segment's end. Keeps what it was handed."""
    batches = []

    def hear(inputs):
        batches.append(inputs)
        pitches = np.clip(np.rint(1000 * inputs[:, 0, 0]), 0, 127).astype(int)
        rows = [[(0.0, SEGMENT_SECONDS - 0.016, pitch, 80, 0, False)] if pitch else [] for pitch in pitches]
        return [
            SPEC.tokenizer.encode(SPEC.tokenizer.prepare(Notes.from_rows(notes)), 0, INPUT_FRAMES)
            for notes in rows
        ]

    stand_in(hear)
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
    plain(SPEC, None, batch_segments=4).transcribe(samples)
    (batch,) = listener
    assert batch.shape == (3, INPUT_FRAMES, 128)
    padded = np.pad(samples, (0, 3 * SEGMENT_SAMPLES - len(samples)))
    np.testing.assert_array_equal(batch.reshape(-1), padded)


def test_whole_segments_need_no_further_one(listener):
    plain(SPEC, None, batch_segments=1).transcribe(audio(3))
    assert [len(batch) for batch in listener] == [1, 1, 1]


@pytest.mark.parametrize(("num_segments", "batch_segments"), [(1, 8), (3, 8), (11, 8), (13, 6)])
def test_every_segment_is_heard_once(listener, num_segments, batch_segments):
    result = plain(SPEC, None, batch_segments=batch_segments).transcribe(audio(num_segments))
    assert sum(map(len, listener)) == num_segments
    assert max(map(len, listener)) <= batch_segments
    assert result.notes.pitch.tolist() == list(range(60, 60 + num_segments))


def test_notes_are_placed_by_their_segment(listener):
    result = plain(SPEC, None, batch_segments=2).transcribe(audio(5))
    assert len(result.notes) == 5
    # Times are whole hundredths, counted from the last one before the segment.
    onset_seconds = np.floor(100 * SEGMENT_SECONDS * np.arange(5)) / 100
    np.testing.assert_allclose(result.notes.onset_seconds, onset_seconds, atol=1e-6)
    np.testing.assert_allclose(result.notes.duration_seconds, SEGMENT_SECONDS - 0.016, atol=0.01)
    assert (result.invalid_events, result.dropped_events, result.truncated_segments) == (0, 0, 0)


def test_nothing_sounds_after_the_end_of_the_audio(listener):
    """The last segment's note would end in its padding."""
    result = plain(SPEC, None).transcribe(audio(1, extra_samples=SEGMENT_SAMPLES // 4))
    assert result.duration_seconds == 1.25 * SEGMENT_SECONDS
    assert result.notes.offset_seconds.tolist()[-1] == result.duration_seconds
    assert result.notes.pitch.tolist() == [60, 61]


def test_note_that_begins_after_the_end_is_left_out(stand_in):
    late = Notes.from_rows([(0.0, 0.05, 50, 80, 0, False), (0.1, 0.2, 60, 80, 0, False)])
    target = SPEC.tokenizer.encode(SPEC.tokenizer.prepare(late), 0, INPUT_FRAMES)
    stand_in(lambda inputs: [target])
    result = plain(SPEC, None).transcribe(np.zeros(SAMPLE_RATE // 16, np.float32))
    assert result.notes.pitch.tolist() == [50]
    assert len(result.confidence) == 1


def test_no_samples_are_no_notes(listener):
    result = plain(SPEC, None).transcribe(np.zeros(0, np.float32))
    assert len(result.notes) == 0
    assert result.duration_seconds == 0.0
    assert listener == []


def test_segments_without_an_end_are_counted(stand_in):
    stand_in(lambda inputs: [[5, EOS_ID], [5, 5, 5], [5, 5, EOS_ID], [EOS_ID]])
    result = plain(SPEC, None, batch_segments=4).transcribe(audio(4))
    assert (result.truncated_segments, result.num_events) == (1, 1 + 3 + 2 + 0)


def test_confidence_is_the_probability_of_a_notes_onset(listener):
    """Velocity and pitch token of one half each; there are neither shifts nor programs before them."""
    result = plain(SPEC, None, batch_segments=2).transcribe(audio(2))
    np.testing.assert_allclose(result.confidence, [0.25, 0.25])


def test_progress_tells_the_seconds_decoded(listener):
    seen = []
    plain(SPEC, None, batch_segments=2).transcribe(audio(5), progress=seen.append)
    np.testing.assert_allclose(seen, SEGMENT_SECONDS * np.arange(1, 6))


@pytest.mark.parametrize("seconds", [0.9, 23.0])
def test_file_equals_its_samples(listener, tmp_path, seconds):
    """However the file is read in blocks."""
    samples = music(seconds)
    path = tmp_path / "music.wav"
    write_audio(path, samples, SAMPLE_RATE, bits=32)
    of_file = plain(SPEC, None).transcribe(path)
    heard = [batch.copy() for batch in listener]
    listener.clear()
    of_samples = plain(SPEC, None).transcribe(samples)
    assert of_file == of_samples
    assert plain(SPEC, None).transcribe(str(path)) == of_samples
    for of_the_file, of_the_samples in zip(heard, listener, strict=False):
        np.testing.assert_array_equal(of_the_file, of_the_samples)


@pytest.mark.parametrize("sample_rate", [8000, 44100])
def test_other_sample_rates_are_converted(listener, tmp_path, sample_rate):
    samples = resample(music(), SAMPLE_RATE, sample_rate)
    path = tmp_path / "music.wav"
    write_audio(path, samples, sample_rate, bits=32)
    transcriber = plain(SPEC, None)
    results = [transcriber.transcribe(samples, sample_rate), transcriber.transcribe(path)]
    for result in results:
        assert result.duration_seconds == pytest.approx(1.1, abs=1e-3)
    of_samples, of_file = listener
    np.testing.assert_array_equal(of_samples, of_file)
    expected = resample(samples, sample_rate, SAMPLE_RATE)
    np.testing.assert_array_equal(of_samples.reshape(-1)[: len(expected)], expected)


def test_warmed_up_a_recording_compiles_nothing(params, caplog):
    own = dataclasses.replace(SPEC, max_target_tokens=13)  # that no other test has compiled
    transcriber = plain(own, params, batch_segments=3)
    with jax.log_compiles():
        transcriber.warm_up()
        assert "Compiling" in caplog.text
        caplog.clear()
        transcriber.transcribe(audio(7))
    assert "Compiling" not in caplog.text


def test_warming_up_can_be_given_up(listener):
    with pytest.raises(Cancelled):
        plain(SPEC, None).warm_up(cancelled=lambda: True)


def test_samples_are_mono(listener):
    with pytest.raises(ValueError, match=r"samples have shape \(100, 2\): give mono audio"):
        plain(SPEC, None).transcribe(np.zeros((100, 2)))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(AudioError, match=r"song\.wav does not exist"):
        plain(SPEC, None).transcribe(tmp_path / "song.wav")


def test_batches_hold_at_least_one_segment():
    with pytest.raises(ValueError, match="batch_segments is 0: give at least 1"):
        plain(SPEC, None, batch_segments=0)


def tokens_of(transcriber, samples, monkeypatch):
    """All tokens that the model itself emits; random parameters emit few whole notes."""
    seen = {}
    accept = Recording.accept

    def keep(self, segment, decoded):
        seen[segment] = np.pad(decoded.tokens, (0, 16 - len(decoded.tokens)))
        return accept(self, segment, decoded)

    with monkeypatch.context() as patch:
        patch.setattr(Recording, "accept", keep)
        result = transcriber.transcribe(samples)
    return np.array([seen[segment] for segment in sorted(seen)]), result


def test_result_does_not_depend_on_the_batches(params, monkeypatch):
    results = [
        tokens_of(plain(SPEC, params, batch_segments=size), music(), monkeypatch) for size in (1, 8, 4)
    ]
    (tokens, result), *others = results
    assert len(np.unique(tokens, axis=0)) > 1  # the audio matters
    for other_tokens, other_result in others:
        np.testing.assert_array_equal(other_tokens, tokens)
        assert other_result.notes == result.notes
        np.testing.assert_allclose(other_result.confidence, result.confidence, rtol=1e-4)


def test_log_mel_models_hear_the_same(params, monkeypatch):
    """A model whose batches carry log-mel gets it computed from the audio."""
    of_log_mel = dataclasses.replace(SPEC, input_kind="log_mel")
    expected, _ = tokens_of(plain(SPEC, params), music(), monkeypatch)
    tokens, _ = tokens_of(plain(of_log_mel, params), music(), monkeypatch)
    np.testing.assert_array_equal(tokens, expected)


@pytest.mark.parametrize(
    ("decoding", "expected"),
    [
        (DecodingOptions(), DecoderSettings(max_tokens=16)),
        (DecodingOptions(max_tokens=5, temperature=0.5), DecoderSettings(max_tokens=5, temperature=0.5)),
        (DecodingOptions(beam_size=3), DecoderSettings(max_tokens=16, beam_size=3)),
        (DecodingOptions(weights="int8"), DecoderSettings(max_tokens=16, quantize=True)),
    ],
)
def test_decoding_options_reach_the_decoder(listener, monkeypatch, decoding, expected):
    seen = []
    make = TranscriptionModel.make_decoder

    def keep(self, prepared, settings, *rest):
        seen.append(settings)
        return make(self, prepared, settings, *rest)

    monkeypatch.setattr(TranscriptionModel, "make_decoder", keep)
    plain(SPEC, None, decoding=decoding).transcribe(audio(1))
    assert seen == [expected]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": 0.5, "beam_size": 2}, "use one or the other"),
        ({"beam_size": 0}, "beam_size is 0"),
        ({"weights": "int4"}, "weights is 'int4': choose one of float32, bfloat16, int8"),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(options, message):
    with pytest.raises(ValueError, match=message):
        plain(SPEC, None, decoding=DecodingOptions(**options))


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_small_weights_hear_about_the_same(params, monkeypatch, weights):
    exact, _ = tokens_of(plain(SPEC, params), music(2.0), monkeypatch)
    small = plain(SPEC, params, decoding=DecodingOptions(weights=weights))
    first = tokens_of(small, music(2.0), monkeypatch)[0][:, 0]
    # Random parameters hold many tokens equally likely.
    assert np.mean(first == exact[:, 0]) > 0.5


def test_sampling_is_repeatable(params, monkeypatch):
    def sampled(seed):
        decoding = DecodingOptions(temperature=5.0, seed=seed)
        return tokens_of(plain(SPEC, params, decoding=decoding), music(0.2), monkeypatch)[0]

    np.testing.assert_array_equal(sampled(0), sampled(0))
    assert not np.array_equal(sampled(0), sampled(1))


def test_recordings_share_batches_of_one_size(listener):
    """Each comes out as by itself, in order; also what is empty."""
    samples = [audio(3), audio(0), audio(1, extra_samples=100), audio(7), audio(0)]
    results = list(plain(SPEC, None, batch_segments=4).transcribe_all(samples))
    assert [len(batch) for batch in listener] == [4, 4, 4]
    assert results == [plain(SPEC, None).transcribe(own) for own in samples]
    assert [len(result.notes) for result in results] == [3, 0, 2, 7, 0]


def test_recordings_are_read_when_their_turn_comes(listener):
    """Whoever has come out was not waited for longer than its last batch takes to fill."""
    read = []

    def recordings():
        for number in range(4):
            read.append(number)
            yield audio(4)

    results = plain(SPEC, None, batch_segments=4).transcribe_all(recordings())
    next(results)
    assert read == [0, 1]
    next(results)
    assert read == [0, 1, 2]


def test_what_is_sampled_does_not_depend_on_other_recordings(params):
    decoding = DecodingOptions(temperature=2.0, seed=1)
    samples = [music(0.7), music(0.2, seed=1)]
    transcriber = plain(SPEC, params, decoding=decoding, batch_segments=2)
    together = list(transcriber.transcribe_all(samples))
    assert together == [next(transcriber.transcribe_all([own])) for own in samples]
    assert list(transcriber.transcribe_all(samples[::-1])) == together[::-1]
    assert sum(len(result.notes) + result.invalid_events for result in together) > 0


def test_streamed_notes_are_those_of_the_whole(listener):
    transcriber = plain(SPEC, None, batch_segments=2)
    parts = list(transcriber.stream(audio(5)))
    whole = transcriber.transcribe(audio(5))
    streamed = Notes.concatenate(part.notes for part in parts)
    assert streamed.sorted() == whole.notes
    np.testing.assert_array_equal(np.concatenate([part.confidence for part in parts]), whole.confidence)
    assert parts[-1].decoded_seconds == 5 * SEGMENT_SECONDS
    assert len(parts) > 3  # as they came


def test_blocks_are_a_recording(listener):
    samples = resample(music(), SAMPLE_RATE, 44100)
    transcriber = plain(SPEC, None)
    whole = transcriber.transcribe(samples, 44100)
    in_blocks = transcriber.transcribe(iter(np.array_split(samples, 7)), 44100)
    assert in_blocks == whole


def test_bad_audio_costs_nobody_else_anything(listener, tmp_path):
    (tmp_path / "text.wav").write_text("no audio")
    jobs = [Job(audio(3)), Job(tmp_path / "text.wav"), Job(np.array([np.nan], np.float32)), Job(audio(2))]
    events = list(plain(SPEC, None, batch_segments=4).follow(jobs))
    finished = {event.index: event.transcription for event in events if isinstance(event, Finished)}
    failed = {event.index: str(event.error) for event in events if isinstance(event, Failed)}
    assert [len(finished[index].notes) for index in (0, 3)] == [3, 2]
    assert set(failed) == {1, 2}
    assert "text.wav" in failed[1]
    assert "sample 0 is nan" in failed[2]


def test_damage_further_in_gives_the_recording_up(listener):
    def blocks():
        yield audio(3)
        raise AudioError("the rest is missing")

    events = list(plain(SPEC, None, batch_segments=2).follow([Job(blocks()), Job(audio(2))]))
    assert [type(event) for event in events if not isinstance(event, Progress)] == [Failed, Finished]
    failure = next(event for event in events if isinstance(event, Failed))
    assert (failure.index, str(failure.error)) == (0, "the rest is missing")
    heard_before = [event for event in events[: events.index(failure)] if event.index == 0]
    assert all(event.decoded_seconds <= 3 * SEGMENT_SECONDS for event in heard_before)


def test_cancelled_recordings_end_and_the_others_go_on(listener):
    heard = []
    jobs = [Job(audio(50), cancelled=lambda: len(heard) > 3), Job(audio(2))]
    for event in plain(SPEC, None, batch_segments=2).follow(jobs):
        heard.append(event)
    failure = next(event for event in heard if isinstance(event, Failed))
    assert isinstance(failure.error, Cancelled)
    assert sum(map(len, listener)) < 20
    (finished,) = (event for event in heard if isinstance(event, Finished))
    assert (finished.index, len(finished.transcription.notes)) == (1, 2)
    with pytest.raises(Cancelled):
        plain(SPEC, None).transcribe(audio(20), cancelled=lambda: True)


def test_recordings_in_turn_do_not_wait_for_a_long_one(listener):
    jobs = [Job(audio(40)), Job(audio(2)), Job(audio(2))]
    for interleave, order in ((1, [0, 1, 2]), (3, [1, 2, 0])):
        events = plain(SPEC, None, batch_segments=3).follow(jobs, interleave=interleave)
        assert [event.index for event in events if isinstance(event, Finished)] == order


def test_jobs_may_come_while_others_are_decoded(listener):
    later = [Job(audio(2))]

    def jobs():
        yield Job(audio(6))
        yield None
        yield None
        yield from later

    events = list(plain(SPEC, None, batch_segments=2).follow(jobs(), interleave=2))
    finished = [event.index for event in events if isinstance(event, Finished)]
    assert sorted(finished) == [0, 1]


def test_threads_may_share_a_transcriber(params):
    transcriber = plain(SPEC, params, batch_segments=4)
    samples = [music(1.5, seed=seed) for seed in range(6)]
    expected = [transcriber.transcribe(own) for own in samples]
    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(transcriber.transcribe, samples)) == expected


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.75])
def test_overlapping_segments_cover_everything_once(listener, overlap):
    samples = audio(6, extra_samples=1000)
    options = ContinuityOptions(overlap=overlap)
    result = plain(SPEC, None, batch_segments=4, continuity=options).transcribe(samples)
    assert result.duration_seconds == len(samples) / SAMPLE_RATE
    hop = round(SEGMENT_SAMPLES * (1 - overlap))
    segments = np.concatenate(listener).reshape(-1, SEGMENT_SAMPLES)
    padded = np.pad(samples, (0, SEGMENT_SAMPLES))
    for number, segment in enumerate(segments):
        np.testing.assert_array_equal(segment[:hop], padded[number * hop :][:hop])
    assert (len(segments) - 1) * hop + SEGMENT_SAMPLES >= len(samples)


@pytest.mark.parametrize(
    ("ties", "beam_size", "expected"),
    [
        (True, 1, ContinuityOptions(overlap=0.5, tie_consistency="lasting", grammar=True)),
        (True, 2, ContinuityOptions(overlap=0.5, tie_consistency="lasting")),
        (False, 1, ContinuityOptions(grammar=True)),
    ],
)
def test_what_scores_best_is_the_default(ties, beam_size, expected):
    spec = dataclasses.replace(SPEC, tokenizer=dataclasses.replace(SPEC.tokenizer, ties=ties))
    decoding = DecodingOptions(beam_size=beam_size)
    assert Transcriber(spec, None, decoding=decoding).continuity == expected
    assert Transcriber(spec, None, continuity=ContinuityOptions()).continuity == ContinuityOptions()


@pytest.mark.parametrize("grammar", [False, True])
def test_constraints_hold(params, grammar):
    """Of random parameters, which would write anything."""
    spec = dataclasses.replace(
        SPEC,
        tokenizer=Tokenizer(
            VocabularyConfig(num_velocity_bins=1, max_shift_seconds=1, program_granularity="full")
        ),
    )
    options = ContinuityOptions(grammar=grammar, instruments=parse_instruments("violin,flute"))
    decoding = DecodingOptions(temperature=3.0)
    result = plain(spec, params, continuity=options, decoding=decoding).transcribe(music(6.0))
    assert set(result.notes.instruments) <= {(40, False), (73, False)}
    if grammar:
        assert len(result.notes) > 0
        assert result.dropped_events == 0


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
    expected, _ = tokens_of(plain(SPEC, state.params), music(0.4), monkeypatch)
    for path in (tmp_path, tmp_path / "checkpoints" / "1"):
        transcriber = Transcriber.from_checkpoint(path, batch_segments=2, continuity=ContinuityOptions())
        assert transcriber.spec == SPEC
        assert transcriber.batch_segments == 2
        np.testing.assert_array_equal(tokens_of(transcriber, music(0.4), monkeypatch)[0], expected)


def test_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"holds no checkpoint: give a run's directory"):
        Transcriber.from_checkpoint(tmp_path)
