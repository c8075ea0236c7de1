"""Every limit of the server: what is beyond it is refused or given up in one line, and leaves nothing."""

import http.client
import socket
import threading
import time

import numpy as np
import pytest

from mt3.symbolic.notes import Notes
from mt3.web.jobs import JobStore, State
from mt3.web.limits import Limits
from mt3.web.refusals import Refusal


def test_large_uploads_are_refused_at_once_and_as_they_come(serve):
    served = serve(upload_bytes=100_000)
    client = served.client
    for body in (bytes(100_001), bytes(20_000_000), iter([bytes(60_000), bytes(60_000)])):
        answer = client.send(body)
        assert answer.status == 413
        assert "larger than 0.1 MB" in answer.error
    assert client.send(bytes(100_000)).status == 202
    assert client.send(iter([bytes(50_000), bytes(50_000)])).status == 202
    for job in served.service.store.jobs():
        client.wait(job.id)
    assert list(served.folder.iterdir()) == []


def test_long_recordings_are_refused(serve, make_recording):
    served = serve(audio_seconds=30)
    job = served.client.wait(served.client.submit(make_recording(*[60] * 61), "long.wav"))
    assert (job["state"], job["error"]) == (
        "failed",
        "long.wav is longer than 0.5 minutes; cut it into parts.",
    )
    assert served.client.wait(served.client.submit(make_recording(*[60] * 60)))["state"] == "done"
    assert list(served.folder.iterdir()) == []


@pytest.mark.parametrize("limits", [{"jobs_per_client": 2}, {"jobs": 2}])
def test_jobs_beyond_the_limit_are_asked_to_come_again(serve, make_recording, limits):
    served = serve(**limits)
    client = served.client
    served.listener.is_held.set()
    ids = [client.submit(make_recording(60)) for _ in range(2)]
    answer = client.send(make_recording(60))
    assert answer.status == 429
    assert int(answer.headers["retry-after"]) > 0
    assert answer.error.startswith("2 of")
    assert answer.error.endswith("wait for one of them or cancel it")
    client.ask("DELETE", f"/api/jobs/{ids[0]}")
    ids[0] = client.submit(make_recording(60))
    served.listener.is_held.clear()
    assert [client.wait(id)["state"] for id in ids] == ["done", "done"]
    assert client.send(make_recording(60)).status == 202


def test_an_upload_holds_its_place(serve, make_recording):
    served = serve(jobs_per_client=1)
    client = served.client
    held = start_upload(client, declared=1000)
    wait_until(lambda: client.send(make_recording(60)).status == 429)
    held.close()  # broken off
    wait_until(lambda: client.send(make_recording(60)).status == 202)
    (job,) = served.service.store.jobs()
    client.wait(job.id)
    assert list(served.folder.iterdir()) == []


@pytest.mark.parametrize("limits", [{"upload_pause_seconds": 0.2}, {"upload_seconds": 0.2}])
def test_slow_uploads_are_given_up(serve, limits):
    served = serve(**limits)
    slow = start_upload(served.client, declared=1000)
    answer = http.client.HTTPResponse(slow)
    answer.begin()
    assert answer.status == 408
    assert b"took too long" in answer.read()
    slow.close()
    assert list(served.folder.iterdir()) == []


def test_jobs_that_take_too_long_are_given_up(serve, make_recording):
    served = serve(job_seconds=0.2)
    served.listener.is_held.set()
    job = served.client.wait(served.client.submit(make_recording(60), "slow.wav"))
    assert job["state"] == "failed"
    assert job["error"] == "slow.wav took longer than 0.00333 minutes; cut it into parts"
    wait_until(lambda: served.listener.in_hand == 0)


def test_results_are_forgotten(serve, make_recording):
    served = serve(kept_minutes=0.02)
    client = served.client
    id = client.submit(make_recording(60))
    client.wait(id)
    assert client.get(f"/api/jobs/{id}/files/midi").status == 200
    wait_until(lambda: client.get(f"/api/jobs/{id}").status == 404)
    assert "no longer kept" in client.get(f"/api/jobs/{id}").error
    wait_until(lambda: list(served.folder.iterdir()) == [])


def test_the_oldest_results_go_first(tmp_path):
    now = 0.0
    store = JobStore(Limits(kept_jobs=2, kept_minutes=1), tmp_path, lambda: now)
    jobs = [store.add(f"{n}", "here", store.new_upload()) for n in range(4)]
    for job in jobs[:3]:
        store.end(job, State.DONE, None)
        now += 1
    assert store.expire() == jobs[:1]
    assert store.expire() == []
    now = 61.5
    assert store.expire() == jobs[1:2]
    now = 1000.0
    assert store.expire() == jobs[2:3]
    assert store.jobs() == jobs[3:]  # which is not done


def test_a_full_disk_is_one_line(serve, make_recording, monkeypatch):
    served = serve()
    content = make_recording(60)
    monkeypatch.setattr(served.service.store, "new_upload", lambda: served.folder / "none" / "upload")
    answer = served.client.send(content)
    assert answer.status == 507
    assert answer.error == "the server cannot keep the upload: No such file or directory"


def test_clients_are_counted_apart(tmp_path):
    store = JobStore(Limits(jobs=3, jobs_per_client=2), tmp_path)
    with store.place("one"), store.place("one"):
        with pytest.raises(Refusal, match="your recordings"), store.place("one"):
            pass
        with store.place("two"):
            with pytest.raises(Refusal, match="the server's recordings") as refused, store.place("three"):
                pass
            assert refused.value.status == 429
    with store.place("three"):
        pass


def test_notes_of_a_job_that_was_given_up_are_dropped(tmp_path):
    store = JobStore(Limits(), tmp_path)
    job = store.add("a", "here", store.new_upload())
    store.finish_reading(job, 3.0)
    assert store.take(wait=False) is job
    assert store.take(wait=False) is None
    store.forget(job)
    notes = Notes.from_rows([(0.0, 0.4, 60, 100, 0, False)])
    store.add_notes(job, 1.0, notes, np.ones(1, np.float32))
    assert (job.state, job.batches) == (State.CANCELLED, [])
    assert not store.holds(job)


def test_a_closed_store_takes_nothing_and_wakes_who_waits(tmp_path):
    store = JobStore(Limits(), tmp_path)
    job = store.add("a", "here", store.new_upload())
    taken = []
    waiting = threading.Thread(target=lambda: taken.append(store.take(wait=True)))
    waiting.start()
    store.close()
    waiting.join(10)
    assert taken == [None]
    assert (job.state, job.error) == (State.CANCELLED, "the server was stopped")
    with pytest.raises(Refusal) as refused, store.place("here"):
        pass
    assert refused.value.status == 503
    assert store.add("b", "here", store.new_upload()).state == State.CANCELLED


def test_limits_must_be_positive():
    with pytest.raises(ValueError, match="upload_bytes is 0: give more than 0"):
        Limits(upload_bytes=0)


def start_upload(client, declared):
    """A connection on which an upload has begun."""
    connection = socket.create_connection((client.host, client.port))
    connection.settimeout(30)
    connection.sendall(
        f"POST /api/jobs HTTP/1.1\r\nHost: {client.host}:{client.port}\r\n"
        f"Content-Length: {declared}\r\n\r\nRIFF".encode()
    )
    return connection


def wait_until(condition):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
