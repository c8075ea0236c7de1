"""Recordings are sent, followed, refused, cancelled and downloaded."""

import io
import re
import threading

import mido
import pytest

from mt3.inference.transcription import Progress

pytestmark = pytest.mark.slow

HOSTILE = "<img src=x onerror=alert(1)>\u202e'\"&amp;${1}%00 .wav"


def test_from_upload_to_notes_and_files(visitor, served, make_recording):
    page = visitor.page
    assert "30 minutes" in page.inner_text("#limits")
    assert "a model" in page.inner_text("#footer")
    served.listener.is_held.set()
    visitor.send(("My song.wav", make_recording(40, 45, 50)))
    visitor.wait_for_states("transcribing")
    assert page.inner_text("#viewer-title") == "My song.wav"
    assert page.is_visible("#queue progress")
    assert page.locator("#downloads button:enabled").count() == 0
    assert visitor.num_drawn() == 0
    served.listener.is_held.clear()
    visitor.wait_for_states("done")
    assert page.inner_text("#queue .state") == "Done · 0:01 · 9 notes"
    assert not page.is_visible("#queue progress")
    assert visitor.num_drawn() == 9
    labels = {one["label"]: one for one in served.client.get("/api/info").json["formats"]}
    assert page.locator("#downloads button").all_inner_texts() == list(labels)
    for label, one in labels.items():
        with page.expect_download() as download:
            page.click(f"#downloads button[data-format={one['name']}]")
        assert download.value.suggested_filename == f"My song{one['suffix']}"
        content = download.value.path().read_bytes()
        assert content, label
        if one["name"] == "midi":
            messages = [m for track in mido.MidiFile(file=io.BytesIO(content)).tracks for m in track]
            struck = sorted(m.note for m in messages if m.type == "note_on" and m.velocity)
            assert struck == [36, 36, 36, 40, 45, 50, 64, 69, 74]


def test_notes_appear_while_the_rest_is_transcribed(visitor, served, make_recording):
    seen = threading.Event()

    def hold_halfway(event):
        if isinstance(event, Progress) and event.decoded_seconds == 20:
            served.listener.is_held.set()
            seen.set()

    served.listener.after = hold_halfway
    visitor.send(("long.flac", make_recording(*[60] * 80, suffix=".flac")))
    assert seen.wait(20)
    visitor.until("document.getElementById('viewer-state').textContent.includes('0:20 of 0:40 · 120 notes')")
    visitor.until("document.getElementById('roll-scroll').dataset.drawn === '120'")
    assert visitor.page.eval_on_selector("#queue progress", "(bar) => bar.value") == pytest.approx(0.5)
    served.listener.is_held.clear()
    visitor.wait_for_states("done")
    assert visitor.num_drawn() == 240
    assert visitor.page.evaluate("document.getElementById('roll-scroll').scrollLeft") == 0


def test_bad_files_are_refused_and_the_good_one_is_not(visitor, make_recording):
    visitor.send(("empty.wav", b""), ("text.wav", b"not audio"), ("good.wav", make_recording(60)))
    visitor.wait_for_states("refused", "failed", "done")
    errors = visitor.page.locator("#queue .error").all_inner_texts()
    assert errors[0] == "The file is empty."
    assert errors[1].startswith("text.wav")
    assert "\n" not in errors[1]
    assert errors[2] == ""
    visitor.press("Remove text.wav")
    visitor.wait_for_states("refused", "done")
    assert visitor.page.evaluate("document.activeElement.textContent") == "good.wav"


def test_files_over_the_servers_limits(visit, serve, make_recording):
    visitor = visit(serve(upload_bytes=8000, audio_seconds=0.6))
    sent = []
    visitor.page.on("request", lambda request: sent.append(request) if request.method == "POST" else None)
    visitor.send(("large.wav", make_recording(60)))
    visitor.wait_for_states("refused")
    assert "at most 8 kB" in visitor.page.inner_text("#queue .error")
    assert sent == []
    visitor.send(("long.flac", make_recording(60, 60, suffix=".flac")))  # a small file
    visitor.wait_for_states("refused", "failed")
    assert "long.flac is longer than" in visitor.page.locator("#queue .error").last.inner_text()


def test_more_recordings_than_a_client_may_have_wait_for_their_turn(visit, serve, make_recording):
    served = serve(jobs_per_client=1)
    visitor = visit(served)
    served.listener.is_held.set()
    visitor.send(*((f"{pitch}.wav", make_recording(pitch)) for pitch in (60, 61, 62)))
    visitor.wait_for_states("transcribing", "queued", "queued")
    served.listener.is_held.clear()
    visitor.wait_for_states("done", "done", "done")


def test_a_busy_server_is_asked_again(visitor, make_recording):
    answers = iter([429, 429])

    def refuse_twice(route):
        status = next(answers, None) if route.request.method == "POST" else None
        if status is None:
            route.continue_()
        else:
            route.fulfill(status=status, headers={"Retry-After": "1"}, body='{"error": "the server is busy"}')

    visitor.page.route("**/api/jobs", refuse_twice)
    visitor.send(("song.wav", make_recording(60)))
    visitor.until("document.querySelector('#queue .error').textContent.startsWith('the server is busy')")
    visitor.wait_for_states("done")
    assert all("429" in text for text in visitor.troubles)
    visitor.troubles.clear()  # what the browser says of the refusals


def test_a_large_upload_to_a_full_server_waits(visit, serve, make_recording):
    served = serve(jobs_per_client=1)
    served.listener.is_held.set()
    visitors = [visit(served), visit(served)]
    visitors[0].send(("small.wav", make_recording(60)))
    visitors[0].wait_for_states("transcribing")
    visitors[1].page.evaluate(
        """async () => {
          const { add } = await import("/assets/queue.js");
          add([new File([new Uint8Array(5e6)], "large.wav")]);
        }"""
    )
    visitors[1].until("document.querySelector('#queue .error').textContent.includes('Asking again')")
    assert visitors[1].states() == ["queued"]
    assert all("429" in text for text in visitors[1].troubles)
    visitors[1].troubles.clear()  # what the browser says of the refusal


def test_cancelling(visitor, served, make_recording):
    served.listener.is_held.set()
    visitor.send(("one.wav", make_recording(60)), ("two.wav", make_recording(61)))
    visitor.wait_for_states("transcribing", "transcribing")
    visitor.press("Cancel one.wav")
    visitor.wait_for_states("cancelled", "transcribing")
    visitor.until("document.getElementById('viewer-title').textContent === 'two.wav'")
    served.listener.is_held.clear()
    visitor.wait_for_states("cancelled", "done")
    visitor.press("Remove one.wav")
    visitor.press("Remove two.wav")
    visitor.until("document.getElementById('viewer').hidden")
    assert visitor.states() == []
    assert visitor.page.evaluate("document.activeElement.id") == "choose"
    visitor.until("sessionStorage.getItem('mt3 recordings') === '[]'")
    assert served.service.store.jobs() == []


def test_two_users_see_their_own_recordings(visit, served, make_recording):
    visitors = [visit(served), visit(served)]
    for visitor, pitches in zip(visitors, ((40, 41), (50, 51, 52)), strict=True):
        visitor.send(("song.wav", make_recording(*pitches)))
    for visitor, num_notes in zip(visitors, (6, 9), strict=True):
        visitor.wait_for_states("done")
        assert visitor.num_drawn() == num_notes


def test_loading_the_page_again_keeps_the_recordings(visitor, make_recording):
    visitor.send(("song.wav", make_recording(60, 62)))
    visitor.wait_for_states("done")
    visitor.page.reload()
    visitor.wait_for_start()
    visitor.wait_for_states("done")
    visitor.until("document.getElementById('roll-scroll').dataset.drawn === '6'")
    assert "not at hand" in visitor.page.inner_text("#player-note")
    assert visitor.page.is_disabled("#balance")
    visitor.press("Play")
    visitor.until("(await import('/assets/player.js')).now() > 0.1")


def test_hostile_names_are_only_text(visitor, make_recording):
    visitor.send((HOSTILE, make_recording(60)))
    visitor.wait_for_states("done")
    assert visitor.page.locator("img").count() == 0
    assert visitor.page.inner_text("#viewer-title").startswith("<img src=x onerror=alert(1)>")
    # It would turn the direction of what follows it.
    assert "\u202e" not in visitor.page.inner_text("main")
    with visitor.page.expect_download() as download:
        visitor.page.click("#downloads button[data-format=json]")
    assert download.value.suggested_filename.endswith(".json")
    name = visitor.page.evaluate(
        """async () => {
          const { send } = await import("/assets/api.js");
          return (await send(new Blob(["x"]), "\\ud83d.wav", () => {}).job).name; // half a character
        }"""
    )
    assert name == "\ufffd.wav"


def test_files_are_dropped_anywhere(visitor, make_recording):
    was_marked, was_taken, is_marked = visitor.page.evaluate(
        """(content) => {
          const transfer = new DataTransfer();
          const file = (name) => new File([new Uint8Array(content)], name);
          for (const name of ["one.wav", "two.wav"]) transfer.items.add(file(name));
          const fire = (name) => document.querySelector("h1").dispatchEvent(
            new DragEvent(name, { dataTransfer: transfer, bubbles: true, cancelable: true }));
          const isMarked = () => document.body.classList.contains("dropping");
          fire("dragenter");
          const wasMarked = isMarked();
          const wasTaken = !fire("dragover");
          fire("drop");
          return [wasMarked, wasTaken, isMarked()];
        }""",
        list(make_recording(60)),
    )
    assert was_marked
    assert was_taken
    assert not is_marked
    visitor.wait_for_states("done", "done")


def test_recording_the_microphone(visitor, served):
    page = visitor.page
    page.click("#record")
    visitor.until("document.getElementById('record-time').textContent === '0:01'")
    assert page.inner_text("#record") == "Stop and transcribe"
    visitor.until("document.getElementById('record-level').value > 0")
    page.click("#record")
    visitor.wait_for_states("done")
    name = page.inner_text("#viewer-title")
    assert re.fullmatch(r"Recording \d{4}-\d\d-\d\d \d\d\.\d\d\.\d\d\.wav", name)
    (job,) = served.service.store.jobs()
    assert 1 <= job.duration_seconds < 10
    page.click("#record")
    visitor.until("!document.getElementById('recording').hidden")
    page.click("#record-discard")
    visitor.until("document.getElementById('recording').hidden")
    assert visitor.states() == ["done"]


def test_a_microphone_that_may_not_be_used_is_said(visitor):
    visitor.page.evaluate(
        "() => { navigator.mediaDevices.getUserMedia = async () => {"
        " throw new DOMException('no', 'NotAllowedError'); }; }"
    )
    visitor.page.click("#record")
    visitor.until("!document.getElementById('message').hidden")
    assert visitor.page.inner_text("#message") == "This page was not allowed to use the microphone."
    assert visitor.page.is_enabled("#record")


def test_a_server_that_cannot_be_reached_is_said(visitor, served, make_recording):
    served.listener.is_held.set()
    visitor.send(("one.wav", make_recording(60)))
    visitor.wait_for_states("transcribing")
    visitor.context.set_offline(True)
    visitor.send(("two.wav", make_recording(60)))
    visitor.wait_for_states("transcribing", "refused")
    visitor.until(
        "document.querySelector('#queue li:last-child .error').textContent.includes('does not answer')"
    )
    visitor.context.set_offline(False)
    served.listener.is_held.clear()
    visitor.wait_for_states("done", "refused")
    assert visitor.page.locator("#queue .error").first.inner_text() == ""
    assert all("ERR_INTERNET_DISCONNECTED" in text for text in visitor.troubles), visitor.troubles
    visitor.troubles.clear()  # what the browser says of it


def test_a_download_that_fails_is_said(visitor, make_recording):
    visitor.send(("song.wav", make_recording(60)))
    visitor.wait_for_states("done")
    page = visitor.page
    page.route("**/files/midi", lambda route: route.fulfill(status=500, body='{"error": "the disk is full"}'))
    page.click("#downloads button[data-format=midi]")
    visitor.until("document.getElementById('download-message').textContent === 'MIDI: the disk is full'")
    assert page.is_enabled("#downloads button[data-format=midi]")
    assert all("500" in text for text in visitor.troubles)
    visitor.troubles.clear()  # what the browser says of it
