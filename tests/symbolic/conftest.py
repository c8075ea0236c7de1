"""Shared by the tests of the symbolic room: golden files, and notes from their rows."""

import json
from pathlib import Path

import pytest

from mt3.symbolic.notes import Notes

_GOLDEN = Path(__file__).parents[1] / "golden"


@pytest.fixture(scope="session")
def read_golden():
    """Reads a JSON file of tests/golden."""
    return lambda name: json.loads((_GOLDEN / name).read_text())


@pytest.fixture(scope="session")
def notes_of():
    """Notes of rows as the golden files hold them."""
    fields = ("onset", "offset", "pitch", "velocity", "program", "is_drum")
    return lambda rows: Notes.from_rows(tuple(row[field] for field in fields) for row in rows)
