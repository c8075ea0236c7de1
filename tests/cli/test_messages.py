"""Which log messages a user sees, and that logging is afterwards as it was."""

import logging
import os
import subprocess
import sys

import pytest

from mt3.cli.messages import log_messages, show_progress_as_lines


@pytest.fixture(autouse=True)
def _asyncio_as_before():
    """Commands silence it for the rest of their process."""
    level = logging.getLogger("asyncio").level
    yield
    logging.getLogger("asyncio").setLevel(level)


def log_all():
    for name in ("mt3.training.loop", "orbax", "mt3other", "asyncio"):
        for level in (logging.INFO, logging.WARNING, logging.ERROR):
            logging.getLogger(name).log(level, "%s of %s", logging.getLevelName(level), name)


def test_warnings_of_the_project_and_errors_of_all(capsys):
    with log_messages():
        log_all()
    assert capsys.readouterr().err.splitlines() == [
        "mt3: WARNING of mt3.training.loop",
        "mt3: ERROR of mt3.training.loop",
        "mt3: ERROR of orbax",
        "mt3: ERROR of mt3other",
    ]


@pytest.mark.parametrize(("terminal", "shown"), [(False, True), (True, False)])
def test_progress_is_lines_where_there_is_no_terminal(capsys, monkeypatch, terminal, shown):
    with log_messages():
        monkeypatch.setattr("sys.stderr.isatty", lambda: terminal)
        show_progress_as_lines()
        log_all()
    err = capsys.readouterr().err
    assert ("INFO of mt3.training.loop" in err) == shown
    assert "INFO of orbax" not in err


def test_logging_is_put_back(capsys):
    root, project = logging.getLogger(), logging.getLogger("mt3")
    before = (list(root.handlers), project.level)

    def fail():
        with log_messages():
            show_progress_as_lines()
            raise OSError

    with pytest.raises(OSError):
        fail()
    assert (root.handlers, project.level) == before


TALKATIVE = """
import logging, os, sys
from mt3.cli.messages import log_messages, without_library_output
with log_messages():
    os.write(2, b"library before\\n")
    with without_library_output():
        os.write(2, b"library within\\n")
        print("ours", "\\udcff", file=sys.stderr)
        logging.getLogger("mt3.audio").warning("logged")
    os.write(2, b"library after\\n")
    print("ours after", file=sys.stderr)
    logging.getLogger("mt3.audio").warning("logged after")
"""


@pytest.mark.parametrize("traceback", ["", "1"])
def test_libraries_are_silenced_and_this_project_is_not(traceback):
    ended = subprocess.run(
        [sys.executable, "-c", TALKATIVE],
        env=os.environ | {"MT3_TRACEBACK": traceback},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = ["library before", "library within", r"ours \udcff", "mt3: logged"]
    lines += ["library after", "ours after", "mt3: logged after"]
    assert ended.stderr.splitlines() == [line for line in lines if traceback or line != "library within"]
