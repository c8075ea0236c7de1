"""The piano roll and its instruments, and how the page looks."""

import numpy as np
import pytest

from mt3.symbolic import drum_kit, general_midi
from mt3.symbolic.instrument_colours import instrument_colour

pytestmark = pytest.mark.slow

PIANO, BASS, DRUMS = 0, 33, 128
# What can be used, but has nothing by which a screen reader could call it.
NAMELESS = """() => {
  const labelled = (one) => one.textContent.trim() || one.ariaLabel || one.labels?.length
    || one.getAttribute("aria-labelledby") || one.getAttribute("aria-hidden") === "true";
  const used = document.querySelectorAll("button, input, canvas, progress, meter, [tabindex='0']");
  return [...used].filter((one) => !labelled(one)).map((one) => one.outerHTML);
}"""


@pytest.fixture
def playable(play):
    """A visitor with a recording: in each half second C4 on the bass, C6 on the piano, and a kick."""
    return play()


def test_instruments_are_shown_hidden_and_muted(playable):
    page = playable.page
    chips = page.locator("#legend .show").all_inner_texts()
    assert [" ".join(chip.split()) for chip in chips] == [
        "Acoustic Grand Piano 40",
        "Electric Bass (finger) 40",
        "Drums 40",
    ]
    assert playable.num_drawn() == 120
    for instrument in (PIANO, BASS, DRUMS):
        assert playable.count_pixels(instrument) > 100
    bass = page.locator("#legend .show", has_text="Bass")
    bass.click()
    assert bass.get_attribute("aria-pressed") == "false"
    assert playable.num_drawn() == 80
    assert playable.count_pixels(BASS) == 0
    bass.click()
    assert playable.num_drawn() == 120
    playable.press("Hear Drums")
    assert page.get_attribute("[aria-label='Hear Drums']", "aria-pressed") == "false"
    assert page.evaluate("async () => [...(await import('/assets/legend.js')).muted]") == [DRUMS]
    assert playable.num_drawn() == 120


def test_by_keyboard(playable):
    page = playable.page
    page.focus("#roll-scroll")
    width = "document.getElementById('roll-size').clientWidth"
    before = page.evaluate(width)
    page.keyboard.press("+")
    page.keyboard.press("+")
    assert page.evaluate(width) > 2 * before
    assert 0 < playable.num_drawn() < 120
    for key, place in (("End", "0:20"), ("ArrowLeft", "0:15"), ("Home", "0:00")):
        page.keyboard.press(key)
        playable.settle()
        assert page.inner_text("#time") == f"{place} / 0:20"
        assert (page.evaluate("document.getElementById('roll-scroll').scrollLeft") > 0) == (place != "0:00")
    page.keyboard.press("0")
    assert page.evaluate(width) == before
    page.keyboard.press("Space")
    playable.until("document.getElementById('play').textContent === 'Pause'")
    page.keyboard.press("Space")
    playable.until("document.getElementById('play').textContent === 'Play'")


def test_by_pointer(playable):
    page = playable.page
    page.locator("#roll-scroll").scroll_into_view_if_needed()
    box = page.locator("#roll-canvas").bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 100)
    assert 8 < playable.now() < 12
    seen = set()
    for y in np.arange(box["y"] + 25, box["y"] + box["height"] - 1, 4):
        page.mouse.move(box["x"] + 92 + 6, y)
        seen.add(page.inner_text("#roll-note"))
    assert "C4 · Electric Bass (finger) · 0.00 to 0.40 s · velocity 100 · confidence 90 %" in seen
    assert "C6 · Acoustic Grand Piano · 0.00 to 0.40 s · velocity 100 · confidence 90 %" in seen
    assert any(text.startswith("Bass Drum 1 · Drums") for text in seen)


def test_zoom_buttons(playable):
    width = "document.getElementById('roll-size').clientWidth"
    height = "document.getElementById('roll-size').clientHeight"
    before = [playable.page.evaluate(one) for one in (width, height)]
    for name in ("Zoom in", "Taller", "Taller"):
        playable.press(name)
    assert playable.page.evaluate(width) > 1.4 * before[0]
    assert playable.page.evaluate(height) > 1.4 * before[1]
    for name in ("Whole", "Flatter", "Flatter"):
        playable.press(name)
    assert [playable.page.evaluate(one) for one in (width, height)] == before


def test_light_and_dark(play):
    visitor = play(color_scheme="dark")
    page = visitor.page
    background = "getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(background)
    colours = []
    for choice in ("light", "dark"):
        page.click("#theme")
        assert page.inner_text("#theme") == f"Theme: {choice}"
        assert (page.evaluate(background) == dark) == (choice == "dark")
        assert visitor.count_pixels(BASS) > 100
        colours.append(
            page.evaluate("async () => (await import('/assets/instruments.js')).instrumentColour(33)")
        )
    assert colours[0] != colours[1]
    page.click("#theme")
    page.emulate_media(color_scheme="light")
    visitor.until(f"{background} !== '{dark}'")


def test_everything_has_a_name_and_fits_a_narrow_page(visitor, make_recording):
    visitor.page.set_viewport_size({"width": 380, "height": 800})
    visitor.send((f"{'long' * 50}.wav", make_recording(60)), ("bad.wav", b"bad" * 50))
    visitor.wait_for_states("done", "failed")
    visitor.settle()
    assert visitor.page.evaluate("document.documentElement.scrollWidth") <= 380
    assert visitor.page.evaluate(NAMELESS) == []


def test_instruments_are_called_and_coloured_as_elsewhere(scripts):
    names, drums, colours = scripts.evaluate(
        """async () => {
          const { instrumentName, drumName, instrumentColour } = await import("/assets/instruments.js");
          const instruments = Array.from({ length: 129 }, (_, instrument) => instrument);
          const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
          const shown = (instrument) => {
            context.fillStyle = instrumentColour(instrument);
            context.fillRect(0, 0, 1, 1);
            return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
          };
          const keys = instruments.slice(0, 128);
          return [instruments.map(instrumentName), keys.map(drumName), instruments.map(shown)];
        }"""
    )
    assert names == [*general_midi.PROGRAM_NAMES, general_midi.DRUMS_NAME]
    assert drums == [drum_kit.drum(key).name for key in range(128)]
    expected = [instrument_colour(program) for program in range(128)] + [instrument_colour(0, is_drum=True)]
    np.testing.assert_allclose(colours, 255 * np.array(expected), atol=1)


def test_notes_are_kept_in_order_however_they_come(scripts):
    rng = np.random.default_rng(0)
    onsets = rng.permutation(3000) / 10
    ends = onsets + rng.uniform(0.01, 5, 3000)
    rows = [[onset, end, 60, 100, 5, False, 0.5] for onset, end in zip(onsets, ends, strict=True)]
    kept, latest, sounding = scripts.evaluate(
        """async (rows) => {
          const { Notes } = await import("/assets/notes.js");
          const notes = new Notes();
          for (let at = 0; at < rows.length; at += 70) notes.add(rows.slice(at, at + 70));
          const [first, last] = notes.range(100, 101);
          const sounding = [];
          for (let at = first; at < last; at++) if (notes.end[at] >= 100) sounding.push(notes.onset[at]);
          return [...[notes.onset, notes.latestEnd].map((column) => [...column.slice(0, 3000)]), sounding];
        }""",
        rows,
    )
    order = np.argsort(onsets)
    assert kept == onsets[order].tolist()
    assert latest == np.maximum.accumulate(ends[order]).tolist()
    assert sounding == onsets[order][(ends[order] >= 100) & (onsets[order] < 101)].tolist()
