"""Puts a page together: one HTML file with its styles, scripts and data in it.

The page may load nothing: its content security policy allows the very scripts
and styles that are put in here, by their hashes, and sound and pictures that
the page makes itself. Names of runs and recordings reach it as JSON in which no
character can end a script element, and are shown as text.
"""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import html
import json
import os
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path

from mt3.evaluation.report_page.page_data import Page
from mt3.files import write_text

PAGE_NAME = "index.html"
DATA_ID = "page-data"

_STYLES = ("base.css", "tables.css", "roll.css")
# Scripts in the order in which they run; each one makes one name, main.js uses them. The first
# runs before the page is shown.
_HEAD_SCRIPTS = ("theme.js",)
_SCRIPTS = (
    "dom.js",
    "data.js",
    "tables.js",
    "summary.js",
    "breakdowns.js",
    "confusion.js",
    "recordings.js",
    "notes.js",
    "patterns.js",
    "roll_view.js",
    "roll_drawing.js",
    "tones.js",
    "player.js",
    "roll.js",
    "main.js",
)
# What JSON may not show to an HTML or JavaScript parser.
_ESCAPES = {ord(character): f"\\u{ord(character):04x}" for character in "<>&\u2028\u2029"}


def write_report_page(page: Page, directory: str | os.PathLike[str]) -> Path:
    """Writes index.html into a directory, making it where needed, whole or not at all.

    Returns:
      The file's path.

    Raises:
      OSError: when it cannot be written.
    """
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / PAGE_NAME
    write_text(path, render_page(page))
    return path


def render_page(page: Page) -> str:
    """The HTML document."""
    assets = resources.files("mt3.evaluation.report_page") / "assets"
    styles, head_scripts, scripts = (
        [(assets / name).read_text(encoding="utf-8") for name in names]
        for names in (_STYLES, _HEAD_SCRIPTS, _SCRIPTS)
    )
    parts = {
        "POLICY": _policy(styles, [*head_scripts, *scripts]),
        "TITLE": html.escape(page.data.title),
        "STYLES": _elements("style", styles),
        "HEAD_SCRIPTS": _elements("script", head_scripts),
        "DATA": _data_elements(page),
        "SCRIPTS": _elements("script", scripts),
    }
    # The template is split, not searched again: what is put in is never taken for a place to fill.
    pieces = (assets / "page.html").read_text(encoding="utf-8").split("{{")
    filled = [pieces[0]]
    for piece in pieces[1:]:
        name, _, rest = piece.partition("}}")
        filled += [parts[name], rest]
    return "".join(filled)


def to_json(data: object) -> str:
    """Compact JSON of a dataclass that can stand in a script element."""
    text = json.dumps(
        dataclasses.asdict(data) if dataclasses.is_dataclass(data) and not isinstance(data, type) else data,
        ensure_ascii=False,
        allow_nan=False,
        separators=(",", ":"),
    )
    return text.translate(_ESCAPES)


def _data_elements(page: Page) -> str:
    blocks: Mapping[str, str] = page.blocks
    elements = [f'<script type="application/json" id="{DATA_ID}">{to_json(page.data)}</script>']
    elements += [f'<script type="text/plain" id="{name}">{text}</script>' for name, text in blocks.items()]
    return "\n".join(elements)


def _elements(tag: str, contents: Iterable[str]) -> str:
    return "\n".join(f"<{tag}>{content}</{tag}>" for content in contents)


def _policy(styles: Iterable[str], scripts: Iterable[str]) -> str:
    return "; ".join(
        (
            "default-src 'none'",
            f"style-src {_hashes(styles)}",
            f"script-src {_hashes(scripts)}",
            "media-src blob:",
            "base-uri 'none'",
            "form-action 'none'",
        )
    )


def _hashes(contents: Iterable[str]) -> str:
    digests = (hashlib.sha256(content.encode("utf-8")).digest() for content in contents)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode('ascii')}'" for digest in digests)
