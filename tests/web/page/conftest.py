"""The page in a browser, with the real server and a stand-in for the transcriber.

Needs playwright and a Chromium, which is found on PATH or named by MT3_BROWSER; without them,
the tests that ask for a page are skipped.
"""

from __future__ import annotations

import dataclasses
import json
import mimetypes
import os
import shutil
import time
from importlib import resources
from urllib.parse import urlsplit

import numpy as np
import pytest

from mt3.inference.transcription import Finished, Progress
from mt3.symbolic.notes import Notes
from mt3.web.limits import Limits
from mt3.web.note_events import note_event, server_sent_event

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("MT3_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
# Without a sandbox, as containers have none; with a microphone that beeps.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
)
# Number of pixels of the piano roll that are within 12 of the colour of an instrument.
COUNT_PIXELS = """async (instrument) => {
  const { instrumentColour } = await import("/assets/instruments.js");
  const canvas = document.getElementById("roll-canvas");
  const size = [canvas.width, canvas.height];
  const copy = new OffscreenCanvas(...size).getContext("2d", { willReadFrequently: true });
  copy.fillStyle = instrumentColour(instrument);
  copy.fillRect(0, 0, 1, 1);
  const wanted = copy.getImageData(0, 0, 1, 1).data.slice(0, 3);
  copy.drawImage(canvas, 0, 0);
  const data = copy.getImageData(0, 0, ...size).data;
  let count = 0;
  for (let at = 0; at < data.length; at += 4) {
    if (wanted.every((value, channel) => Math.abs(data[at + channel] - value) <= 12)) count++;
  }
  return count;
}"""


# In each half second C4 on the bass; with it, those of `band`.
SONG = Notes.from_rows([(half / 2, half / 2 + 0.4, 60, 100, 33, False) for half in range(40)])


class Visitor:
    """Someone at the page. `troubles` are what the browser complained of, which must be nothing."""

    def __init__(self, context, home, troubles):
        self.context, self.troubles = context, troubles
        self.page = page = context.new_page()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        # Of the server, or made by the page itself; nothing else is asked for.
        own = (home, f"blob:{home}")
        page.on("request", lambda asked: asked.url.startswith(own) or troubles.append(asked.url))
        page.goto(home)
        self.wait_for_start()

    def wait_for_start(self):
        self.page.wait_for_selector("html[data-ready]", state="attached")

    def until(self, condition, seconds=20.0):
        """Waits for a JavaScript expression to hold. Playwright's own way is forbidden by the policy."""
        end = time.monotonic() + seconds
        while not self.page.evaluate(f"async () => {condition}"):
            assert time.monotonic() < end, f"not so within {seconds:g} s: {condition}"
            self.page.wait_for_timeout(20)

    def settle(self):
        """Waits until the piano roll is drawn as it was asked to be."""
        self.page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")

    def send(self, *files):
        """Chooses files, given as (name, content)."""
        chosen = [{"name": name, "mimeType": "", "buffer": content} for name, content in files]
        self.page.set_input_files("#files", chosen)

    def states(self):
        """Of the recordings in the list, from above."""
        return self.page.locator("#queue li").evaluate_all("(rows) => rows.map((row) => row.dataset.state)")

    def wait_for_states(self, *expected):
        end = time.monotonic() + 30
        while (now := self.states()) != list(expected):
            assert time.monotonic() < end, now
            self.page.wait_for_timeout(20)

    def press(self, name):
        """Clicks a button by its full name."""
        self.page.get_by_role("button", name=name, exact=True).click()

    def num_drawn(self):
        """Notes in the picture."""
        self.settle()
        return int(self.page.get_attribute("#roll-scroll", "data-drawn"))

    def count_pixels(self, instrument):
        self.settle()
        return self.page.evaluate(COUNT_PIXELS, instrument)

    def now(self):
        """Seconds at which the player is."""
        return self.page.evaluate("async () => (await import('/assets/player.js')).now()")


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    if BROWSER is None:
        pytest.skip("no Chromium on PATH (apt-get install chromium, or MT3_BROWSER)")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        yield browser
        browser.close()


def stage(context):
    """Answers a context's requests to http://localhost/ in a server's place: what is sent is SONG."""
    folder = resources.files("mt3.web") / "assets"
    done = {"id": "1", "name": "song.wav", "state": "done", "duration_seconds": 20, "num_notes": len(SONG)}
    limits = Limits().public()
    info = {"model": "a model", "version": "1", "limits": limits, "formats": []}
    events = server_sent_event("notes", note_event(20, **band(SONG)), 1) + server_sent_event(
        "done", json.dumps(done), 2
    )
    answers = {
        "/api/info": ("application/json", json.dumps(info)),
        "/api/jobs": ("application/json", json.dumps(done | {"state": "waiting"})),
        "/api/jobs/1": ("application/json", json.dumps(done)),
        "/api/jobs/1/events": ("text/event-stream", events),
        "/blank": ("text/html", "<!DOCTYPE html>"),
        "/": ("text/html", (folder / "index.html").read_text()),
    }

    def answer(route):
        path = urlsplit(route.request.url).path
        media_type, body = answers.get(path) or (
            mimetypes.guess_type(path)[0],
            (folder / path.removeprefix("/assets/")).read_text(),
        )
        status = 202 if route.request.method == "POST" else 200
        route.fulfill(status=status, body=body, content_type=media_type)

    context.route("http://localhost/**", answer)


@pytest.fixture(scope="module")
def scripts(browser):
    """A blank page that may import the scripts of the page."""
    context = browser.new_context()
    stage(context)
    page = context.new_page()
    page.goto("http://localhost/blank")
    yield page
    context.close()


@pytest.fixture
def enter(browser):
    """Opens a page, each time as a new visitor; in the end there must have been no troubles."""
    visitors = []

    def open_page(home, prepare=lambda context: None, **settings):
        context = browser.new_context(viewport={"width": 1280, "height": 900}, **settings)
        prepare(context)
        visitors.append(Visitor(context, home, []))
        return visitors[-1]

    yield open_page
    for visitor in visitors:
        visitor.context.close()
    assert [visitor.troubles for visitor in visitors if visitor.troubles] == []


@pytest.fixture
def visit(enter):
    """Opens the page of a server."""
    return lambda served: enter(f"http://127.0.0.1:{served.client.port}/")


@pytest.fixture
def play(enter):
    """Opens the page with a recording of 20 seconds, which is done; a server is not needed for it."""

    def open_song(original=b"no sound", **settings):
        visitor = enter("http://localhost/", stage, **settings)
        visitor.send(("song.wav", original))
        visitor.wait_for_states("done")
        return visitor

    return open_song


@pytest.fixture
def served(serve, listener):
    """A server that hears a bass as the stand-in does, and with it a piano and drums: see `band`.

    `served.listener.after` is called with each event that the page has been told.
    """
    follow = listener.follow
    listener.after = lambda event: None

    def follow_band(jobs, **options):
        for event in follow(jobs, **options):
            if isinstance(event, Progress):
                event = dataclasses.replace(event, **band(event.notes))
            elif isinstance(event, Finished):
                heard = dataclasses.replace(event.transcription, **band(event.transcription.notes))
                event = dataclasses.replace(event, transcription=heard)
            yield event
            listener.after(event)

    listener.follow = follow_band
    return serve(listener)


def band(notes):
    """Notes and confidences: each note, the same on the piano two octaves higher, and a kick."""
    piano = notes.replace(pitch=notes.pitch + 24, program=np.zeros_like(notes.program))
    kick = piano.replace(pitch=np.full_like(notes.pitch, 36), is_drum=np.ones_like(notes.is_drum))
    notes = Notes.concatenate([notes, piano, kick])
    return {"notes": notes, "confidence": np.full(len(notes), 0.9, np.float32)}


@pytest.fixture
def visitor(visit, served):
    """A visitor of the server `served`."""
    return visit(served)
