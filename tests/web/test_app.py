"""The HTTP interface: uploads become notes; what may not be is refused in one line."""

import io
import threading

import numpy as np
import pretty_midi
import pytest

from mt3.web.jobs import State
from mt3.web.uploads import shown_name


def heard_pitches(client, id):
    """What the JSON file of a job says, in order of onset."""
    file = client.get(f"/api/jobs/{id}/files/json")
    assert file.status == 200, file
    return [note["pitch"] for note in file.json["notes"]]


def test_from_upload_to_files(client, make_recording):
    answer = client.send(make_recording(60, 64, 67), "Söng one.wav")
    assert answer.status == 202
    job = answer.json
    assert answer.headers["location"] == f"/api/jobs/{job['id']}"
    assert job["name"] == "Söng one.wav"
    assert len(job["id"]) >= 22  # 128 bits
    done = client.wait(job["id"])
    assert done == {
        "id": job["id"],
        "name": "Söng one.wav",
        "state": "done",
        "position": None,
        "duration_seconds": 1.5,
        "decoded_seconds": 1.5,
        "num_notes": 3,
        "error": None,
    }
    file = client.get(f"/api/jobs/{job['id']}/files/json")
    assert file.status == 200
    assert [note["pitch"] for note in file.json["notes"]] == [60, 64, 67]
    assert file.headers["content-disposition"] == (
        "attachment; filename=\"S_ng one.json\"; filename*=UTF-8''S%C3%B6ng%20one.json"
    )


def test_events_come_in_order_and_a_late_client_gets_all(client, make_recording):
    id = client.submit(make_recording(60, 64, 67))
    live = list(client.events(id))
    late = list(client.events(id))
    for events in (live, late):
        notes = [(number, data) for name, number, data in events if name == "notes"]
        assert [number for number, _ in notes] == ["1", "2", "3"]
        assert [note for _, data in notes for note in data["notes"]] == [
            [0.0, 0.4, 60, 100, 33, False, 0.75],
            [0.5, 0.9, 64, 100, 33, False, 0.75],
            [1.0, 1.4, 67, 100, 33, False, 0.75],
        ]
        assert [data["decoded_seconds"] for _, data in notes] == [0.5, 1.0, 1.5]
        name, number, data = events[-1]
        assert (name, number, data["state"], data["num_notes"]) == ("done", "4", "done", 3)
        assert {name for name, _, _ in events[:-1]} <= {"state", "notes"}
    again = list(client.events(id, last=2))
    assert [(name, number) for name, number, _ in again] == [("notes", "3"), ("done", "4")]
    assert client.get(f"/api/jobs/{id}/events", Last_Event_ID="4").status == 204


def test_info(client):
    info = client.get("/api/info").json
    assert info["model"] == "a model"
    assert info["limits"]["upload_bytes"] == 200_000_000
    assert {"name": "midi", "suffix": ".mid", "label": "MIDI"} in info["formats"]
    assert all(set(row) == {"name", "suffix", "label"} for row in info["formats"])


def test_every_format_offered_can_be_fetched(client, make_recording):
    id = client.submit(make_recording(60, 64))
    client.wait(id)
    files = {}
    for row in client.get("/api/info").json["formats"]:
        answer = client.get(f"/api/jobs/{id}/files/{row['name']}")
        assert answer.status == 200, (row, answer)
        assert f'filename="song{row["suffix"]}"' in answer.headers["content-disposition"]
        files[row["name"]] = answer.body
    assert all(files.values())
    (track,) = pretty_midi.PrettyMIDI(io.BytesIO(files["midi"])).instruments
    assert (track.program, [note.pitch for note in track.notes]) == (33, [60, 64])


def test_other_containers_and_rates(client, make_recording):
    for suffix, rate in ((".flac", 44100), (".ogg", 48000), (".mp3", 32000)):
        id = client.submit(make_recording(90, 90, suffix=suffix, sample_rate=rate), f"song{suffix}")
        job = client.wait(id)
        assert job["state"] == "done", job
        assert job["duration_seconds"] == pytest.approx(1.0, abs=0.1)


def test_what_is_no_audio_fails_in_one_line_with_its_own_name(served):
    client = served.client
    for name, content in (
        ("notes.txt", b"hello" * 20),
        ("page.wav", b"<html></html>"),
        ("cut.flac", b"fLaC"),
    ):
        job = client.wait(client.submit(content, name))
        assert job["state"] == "failed"
        assert job["error"].startswith(name), job
        assert "\n" not in job["error"]
        assert str(served.folder) not in job["error"]
        ((event, _, data),) = client.events(job["id"])
        assert (event, data["error"]) == ("failed", job["error"])
        answer = client.get(f"/api/jobs/{job['id']}/files/midi")
        assert answer.status == 409
        assert "is failed" in answer.error


def test_empty_uploads_are_refused(served):
    answer = served.client.send(b"")
    assert answer.status == 400
    assert "empty" in answer.error
    assert not list(served.folder.glob("*.upload"))


def test_unknown_things_are_not_found(client, make_recording):
    id = client.submit(make_recording(60))
    client.wait(id)
    for path in (
        "/api/jobs/none",
        "/api/jobs/none/events",
        "/api/jobs/none/files/midi",
        f"/api/jobs/{id}/files/exe",
        f"/api/jobs/{id}/files/..%2f..%2fetc%2fpasswd",
        "/assets/none.js",
        "/assets/..%2fapp.py",
        "/assets/../app.py",
        "/nothing",
    ):
        answer = client.get(path)
        assert answer.status == 404, path
        assert answer.error
    assert client.ask("PUT", "/api/jobs").status == 405
    assert client.ask("PUT", "/api/jobs").error


def test_the_page_and_its_parts(client):
    page = client.get("/")
    assert page.status == 200
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-cache"
    assert client.get("/assets/index.html").body == page.body


def test_answers_tell_browsers_what_they_may(client, make_recording):
    id = client.submit(make_recording(60))
    client.wait(id)
    for path in ("/", "/api/info", f"/api/jobs/{id}", f"/api/jobs/{id}/files/midi", "/nothing"):
        headers = client.get(path).headers
        policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
        assert policy["default-src"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert policy["frame-ancestors"] == "'none'"
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert headers["cache-control"] == ("no-cache" if path == "/" else "no-store")
        assert "access-control-allow-origin" not in headers
        assert "server" not in headers


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("a%20b.wav", "a b.wav"),
        (None, "recording"),
        ("", "recording"),
        ("..%2F..%2Fetc%2Fpasswd", "passwd"),
        ("C%3A%5Cmusic%5Csong.mp3", "song.mp3"),
        ("a%0D%0ASet-Cookie%3A%20x%00.wav", "aSet-Cookie: x.wav"),
        ("%3Cimg%20src%3Dx%20onerror%3Dalert(1)%3E.wav", "<img src=x onerror=alert(1)>.wav"),
        ("evil%E2%80%AE3pm.exe", "evil3pm.exe"),  # U+202E would show it as evilexe.mp3
        ("%FF%FE.wav", "\ufffd\ufffd.wav"),
        ("%F0%9F%91%A9%E2%80%8D%F0%9F%8E%A4.wav", "\N{WOMAN}\u200d\N{MICROPHONE}.wav"),
        ("%2F%2F", "recording"),
    ],
)
def test_names_are_one_line_without_path(header, name):
    assert shown_name(header) == name


def test_long_names_stay_file_names():
    name = shown_name("%E2%82%AC" * 500)
    assert 150 < len(name.encode()) <= 200
    assert set(name) == {"\N{EURO SIGN}"}


def test_hostile_names_reach_headers_as_text(client, make_recording):
    id = client.submit(make_recording(60), 'a"; filename="b.exe\r\nX: y\u2028.wav')
    client.wait(id)
    answer = client.get(f"/api/jobs/{id}/files/midi")
    assert "x" not in answer.headers
    plain, full = answer.headers["content-disposition"].split("; ")[1:]
    assert plain == 'filename="a__ filename__b.exeX_ y.mid"'
    assert full == "filename*=UTF-8''a%22%3B%20filename%3D%22b.exeX%3A%20y.mid"


def test_deleting_cancels_and_forgets(serve, make_recording):
    served = serve()
    client = served.client
    served.listener.is_held.set()
    id, other = client.submit(make_recording(60, 61)), client.submit(make_recording(70, 71))
    client.wait(id, "transcribing")
    events = client.events(id)
    assert next(events)[2]["state"] == "transcribing"
    assert client.ask("DELETE", f"/api/jobs/{id}").status == 204
    assert [name for name, _, _ in events] == ["cancelled"]
    assert client.get(f"/api/jobs/{id}").status == 404
    assert client.ask("DELETE", f"/api/jobs/{id}").status == 404
    served.listener.is_held.clear()
    client.wait(other)
    assert heard_pitches(client, other) == [70, 71]
    assert client.ask("DELETE", f"/api/jobs/{other}").status == 204
    assert list(served.folder.iterdir()) == []


def test_queue_positions(serve, make_recording):
    served = serve()
    client = served.client
    served.listener.is_held.set()
    first = [client.submit(make_recording(60)) for _ in range(served.listener.room)]
    for id in first:
        client.wait(id, "transcribing")
    waiting = [client.submit(make_recording(61)) for _ in range(3)]
    assert [client.job(id)["position"] for id in waiting] == [1, 2, 3]
    events = client.events(waiting[2])
    client.ask("DELETE", f"/api/jobs/{waiting[0]}")
    positions = []
    for _, _, data in events:
        positions.append(data.get("position"))
        if positions[-1] == 2:
            break
    assert positions[0] == 3 or 2 in positions
    served.listener.is_held.clear()
    for id in (*first, *waiting[1:]):
        assert client.wait(id)["state"] == "done"


def test_notes_that_change_at_the_end_come_anew(serve, make_recording):
    served = serve()
    client = served.client
    finish = served.service.store.finish

    def smoothed(job, transcription):
        notes = transcription.notes.replace(program=0)
        finish(job, type(transcription)(notes, transcription.confidence, 0, 0, 0, 0, 1.0))

    served.service.store.finish = smoothed
    id = client.submit(make_recording(60, 61))
    client.wait(id)
    *_, (name, number, last), (end, _, _) = client.events(id)
    assert (name, number, end) == ("notes", "3", "done")
    assert last["replaces"] is True
    assert [note[4] for note in last["notes"]] == [0, 0]


def test_an_error_of_the_transcriber_fails_what_it_had_in_hand_alone(serve, make_recording, caplog):
    served = serve()
    client = served.client
    served.listener.breaks_at = 99
    id = client.submit(make_recording(99), "odd.wav")
    job = client.wait(id)
    assert (job["state"], job["error"]) == ("failed", "odd.wav could not be transcribed: internal error")
    assert "out of order" in caplog.text
    id = client.submit(make_recording(60))
    assert client.wait(id)["state"] == "done"


@pytest.mark.parametrize("cannot", [False, True])
def test_the_model_is_warmed_up_before_the_first_recording(serve, listener, make_recording, caplog, cannot):
    listener.cannot_warm_up = cannot
    client = serve(listener).client
    assert client.wait(client.submit(make_recording(60)))["state"] == "done"
    assert listener.is_warm
    assert ("too cold" in caplog.text) is cannot


@pytest.mark.slow
def test_fifty_uploads_at_once(serve, make_recording):
    served = serve(jobs_per_client=50)
    client = served.client
    rng = np.random.default_rng(0)
    tunes = [rng.integers(30, 120, rng.integers(1, 6)).tolist() for _ in range(50)]
    contents = [make_recording(*tune) for tune in tunes]
    results, answered, ended = {}, [], threading.Event()

    def upload(number):
        id = client.submit(contents[number], f"{number}.wav")
        events = list(client.events(id))
        streamed = [note[2] for name, _, data in events if name == "notes" for note in data["notes"]]
        results[number] = (events[-1][0], events[-1][2]["name"], streamed, heard_pitches(client, id))

    def ask():
        while not ended.is_set():
            answered.append(client.get("/api/info").status)
            ended.wait(0.05)

    asking = threading.Thread(target=ask)
    uploading = [threading.Thread(target=upload, args=(number,)) for number in range(50)]
    for thread in (asking, *uploading):
        thread.start()
    for thread in uploading:
        thread.join()
    ended.set()
    asking.join()
    assert results == {n: ("done", f"{n}.wav", tune, tune) for n, tune in enumerate(tunes)}
    assert len(answered) >= 2
    assert set(answered) == {200}
    assert all(job.state == State.DONE for job in served.service.store.jobs())
