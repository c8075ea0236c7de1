"""`mt3 serve`: a process that serves until it is told to stop, and clears up after one that was not."""

import contextlib
import json
import re
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from mt3.audio.io import write_audio
from mt3.inference.transcriber import Transcriber


@pytest.fixture
def song(tmp_path):
    path = tmp_path / "song.wav"
    write_audio(path, np.random.default_rng(0).normal(0, 0.1, 24000).astype(np.float32), 16000)
    return path


@contextlib.contextmanager
def serving(checkpoint, folder):
    """The command's process and the address that it serves at."""
    command = [sys.executable, "-c", "from mt3.cli.main import main; main()", "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, "-c", str(checkpoint), "--temporary", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline()
            address = re.match(r"http://127\.0\.0\.1:\d+/", line)
            assert address, (line, process.stderr.read())
            yield process, address[0]
        finally:
            process.kill()


def ask(url, data=None):
    with urllib.request.urlopen(urllib.request.Request(url, data), timeout=60) as response:
        return response.read()


@pytest.mark.slow
def test_serving_from_start_to_stop(untrained, song, tmp_path):
    folder = tmp_path / "temporary"
    left = folder / "serving-killed"  # by a server that was
    left.mkdir(parents=True)
    (left / "lock").touch()
    (left / "upload").write_text("private")
    with serving(untrained, folder) as (process, address):
        (private,) = folder.iterdir()
        assert private != left
        assert private.stat().st_mode & 0o777 == 0o700
        assert json.loads(ask(f"{address}api/info"))["model"] == Path(untrained).name
        id = json.loads(ask(f"{address}api/jobs", song.read_bytes()))["id"]
        deadline = time.monotonic() + 120
        while (job := json.loads(ask(f"{address}api/jobs/{id}")))["state"] not in ("done", "failed"):
            assert time.monotonic() < deadline, job
            time.sleep(0.05)
        assert job["state"] == "done", job
        expected = Transcriber.from_checkpoint(untrained).transcribe(song).notes
        notes = json.loads(ask(f"{address}api/jobs/{id}/files/json"))["notes"]
        assert [note["pitch"] for note in notes] == expected.pitch.tolist()
        assert [note["onset_seconds"] for note in notes] == expected.onset_seconds.tolist()

        # An open stream of events does not keep it.
        waiting = json.loads(ask(f"{address}api/jobs", song.read_bytes()))["id"]
        with urllib.request.urlopen(f"{address}api/jobs/{waiting}/events", timeout=60) as stream:
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
            assert re.findall("event: (.*)", stream.read().decode())[-1] in ("cancelled", "done")
        assert list(folder.iterdir()) == []
        assert process.stderr.read() == ""


def test_missing_packages_are_named(mt3, untrained, monkeypatch):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "mt3.web.server", raising=False)
    error = mt3("serve", "-c", untrained).error()
    assert error.endswith("the page needs another package (uvicorn): pip install 'mt3[demo]'")


def test_a_port_in_use(mt3, untrained, tmp_path):
    from mt3.web.server import listen

    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        error = mt3("serve", "-c", untrained, "--port", port, "--temporary", tmp_path).error()
    assert f"cannot listen at 127.0.0.1:{port} (Address already in use)" in error


def test_missing_checkpoint(mt3, tmp_path):
    assert "give a run's directory" in mt3("serve", "-c", tmp_path / "none").error()
