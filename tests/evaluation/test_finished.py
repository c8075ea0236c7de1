"""An evaluation that is interrupted, changed and taken up again."""

import dataclasses
import functools
import json
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from mt3.evaluation import evaluator
from mt3.evaluation.evaluator import Fellows, evaluate
from mt3.evaluation.finished import open_finished
from mt3.evaluation.results import EvaluationError, Skipped, read_results
from mt3.symbolic.notes import Notes

SCALE = Notes.from_rows([(t / 3, t / 3 + 0.3, 60 + t, 100, 0, False) for t in range(8)])
SUBJECT = {"checkpoint_hash": "abc", "data": {"a": {"manifest_hash": "123"}}}

# Evaluates six recordings in the directory that it is given; stops at one of them if told so.
PROGRAM = """
import sys, time
from pathlib import Path
import numpy as np
from mt3.evaluation.evaluator import evaluate
from mt3.evaluation.finished import open_finished
from mt3.symbolic.note_decoding import DecodedNotes
from mt3.symbolic.notes import Notes

scale = Notes.from_rows([(t / 3, t / 3 + 0.3, 60 + t, 100, 0, False) for t in range(8)])

class Recording:
    def __init__(self, number):
        self.id, self.dataset, self.notes = f"r/{number}", "ab"[number % 2], scale
        self.number = number

    def load_audio(self, sample_rate):
        return np.full(1, self.number)

def hear(samples):
    if len(sys.argv) > 2 and samples[0] == int(sys.argv[2]):
        time.sleep(1000)
    return DecodedNotes(scale[: 1 + int(samples[0])], int(samples[0]), 2)

directory = Path(sys.argv[1])
finished = open_finished(directory, {"checkpoint_hash": "abc"})
evaluate(map(Recording, range(6)), hear, output_directory=directory, finished=finished)
"""


@dataclasses.dataclass(frozen=True)
class FakeRecording:
    """Audio whose only sample says how many notes there are to hear."""

    id: str
    num_heard: int
    dataset: str = ""
    notes: Notes = dataclasses.field(default_factory=lambda: SCALE)

    def load_audio(self, sample_rate):
        if self.num_heard < 0:
            raise ValueError(f"{self.id}.wav is not audio.")
        return np.full(1, self.num_heard, np.float32)


@dataclasses.dataclass(frozen=True)
class Heard:
    """A transcription of ten events."""

    notes: Notes
    invalid_events: int
    dropped_events: int = 1
    num_events: int = 10


class Hearing:
    """A transcriber that counts what it is asked."""

    def __init__(self):
        self.num_heard = []

    def __call__(self, samples):
        self.num_heard.append(int(samples[0]))
        return Heard(SCALE[: self.num_heard[-1]], self.num_heard[-1])


RECORDINGS = [FakeRecording("x", 1, "a"), FakeRecording("y", 4, "b"), FakeRecording("z", 8, "b")]


def run(directory, recordings=RECORDINGS, subject=SUBJECT, restart=False, **options):
    """(what was heard, the result)."""
    hear = Hearing()
    finished = open_finished(directory, subject, restart=restart)
    result = evaluate(recordings, hear, output_directory=directory, finished=finished, **options)
    assert read_results(directory).recordings == result.recordings
    return hear.num_heard, result


def files_of(directory):
    return {
        str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()
    }


def test_killed_and_resumed_equals_undisturbed(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run([sys.executable, "-c", PROGRAM, str(whole)], check=True)
    with subprocess.Popen([sys.executable, "-c", PROGRAM, str(killed), "3"]) as process:
        deadline = time.monotonic() + 60
        while not (killed / "recordings" / "r%2F2.json").exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
    assert (killed / "recordings" / "r%2F2.json").exists()
    assert not (killed / "results.json").exists()
    subprocess.run([sys.executable, "-c", PROGRAM, str(killed)], check=True)
    assert files_of(killed) == files_of(whole)
    assert read_results(killed).scores["Onset recall"] == pytest.approx(np.mean(np.arange(1, 7)) / 8)


def test_what_is_finished_is_not_heard_again(tmp_path):
    heard, first = run(tmp_path, RECORDINGS[:2])
    assert heard == [1, 4]
    heard, result = run(tmp_path)
    assert heard == [8]
    assert result.recordings[:2] == first.recordings
    assert run(tmp_path)[0] == []
    assert run(tmp_path, RECORDINGS[::-1])[1].recordings == result.recordings[::-1]


def test_other_metrics_are_made_of_what_was_heard(tmp_path):
    run(tmp_path, metrics=["onset"])
    heard, result = run(tmp_path, metrics=["onset", "frame"], onsets_only=True)
    assert heard == []
    expected = evaluate(RECORDINGS, Hearing(), metrics=["onset", "frame"], onsets_only=True)
    assert result.recordings == expected.recordings
    assert [recording.invalid_events for recording in result.recordings] == [1, 4, 8]
    assert [recording.scores["Invalid event rate"] for recording in result.recordings] == [0.1, 0.4, 0.8]
    assert result.scores["Dropped event rate"] == pytest.approx(0.1)
    assert run(tmp_path, metrics=["onset", "frame"], onsets_only=True)[1] == result


def test_what_was_damaged_or_removed_is_heard_again(tmp_path):
    run(tmp_path)
    (tmp_path / "recordings" / "x.json").write_text("{")
    (tmp_path / "transcriptions" / "y.json").unlink()
    heard, _ = run(tmp_path, metrics=["onset"])
    assert heard == [1, 4]


def test_what_was_skipped_is_tried_again(tmp_path):
    broken = [RECORDINGS[0], FakeRecording("y", -1)]
    assert run(tmp_path, broken)[1].skipped == (Skipped("y", "y.wav is not audio."),)
    heard, result = run(tmp_path)
    assert heard == [4, 8]
    assert result.skipped == ()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({**SUBJECT, "checkpoint_hash": "xyz"}, 'with checkpoint_hash "abc", this one has "xyz"'),
        ({**SUBJECT, "data": {"a": {"manifest_hash": "1" * 64}}}, f'this one has "{"1" * 19}\\.\\.\\.'),
        ({"data": SUBJECT["data"]}, 'with checkpoint_hash "abc", this one has null'),
        ({**SUBJECT, "decoding": {"beam_size": 2}}, "with decoding.beam_size null, this one has 2"),
    ],
)
def test_evaluations_of_other_things_do_not_mix(tmp_path, changed, said):
    run(tmp_path)
    before = files_of(tmp_path)
    with pytest.raises(EvaluationError, match=f"{said}.*another directory, or give --restart"):
        open_finished(tmp_path, changed)
    assert files_of(tmp_path) == before
    heard, _ = run(tmp_path, RECORDINGS[:1], changed, restart=True)
    assert heard == [1]
    assert not (tmp_path / "transcriptions" / "y.mid").exists()
    assert json.loads((tmp_path / "evaluation.json").read_text()) == changed


def test_a_directory_that_cannot_be_understood(tmp_path):
    (tmp_path / "evaluation.json").write_text("[")
    with pytest.raises(EvaluationError, match=r"evaluation\.json cannot be read .*--restart"):
        open_finished(tmp_path, SUBJECT)
    (tmp_path / "mine.txt").touch()
    assert run(tmp_path, restart=True)[0] == [1, 4, 8]
    assert (tmp_path / "mine.txt").exists()


def test_fellows_share_the_recordings(tmp_path, monkeypatch):
    """Each does its part, and what they exchange makes the result of one who does all."""
    monkeypatch.setattr(evaluator, "_ROWS_PER_EXCHANGE", 2)
    recordings = [*RECORDINGS, FakeRecording("w", -1, "a"), FakeRecording("v", 2), FakeRecording("u", 3)]
    recordings.append(FakeRecording("t", 5))
    barrier, given = threading.Barrier(2, timeout=60), [None, None]

    def exchange(index, value):
        given[index] = json.dumps(value)
        barrier.wait()
        values = list(map(json.loads, given))
        barrier.wait()
        return values

    def run(index):
        hear = Hearing()
        fellows = Fellows(index, 2, functools.partial(exchange, index))
        return evaluate(recordings, hear, fellows=fellows, output_directory=tmp_path / str(index)), hear

    with ThreadPoolExecutor(2) as threads:
        (first, heard), (second, others) = threads.map(run, (0, 1))
    assert (heard.num_heard, others.num_heard) == ([1, 8, 2, 5], [4, 3])
    assert first == second == evaluate(recordings, Hearing())
    assert read_results(tmp_path / "0") == first
    assert not (tmp_path / "1" / "results.json").exists()
