"""Recordings to evaluate: chosen by split or by MT3's names, under ids of their own, read late."""

import hashlib
import logging

import numpy as np
import pytest

from mt3.data.manifests import manifest_path
from mt3.data.prepared import MissingDatasetError
from mt3.data.record_writer import RecordWriter
from mt3.data.recording_sets import recordings_of_tasks, split_recordings
from mt3.data.recordings import EncodedAudio, Recording
from mt3.data.tfrecords import RecordError
from mt3.symbolic.notes import Notes


def prepare(directory, name, **num_recordings):
    """A dataset of so many recordings a split; the n-th is a note of pitch 60 + n."""
    for split, count in num_recordings.items():
        with RecordWriter(directory, name, split) as writer:
            for index in range(count):
                audio = EncodedAudio.encode(np.full(1600, index / 8, np.float32), 16000)
                notes = Notes.from_rows([(0.0, 0.05, 60 + index, 80, 0, False)])
                writer.write(Recording(f"{split}{index}", notes, audio, dataset=name, split=split))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    directory = tmp_path_factory.mktemp("data")
    prepare(directory / "slakh", "slakh", validation=2, test=3)
    prepare(directory / "urmp", "urmp", validation=2, test=1)
    return directory


def ids(recordings):
    return [recording.id for recording in recordings]


def test_one_split_keeps_its_ids(data):
    recordings = split_recordings(data, "test", "slakh")
    assert ids(recordings) == ["test0", "test1", "test2"]
    assert {recording.dataset for recording in recordings} == {"slakh"}
    assert recordings[1].notes.pitch.tolist() == [61]
    np.testing.assert_allclose(recordings[2].load_audio(16000), 0.25, atol=1e-4)
    assert ids(split_recordings(data, "test", "slakh", max_recordings=2)) == ["test0", "test1"]


def test_several_datasets_are_told_apart(data, caplog):
    caplog.set_level(logging.INFO)
    recordings = split_recordings(data, "validation")
    assert ids(recordings) == [
        "slakh/validation0",
        "slakh/validation1",
        "urmp/validation0",
        "urmp/validation1",
    ]
    assert [recording.dataset for recording in recordings] == ["slakh", "slakh", "urmp", "urmp"]
    assert recordings[3].read().id == "urmp/validation1"
    assert recordings[3].notes.pitch.tolist() == [61]
    assert ids(recordings[1:3]) == ["slakh/validation1", "urmp/validation0"]
    assert f"The validation splits of all datasets in {data}: slakh, urmp" in caplog.text
    assert recordings[-1].id == "urmp/validation1"
    assert ids(recordings[::-2]) == ["urmp/validation1", "slakh/validation1"]
    with pytest.raises(IndexError):
        recordings[4]
    named = split_recordings(data, "validation", ["urmp", "slakh"], max_recordings=1)
    assert ids(named) == ["urmp/validation0", "slakh/validation0"]


def test_tasks_name_datasets_and_splits(data):
    tasks = ["urmp_notes_ties_vb1_test", "slakh_notes_ties_vb1_validation_full", "slakh_notes_vb127_test"]
    recordings = recordings_of_tasks(tasks, data)
    assert ids(recordings) == [
        "urmp/test0",
        *(f"slakh/validation/validation{number}" for number in range(2)),
        *(f"slakh/test/test{number}" for number in range(3)),
    ]
    assert [part.label for part in recordings.parts] == ["urmp", "slakh/validation", "slakh/test"]
    assert [part.task for part in recordings.parts] == tasks
    assert ids(recordings_of_tasks(tasks[0], data)) == ["test0"]
    # The same recordings by two names are there once.
    assert len(recordings_of_tasks(["urmp_notes_test", "urmp_onsets_test"], data)) == 1


def test_mixtures_are_of_their_datasets(data):
    group = ["slakh", "urmp"]
    recordings = recordings_of_tasks("mega_notes_ties_vb1_eval", data, mixture_datasets=group)
    assert [part.label for part in recordings.parts] == group
    assert {part.recordings.manifest.split for part in recordings.parts} == {"validation"}
    recordings = recordings_of_tasks("mega_without_slakh_notes_ties_vb1_eval", data, mixture_datasets=group)
    assert ids(recordings) == ["validation0", "validation1"]
    with pytest.raises(MissingDatasetError, match="maestrov3"):
        recordings_of_tasks("mega_notes_ties_vb1_eval", data)
    recordings = recordings_of_tasks("mega_notes_ties_vb1_eval", data, missing="leave_out", max_recordings=1)
    assert ids(recordings) == ["slakh/validation0", "urmp/validation0"]


@pytest.mark.parametrize("name", ["slakh", "slakh_notes_ties_vb1", "slakh_test", "slakh_notes_ties_vb1_eval"])
def test_other_names_are_refused(data, name):
    with pytest.raises(ValueError, match=f"'{name}' is no task: names are DATASET_TOKENS_KIND"):
        recordings_of_tasks(name, data)


def test_parts_are_described_by_their_manifests(data):
    (part,) = split_recordings(data, "test", "urmp").parts
    manifest = manifest_path(data / "urmp", "urmp", "test").read_bytes()
    assert part.describe() == {
        "dataset": "urmp",
        "split": "test",
        "manifest_hash": hashlib.sha256(manifest).hexdigest(),
    }


def test_names_are_known_without_reading(tmp_path):
    prepare(tmp_path, "slakh", test=2)
    (shard,) = tmp_path.glob("*.tfrecord*")
    shard.unlink()
    recordings = split_recordings(tmp_path, "test")
    assert ids(recordings) == ["test0", "test1"]
    with pytest.raises(RecordError, match=shard.name):
        recordings[0].load_audio(16000)
