"""The page as text: what is in it, and that names cannot leave their place."""

import base64
import hashlib
import json
import re

import pytest

from mt3.evaluation.report_page import page as page_module
from mt3.evaluation.report_page.audio import AudioOptions
from mt3.evaluation.report_page.page import render_page, to_json, write_report_page
from mt3.evaluation.report_page.page_data import make_page
from mt3.evaluation.report_page.runs import read_runs


@pytest.fixture(scope="module")
def page(run_directories):
    return make_page(
        read_runs(run_directories), title="</title><script>{{DATA}}", audio=AudioOptions(max_recordings=0)
    )


@pytest.fixture(scope="module")
def text(page):
    return render_page(page)


def test_data_are_read_back_as_they_were(page, text):
    found = re.search(r'<script type="application/json" id="page-data">(.*?)</script>', text, re.DOTALL)
    data = json.loads(found[1])
    assert data["title"] == "</title><script>{{DATA}}"
    assert [row["id"] for row in data["recordings"]] == [row.id for row in page.data.recordings]
    assert data == json.loads(to_json(page.data))


def test_blocks_are_in_the_page(page, text):
    for name, content in page.blocks.items():
        assert f'<script type="text/plain" id="{name}">{content}</script>' in text


def test_names_are_no_markup(text):
    assert "<img" not in text
    assert "</title><script>" not in text
    assert "\u2028" not in text


def test_nothing_is_loaded(text):
    # Apart from data, there is no address in the page.
    markup = re.sub(r"<script type=.*?</script>", "", text, flags=re.DOTALL)
    assert not re.search(r"https?://|\bsrc=|\bimport\b|<link|@import|url\(", markup)


def test_the_policy_allows_these_scripts_and_styles_alone(text):
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    rules = dict(rule.split(" ", 1) for rule in policy.split("; "))
    assert rules["default-src"] == "'none'"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        contents = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digests = [hashlib.sha256(content.encode()).digest() for content in contents]
        wanted = [f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests]
        assert rules[rule].split() == wanted
        assert "unsafe" not in rules[rule]


def test_numbers_that_json_lacks_are_refused():
    with pytest.raises(ValueError, match="JSON"):
        to_json({"value": float("nan")})


def test_all_assets_are_used():
    from importlib import resources

    files = {file.name for file in resources.files("mt3.evaluation.report_page").joinpath("assets").iterdir()}
    assert files == {"page.html", *page_module._STYLES, *page_module._HEAD_SCRIPTS, *page_module._SCRIPTS}


def test_a_failure_leaves_the_page_that_was_there(page, tmp_path, monkeypatch):
    path = write_report_page(page, tmp_path / "new" / "report")
    before = path.read_bytes()
    assert before.startswith(b"<!DOCTYPE html>")

    def fail(*arguments):
        raise OSError("disk full")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(OSError, match="disk full"):
        write_report_page(page, tmp_path / "new" / "report")
    assert path.read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["index.html"]
