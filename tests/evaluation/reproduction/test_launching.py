"""Commands as processes: what is started in which order, failures, interruptions, two calls at once."""

import os
import shlex
import signal
import sys
import threading
import time

import pytest

from mt3.cli.runtime import exit_code_of_sigterm
from mt3.evaluation.reproduction import launching
from mt3.evaluation.reproduction.jobs import Settings, make_jobs
from mt3.evaluation.reproduction.launching import command_line, launch
from mt3.evaluation.reproduction.scales import SCALES
from mt3.evaluation.reproduction.states import read_state
from mt3.evaluation.reproduction.tables import TABLES

# Stands in for `mt3`: notes what it is called with, and does what the run's name says.
PROGRAM = """
import os, pathlib, signal, sys, time

here = pathlib.Path(os.environ["PROGRAM_DIR"])
with open(here / "calls", "a") as file:
    file.write(" ".join(sys.argv[1:3]) + chr(10))

def stop(signum, frame):
    (here / "stopped").write_text("saved")
    sys.exit(75)

if "eval" in sys.argv and os.environ.get("PROGRAM_FAILS"):
    print("step 1")
    print("mt3: error: no room on the disk", file=sys.stderr)
    sys.exit(1)
if os.environ.get("PROGRAM_WAITS"):
    signal.signal(signal.SIGTERM, stop)
    (here / "started").touch()
    time.sleep(60)
"""


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The folder in which the program is, and where it leaves its notes."""
    folder = tmp_path / "program"
    folder.mkdir()
    (folder / "stand_in.py").write_text(PROGRAM)
    monkeypatch.setenv("PYTHONPATH", str(folder))
    monkeypatch.setenv("PROGRAM_DIR", str(folder))
    monkeypatch.setattr(launching, "_MODULE", "stand_in")
    return folder


def make_state(work_dir, scale="paper", table="table2", name="mt3_slakh", prepared=("slakh",)):
    jobs = make_jobs(TABLES[table], Settings(work_dir, scale=SCALES[scale]))
    (job,) = [job for job in jobs if job.training.name == name]
    return read_state(job, prepared)


def wait_for(path):
    deadline = time.monotonic() + 50
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_trains_then_scores(program, tmp_path):
    said = []
    assert launch(make_state(tmp_path / "work"), said.append) is None
    calls = (program / "calls").read_text().splitlines()
    assert [call.split()[0] for call in calls] == ["train", "eval"]
    assert [line.split()[1] for line in said] == ["train", "eval"]
    log = tmp_path / "work" / "mt3_slakh" / "train.log"
    assert log.read_text().startswith("$ mt3 train --gin_file=mt3_small.gin")


def test_makes_up_data_where_the_scale_does(program, tmp_path):
    state = make_state(tmp_path / "work", "toy", "table5", "mt3_without_urmp", prepared=("slakh",))
    assert launch(state) is None
    calls = [call.split()[0] for call in (program / "calls").read_text().splitlines()]
    assert calls == ["prepare"] * 5 + ["train", "eval"]
    assert len(list((tmp_path / "work" / "music").glob("*.mid"))) == 3


def test_a_failure_is_one_line_and_ends_the_job(program, tmp_path, monkeypatch):
    monkeypatch.setenv("PROGRAM_FAILS", "1")
    state = make_state(tmp_path / "work", name="mt3_mixture", prepared=TABLES["table2"].trainings[-1][1])
    failure = launch(state)
    assert failure is not None
    assert failure.training == "mt3_mixture"
    log = tmp_path / "work" / "mt3_mixture" / "eval.log"
    assert failure.reason == f"mt3 eval: exit code 1: no room on the disk (log: {log})"
    assert len((program / "calls").read_text().splitlines()) == 2  # of six datasets, one


def test_a_command_that_says_nothing_has_failed_too(program, tmp_path, monkeypatch):
    (program / "stand_in.py").write_text("raise SystemExit(3)")
    failure = launch(make_state(tmp_path / "work"))
    assert failure is not None
    assert "mt3 train: exit code 3" in failure.reason


def test_nothing_is_started_without_data(program, tmp_path):
    failure = launch(make_state(tmp_path / "work", prepared=()))
    assert failure is not None
    assert failure.reason == "needs data that are not prepared: slakh"
    assert not (program / "calls").exists()
    assert not (tmp_path / "work").exists()


def test_a_job_is_run_once_at_a_time(program, tmp_path):
    state = make_state(tmp_path / "work")
    with state.job.lock() as held:
        assert held is not None
        assert make_state(tmp_path / "work").word == "running"
        failure = launch(state)
        assert failure is not None
        assert failure.reason == "another process works on it"
    assert make_state(tmp_path / "work").word == "to do"
    assert not (program / "calls").exists()


def test_told_to_stop_it_stops_the_command_and_waits_for_it(program, tmp_path, monkeypatch):
    monkeypatch.setenv("PROGRAM_WAITS", "1")

    def interrupt():
        wait_for(program / "started")
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(SystemExit) as end, exit_code_of_sigterm(75):
        launch(make_state(tmp_path / "work"))
    thread.join()
    assert end.value.code == 75
    assert (program / "stopped").read_text() == "saved"
    assert make_state(tmp_path / "work").word == "to do"  # the lock is gone with the command


def test_command_lines_are_what_a_shell_reads():
    arguments = ["train", "--gin.A='text'", "--gin.B=('a', \"b\")", "--run-dir=a folder/run", "--gin.C=1e-4"]
    arguments += ["--gin.D='$HOME'", "plain"]
    assert shlex.split(command_line(arguments)) == ["mt3", *arguments]
    assert command_line(["--gin.A='text'"]) == "mt3 --gin.A=\"'text'\""


def test_commands_are_of_this_interpreter(program, tmp_path):
    (program / "stand_in.py").write_text("import sys; print(sys.executable)")
    assert launch(make_state(tmp_path / "work")) is None
    log = tmp_path / "work" / "mt3_slakh" / "train.log"
    assert log.read_text().splitlines()[1] == sys.executable
