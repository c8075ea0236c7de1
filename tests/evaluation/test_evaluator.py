"""Evaluation of recordings and of files: means, faults, what is written."""

import csv
import dataclasses
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from mt3.evaluation.evaluator import EvaluationError, evaluate, score_files
from mt3.evaluation.metrics import Track
from mt3.evaluation.results import EvaluationResult, RecordingResult, Skipped, read_results, write_results
from mt3.inference.formats import read_notes, write_notes
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
    assert result.settings == {"onsets_only": True, "tracks": ["piano"]}


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
        "...mid",
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
    assert [row["id"] for row in rows] == ["2004/piece", "..", "mean"]
    assert [float(row["Onset recall"]) for row in rows] == [0.5, 1.0, 0.75]
    assert rows[0]["invalid_events"] == "2"
    assert sorted(path.name for path in folder.iterdir()) == ["results.csv", "results.json", "transcriptions"]


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


@pytest.fixture
def folders(tmp_path):
    """Two folders of MIDI: a and sub/b are in both, c and d in one each."""
    for folder, names in (("reference", ("a", "sub/b", "c")), ("estimate", ("a", "sub/b", "d"))):
        for name in names:
            path = tmp_path / folder / f"{name}.mid"
            path.parent.mkdir(parents=True, exist_ok=True)
            write_notes(SCALE if folder == "reference" else SCALE[:2], path)
    (tmp_path / "reference" / "._a.mid").write_bytes(b"left by another system")
    (tmp_path / "reference" / "notes.txt").write_text("no MIDI")
    return tmp_path / "reference", tmp_path / "estimate"


def test_two_files(tmp_path):
    write_notes(SCALE, tmp_path / "true.mid")
    write_notes(SCALE[:3], tmp_path / "guess.json")
    result = score_files(tmp_path / "true.mid", tmp_path / "guess.json")
    assert result.scores["Onset recall"] == 0.75
    assert [recording.id for recording in result.recordings] == ["true"]


def test_two_folders_are_matched_by_name(folders):
    reference, estimate = folders
    result = score_files(*folders)
    assert [recording.id for recording in result.recordings] == ["a", "sub/b"]
    assert result.scores["Onset recall"] == 0.5
    assert result.skipped == (
        Skipped("c", f"{estimate} has no such MIDI file."),
        Skipped("d", f"{reference} has no such MIDI file."),
    )


def test_a_broken_file_is_named_and_skipped(folders):
    (folders[1] / "a.mid").write_bytes(b"RIFF")
    result = score_files(*folders)
    assert [recording.id for recording in result.recordings] == ["sub/b"]
    (broken,) = (skipped for skipped in result.skipped if skipped.id == "a")
    assert str(folders[1] / "a.mid") in broken.reason


def test_strict_refuses_unmatched_and_broken_files(folders):
    with pytest.raises(EvaluationError, match=r"c: .* has no such MIDI file"):
        score_files(*folders, strict=True)
    (folders[0] / "c.mid").unlink()
    (folders[1] / "d.mid").unlink()
    (folders[1] / "a.mid").write_bytes(b"RIFF")
    with pytest.raises(EvaluationError, match=r"a: .*a\.mid"):
        score_files(*folders, strict=True)


def test_paths_that_make_no_pairs(folders, tmp_path):
    reference, estimate = folders
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        score_files(reference, tmp_path / "nowhere")
    with pytest.raises(EvaluationError, match="two files or two folders"):
        score_files(reference, estimate / "a.mid")
    (tmp_path / "empty").mkdir()
    with pytest.raises(EvaluationError, match=r"\(3 MIDI files\) and .*empty \(0 MIDI files\) have no name"):
        score_files(reference, tmp_path / "empty")
    write_notes(SCALE, reference / "a.midi")
    with pytest.raises(EvaluationError, match="have one name"):
        score_files(reference, estimate)


def test_a_midi_file_without_notes_scores_zero(folders):
    write_notes(Notes.empty(), folders[1] / "a.mid")
    result = score_files(*folders)
    assert result.recordings[0].scores["Onset F1"] == 0.0


def test_scoring_files_needs_no_jax():
    code = (
        "import sys, mt3.evaluation.evaluator;"
        "print(sorted({name.split('.')[0] for name in sys.modules} & "
        "{'jax', 'flax', 'scipy', 'mir_eval', 'sklearn', 'tensorflow', 'pretty_midi', 'note_seq'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
