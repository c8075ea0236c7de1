"""Statistics: figures worked out by hand, tokens as evaluation makes them, no audio decoded."""

import json

import numpy as np
import pytest

from mt3.data import statistics
from mt3.data.prepared import MissingDatasetError
from mt3.data.preprocessors import SegmentConfig, consecutive_segments, split_recording
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import EncodedAudio, Recording, SampledAudio
from mt3.data.records import RecordError
from mt3.data.statistics import (
    MT3_TOKENIZER,
    count_tokens,
    dataset_statistics,
    measure_recording,
    onsets_in_each_second,
    polyphony,
)
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

# Seconds, pitch, velocity, program, drum. Sounding: 0 to 1 s none, then 1, 2, 1, 0.
FIRST = Notes.from_rows(
    [
        (1.0, 2.5, 60, 80, 0, False),
        (2.0, 2.75, 64, 90, 40, False),
        (1.0, 1.1, 36, 100, 0, True),
        (2.25, 2.3, 38, 100, 0, True),
    ]
)
SECOND = Notes.from_rows([(0.0, 0.5, 61, 0, 0, False)])


def unreadable(seconds, sample_rate=16000):
    """Audio of a known length that nothing can decode."""
    return EncodedAudio(b"no FLAC file", "flac", sample_rate, round(seconds * sample_rate))


@pytest.fixture(scope="module")
def small_dataset(tmp_path_factory):
    """Two recordings to train and one to test, of 4, 1.5 and 4 s."""
    directory = tmp_path_factory.mktemp("small")
    splits = {"test": [("c", FIRST, 4.0)], "train": [("a", FIRST, 4.0), ("b", SECOND, 1.5)]}
    for split, recordings in splits.items():
        with RecordWriter(directory / "small", "small", split) as writer:
            for id, notes, seconds in recordings:
                writer.write(Recording(id, notes, unreadable(seconds), "small", split))
    return directory


@pytest.fixture(scope="module")
def small_statistics(small_dataset):
    return dataset_statistics(small_dataset / "small", progress=False)


def as_dict(distribution):
    return dict(zip(distribution.values.tolist(), distribution.weights.tolist(), strict=True))


def test_polyphony_is_weighted_with_time():
    pitched = FIRST[~FIRST.is_drum]
    assert as_dict(polyphony(pitched, 4.0)) == {0: pytest.approx(2.25), 1: pytest.approx(1.25), 2: 0.5}


def test_polyphony_ends_with_the_audio():
    notes = Notes.from_rows([(-1.0, 0.5, 60, 80, 0, False), (0.75, 9.0, 60, 80, 0, False)])
    assert as_dict(polyphony(notes, 1.0)) == {0: 0.25, 1: 0.75}
    assert as_dict(polyphony(notes[:0], 1.0)) == {0: 1.0}
    assert as_dict(polyphony(notes, 0.0)) == {}


def test_polyphony_is_what_is_counted_moment_by_moment():
    rng = np.random.default_rng(0)
    onset = rng.integers(0, 900, 200) / 100
    length = rng.integers(0, 150, 200) / 100  # some have no length, many touch
    constant = np.full(200, 60)
    notes = Notes(onset, onset + length, constant, constant, constant * 0, constant < 0)
    moments = (np.arange(1000) + 0.5) / 100
    sounding = (notes.onset_seconds <= moments[:, None]) & (moments[:, None] < notes.offset_seconds)
    values, counts = np.unique(sounding.sum(axis=1), return_counts=True)
    found = polyphony(notes, 10.0)
    assert found.values.tolist() == values.tolist()
    np.testing.assert_allclose(found.weights, counts / 100, atol=1e-9)


def test_onsets_are_counted_second_by_second():
    """Seconds of 0, 2, 2 and 0 onsets; what starts after the end belongs to none."""
    late = Notes.from_rows([(4.5, 5.0, 60, 80, 0, False)])
    assert as_dict(onsets_in_each_second(Notes.concatenate([FIRST, late]), 4.0)) == {0: 2, 2: 2}
    assert as_dict(onsets_in_each_second(SECOND, 1.5)) == {0: 1, 1: 1}


@pytest.mark.parametrize(
    "tokenizer",
    [MT3_TOKENIZER, Tokenizer(VocabularyConfig(127), ties=False), Tokenizer(ties=False, onsets_only=True)],
    ids=["ties", "piano", "onsets"],
)
@pytest.mark.parametrize("segment_frames", [256, 100])
def test_tokens_are_those_of_evaluation(prepared_dataset, tokenizer, segment_frames):
    recording = prepared_dataset.recordings["train"][1]
    (whole,) = split_recording(recording, chunk_frames=None)
    config = SegmentConfig(tokenizer, segment_frames=segment_frames, max_target_tokens=4000)
    segments = consecutive_segments(whole, config)
    expected = np.count_nonzero(segments.targets, axis=1).tolist()
    assert count_tokens(recording.notes, 1300, tokenizer, segment_frames) == expected
    measured = measure_recording(recording, tokenizer, segment_frames)
    assert as_dict(measured.tokens) == {count: expected.count(count) for count in set(expected)}


@pytest.mark.parametrize(("num_samples", "num_segments"), [(32768, 1), (32769, 2), (1, 1)])
def test_every_begun_segment_counts(num_samples, num_segments):
    audio = EncodedAudio(b"", "flac", 16000, num_samples)
    measured = measure_recording(Recording("a", Notes.empty(), audio), MT3_TOKENIZER, 256)
    assert as_dict(measured.tokens) == {2: num_segments}  # the end of the tie section, and EOS


def test_what_comes_after_the_end_of_the_audio_is_no_token():
    """Of a note from 0.5 to 1.5 s, audio of 1 s tells the onset alone: tie, shift, velocity, ..., EOS."""
    notes = Notes.from_rows([(0.5, 1.5, 60, 80, 0, False)])
    assert count_tokens(notes, 125, MT3_TOKENIZER, 256) == [6]
    assert count_tokens(notes, 256, MT3_TOKENIZER, 256) == [9]


def test_a_recording_at_another_rate_has_as_many_segments():
    audio = unreadable(2.048 * 3, sample_rate=44100)
    measured = measure_recording(Recording("a", Notes.empty(), audio), MT3_TOKENIZER, 256)
    assert measured.seconds == pytest.approx(6.144, abs=1e-4)
    assert measured.tokens.total == 3


def test_totals_of_the_splits(small_statistics):
    assert small_statistics.name == "small"
    assert list(small_statistics.splits) == ["train", "test"]
    train, total = small_statistics.splits["train"], small_statistics.total
    assert (train.num_recordings, train.num_notes, train.num_drum_notes) == (2, 5, 2)
    assert (total.num_recordings, total.num_notes, total.num_drum_notes) == (3, 9, 4)
    assert train.seconds == 5.5
    assert total.hours == pytest.approx(9.5 / 3600)


def test_what_sounds_in_the_splits(small_statistics):
    train = small_statistics.splits["train"]
    assert train.programs == {"0": 2, "40": 1, "drums": 2}
    assert list(train.programs) == ["0", "40", "drums"]
    assert train.program_recordings == {"0": 2, "40": 1, "drums": 1}
    assert as_dict(train.instruments) == {1: 1, 3: 1}
    assert as_dict(train.recording_seconds) == {1.5: 1, 4.0: 1}
    assert as_dict(train.pitch) == {60: 1, 61: 1, 64: 1}
    assert as_dict(train.velocity) == {0: 1, 80: 1, 90: 1, 100: 2}
    assert as_dict(train.note_seconds) == {0.5: 1, 0.75: 1, 1.5: 1}
    assert as_dict(train.polyphony) == {0: pytest.approx(3.25), 1: pytest.approx(1.75), 2: 0.5}
    assert as_dict(train.notes_per_second) == {0: 3, 1: 1, 2: 2}


def test_targets_above_the_bound_are_counted(small_dataset):
    """FIRST has two onsets (and a drum) in its first segment; two notes are tied into its second."""
    assert count_tokens(FIRST, 500, MT3_TOKENIZER, 256) == [10, 16]
    found = dataset_statistics(small_dataset, max_target_tokens=15, progress=False)
    values = json.loads(found.to_json())["splits"]
    assert {split: values[split]["segments"] for split in values} == {"train": 3, "test": 2, "all": 5}
    assert {split: values[split]["segments_too_long"] for split in values} == {
        "train": 1,
        "test": 1,
        "all": 2,
    }
    found = dataset_statistics(small_dataset, max_target_tokens=16, progress=False)
    assert found.total.tokens.weight_above(found.max_target_tokens) == 0


def test_json_holds_names_quantiles_and_histograms(small_statistics):
    values = json.loads(small_statistics.to_json())
    assert values["dataset"] == "small"
    assert Tokenizer.from_dict(values["tokenizer"]) == MT3_TOKENIZER
    train = values["splits"]["train"]
    assert train["programs"]["40"] == {"name": "Violin", "notes": 1, "recordings": 1}
    assert train["programs"]["drums"]["name"] == "Drums"
    assert train["pitch"]["histogram"] == {"60": 1, "61": 1, "64": 1}
    assert train["recording_seconds"] == {
        **dict.fromkeys(("minimum", "quantile_5", "quantile_25", "quantile_50"), 1.5),
        **dict.fromkeys(("quantile_75", "quantile_95", "quantile_99", "maximum"), 4.0),
        "mean": 2.75,
    }


def test_worker_processes_change_nothing(prepared_dataset):
    alone = dataset_statistics(prepared_dataset.directory, workers=0, progress=False)
    shared = dataset_statistics(prepared_dataset.directory, workers=2, progress=False)
    assert alone.to_json() == shared.to_json()
    assert alone.total.num_recordings == 7
    assert alone.total.num_notes == sum(
        len(recording.notes) for part in prepared_dataset.recordings.values() for recording in part
    )


def test_only_the_splits_asked_for(small_dataset):
    found = dataset_statistics(small_dataset, name="small", splits=["test"], progress=False)
    assert list(found.splits) == list(found.parts()) == ["test"]


def test_many_recordings_are_all_counted(tmp_path, monkeypatch):
    """In jobs of several recordings, the last job shorter."""
    monkeypatch.setattr(statistics, "_JOBS_PER_WORKER", 3)
    with RecordWriter(tmp_path, "many", "train", num_shards=2) as writer:
        for index in range(10):
            notes = SECOND.replace(pitch=40 + index)
            writer.write(Recording(f"r{index}", notes, unreadable(1), "many", "train"))
    found = dataset_statistics(tmp_path, workers=0, progress=False)
    assert as_dict(found.total.pitch) == dict.fromkeys(range(40, 50), 1)


def test_what_cannot_be_counted_is_said(small_dataset, tmp_path):
    with pytest.raises(MissingDatasetError, match="holds no prepared dataset"):
        dataset_statistics(tmp_path)
    with pytest.raises(RecordError, match="split 'validation' of 'small' is not prepared"):
        dataset_statistics(small_dataset, splits=["validation"])
    with pytest.raises(ValueError, match="segment_frames is 0"):
        dataset_statistics(small_dataset, segment_frames=0)
    with RecordWriter(tmp_path, "other", "train") as writer:
        writer.write(Recording("a", SECOND, unreadable(1), "other", "train"))
    with pytest.raises(ValueError, match=r"2 datasets \(other, small\); name one"):
        dataset_statistics([small_dataset, tmp_path])
    bad = Recording("some/piece", SECOND.replace(pitch=200), unreadable(1))
    with pytest.raises(ValueError, match="some/piece: pitch 200 is outside"):
        measure_recording(bad, MT3_TOKENIZER, 256)
    with pytest.raises(TypeError, match="some/piece: the length of SampledAudio is not known"):
        measure_recording(Recording("some/piece", SECOND, SampledAudio(np.zeros(9), 9)), MT3_TOKENIZER, 256)
