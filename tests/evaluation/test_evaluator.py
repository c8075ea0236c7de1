"""Evaluation of recordings and of files: means, faults, what is written."""

import csv
import dataclasses
import json
import pathlib

import numpy as np
import pytest

from mt3.evaluation.evaluator import EvaluationError, evaluate
from mt3.evaluation.metrics import Track
from mt3.evaluation.results import EvaluationResult, RecordingResult, Skipped, read_results, write_results
from mt3.inference.formats import read_notes
from mt3.symbolic.note_decoding import DecodedNotes
from mt3.symbolic.notes import Notes

SCALE = Notes.from_rows([(t, t + 0.5, 60 + t, 100, 0, False) for t in range(4)])


@dataclasses.dataclass(frozen=True)
class FakeRecording:
    """Audio whose only sample says how many notes there are to hear."""

    id: str
    num_heard: int
    notes: Notes = dataclasses.field(default_factory=lambda: SCALE)

    def load_audio(self, sample_rate: int) -> np.ndarray:
        if self.num_heard < 0:
            raise ValueError(f"{self.id}.wav is not audio.")
        return np.full(1, self.num_heard, np.float32)


def hear(samples: np.ndarray) -> DecodedNotes:
    num_heard = int(samples[0])
    return DecodedNotes(SCALE[:num_heard], invalid_events=num_heard, dropped_events=1)


def test_scores_are_means_over_recordings():
    result = evaluate([FakeRecording("half", 2), FakeRecording("all", 4)], hear)
    assert [recording.scores["Onset recall"] for recording in result.recordings] == [0.5, 1.0]
    assert result.scores["Onset recall"] == 0.75
    assert result.scores["Onset precision"] == 1.0
    assert result.scores["Onset F1"] == pytest.approx((2 / 3 + 1) / 2)
    assert (result.invalid_events, result.dropped_events) == (6, 2)
    assert [recording.num_estimated_notes for recording in result.recordings] == [2, 4]
    assert result.skipped == ()


def test_options_reach_the_metrics():
    result = evaluate(
        [FakeRecording("a", 4)],
        hear,
        onsets_only=True,
        tracks=[Track("piano", 0)],
        metrics=["onset", "onset_offset"],
    )
    assert set(result.scores) == {
        f"{track}Onset {word}" for track in ("", "piano/") for word in ("precision", "recall", "F1")
    }
    assert result.settings == {
        "onsets_only": True,
        "tracks": ["piano"],
        "metrics": ["onset", "onset_offset"],
    }


def test_errors_at_borders_are_those_of_the_segments():
    """A note of four seconds that is broken in two after three of them."""
    whole = Notes.from_rows([(0.5, 4.5, 60, 100, 0, False)])
    broken = Notes.from_rows([(0.5, 3.0, 60, 100, 0, False), (3.0, 4.5, 60, 100, 0, False)])
    rates = {
        seconds: evaluate(
            [FakeRecording("a", 0, whole)],
            lambda samples: DecodedNotes(broken, 0, 0),
            metrics=["segment_borders"],
            segment_seconds=seconds,
        ).scores["Segment broken rate"]
        for seconds in (2.048, 3.0)
    }
    assert rates == {2.048: 0.0, 3.0: 1.0}


def test_a_broken_recording_is_named_and_skipped(caplog):
    recordings = (FakeRecording(name, heard) for name, heard in (("a", 4), ("broken", -1), ("b", 4)))
    result = evaluate(recordings, hear)
    assert [recording.id for recording in result.recordings] == ["a", "b"]
    assert result.skipped == (Skipped("broken", "broken.wav is not audio."),)
    assert result.scores["Onset F1"] == 1.0
    assert "Skipped broken: broken.wav is not audio." in caplog.text


def test_strict_stops_at_a_broken_recording():
    with pytest.raises(EvaluationError, match=r"broken: broken\.wav is not audio"):
        evaluate([FakeRecording("a", 4), FakeRecording("broken", -1)], hear, strict=True)


def test_nothing_scored_is_an_error(tmp_path):
    with pytest.raises(EvaluationError, match=r"None of 1 recordings could be scored; broken: broken\.wav"):
        evaluate([FakeRecording("broken", -1)], hear, output_directory=tmp_path)
    with pytest.raises(EvaluationError, match="no recordings"):
        evaluate([], hear)
    assert list(tmp_path.iterdir()) == []


def test_defects_are_not_taken_for_broken_recordings():
    def fail(samples: np.ndarray) -> DecodedNotes:
        raise TypeError("a defect")

    with pytest.raises(TypeError, match="a defect"):
        evaluate([FakeRecording("a", 4)], fail)


def test_an_unknown_metric_is_refused_before_any_work():
    def listen_not(samples: np.ndarray) -> DecodedNotes:
        raise AssertionError

    with pytest.raises(ValueError, match="'nonsense' is none of"):
        evaluate([FakeRecording("a", 4)], listen_not, metrics=["nonsense"])


def test_results_and_transcriptions_are_written(tmp_path):
    recordings = [FakeRecording("2004/piece", 2), FakeRecording("..", 4), FakeRecording("broken", -1)]
    folder = tmp_path / "new" / "evaluation"
    result = evaluate(recordings, hear, output_directory=folder, settings={"checkpoint": "run/1000"})
    assert sorted(path.name for path in (folder / "transcriptions").iterdir()) == [
        "...json",
        "...mid",
        "2004%2Fpiece.json",
        "2004%2Fpiece.mid",
    ]
    assert len(read_notes(folder / "transcriptions" / "2004%2Fpiece.mid")) == 2
    assert read_results(folder) == result
    assert result.settings["checkpoint"] == "run/1000"
    document = json.loads((folder / "results.json").read_text())
    assert document["scores"]["Onset recall"] == 0.75
    assert document["recordings"][0]["id"] == "2004/piece"
    assert document["skipped"] == [{"id": "broken", "reason": "broken.wav is not audio."}]
    with (folder / "results.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["id"] for row in rows] == ["2004/piece", "..", "mean", "mean 95 % low", "mean 95 % high"]
    assert [float(row["Onset recall"]) for row in rows] == [0.5, 1.0, 0.75, 0.5, 1.0]
    assert rows[0]["invalid_events"] == "2"
    assert sorted(path.name for path in folder.iterdir()) == [
        "references",
        "results.csv",
        "results.json",
        "transcriptions",
    ]


def test_a_full_disk_is_not_blamed_on_a_recording(tmp_path, monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pathlib.Path, "replace", fail)
    with pytest.raises(OSError, match="No space left"):
        evaluate([FakeRecording("a", 4)], hear, output_directory=tmp_path)


def test_means_leave_out_recordings_without_the_score():
    result = EvaluationResult(
        (
            RecordingResult("a", {"Onset F1": 0.5}, 1, 1),
            RecordingResult("b", {"Onset F1": 0.7, "x": 1.0}, 1, 1),
        )
    )
    assert result.scores == pytest.approx({"Onset F1": 0.6, "x": 1.0})


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "mt3.results", "version": 1}'])
def test_other_files_are_not_results(content, tmp_path):
    (tmp_path / "results.json").write_text(content)
    with pytest.raises(ValueError, match=r"results\.json does not hold evaluation results"):
        read_results(tmp_path)


def test_results_come_back_after_rewriting(tmp_path):
    first = evaluate([FakeRecording("a", 4)], hear)
    second = evaluate([FakeRecording("b", 2)], hear)
    write_results(first, tmp_path)
    write_results(second, tmp_path)
    assert read_results(tmp_path / "results.json") == second


@dataclasses.dataclass(frozen=True)
class DatasetRecording(FakeRecording):
    """One of a dataset."""

    dataset: str = ""


def test_each_dataset_has_its_means(tmp_path):
    recordings = [
        DatasetRecording("a/1", 1, dataset="a"),
        DatasetRecording("b/1", 2, dataset="b"),
        DatasetRecording("a/2", 4, dataset="a"),
        DatasetRecording("b/2", -1, dataset="b"),
    ]
    result = evaluate(recordings, hear, output_directory=tmp_path)
    assert {name: own.scores["Onset recall"] for name, own in result.datasets.items()} == {
        "a": 0.625,
        "b": 0.5,
    }
    document = json.loads((tmp_path / "results.json").read_text())
    assert {name: own["num_recordings"] for name, own in document["datasets"].items()} == {"a": 2, "b": 1}
    assert document["datasets"]["a"]["scores"]["Onset recall"] == 0.625
    assert [recording["dataset"] for recording in document["recordings"]] == ["a", "b", "a"]
    assert read_results(tmp_path) == result
    with (tmp_path / "results.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert rows["a/1"]["dataset"] == "a"
    assert float(rows["mean of a"]["Onset recall"]) == 0.625
    assert float(rows["mean"]["Onset recall"]) == pytest.approx(7 / 12)


def test_two_recordings_of_one_id_are_refused():
    with pytest.raises(EvaluationError, match="Two recordings have the id 'a'"):
        evaluate([FakeRecording("a", 1), FakeRecording("a", 2)], hear)


def test_a_function_may_refuse_a_recording():
    def refuse(samples: np.ndarray) -> DecodedNotes:
        if samples[0] == 1:
            raise ValueError("It is too short.")
        return hear(samples)

    result = evaluate([FakeRecording("a", 1), FakeRecording("b", 2)], refuse)
    assert result.skipped == (Skipped("a", "It is too short."),)
    assert [recording.id for recording in result.recordings] == ["b"]


@pytest.mark.parametrize("workers", [0, 1])
def test_several_may_be_transcribed_together(workers):
    """What comes late, in batches, is still of its recording; a broken one between them is left out."""

    class Pairs:
        def transcribe_all(self, recordings):
            waiting = []
            for samples in recordings:
                waiting.append(samples)
                if len(waiting) == 2:
                    yield from map(hear, waiting)
                    waiting = []
            yield from map(hear, waiting)

    numbers = [3, 1, -1, 4, 2, 4]
    recordings = [FakeRecording(str(place), number) for place, number in enumerate(numbers)]
    seen = []
    result = evaluate(
        recordings, Pairs(), workers=workers, observe=lambda one, notes: seen.append((one.id, len(notes)))
    )
    assert result == evaluate(recordings, hear)
    assert seen == [("0", 3), ("1", 1), ("3", 4), ("4", 2), ("5", 4)]
