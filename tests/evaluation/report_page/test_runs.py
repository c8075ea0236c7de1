"""Reading results directories."""

import shutil

import pytest

from mt3.evaluation.report_page.runs import read_runs


def test_notes_of_a_recording(run_directories):
    (run,) = read_runs(run_directories[:1])
    assert run.name == "worse"
    reference, estimate = run.notes("a/long")
    recording = next(own for own in run.result.recordings if own.id == "a/long")
    assert (len(reference), len(estimate)) == (recording.num_reference_notes, recording.num_estimated_notes)
    assert run.notes("without notes") is None


def test_results_json_stands_for_its_directory(run_directories):
    (run,) = read_runs([run_directories[0] / "results.json"])
    assert run.directory == run_directories[0]


def test_names_tell_runs_apart(tmp_path, run_directories):
    for parent in ("one", "two"):
        (tmp_path / parent / "eval").mkdir(parents=True)
        shutil.copy(run_directories[0] / "results.json", tmp_path / parent / "eval")
    assert [run.name for run in read_runs(sorted(tmp_path.glob("*/eval")))] == ["one/eval", "two/eval"]


def test_a_directory_named_twice(run_directories):
    with pytest.raises(ValueError, match="named 2 times"):
        read_runs([run_directories[0], run_directories[0] / "results.json"])


def test_no_results(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_runs([tmp_path])
