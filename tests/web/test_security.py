"""Requests that come from pages of others."""

import asyncio

import pytest

from mt3.web.security import Guard


def host_of(client):
    return f"{client.host}:{client.port}"


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:80", "192.168.0.7", "", "[::1", "localhost.evil"]
)
def test_foreign_hosts_are_refused(client, host):
    answer = client.get("/api/info", Host=host)
    assert answer.status in (400, 403), answer
    if answer.status == 403:
        assert "--allow-host" in answer.error


@pytest.mark.parametrize("host", ["localhost:1", "127.0.0.1", "[::1]:80", "LOCALHOST"])
def test_names_of_this_machine_are_taken(client, host):
    assert client.get("/api/info", Host=host).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ],
)
def test_pages_of_others_change_nothing(served, make_recording, headers):
    client = served.client
    content = make_recording(60)
    id = client.submit(content)
    jobs = served.service.store.jobs()
    answer = client.send(content, **headers)
    assert answer.status == 403
    assert "other origins" in answer.error
    assert client.ask("DELETE", f"/api/jobs/{id}", **headers).status == 403
    assert served.service.store.jobs() == jobs


def test_the_page_itself_may(client, make_recording):
    headers = {"Origin": f"http://{host_of(client)}", "Sec-Fetch-Site": "same-origin"}
    assert client.send(make_recording(60), **headers).status == 202


@pytest.mark.parametrize(
    ("listens_at", "names", "host", "is_taken"),
    [
        ("0.0.0.0", (), "192.168.0.7:8765", True),
        ("0.0.0.0", (), "[fe80::1]:8765", True),
        ("0.0.0.0", (), "studio.local:8765", False),
        ("0.0.0.0", ("Studio.local",), "studio.local:8765", True),
        ("studio.local", (), "studio.local", True),
        ("::1", (), "[::1]", True),
        ("::1", (), "10.0.0.1", False),
    ],
)
def test_hosts_beyond_loopback(listens_at, names, host, is_taken):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    statuses = []

    async def send(message):
        statuses.append(message.get("status"))

    scope = {"type": "http", "method": "GET", "headers": [(b"host", host.encode())]}
    asyncio.run(Guard(app, host=listens_at, names=names)(scope, None, send))
    assert statuses[0] == (200 if is_taken else 403)
