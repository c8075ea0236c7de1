"""A real server on a free port, with a stand-in for the transcriber, and a client."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import json
import threading
import time
import types
from collections import deque
from urllib.parse import quote

import numpy as np
import pytest

from mt3.audio.io import write_audio
from mt3.inference.transcription import Cancelled, Failed, Finished, Progress, Transcription
from mt3.symbolic.notes import Notes
from mt3.web.limits import Limits
from mt3.web.server import StoppableServer, address_of, listen
from mt3.web.service import Service

SAMPLE_RATE = 16000


class Listener:
    """In a transcriber's place: hears a note in each half second, of the pitch that its level tells.

    Decodes the recordings in hand by turns, one half second each, as batches do. While `is_held`,
    nothing is decoded.
    """

    spec = types.SimpleNamespace(spectrogram=types.SimpleNamespace(sample_rate=SAMPLE_RATE))
    room = 4  # recordings in hand

    def __init__(self):
        self.is_held = threading.Event()
        self.breaks_at = None  # raises where it hears this pitch
        self.in_hand = 0
        self.is_warm = False
        self.cannot_warm_up = False

    def warm_up(self, cancelled):
        self.is_warm = True
        if self.cannot_warm_up:
            raise RuntimeError("too cold")

    def follow(self, jobs, *, interleave):
        hands, index, more = deque(), 0, iter(jobs)
        while True:
            while len(hands) < self.room and more is not None:
                job = next(more, False)
                if job is False:
                    more = None
                elif job is None:
                    break
                else:
                    hands.append((index, job, np.concatenate([np.zeros(0, np.float32), *job.audio]), []))
                    index += 1
            self.in_hand = len(hands)
            if not hands:
                if more is None:
                    return
                continue
            yield from self._round(hands)

    def _round(self, hands):
        time.sleep(0.002)
        for _ in range(len(hands)):
            index, job, samples, heard = hands.popleft()
            if job.cancelled():
                self.in_hand = len(hands)
                yield Failed(index, Cancelled("cancelled"))
                continue
            if self.is_held.is_set():
                hands.append((index, job, samples, heard))
                continue
            start = len(heard) * 0.5
            stretch = samples[int(start * SAMPLE_RATE) :][: SAMPLE_RATE // 2]
            if len(stretch):
                pitch = round(float(np.median(np.abs(stretch))) * 128)
                if pitch == self.breaks_at:
                    raise RuntimeError("out of order")
                note = Notes.from_rows([(start, start + 0.4, pitch, 100, 33, False)])
                heard.append(note)
                yield Progress(index, start + 0.5, note, np.full(1, 0.75, np.float32))
                hands.append((index, job, samples, heard))
            else:
                notes = Notes.concatenate(heard)
                confidence = np.full(len(notes), 0.75, np.float32)
                yield Finished(
                    index, Transcription(notes, confidence, 0, 0, 0, 0, len(samples) / SAMPLE_RATE)
                )


def recording(path, pitches, sample_rate=SAMPLE_RATE):
    """A file of which the listener hears these pitches."""
    levels = np.repeat(np.array(pitches, np.float32) / 128, sample_rate // 2)
    write_audio(path, levels * np.where(np.arange(len(levels)) % 2, 1, -1), sample_rate)
    return path.read_bytes()


@dataclasses.dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The one line of a refusal."""
        assert list(self.json) == ["error"], self
        (line,) = self.json["error"].splitlines()
        return line


@dataclasses.dataclass(frozen=True)
class Client:
    """Talks to a server as a browser does."""

    host: str
    port: int

    def ask(self, method, path, body=None, **headers):
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        with contextlib.closing(connection):
            headers = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, fields, response.read())

    def get(self, path, **headers):
        return self.ask("GET", path, **headers)

    def send(self, content, name="song.wav", **headers):
        return self.ask("POST", "/api/jobs", content, X_File_Name=quote(name), **headers)

    def submit(self, content, name="song.wav"):
        """Sends what must be taken -> the job's id."""
        answer = self.send(content, name)
        assert answer.status == 202, answer
        return answer.json["id"]

    def job(self, id):
        return self.get(f"/api/jobs/{id}").json

    def wait(self, id, *states, seconds=30):
        """The job, once it is in one of the states (by default: final)."""
        final = ("done", "failed", "cancelled")
        states = states or final
        deadline = time.monotonic() + seconds
        while (job := self.job(id))["state"] not in states:
            assert job["state"] not in final, job
            assert time.monotonic() < deadline, job
            time.sleep(0.01)
        return job

    def events(self, id, last=None, until=None):
        """(name, id, data) of each event of a job's stream, up to the one named `until`."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        with contextlib.closing(connection):
            headers = {} if last is None else {"Last-Event-ID": str(last)}
            connection.request("GET", f"/api/jobs/{id}/events", headers=headers)
            response = connection.getresponse()
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/event-stream")
            fields = {}
            for line in response:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name:
                    fields[name] = value
                elif "event" in fields:
                    yield fields["event"], fields.get("id"), json.loads(fields["data"])
                    if fields["event"] == until:
                        return
                    fields = {}


@dataclasses.dataclass(frozen=True)
class Served:
    """A running server."""

    client: Client
    listener: Listener
    service: Service
    folder: object


@contextlib.contextmanager
def running_server(folder, transcriber, limits):
    """A server in a thread of this process."""
    folder.mkdir(exist_ok=True)
    service = Service(transcriber, limits, folder, "a model")
    server = StoppableServer(service, "127.0.0.1")
    with listen("127.0.0.1", 0) as socket:
        port = int(address_of(socket).rstrip("/").rsplit(":", 1)[1])
        thread = threading.Thread(target=server.run, args=([socket],))
        thread.start()
        try:
            yield Served(Client("127.0.0.1", port), transcriber, service, folder)
        finally:
            server.should_exit = True
            thread.join(30)
            assert not thread.is_alive()


@pytest.fixture
def listener():
    """A stand-in that no server has yet."""
    return Listener()


@pytest.fixture
def serve(tmp_path):
    """Starts servers: limits by name -> `Served`."""
    with contextlib.ExitStack() as stack:

        def start(transcriber=None, **limits):
            limits = Limits(**{"jobs_per_client": 64, **limits})
            folder = tmp_path / f"served{time.monotonic_ns()}"
            return stack.enter_context(running_server(folder, transcriber or Listener(), limits))

        yield start


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """A server that the tests of a file share: they leave its listener alone."""
    with running_server(tmp_path_factory.mktemp("served"), Listener(), Limits(jobs_per_client=64)) as served:
        yield served


@pytest.fixture
def client(served):
    """Of the server that is shared."""
    return served.client


@pytest.fixture
def make_recording(tmp_path):
    """The function `recording`, in the test's folder: pitches -> the file's bytes."""

    def make(*pitches, suffix=".wav", sample_rate=SAMPLE_RATE):
        return recording(tmp_path / f"recording{suffix}", pitches, sample_rate)

    return make
