"""The picture of a dataset's statistics: bars of the right height, the limit marked, all of it legible."""

import itertools

import numpy as np
import pytest

from mt3.data.distributions import Distribution
from mt3.data.pictures import save_figure
from mt3.data.statistics import MT3_TOKENIZER, DatasetStatistics, Statistics
from mt3.data.statistics_picture import (
    LIMIT_COLOUR,
    SPLIT_COLOURS,
    statistics_figure,
    statistics_picture,
)

matplotlib_image = pytest.importorskip("matplotlib.image")
matplotlib_colors = pytest.importorskip("matplotlib.colors")

PANELS = {
    "Instruments",
    "Polyphony (drums left out)",
    "Density",
    "Instruments in a recording",
    "Length of recordings",
    "Length of notes (drums left out)",
    "Pitches (drums left out)",
    "Velocities",
    "Tokens of a segment of 2.048 s",
}


def made_up(num_recordings, programs, tokens, seed):
    rng = np.random.default_rng(seed)
    num_notes = sum(programs.values())
    return Statistics(
        num_recordings=num_recordings,
        seconds=200.0 * num_recordings,
        num_notes=num_notes,
        programs=programs,
        program_recordings=dict.fromkeys(programs, num_recordings),
        recording_seconds=Distribution.of(rng.uniform(150, 250, num_recordings)),
        instruments=Distribution.of(rng.integers(3, 12, num_recordings)),
        polyphony=Distribution.of([0, 1, 2, 5], [20.0, 50.0, 20.0, 10.0]),
        notes_per_second=Distribution.of(rng.poisson(9, 400)),
        note_seconds=Distribution.of(rng.lognormal(-1, 0.8, num_notes)),
        pitch=Distribution.of(rng.normal(60, 10, num_notes).round()),
        velocity=Distribution.of(rng.integers(40, 110, num_notes)),
        tokens=Distribution.of(tokens),
    )


TRAIN = made_up(30, {"0": 700, "25": 200, "40": 50, "drums": 400}, [*range(100, 500), 600, 601], seed=0)
TEST = made_up(10, {"0": 100, "40": 60}, [100, 200, 700], seed=1)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """Figure and pixels [height, width, 3] of two splits with a bound of 599 tokens."""
    statistics = DatasetStatistics("made-up", {"train": TRAIN, "test": TEST}, MT3_TOKENIZER, 256, 599)
    figure = statistics_figure(statistics)
    path = tmp_path_factory.mktemp("picture") / "a.png"
    save_figure(figure, path)
    return figure, matplotlib_image.imread(path)[..., :3]


def panel(figure, title):
    return next(axes for axes in figure.axes if axes.get_title("left") == title)


def colour_at(axes, pixels, x, y):
    x, y = axes.transData.transform((x, y))
    return pixels[len(pixels) - 1 - int(y), int(x)]


def assert_colour(found, expected):
    np.testing.assert_allclose(found, matplotlib_colors.to_rgb(expected), atol=0.01)


def heights_by_split(axes, number):
    """Heights of the bars of each split, in the order drawn."""
    heights = [bar.get_height() for bar in axes.patches]
    return np.split(np.array(heights), number)


def test_all_panels_are_there(drawn):
    figure, pixels = drawn
    assert {axes.get_title("left") for axes in figure.axes} == PANELS
    assert all(axes.get_xlabel() for axes in figure.axes)
    assert all(axes.get_ylabel() for axes in figure.axes if axes.get_title("left") != "Instruments")
    assert pixels.shape == (1100, 1980, 3)
    title = figure._suptitle.get_text()
    assert title == "made-up: 40 recordings, 2.2 hours, 1,510 notes"


def test_instruments_are_as_long_as_their_notes(drawn):
    figure, pixels = drawn
    axes = panel(figure, "Instruments")
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert names == ["Acoustic Grand Piano (0)", "Drums", "Acoustic Guitar (steel) (25)", "Violin (40)"]
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [700, 400, 200, 50, 100, 0, 0, 60]
    assert_colour(colour_at(axes, pixels, 690, 0), SPLIT_COLOURS[0])
    assert_colour(colour_at(axes, pixels, 710, 0), SPLIT_COLOURS[1])
    assert_colour(colour_at(axes, pixels, 790, 0), SPLIT_COLOURS[1])
    assert_colour(colour_at(axes, pixels, 810, 0.1), "white")


def test_polyphony_is_a_share_of_the_time(drawn):
    figure, pixels = drawn
    axes = panel(figure, "Polyphony (drums left out)")
    train, test = heights_by_split(axes, 2)
    assert train.tolist() == [10, 25, 10, 0, 0, 5]
    assert test.tolist() == train.tolist()
    assert_colour(colour_at(axes, pixels, 1, 24), SPLIT_COLOURS[0])
    assert_colour(colour_at(axes, pixels, 1, 49), SPLIT_COLOURS[1])
    assert_colour(colour_at(axes, pixels, 3, 3), "white")


def test_bars_hold_everything(drawn):
    """Also what lies beyond the outermost edges."""
    figure, _ = drawn
    for title, total in (
        ("Density", 100),
        ("Instruments in a recording", 40),
        ("Length of recordings", 40),
        ("Length of notes (drums left out)", 100),
        ("Pitches (drums left out)", 100),
        ("Velocities", 100),
        ("Tokens of a segment of 2.048 s", 405),
    ):
        assert sum(bar.get_height() for bar in panel(figure, title).patches) == pytest.approx(total), title


def test_the_limit_is_marked_and_what_exceeds_it_counted(drawn):
    figure, pixels = drawn
    axes = panel(figure, "Tokens of a segment of 2.048 s")
    (line,) = axes.lines
    assert list(line.get_xdata()) == [599, 599]
    (text,) = axes.texts
    assert text.get_text() == "limit: 599\n3 of 405 segments above (0.74%)"
    x, _ = axes.transData.transform((599, 0))
    red = np.abs(pixels[:, int(x) - 1 : int(x) + 2] - matplotlib_colors.to_rgb(LIMIT_COLOUR)).max(-1) < 0.1
    assert red.any(axis=1).sum() > 60


def test_nothing_overlaps(drawn):
    figure, _ = drawn
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    boxes += [figure._suptitle.get_window_extent(), figure.legends[0].get_window_extent()]
    for one, other in itertools.combinations(boxes, 2):
        width = min(one.x1, other.x1) - max(one.x0, other.x0)
        height = min(one.y1, other.y1) - max(one.y0, other.y0)
        assert width < 1 or height < 1
    for box in boxes:
        assert box.x0 >= 0
        assert box.y0 >= 0
        assert box.x1 <= figure.bbox.x1
        assert box.y1 <= figure.bbox.y1
    for axes in figure.axes:
        labels = [label.get_window_extent() for label in axes.get_xticklabels() if label.get_text()]
        inside = [box for box in labels if axes.bbox.x0 - 1 <= (box.x0 + box.x1) / 2 <= axes.bbox.x1 + 1]
        for left, right in itertools.pairwise(sorted(inside, key=lambda box: box.x0)):
            assert left.x1 < right.x0, axes.get_title("left")


def test_many_instruments_and_no_legend_for_one_split():
    programs = {str(program): 1000 - program for program in range(60)}
    one = made_up(5, programs, [10, 20], seed=2)
    figure = statistics_figure(DatasetStatistics("made-up", {"train": one}, MT3_TOKENIZER, 256, 1024))
    axes = panel(figure, "Instruments")
    names = [label.get_text() for label in axes.get_yticklabels()]
    assert len(names) == 29
    assert names[-1] == "32 others"
    assert axes.patches[-1].get_width() == sum(1000 - program for program in range(28, 60))
    assert not figure.legends


def test_nothing_can_be_drawn_too(tmp_path):
    nothing = DatasetStatistics("none", {"test": Statistics.merge([])}, MT3_TOKENIZER, 256, 1024)
    statistics_picture(nothing, tmp_path / "a.png")
    assert matplotlib_image.imread(tmp_path / "a.png").shape == (1100, 1980, 4)
