"""Pictures of examples: what lies where, in which colour."""

import dataclasses
import itertools
import sys

import numpy as np
import pytest

from mt3.audio.spectrograms import SpectrogramConfig, log_mel_numpy, mel_matrix
from mt3.data.pictures import (
    ExamplePicture,
    example_figure,
    example_picture,
    mel_bin,
    save_figure,
)
from mt3.symbolic.instrument_colours import DRUMS_COLOUR, instrument_colour
from mt3.symbolic.notes import Notes

matplotlib = pytest.importorskip("matplotlib")
matplotlib_image = pytest.importorskip("matplotlib.image")

CONFIG = SpectrogramConfig()
SECONDS = 2.048
# Two instruments at one pitch; one note goes through the whole example; drums.
NOTES = Notes.from_rows(
    [
        (0.5, 1.0, 60, 80, 0, False),
        (1.25, 1.75, 60, 80, 40, False),
        (0.0, SECONDS, 67, 80, 73, False),
        (1.0, 1.01, 38, 80, 0, True),
    ]
)
NO = np.zeros(4, bool)
THIRD = np.array([False, False, True, False])


def picture(notes=NOTES, before=NO, after=NO, **changes):
    """An example of silence but for 1 kHz from 1 s on."""
    samples = np.sin(2 * np.pi * 1000 * np.arange(256 * 128) / 16000) * (np.arange(256 * 128) >= 16000)
    log_mel = log_mel_numpy(samples.reshape(256, 128), CONFIG)
    example = ExamplePicture("a title\nof two lines", SECONDS, log_mel, CONFIG, notes, before, after)
    return dataclasses.replace(example, **changes)


def draw(example, path):
    """The figure, and its pixels [height, width, 3] from 0 to 1 as read from the file."""
    figure = example_figure(example)
    save_figure(figure, path)
    return figure, matplotlib_image.imread(path)[..., :3]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Figure and pixels of the usual example."""
    return draw(picture(), tmp_path_factory.mktemp("pictures") / "a.png")


def pixel(axes, pixels, seconds, height):
    """The colour at a time and a height of a panel."""
    x, y = axes.transData.transform((seconds, height))
    return pixels[len(pixels) - 1 - int(y), int(x)]


def assert_colour(found, expected):
    np.testing.assert_allclose(found, expected, atol=0.01)


def is_white_or_grey(colour):
    return np.ptp(colour) < 0.02 and colour.min() > 0.8


def test_every_instrument_has_a_colour_of_its_own():
    colours = {tuple(round(255 * part) for part in instrument_colour(program)) for program in range(128)}
    colours.add(tuple(round(255 * part) for part in instrument_colour(0, is_drum=True)))
    assert len(colours) == 129
    assert all(0 <= part <= 255 for colour in colours for part in colour)


def test_notes_lie_where_they_sound_in_the_colour_of_their_instrument(drawn):
    figure, pixels = drawn
    _, roll, _ = figure.axes
    for seconds, pitch, program in (
        (0.52, 60, 0),
        (0.98, 60, 0),
        (1.27, 60, 40),
        (1.73, 60, 40),
        (1, 67, 73),
    ):
        assert_colour(pixel(roll, pixels, seconds, pitch + 0.1), instrument_colour(program))
    for seconds, pitch in ((0.48, 60), (1.02, 60), (1.23, 60), (1.77, 60), (1, 61), (1, 66), (0.75, 59)):
        assert is_white_or_grey(pixel(roll, pixels, seconds, pitch + 0.1)), (seconds, pitch)


def test_instruments_at_one_pitch_are_all_seen(tmp_path):
    both = Notes.from_rows([(0.5, 1.5, 60, 80, 0, False), (0.5, 1.5, 60, 80, 40, False)])
    figure, pixels = draw(picture(both, NO[:2], NO[:2]), tmp_path / "a.png")
    x, y = figure.axes[1].transData.transform((1.0, 60)).astype(int)
    column = pixels[::-1][y - 7 : y + 8, x]
    thin, thick = ((np.abs(column - instrument_colour(one)).max(axis=-1) < 0.01) for one in (40, 0))
    assert thin[7]
    assert thick[:7].any()
    assert thick[8:].any()


def test_panels_share_their_time(drawn):
    figure, _ = drawn
    places = [axes.transData.transform([(0, 0), (SECONDS, 0)])[:, 0] for axes in figure.axes]
    np.testing.assert_allclose(places, [places[0]] * 3)
    assert [axes.get_xlim() for axes in figure.axes] == [(0, SECONDS)] * 3


def test_the_spectrogram_shows_the_tone(drawn):
    figure, pixels = drawn
    spectrogram = figure.axes[0]
    tone = pixel(spectrogram, pixels, 1.5, mel_bin(1000, CONFIG))
    above = pixel(spectrogram, pixels, 1.5, mel_bin(3000, CONFIG))
    before = pixel(spectrogram, pixels, 0.5, mel_bin(1000, CONFIG))
    assert tone.sum() > 1.8
    assert above.sum() < 1.0
    assert before.sum() < 0.1
    labels = {
        tick.get_text(): y
        for tick, y in zip(spectrogram.get_yticklabels(), spectrogram.get_yticks(), strict=True)
    }
    assert labels["1,000"] == pytest.approx(mel_bin(1000, CONFIG))


def test_mel_bins_are_those_of_the_filters():
    weights = mel_matrix(SpectrogramConfig(fft_size=1 << 14))
    for index in (30, 100, 300, 511):
        centre_hertz = (
            weights[:, index] @ np.arange(len(weights)) / weights[:, index].sum() * 16000 / (1 << 14)
        )
        assert mel_bin(centre_hertz, CONFIG) == pytest.approx(index, abs=0.15)


def test_drums_have_a_panel_where_there_are_any(drawn, tmp_path):
    figure, pixels = drawn
    drums = figure.axes[2]
    assert drums.get_ylabel() == "Drum key"
    assert_colour(pixel(drums, pixels, 1.0, 38), DRUMS_COLOUR)
    assert is_white_or_grey(pixel(drums, pixels, 1.1, 38))
    without, _ = draw(picture(NOTES[:3], NO[:3], NO[:3]), tmp_path / "b.png")
    assert len(without.axes) == 2


def test_notes_that_go_on_are_marked_at_the_borders(drawn, tmp_path):
    """By a triangle that reaches over the border, in the colour of the instrument."""
    plain, plain_pixels = drawn
    marked, marked_pixels = draw(picture(before=THIRD, after=THIRD), tmp_path / "b.png")
    for outside in (-0.003, SECONDS + 0.003):
        assert is_white_or_grey(pixel(plain.axes[1], plain_pixels, outside, 67))
        x, y = marked.axes[1].transData.transform((outside, 67)).astype(int)
        nearby = marked_pixels[::-1][y - 2 : y + 3, x - 1 : x + 2]
        assert (np.abs(nearby - instrument_colour(73)).max(axis=-1) < 0.01).any()
    texts = [text.get_text() for text in marked.legends[0].get_texts()]
    assert texts == [
        *("Acoustic Grand Piano (0)", "Violin (40)", "Flute (73)", "Drums", "began before", "sounds on")
    ]
    texts = [text.get_text() for text in plain.legends[0].get_texts()]
    assert texts == ["Acoustic Grand Piano (0)", "Violin (40)", "Flute (73)", "Drums"]


@pytest.mark.parametrize("marks", [NO, THIRD], ids=["unmarked", "marked"])
def test_nothing_overlaps_and_no_room_is_wasted(tmp_path, marks):
    title = "x" * 180 + "\nof two lines"
    figure, _ = draw(picture(before=marks, after=marks, title=title), tmp_path / "a.png")
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [figure._suptitle.get_window_extent(), figure.legends[0].get_window_extent()]
    tops = sorted((box.y1, box.y0) for box in boxes)[::-1]
    for (_, bottom), (top, _) in itertools.pairwise(tops):
        assert -1 <= bottom - top < 40
    assert min(box.x0 for box in boxes) >= 0
    assert max(box.x1 for box in boxes) <= figure.bbox.x1
    assert figure._suptitle.get_text() == title


def test_an_example_without_notes_or_sound(tmp_path):
    silent = picture(Notes.empty(), NO[:0], NO[:0], log_mel=np.full((256, 512), np.log(1e-5), np.float32))
    example_picture(silent, tmp_path / "a.png")
    assert matplotlib_image.imread(tmp_path / "a.png").shape[1:] == (1320, 4)
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_the_global_state_of_matplotlib_is_left_alone(tmp_path):
    before = dict(matplotlib.rcParams)
    draw(picture(), tmp_path / "a.png")
    assert dict(matplotlib.rcParams) == before
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or not pyplot.get_fignums()
