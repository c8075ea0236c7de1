"""The page in a browser: what a reader sees, hears and can do.

Needs playwright and a Chromium, which is found on PATH or named by MT3_BROWSER.
"""

import os
import shutil
import time

import pytest

from mt3.evaluation.report_page.audio import AudioOptions
from mt3.evaluation.report_page.page import write_report_page
from mt3.evaluation.report_page.page_data import make_page
from mt3.evaluation.report_page.runs import read_runs

playwright = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
BROWSER = os.environ.get("MT3_BROWSER") or next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        BROWSER is None, reason="no Chromium on PATH (apt-get install chromium, or MT3_BROWSER)"
    ),
]
# Without a sandbox, as containers have none; without the browser's own business on the network.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--autoplay-policy=no-user-gesture-required",
)
# Number of pixels of the piano roll that are within 12 of a colour.
COUNT_PIXELS = """(colour) => {
  const canvas = document.getElementById("roll-canvas");
  const settings = { willReadFrequently: true };
  const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", settings);
  copy.drawImage(canvas, 0, 0);
  const data = copy.getImageData(0, 0, canvas.width, canvas.height).data;
  const wanted = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  let count = 0;
  for (let at = 0; at < data.length; at += 4) {
    if (wanted.every((value, channel) => Math.abs(data[at + channel] - value) <= 12)) count++;
  }
  return count;
}"""
# The greatest sample of a block of sound, and its length in seconds, as WebAudio decodes it.
DECODE = """async (block) => {
  const sound = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(pageData.bytes(block).buffer);
  const samples = sound.getChannelData(0);
  return [sound.duration, samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0)];
}"""
NAMELESS = """() => [...document.querySelectorAll("button, input, select, canvas, [tabindex='0']")].filter(
  (one) => !one.textContent.trim() && !one.ariaLabel && !one.labels?.length
  && !one.getAttribute("aria-labelledby")
  && !one.hidden && one.getAttribute("aria-hidden") !== "true").map((one) => one.outerHTML)"""


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=BROWSER, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def files(run_directories, tmp_path_factory):
    """Pages of one run, and of two with sound for two recordings."""
    folder = tmp_path_factory.mktemp("pages")

    def original(id, sample_rate):
        import numpy as np

        return 0.3 * np.sin(np.arange(sample_rate * 2) / 10).astype(np.float32) if id == "short" else None

    silent, audio = AudioOptions(max_recordings=0), AudioOptions(max_recordings=3, max_megabytes=0.5)
    runs = read_runs(run_directories)
    return {
        1: write_report_page(make_page(runs[:1], title="One", audio=silent), folder / "one"),
        2: write_report_page(make_page(runs, title="Two", audio=audio, original=original), folder / "two"),
    }


@pytest.fixture
def opened(browser, files):
    """Opens a page by its number of runs; afterwards there must have been no errors and no network."""
    troubles, contexts = [], []

    def open_page(num_runs, **settings):
        contexts.append(browser.new_context(viewport={"width": 1280, "height": 900}, **settings))
        page = contexts[-1].new_page()
        url = files[num_runs].as_uri()
        page.on("console", lambda message: troubles.append(message.text))
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("dialog", lambda dialog: (troubles.append(dialog.message), dialog.dismiss()))
        page.on(
            "request", lambda request: troubles.append(request.url) if is_foreign(request.url, url) else None
        )
        page.goto(url)
        page.wait_for_selector("html[data-ready]", state="attached")
        settle(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert troubles == []


def is_foreign(requested, url):
    """Whether it is neither the page nor something that it made itself."""
    return requested != url and not requested.startswith("blob:")


def until(page, condition, seconds=20.0):
    """Waits for an expression to hold. Playwright's own way is forbidden by the page's policy."""
    end = time.monotonic() + seconds
    while not page.evaluate(condition):
        assert time.monotonic() < end, f"not so within {seconds:g} s: {condition}"
        page.wait_for_timeout(20)


def settle(page):
    """Waits until the piano roll is drawn as it was asked to be."""
    page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def rows(page, table, visible=True):
    """Texts of the cells of a table's body."""
    return page.eval_on_selector_all(
        f"{table} tbody tr",
        "(lines, visible) => lines.filter((line) => !visible || !line.hidden)"
        ".map((line) => [...line.cells].map((cell) => cell.innerText.trim()))",
        visible,
    )


def drawn(page):
    settle(page)
    return int(page.get_attribute("#roll-scroll", "data-drawn"))


def test_tables_hold_the_results(opened, run_directories):
    page = opened(2)
    first, second = (run.result for run in read_runs(run_directories))
    table = {row[0]: row[1:] for row in rows(page, "#summary-table")}
    onset = [cell.split("\n")[0] for cell in table["Onset F1"]]
    means = [result.scores["Onset F1"] for result in (first, second)]
    assert onset == [f"{means[0]:.3f}", f"{means[1]:.3f}", f"+{means[1] - means[0]:.3f}"]
    low, high = first.intervals["Onset F1"]
    assert table["Onset F1"][0].endswith(f"{low:.3f} to {high:.3f}")
    by_dataset = {row[0]: row[1:] for row in rows(page, "#datasets")}
    means = [
        result.datasets[name].scores["Frame F1"] for name in ("slakh", "urmp") for result in (first, second)
    ]
    assert by_dataset["Frame F1"] == [f"{mean:.3f}" for mean in means]
    page.click("#all-metrics-title")
    assert len(table) + len(rows(page, "#all-metrics")) == len(first.scores)
    page.click("#runs-details summary")
    assert ["checkpoint", "runs/worse", "runs/better"] in rows(page, "#runs")
    notices = page.inner_text("#remarks")
    assert "broken: its audio ends <too> soon" in notices
    assert "without notes: its notes are not in the results directory" in notices


def test_published_scores_name_their_source(opened, run_directories):
    page = opened(2)
    assert page.input_value("#published-dataset") == "slakh"
    table = rows(page, "#published-table")
    assert ["Onset F1", "MT3, mixture1", "0.7585"] in [row[:3] for row in table]
    assert "arXiv 2111.03017" in page.inner_text("#published-table ol li:first-child")
    row = next(row for row in rows(page, "#published-table") if row[:2] == ["Onset F1", "MT3, mixture1"])
    onset = read_runs(run_directories)[0].result.datasets["slakh"].scores["Onset F1"]
    gap = f"{onset - 0.7585:+.4f}".replace("-", "−")
    assert row[3].split() == [f"{onset:.4f}", gap]
    page.select_option("#published-dataset", "")
    assert rows(page, "#published-table") == []


def test_recordings_are_sorted_by_click_and_by_key(opened):
    page = opened(1)
    heading = page.locator("#recordings-table th", has_text="Notes").first
    assert heading.get_attribute("aria-sort") == "none"
    heading.locator("button").click()
    assert heading.get_attribute("aria-sort") == "descending"
    notes = [int(row[1].replace(",", "")) for row in rows(page, "#recordings-table")]
    assert notes == sorted(notes, reverse=True)
    assert len(set(notes)) == 4
    page.keyboard.press("Enter")
    assert heading.get_attribute("aria-sort") == "ascending"
    assert [int(row[1].replace(",", "")) for row in rows(page, "#recordings-table")] == notes[::-1]
    page.locator("#recordings-table th button").first.click()
    assert heading.get_attribute("aria-sort") == "none"
    names = [row[0] for row in rows(page, "#recordings-table")]
    assert names[1:] == ["a/long", "short", "without notes"]


def test_runs_side_by_side_for_each_recording(opened, run_directories):
    page = opened(2)
    page.select_option("#recordings-metric", "Frame F1")
    worse, better = (run.result.recordings[0].scores["Frame F1"] for run in read_runs(run_directories))
    row = next(row for row in rows(page, "#recordings-table") if row[0] == "short")
    assert row[2:4] == [f"{worse:.3f}", f"{better:.3f}"]
    assert row[4].lstrip("+") == pytest.approx(f"{better - worse:.3f}")


def test_recordings_are_found_and_opened_by_name(opened):
    page = opened(1)
    page.fill("#recordings-find", "LONG")
    assert [row[0] for row in rows(page, "#recordings-table")] == ["a/long"]
    assert page.inner_text("#recordings-count") == "1 of 4"
    page.locator("#recordings-table tbody button:visible").click()
    until(page, "document.activeElement.id === 'roll-scroll'")
    assert "a/long" in page.get_attribute("#roll-canvas", "aria-label")
    assert page.locator("tr[aria-current=true] th").inner_text() == "a/long"


def test_names_are_shown_as_text(opened):
    page = opened(1)
    names = [row[0] for row in rows(page, "#recordings-table")]
    assert any(name.startswith("</script><img src=x onerror=alert(1)>") for name in names)
    assert page.locator("img").count() == 0


def test_breakdowns_and_confusion(opened):
    page = opened(2)
    assert page.locator("#breakdown-tables h3").all_inner_texts() == [
        "By instrument",
        "By pitch",
        "By polyphony",
        "By loudness",
    ]
    instruments = {row[0]: row[2].split() for row in rows(page, "#breakdown-tables .card:first-child")}
    assert {"Piano", "Bass", "Drums"} <= instruments.keys()
    assert all(0 < float(value) < 1 for value in instruments["Piano"])
    before = instruments["Piano"]
    page.select_option("#breakdown-measure", "onset")
    after = {row[0]: row[2].split() for row in rows(page, "#breakdown-tables .card:first-child")}["Piano"]
    assert all(float(more) > float(less) for more, less in zip(after, before, strict=True))
    page.select_option("#breakdown-measure", "kinds")
    assert page.locator("#breakdown-legend i").count() == 6
    matrix = {row[0]: row[1:] for row in rows(page, "#confusion-table")}
    assert matrix.keys() == {"Piano", "Bass", "Ensemble", "Drums", "extra"}
    page.select_option("#confusion-run", "1")
    assert {row[0]: row[1:] for row in rows(page, "#confusion-table")} != matrix


def test_the_piano_roll_is_drawn_and_filtered(opened):
    page = opened(1)
    right, missed = "#0072b2", "#cf4a00"
    everything = drawn(page)
    assert page.evaluate(COUNT_PIXELS, right) > 2000
    assert page.evaluate(COUNT_PIXELS, missed) > 20
    page.locator("#roll-kinds button", has_text="right").click()
    without_right = drawn(page)
    assert 0 < without_right < everything
    assert page.evaluate(COUNT_PIXELS, right) == 0
    assert page.evaluate(COUNT_PIXELS, missed) > 20
    page.locator("#roll-kinds button", has_text="right").click()
    page.locator("#roll-instruments button", has_text="Piano").click()
    assert page.locator("#roll-instruments button[aria-pressed=false]").count() == 1
    assert without_right != drawn(page) < everything
    page.select_option("#roll-colour", "instrument")
    settle(page)
    assert page.evaluate(COUNT_PIXELS, right) == 0


def test_only_what_is_in_sight_is_drawn(opened):
    page = opened(1)
    page.select_option("#roll-recording", label="a/long")
    until(page, "document.getElementById('roll-canvas').ariaLabel.includes('a/long')")
    some = drawn(page)
    page.click("#roll-fit")
    everything = drawn(page)
    assert everything > 4000
    assert 0 < some < everything / 5
    assert page.locator("#roll *").count() < 150  # no element a note
    page.evaluate("document.getElementById('roll-scroll').scrollLeft = 1e6")
    page.click("#roll-zoom-in")
    assert 0 < drawn(page) < everything


def test_scrolling_bit_by_bit_gives_the_picture_that_drawing_at_once_gives(opened):
    page = opened(1)
    page.select_option("#roll-recording", label="a/long")
    until(page, "document.getElementById('roll-canvas').ariaLabel.includes('a/long')")
    full = drawn(page)
    before = {colour: page.evaluate(COUNT_PIXELS, colour) for colour in ("#0072b2", "#cf4a00")}
    for step in (300, 250, -70, 190, -20):
        page.evaluate(f"document.getElementById('roll-scroll').scrollLeft += {step}")
        settle(page)
        assert drawn(page) < full / 2  # the strip that came into sight
    scrolled = {colour: page.evaluate(COUNT_PIXELS, colour) for colour in before}
    page.evaluate("document.getElementById('roll-colour').dispatchEvent(new Event('change'))")
    assert drawn(page) > full / 2
    assert {colour: page.evaluate(COUNT_PIXELS, colour) for colour in before} == pytest.approx(
        scrolled, rel=0.01
    )
    assert scrolled != before


def test_the_piano_roll_by_keyboard(opened):
    page = opened(1)
    page.focus("#roll-scroll")
    width = "document.getElementById('roll-size').clientWidth"
    before = page.evaluate(width)
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert page.evaluate(width) > 2 * before
    page.keyboard.press("End")
    settle(page)
    assert page.evaluate("document.getElementById('roll-scroll').scrollLeft") > 0
    page.keyboard.press("0")
    assert page.evaluate(width) == before
    page.keyboard.press("n")
    first = page.inner_text("#roll-note")
    assert " · " in first
    assert "right" not in first
    page.keyboard.press("n")
    assert page.inner_text("#roll-note") != first
    page.keyboard.press("p")
    assert page.inner_text("#roll-note") == first


def test_all_runs_one_below_the_other(opened):
    page = opened(2)
    two = drawn(page)
    page.select_option("#roll-run", "all")
    until(page, "document.getElementById('roll-canvas').ariaLabel.includes('better')")
    assert "worse" in page.get_attribute("#roll-canvas", "aria-label")
    assert drawn(page) > two


def test_sound(opened):
    page = opened(2)
    page.select_option("#roll-recording", label="short")
    page.wait_for_selector("#player-sources >> text=Original")
    assert page.locator("#player-sources button").all_inner_texts() == [
        "Original",
        "Reference",
        "Estimate: worse",
    ]
    clips = page.evaluate(
        "pageData.page.recordings.flatMap((recording) => recording.clips.map((clip) => clip.block))"
    )
    assert len(clips) == 7  # of two recordings, one without its own audio
    for block in clips:
        duration, peak = page.evaluate(DECODE, block)
        assert duration > 1.9
        assert peak > 0.1
    for name in ("Original", "Reference"):
        page.click(f"#player-sources >> text={name}")
        until(page, "player.isPlaying() && player.audio.duration > 1.9 && player.audio.currentTime > 0")
        assert page.get_attribute(f"#player-sources >> text={name}", "aria-pressed") == "true"
    assert page.get_attribute("#player-sources >> text=Original", "aria-pressed") == "false"
    page.focus("#roll-scroll")
    page.keyboard.press("Space")
    until(page, "!player.isPlaying()")
    page.keyboard.press("1")
    until(page, "player.isPlaying() && player.current() === 0")


def test_tones_where_there_is_no_sound(opened):
    page = opened(1)
    page.click("#player-sources >> text=Estimate")
    until(page, "player.isPlaying() && player.audio.duration > 3")
    loudness = """async () => {
      const blob = await player.sources()[1].load();
      const sound = await new OfflineAudioContext(1, 1, 16000).decodeAudioData(await blob.arrayBuffer());
      return sound.getChannelData(0).reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    }"""
    assert page.evaluate(loudness) > 0.5
    for button in page.locator("#roll-kinds button").all():
        button.click()
    assert page.evaluate(loudness) == 0


def test_light_and_dark(opened):
    page = opened(1, color_scheme="dark")
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    page.click("#theme")
    assert page.inner_text("#theme") == "Theme: light"
    light = page.evaluate(background)
    settle(page)
    assert page.evaluate(COUNT_PIXELS, "#0072b2") > 1000
    page.click("#theme")
    assert page.evaluate(background) == dark != light
    settle(page)
    assert page.evaluate(COUNT_PIXELS, "#4fa9e6") > 1000
    page.click("#theme")
    page.emulate_media(color_scheme="light")
    until(page, f"{background} === '{light}'")


@pytest.mark.parametrize("num_runs", [1, 2])
def test_everything_that_can_be_used_has_a_name(opened, num_runs):
    assert opened(num_runs).evaluate(NAMELESS) == []


def test_a_narrow_page_does_not_scroll_sideways(opened):
    page = opened(2)
    page.set_viewport_size({"width": 380, "height": 800})
    settle(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 380


def test_scripts_that_are_not_the_pages_own_do_not_run(browser, files):
    page = browser.new_page()
    page.goto(files[1].as_uri())
    page.evaluate(
        "() => { const own = document.createElement('script'); own.textContent = 'window.foreign = true';"
        " document.body.append(own); }"
    )
    assert page.evaluate("window.foreign") is None
    page.close()


def test_sound_that_the_browser_cannot_play_is_said(opened):
    page = opened(1)
    page.evaluate("() => { player.sources()[0].load = async () => new Blob(['no sound']); }")
    page.locator("#player-sources button").first.click()
    until(page, "!document.getElementById('roll-message').hidden")
    assert "cannot play Reference (tones)" in page.inner_text("#roll-message")
    page.locator("#player-sources button").last.click()
    until(page, "player.isPlaying()")
