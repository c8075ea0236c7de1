"""The rooms import only what docs/architecture.md allows."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import mt3

PACKAGE = Path(mt3.__file__).parent
ROOMS = ("symbolic", "audio", "models", "inference", "evaluation", "data", "training", "web", "cli")
HEAVY = {"tensorflow", "seqio", "note_seq", "apache_beam"}
TENSORFLOW_FILES = {"data/tasks.py", "data/features.py", "data/seqio_preprocessors.py"}
BEAM_FILES = {"data/beam_pipeline.py", "data/beam_worker.py"}


def imported_modules(file: Path) -> set[str]:
    """All modules that a file imports, at its top or inside functions."""
    modules = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return modules


def files_of(room: str) -> list[Path]:
    return sorted((PACKAGE / room).rglob("*.py"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_imports_only_rooms_above_it(room):
    forbidden = set(ROOMS[ROOMS.index(room) + 1 :])
    if room == "training":
        forbidden.add("data")
    if room == "web":
        forbidden |= {"data", "training"}
    for file in files_of(room):
        rooms = {name.split(".")[1] for name in imported_modules(file) if name.startswith("mt3.")}
        assert not rooms & forbidden, f"{file} imports {rooms & forbidden}"


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "cli"])
def test_tensorflow_stays_in_its_files(room):
    for file in files_of(room):
        if str(file.relative_to(PACKAGE)) in TENSORFLOW_FILES | BEAM_FILES:
            continue
        heavy = {name.split(".")[0] for name in imported_modules(file)} & HEAVY
        assert not heavy, f"{file} imports {heavy}"


@pytest.mark.parametrize(
    ("module", "excluded"),
    [
        ("mt3", {"numpy", "jax", *HEAVY}),
        ("mt3.inference.transcriber", HEAVY),
        ("mt3.inference.formats", HEAVY | {"jax", "scipy", "soundfile", "PIL"}),
        ("mt3.training.loop", HEAVY),
        ("mt3.data.stream", HEAVY | {"music21"}),
        ("mt3.data.records", HEAVY | {"jax"}),
        ("mt3.symbolic.tokenizer", HEAVY | {"jax", "scipy"}),
        ("mt3.symbolic.conversions", HEAVY | {"jax", "pretty_midi"}),
        ("mt3.evaluation.metrics", HEAVY | {"jax", "mir_eval"}),
        ("mt3.cli.main", HEAVY | {"jax", "numpy", "scipy"}),
    ],
)
def test_importing_pulls_in_nothing_heavy(module, excluded):
    program = f"import {module}, sys; print(*(m for m in {sorted(excluded)!r} if m in sys.modules))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
