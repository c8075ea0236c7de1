"""Finding prepared datasets: in one directory or several, by name, by split, and what is missing."""

import numpy as np
import pytest

from mt3.data.prepared import MissingDatasetError, choose_datasets, find_datasets
from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import EncodedAudio, Recording
from mt3.symbolic.notes import Notes


def prepare(directory, name, **num_recordings):
    """A dataset of so many short recordings a split."""
    for split, count in num_recordings.items():
        with RecordWriter(directory, name, split) as writer:
            for index in range(count):
                audio = EncodedAudio.encode(np.zeros(1600, np.float32), 16000)
                notes = Notes.from_rows([(0.0, 0.05, 60, 80, 0, False)])
                writer.write(Recording(f"{name}-{split}{index}", notes, audio, dataset=name, split=split))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """`a` and `b` side by side in a directory, `c` directly in it."""
    directory = tmp_path_factory.mktemp("data")
    prepare(directory / "first", "a", train=3, validation=2, test=1)
    prepare(directory / "second", "b", train=1, validation=2)
    prepare(directory, "c", test=2)
    (directory / "empty").mkdir()
    return directory


def test_datasets_are_found_in_a_directory_and_in_those_in_it(data):
    found = {dataset.name: (dataset.directory, dataset.splits) for dataset in find_datasets(data)}
    assert found == {
        "a": (data / "first", ("train", "validation", "test")),
        "b": (data / "second", ("train", "validation")),
        "c": (data, ("test",)),
    }
    assert [dataset.name for dataset in find_datasets([data / "second", data / "first"])] == ["a", "b"]
    # Named twice, also in two ways, is there once.
    assert len(find_datasets([data, data / "first", data / "second" / ".." / "first"])) == 3


def test_what_is_missing_is_named(data, tmp_path):
    def message(*arguments, **settings):
        with pytest.raises(MissingDatasetError) as raised:
            choose_datasets(*arguments, **settings)
        return str(raised.value)

    assert message(data, ["slakh", "a", "maestrov3"]) == (
        f"Not prepared in {data}: slakh, maestrov3; run `mt3 prepare slakh -o {data}/slakh`, "
        f"`mt3 prepare maestro -o {data}/maestrov3`; or set missing_datasets to 'leave_out'."
    )
    assert message([tmp_path / "x", tmp_path / "y"], "urmp") == (
        f"{tmp_path}/x, {tmp_path}/y do not exist; wanted: urmp; run `mt3 prepare urmp -o {tmp_path}/x/urmp`."
    )
    assert message(data, "b", split="test") == (
        f"b has no split 'test': prepared in {data}/second are train, validation."
    )
    assert f"{tmp_path} holds no prepared dataset with split 'test'; run" in message(tmp_path, split="test")
    assert f"{tmp_path}/x does not exist; run `mt3 prepare NAME" in message(tmp_path / "x")


def test_what_is_missing_is_left_out_when_asked(data, caplog):
    chosen = choose_datasets(data, ["slakh", "a", "b", "c"], split="test", missing="leave_out")
    assert [dataset.name for dataset in chosen] == ["a", "c"]
    assert [record.getMessage() for record in caplog.records] == [
        f"Not prepared in {data}: slakh; left out.",
        f"b in {data}/second (train, validation) has no split 'test'; left out.",
    ]
    # Nothing is left.
    for names in (["slakh"], ["b"]):
        with pytest.raises(MissingDatasetError):
            choose_datasets(data, names, split="test", missing="leave_out")
    with pytest.raises(ValueError, match="missing_datasets is 'ignore'; choose one of error, leave_out"):
        choose_datasets(data, ["a"], missing="ignore")


def test_a_dataset_in_two_directories_is_refused(data, tmp_path):
    prepare(tmp_path / "again", "a", train=1)
    assert [dataset.name for dataset in choose_datasets([data, tmp_path], ["b", "c"])] == ["b", "c"]
    for names in (["a"], None):
        with pytest.raises(ValueError, match=f"'a' is prepared more than once: name one of {data}/first, "):
            choose_datasets([data, tmp_path], names)
