"""What holds for all commands: help, version, errors."""

import json
import subprocess
import sys

import pytest

import mt3 as package
from mt3.cli import main

COMMANDS = (
    (),
    ("prepare",),
    ("prepare", "synth"),
    ("train",),
    ("eval",),
    ("transcribe",),
    ("score",),
    ("data",),
    ("data", "export"),
)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(mt3, command):
    outcome = mt3(*command, "--help")
    assert outcome.code == 0
    assert "Usage: mt3" in outcome.out
    assert outcome.err == ""


def test_help_names_all_commands(mt3):
    out = mt3("--help").out
    for command in ("prepare", "train", "eval", "transcribe", "score", "data"):
        assert f" {command} " in out


def test_no_arguments_are_answered_with_help(mt3):
    assert "Usage: mt3" in mt3().out


def test_version(mt3):
    outcome = mt3("--version")
    assert (outcome.code, outcome.out) == (0, f"mt3 {package.__version__}\n")


def test_unknown_command(mt3):
    outcome = mt3("transcript", "song.wav")
    assert outcome.code == 2
    assert "No such command 'transcript'" in outcome.err
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("argument", ["--help", "--version"])
def test_help_imports_no_array_libraries(argument):
    """It answers at once."""
    program = (
        "import json, sys\nfrom mt3.cli.main import main\n"
        "try: main()\nexcept SystemExit: pass\n"
        "print(json.dumps([name for name in ('jax', 'numpy', 'tensorflow', 'gin') if name in sys.modules]))"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, argument], capture_output=True, text=True, check=True
    )
    assert json.loads(result.stdout.splitlines()[-1]) == []


def test_tracebacks_on_demand(mt3, monkeypatch, tmp_path):
    monkeypatch.setenv("MT3_TRACEBACK", "1")
    with pytest.raises(OSError, match="does not exist"):
        mt3("score", tmp_path / "none.mid", tmp_path / "none.mid")


def test_defects_show_as_such(mt3, monkeypatch):
    def defect(**options):
        raise ZeroDivisionError

    monkeypatch.setattr(main, "app", defect)
    with pytest.raises(ZeroDivisionError):
        mt3()


@pytest.mark.parametrize("message", ["two\nlines", "two lines"])
def test_errors_are_one_line(mt3, monkeypatch, message):
    def fail(**options):
        raise OSError(message)

    monkeypatch.setattr(main, "app", fail)
    assert mt3().error() == "mt3: error: two lines"
