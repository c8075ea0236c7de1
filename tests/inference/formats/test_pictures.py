"""Piano rolls: what is drawn where, in which colour; read back with Pillow and an XML parser."""

import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from mt3.inference.formats import NoteDocument, OutputOptions, write_notes
from mt3.inference.formats.piano_roll import MAX_ROWS, WIDTH_PIXELS, Boxes, Text, clock, draw_piano_roll
from mt3.inference.formats.pictures import write_png, write_svg
from mt3.symbolic.instrument_colours import instrument_colour
from mt3.symbolic.notes import Notes

Image = pytest.importorskip("PIL.Image")
SVG = "{http://www.w3.org/2000/svg}"
NOTES = Notes.from_rows(
    [
        (1.0, 2.0, 60, 80, 0, False),
        (2.5, 6.0, 67, 80, 40, False),
        (3.0, 3.1, 36, 80, 0, True),
        (7.0, 7.5, 42, 80, 0, True),
    ]
)
TEN_SECONDS = OutputOptions(seconds_per_row=5)


def boxes_of(drawing, colour):
    """float [n, 4] of a colour, the patch in the legend left out."""
    found = [part.boxes for part in drawing.parts if isinstance(part, Boxes) and part.colour == colour]
    return np.concatenate(found)[1:]


def words_of(drawing):
    return [part.words for part in drawing.parts if isinstance(part, Text)]


def test_notes_lie_where_they_sound():
    drawing = draw_piano_roll(NoteDocument(NOTES, duration_seconds=10, name="Song", options=TEN_SECONDS))
    assert drawing.width == WIDTH_PIXELS
    per_second = (WIDTH_PIXELS - 96) / 5
    (piano,) = boxes_of(drawing, instrument_colour(0))
    assert piano[0] == pytest.approx(72 + per_second, abs=1)
    assert piano[2] == pytest.approx(per_second, abs=1.5)
    # The violin's note goes on in the second row, and is higher than the piano's.
    first, second = boxes_of(drawing, instrument_colour(40))
    assert first[1] < piano[1]
    assert first[0] + first[2] == pytest.approx(72 + 5 * per_second, abs=1.5)
    assert second[0] == 72
    assert second[2] == pytest.approx(per_second, abs=1.5)
    kick, hat = boxes_of(drawing, instrument_colour(0, True))
    assert kick[0] == pytest.approx(72 + 3 * per_second, abs=1)
    assert hat[0] == pytest.approx(72 + 2 * per_second, abs=1)


def test_instruments_times_and_drums_are_named():
    words = words_of(
        draw_piano_roll(NoteDocument(NOTES, duration_seconds=10, name="Song", options=TEN_SECONDS))
    )
    for expected in ("Song", "Acoustic Grand Piano (1)", "Violin (1)", "Drums (2)", "kick", "hi-hat", "C4"):
        assert expected in words
    assert {"0:00.0", "0:05.0"} <= set(words)
    assert "snare" not in words
    assert [clock(5), clock(65.5, True), clock(3725), clock(59.99, True)] == [
        "0:05",
        "1:05.5",
        "1:02:05",
        "1:00.0",
    ]


def test_repeated_notes_are_seen_apart_and_overlapping_ones_are_one():
    rows = [(1.0, 1.5, 60), (1.5, 2.0, 60), (3.0, 4.0, 60), (3.5, 4.5, 60), (3.2, 4.8, 62)]
    notes = Notes.from_rows([(*row, 80, 0, False) for row in rows])
    boxes = boxes_of(draw_piano_roll(NoteDocument(notes, options=TEN_SECONDS)), instrument_colour(0))
    assert len(boxes) == 4
    per_second = (WIDTH_PIXELS - 96) / 5
    low = boxes[np.argsort(boxes[:, 0])]
    assert low[0, 0] + low[0, 2] < low[1, 0]
    assert low[2, 2] == pytest.approx(1.5 * per_second, abs=1.5)


def test_hours_make_a_picture_of_bounded_size(tmp_path):
    rng = np.random.default_rng(0)
    onset = np.sort(rng.uniform(0, 36000, 200_000))
    notes = Notes(
        onset, onset + 0.3, rng.integers(30, 90, len(onset)), np.full(len(onset), 80),
        rng.choice([0, 24, 33], len(onset)), np.zeros(len(onset), bool),
    )  # fmt: skip
    write_notes(notes, tmp_path / "long.svg")
    assert (tmp_path / "long.svg").stat().st_size < 6e6
    drawing = draw_piano_roll(NoteDocument(notes))
    assert drawing.height < 8000
    assert "9:00:00" in words_of(drawing)


def test_the_svg_is_data_only(tmp_path):
    path = tmp_path / "a.svg"
    title = '<script>alert("&")</script>\x00\ud800'
    write_svg(NoteDocument(NOTES, options=OutputOptions(title=title)), path)
    root = ElementTree.parse(path).getroot()
    assert {element.tag.removeprefix(SVG) for element in root.iter()} == {
        "svg",
        "title",
        "rect",
        "text",
        "path",
    }
    assert root.findtext(f"{SVG}title") == '<script>alert("&")</script>\ufffd\ufffd'
    colours = {element.get("fill") for element in root.iter(f"{SVG}path")}
    red, green, blue = (round(255 * part) for part in instrument_colour(40))
    assert f"#{red:02x}{green:02x}{blue:02x}" in colours
    assert all(re.fullmatch("[Mhvz0-9. -]*", element.get("d")) for element in root.iter(f"{SVG}path"))


def test_the_png_shows_the_same(tmp_path):
    path = tmp_path / "a.png"
    document = NoteDocument(NOTES, duration_seconds=10, name="Song", options=TEN_SECONDS)
    write_png(document, path)
    drawing = draw_piano_roll(document)
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.size == (drawing.width, drawing.height)
        pixels = np.asarray(image.convert("RGB"))
    for program in (0, 40):
        for x, y, width, height in boxes_of(drawing, instrument_colour(program)):
            middle = pixels[int(y + height / 2), int(x + width / 2)]
            assert np.abs(middle / 255 - instrument_colour(program)).max() < 0.01
    # Words are there: something dark in the line of the title.
    assert (pixels[12:30, 72:140].max(axis=-1) < 100).any()


def test_no_notes_are_an_empty_roll(tmp_path):
    write_notes(Notes.empty(), tmp_path / "none.svg")
    write_notes(Notes.empty(), tmp_path / "none.png")
    with Image.open(tmp_path / "none.png") as image:
        image.verify()


@pytest.mark.parametrize(
    ("rows", "seconds_per_row", "message"),
    [
        (
            [(0, 401, 60, 80, 0, False)],
            10,
            rf"41 rows; the most are {MAX_ROWS}: give seconds_per_row of 10\.0",
        ),
        ([(0, np.nan, 60, 80, 0, False)], None, "offset_seconds has values that are not finite"),
        ([(0, 1, 128, 80, 0, False)], None, r"pitch 128 is outside MIDI's 0\.\.127"),
    ],
)
def test_what_cannot_be_drawn_is_named(rows, seconds_per_row, message):
    options = OutputOptions(seconds_per_row=seconds_per_row)
    with pytest.raises(ValueError, match=message):
        draw_piano_roll(NoteDocument(Notes.from_rows(rows), options=options))
