"""What the pages show works: commands parse, and the examples of transcription run, in order.

Examples may use without further ado: the run `runs/quickstart/run`, any audio file that
they name, and `samples`, mono float32 at 44100 Hz.
"""

import ast
import functools
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest
import typer

from mt3.audio.io import write_audio
from mt3.audio.spectrograms import SpectrogramConfig
from mt3.cli.main import app
from mt3.inference import transcriber
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.transformer import TransformerConfig
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

SAMPLE_RATE = 44100
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg")
RUN = "runs/quickstart/run"

SPEC = ModelSpec(
    network=TransformerConfig(
        vocab_size=640,
        emb_dim=16,
        num_heads=2,
        head_dim=8,
        mlp_dim=16,
        num_encoder_layers=1,
        num_decoder_layers=1,
    ),
    spectrogram=SpectrogramConfig(num_mel_bins=32),
    tokenizer=Tokenizer(VocabularyConfig(num_velocity_bins=1, max_shift_seconds=1)),
    input_frames=64,
    max_target_tokens=16,
)


def blocks(page, language):
    """The fenced blocks of a page in one language."""
    return [text for name, text in FENCED.findall(page.read_text(encoding="utf-8")) if name == language]


def commands(page):
    """The arguments of each `mt3 ...` in the shell blocks of a page, alone or in a pipeline."""
    for block in blocks(page, "bash"):
        for line in block.replace("\\\n", " ").splitlines():
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.whitespace_split = True
            words, command = [*lexer, ";"], []
            for word in words:
                if set(word) <= set("|&;()<>"):
                    if command[:1] == ["mt3"]:
                        yield command[1:]
                    command = []
                else:
                    command.append(word)


@functools.cache
def command_line():
    """`mt3` as Click knows it, but without effects: the list has what each command would be invoked with."""
    contexts = []

    def without_effects(command):
        if hasattr(command, "commands"):
            for child in command.commands.values():
                without_effects(child)
        else:
            command.invoke = contexts.append

    group = typer.main.get_command(app)
    without_effects(group)
    return group, contexts


def parse(arguments):
    """Reads a command line as `mt3` does; returns what no option took.

    Raises:
      an error of Click, when it does not parse.
    """
    group, contexts = command_line()
    group.main(arguments, prog_name="mt3", standalone_mode=False)
    return contexts.pop().args


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_parse(page):
    for arguments in commands(page):
        try:
            left_over = parse(arguments)
        except Exception as error:
            pytest.fail(f"mt3 {shlex.join(arguments)}: {error}")
        unknown = [word for word in left_over if not re.fullmatch(r"--gin\.[\w.]+=.+", word)]
        assert not unknown, f"mt3 {shlex.join(arguments)}: {unknown}"


def test_commands_are_found():
    """And those that do not parse are noticed."""
    assert sum(1 for page in PAGES for _ in commands(page)) > 30
    for wrong in (
        ["transcrib", "a.wav"],
        ["transcribe", "a.wav", "-c", "run", "--speed", "2"],
        ["checkpoint", "export", "x"],
    ):
        with pytest.raises(Exception, match=r"No such (command|option)|Missing parameter"):
            parse(wrong)
    assert parse(["train", "--gin_file", "tiny.gin", "--run-dir", "run", "--mash", "x"]) == ["--mash", "x"]


@pytest.fixture(scope="module")
def params():
    """Of a tiny network, untrained."""
    return TranscriptionModel(SPEC).init(jax.random.key(0))


def audio_files_in(code):
    """Names of audio files in a piece of Python."""
    constants = (node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant))
    return {value for value in constants if isinstance(value, str) and value.endswith(AUDIO_SUFFIXES)}


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", ROOT / "docs" / "transcription.md"], ids=lambda p: p.name
)
def test_examples_run(page, params, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # Reading a run is tested elsewhere, and writing one takes longer than the examples.
    monkeypatch.setattr(transcriber, "load_model", lambda path, hints: {RUN: (SPEC, params)}[str(path)])
    samples = np.random.default_rng(0).normal(0, 0.1, SAMPLE_RATE).astype(np.float32)
    names = {"samples": samples, "__name__": "example"}
    found = blocks(page, "python")
    assert found
    for number, code in enumerate(found):
        for name in audio_files_in(code):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            if not Path(name).exists():
                write_audio(name, samples, SAMPLE_RATE)
        exec(compile(code, f"{page.name}, example {number + 1}", "exec"), names)
