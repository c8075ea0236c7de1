"""Piano rolls as SVG and PNG pictures; what is on them is the matter of `piano_roll`.

SVG is written here. PNG is drawn with Pillow, which is imported only then.
"""

from __future__ import annotations

import re
from pathlib import Path
from xml.sax.saxutils import escape

import numpy as np

from mt3.inference.formats.documents import NoteDocument
from mt3.inference.formats.piano_roll import Boxes, Colour, Text, draw_piano_roll

# What XML 1.0 has no way to say: control characters, and halves of surrogate pairs.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_PNG_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


def xml_text(words: str) -> str:
    """Words for the inside of an XML element or attribute in double quotes."""
    return escape(_NOT_XML.sub("\ufffd", words), {'"': "&quot;"})


def write_svg(document: NoteDocument, path: Path) -> None:
    """Writes the piano roll as SVG, without scripts, links or fonts of its own.

    Raises:
      ValueError: as `draw_piano_roll`.
    """
    drawing = draw_piano_roll(document)
    with path.open("w", encoding="utf-8") as file:
        file.write(
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{drawing.width}" height="{drawing.height}" '
            f'viewBox="0 0 {drawing.width} {drawing.height}" font-family="sans-serif">\n'
            f"<title>{xml_text(document.title)}</title>\n"
            '<rect width="100%" height="100%" fill="#fff"/>\n'
        )
        for part in drawing.parts:
            file.write(_svg_text(part) if isinstance(part, Text) else _svg_path(part))
        file.write("</svg>\n")


def _svg_text(text: Text) -> str:
    anchor = "" if text.anchor == "start" else f' text-anchor="{text.anchor}"'
    place = f'x="{text.x:.1f}" y="{text.y:.1f}"'
    return f'<text {place} font-size="{text.size}"{anchor} fill="#222">{xml_text(text.words)}</text>\n'


def _svg_path(part: Boxes) -> str:
    steps = "".join(f"M{x:.7g} {y:.7g}h{w:.5g}v{h:.5g}h-{w:.5g}z" for x, y, w, h in part.boxes.tolist())
    red, green, blue = _bytes(part.colour)
    return f'<path fill="#{red:02x}{green:02x}{blue:02x}" d="{steps}"/>\n'


def write_png(document: NoteDocument, path: Path) -> None:
    """Writes the piano roll as PNG.

    Raises:
      ValueError: as `draw_piano_roll`.
    """
    from PIL import Image, ImageDraw, ImageFont

    drawing = draw_piano_roll(document)
    image = Image.new("RGB", (drawing.width, drawing.height), "white")
    draw = ImageDraw.Draw(image)
    for part in drawing.parts:
        if isinstance(part, Text):
            font = ImageFont.load_default(part.size)
            words = _NOT_XML.sub("\ufffd", part.words)
            draw.text((part.x, part.y), words, "#222", font, anchor=_PNG_ANCHORS[part.anchor])
            continue
        # Whole pixels, one at least; the last is part of a rectangle here.
        corner = np.rint(part.boxes[:, :2])
        opposite = np.maximum(np.rint(part.boxes[:, :2] + part.boxes[:, 2:]) - 1, corner)
        for box in np.concatenate([corner, opposite], 1).astype(np.int64).tolist():
            draw.rectangle(box, fill=_bytes(part.colour))
    image.save(path, format="png", optimize=False)


def _bytes(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (round(255 * part) for part in colour)
    return red, green, blue
