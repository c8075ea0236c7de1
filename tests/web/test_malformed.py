"""Malformed and odd uploads: each ends in one line or in notes, the server lives on, nothing is left."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from mt3.web.jobs import State


@pytest.mark.slow
def test_every_malformed_upload(serve, make_recording, malformed_audio):
    served = serve(jobs=1000, jobs_per_client=1000, kept_jobs=1000, reader_memory_bytes=512 << 20)
    client = served.client
    contents = {path.name: path.read_bytes() for path in malformed_audio if path.is_file()}
    assert len(contents) >= 200

    def upload(name):
        answer = client.send(contents[name], name)
        if not contents[name]:
            assert (answer.status, answer.error) == (
                400,
                "the upload is empty; choose a file with audio in it",
            )
            return "empty"
        assert answer.status == 202, (name, answer)
        return answer.json["id"]

    with ThreadPoolExecutor(4) as pool:
        ids = dict(zip(contents, pool.map(upload, contents), strict=True))
    good = client.submit(make_recording(60, 62), "good.wav")
    assert client.wait(good, seconds=120)["num_notes"] == 2
    for name, id in ids.items():
        if id == "empty":
            continue
        job = client.wait(id, seconds=120)
        what = name.split("-")[1]
        if job["state"] == State.FAILED:
            assert what != "read", job
            (line,) = job["error"].splitlines()
            assert line.startswith(job["name"]), job
            assert str(served.folder) not in line
            assert not line.endswith(": internal error")
        else:
            assert (job["state"], job["error"]) == (State.DONE, None)
            assert what != "refused", job
    assert client.get("/api/info").status == 200
    assert list(served.folder.iterdir()) == []
