"""Scoring in processes: the same results as here, and one line for each way to fail."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import Future

import numpy as np
import pytest

from mt3.evaluation.metrics import Track, score
from mt3.evaluation.results import EvaluationError, RecordingResult, Skipped
from mt3.evaluation.scoring_pool import Outcome, ScoreOptions, ScoringPool
from mt3.symbolic.notes import Notes

NOTES = Notes.from_rows([(t, t + 0.5, 60 + t, 100, 0, False) for t in range(4)])
ENDLESS = NOTES.replace(offset_seconds=np.inf)


@pytest.fixture(scope="module")
def pool():
    with ScoringPool(ScoreOptions.of(metrics=["onset"]), workers=1) as pool:
        yield pool


def outcomes(futures: list[Future[Outcome]]) -> list[Outcome]:
    return [future.result(timeout=120) for future in futures]


def test_processes_give_the_results_of_this_one(pool, piece):
    pieces = [piece(seed) for seed in range(20)]
    with ScoringPool(ScoreOptions.of(metrics=["onset"]), workers=0) as here:
        expected = outcomes([here.submit(str(seed), *pair, 1, 2) for seed, pair in enumerate(pieces)])
    assert outcomes([pool.submit(str(seed), *pair, 1, 2) for seed, pair in enumerate(pieces)]) == expected
    reference, estimate = pieces[3]
    assert expected[3] == RecordingResult(
        "3", score(reference, estimate, metrics=["onset"]), len(reference), len(estimate), 1, 2
    )


@pytest.mark.parametrize("workers", [0, 1])
def test_what_cannot_be_scored_is_skipped_by_name(workers, pool):
    with ScoringPool(ScoreOptions(), workers=0) as here:
        chosen = pool if workers else here
        lost, found = outcomes([chosen.submit("endless", NOTES, ENDLESS), chosen.submit("a", NOTES, NOTES)])
    assert isinstance(lost, Skipped)
    assert lost.id == "endless"
    assert "offset_seconds of estimate note 0 is inf" in lost.reason
    assert isinstance(found, RecordingResult)
    assert found.scores["Onset F1"] == 1.0


def test_broken_files_are_skipped_by_name(pool, tmp_path):
    (tmp_path / "a.mid").write_bytes(b"RIFF")
    (outcome,) = outcomes([pool.submit_files("a", tmp_path / "a.mid", tmp_path / "a.mid")])
    assert isinstance(outcome, Skipped)
    assert "a.mid is not a MIDI file" in outcome.reason


def test_options_are_checked_at_once():
    with pytest.raises(ValueError, match="'nonsense'"):
        ScoreOptions.of(metrics=["nonsense"])
    assert ScoreOptions.of(tracks=[{"name": "bass", "program": 33}]).tracks == (Track("bass", 33),)
    with pytest.raises(ValueError, match="workers is -1"):
        ScoringPool(ScoreOptions(), -1)


def test_a_killed_process_is_one_line():
    with ScoringPool(ScoreOptions.of(metrics=["onset"]), workers=1) as pool:
        outcomes([pool.submit("a", NOTES, NOTES)])
        assert pool._executor is not None
        (process,) = pool._executor._processes.values()
        os.kill(process.pid, signal.SIGKILL)
        process.join(timeout=60)
        with pytest.raises(EvaluationError, match="was killed"):
            outcomes([pool.submit("b", NOTES, NOTES)])


INTERRUPTED = """
import numpy as np
from mt3.evaluation.scoring_pool import ScoreOptions, ScoringPool
from mt3.symbolic.notes import Notes

if __name__ == "__main__":
    notes = Notes.from_rows([(t / 10, t / 10 + 0.5, 60, 100, 0, False) for t in range(20000)])
    with ScoringPool(ScoreOptions(), workers=1) as pool:
        futures = [pool.submit(str(index), notes, notes) for index in range(3000)]
        futures[0].result()
        print("started", flush=True)
        futures[-1].result()
"""


def test_an_interrupt_ends_it(tmp_path):
    script = tmp_path / "interrupted.py"
    script.write_text(INTERRUPTED)
    # A session of its own: the signal goes to all of its processes, as from a terminal.
    process = subprocess.Popen(
        [sys.executable, script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "started\n"
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode != 0
    assert errors.count("Traceback") == 1  # of this process, none of the worker
    assert errors.rstrip().endswith("KeyboardInterrupt")
    deadline = time.monotonic() + 60
    while is_alive(process.pid):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_processes_import_nothing_heavy(tmp_path):
    script = tmp_path / "imports.py"
    script.write_text(
        "import sys\n"
        "from mt3.evaluation.scoring_pool import ScoreOptions, ScoringPool\n"
        "from mt3.symbolic.notes import Notes\n"
        "def heavy():\n"
        "    return sorted({'jax', 'scipy', 'tensorflow', 'mir_eval', 'sklearn'} & set(sys.modules))\n"
        "if __name__ == '__main__':\n"
        "    with ScoringPool(ScoreOptions(), workers=1) as pool:\n"
        "        pool.submit('a', Notes.empty(), Notes.empty()).result()\n"
        "        print(pool._executor.submit(heavy).result(), heavy())\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] []"
