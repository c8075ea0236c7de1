"""gin files and `--gin.NAME=VALUE` bindings, for the commands that take them.

gin is known in this room only. Everything that a gin file can set is a plain
dataclass or function of the other rooms, listed in `CONFIGURABLES`; adding one
is adding a row. Names in gin files are the names in Python.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import logging
import re
import tokenize
import typing
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gin

import mt3
from mt3.cli.value_types import fits, in_words
from mt3.data.sources import SOURCES

# Name in gin files -> module that defines it.
CONFIGURABLES: dict[str, str] = {
    "VocabularyConfig": "mt3.symbolic.vocabularies",
    "Tokenizer": "mt3.symbolic.tokenizer",
    "SpectrogramConfig": "mt3.audio.spectrograms",
    "TransformerConfig": "mt3.models.transformer",
    "ModelSpec": "mt3.models.model",
    "ComputeConfig": "mt3.models.compute",
    "DecodingOptions": "mt3.inference.transcriber",
    "ContinuityOptions": "mt3.inference.continuity",
    "parse_instruments": "mt3.symbolic.instrument_names",
    "OptimizerConfig": "mt3.training.optimizers",
    **{row.config: row.module for row in SOURCES.values()},
    "AugmentationConfig": "mt3.data.augmentation",
    "TrainingRun": "mt3.cli.runs",
    "EvaluationRun": "mt3.cli.evaluation_runs",
    "SummaryConfig": "mt3.evaluation.recording_summaries",
    "CheckpointConfig": "mt3.training.checkpoints",
    "GuardConfig": "mt3.training.guards",
    "InitialParameters": "mt3.training.initialization",
    "MeshConfig": "mt3.training.partitioning",
    "mixture_datasets": "mt3.data.mixtures",
    "mixture_name": "mt3.data.mixtures",
    "prepared_recordings": "mt3.cli.evaluation_runs",
    "rendered_recordings": "mt3.cli.evaluation_runs",
    "seqio_batches": "mt3.data.seqio_batches",
    "stream_batches": "mt3.cli.runs",
    "task_recordings": "mt3.cli.evaluation_runs",
}

# Longer than any value written out; gin breaks lines that are longer.
_ONE_LINE = 1 << 16


def configs_directory() -> Path:
    """Where the shipped gin files are: inside the installed package, or beside it in a checkout."""
    package = Path(mt3.__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


def shipped_files() -> list[str]:
    """Names of the gin files in `configs_directory()`."""
    return sorted(path.name for path in configs_directory().glob("*.gin"))


@functools.cache
def register() -> None:
    """Makes the rows of `CONFIGURABLES` known to gin."""
    for name, module in CONFIGURABLES.items():
        target = _target(name)
        gin.external_configurable(_constructor(target), name=name, module=module.removeprefix("mt3."))


def _target(name: str) -> Callable[..., Any]:
    return getattr(importlib.import_module(CONFIGURABLES[name]), name)


def _constructor(target: Callable[..., Any]) -> Callable[..., Any]:
    # gin would put a subclass in a class's place, and instances of the two
    # would never be equal; a function with its signature makes real ones.
    hints = typing.get_type_hints(target)

    def make(*args: Any, **kwargs: Any) -> Any:
        for name, value in kwargs.items():
            if name in hints and not fits(value, hints[name]):
                raise ValueError(f"{target.__name__}.{name} is {value!r}: give {in_words(hints[name])}")
        return target(*args, **kwargs)

    make.__name__ = make.__qualname__ = target.__name__
    make.__doc__ = target.__doc__
    make.__signature__ = inspect.signature(target)  # type: ignore[attr-defined]
    return make


def parse(files: Sequence[str], bindings: Sequence[str], search_paths: Sequence[str] = ()) -> None:
    """Reads gin files, then bindings of the form NAME=VALUE; what was parsed before is forgotten.

    Raises:
      ValueError: a file is missing, or a name or a value is not right; the
        message says which.
    """
    register()
    gin.clear_config(clear_constants=True)
    for directory in (*search_paths, str(configs_directory())):
        _search(directory)
    for file in files:
        _parse(lambda file=file: gin.parse_config_file(file), f"gin file {file}")
    for binding in bindings:
        name, equals, value = binding.partition("=")
        if not (name.strip() and equals and value.strip()):
            raise ValueError(
                f"--gin.{binding}: write --gin.NAME=VALUE, text in two pairs of quotes: --gin.NAME=\"'text'\""
            )
        _parse(lambda line=f"{name} = {value}": gin.parse_config(line), f"--gin.{binding}")
        if "." not in name and not re.search(rf"%{re.escape(name.strip())}\b", gin.config_str()):
            raise ValueError(
                f"--gin.{binding}: no gin file uses a macro {name.strip()}; "
                "parameters are written with what they belong to, as in --gin.TrainingRun.num_steps=100"
            )


def build(name: str) -> Any:
    """Calls the configurable of that name with what the gin files bind.

    Raises:
      ValueError: something that it needs is not bound, or a bound value is refused.
    """
    return _parse(gin.get_configurable(name), f"building {name} from the gin configuration")


def resolved() -> str:
    """All that is bound, and the defaults of what has been built, as a gin file that builds it again."""
    # What has been called is in the operative configuration only, what will be called later in the other.
    bound = _bindings(gin.config_str(max_line_length=_ONE_LINE))
    bindings = bound | _bindings(gin.operative_config_str(max_line_length=_ONE_LINE))
    blocks: dict[str, list[str]] = {}
    for name in sorted(bindings, key=lambda name: ("." in name, name)):  # macros come first
        blocks.setdefault(name.rpartition(".")[0], []).append(f"{name} = {bindings[name]}\n")
    return "\n".join("".join(block) for block in blocks.values())


def _bindings(text: str) -> dict[str, str]:
    """NAME -> VALUE of a gin file whose bindings are one line each."""
    lines = (line.partition(" = ") for line in text.splitlines() if not line.startswith("#"))
    return {name: value for name, equals, value in lines if equals}


def bindings_from(arguments: Sequence[str]) -> list[str]:
    """NAME=VALUE of each `--gin.NAME=VALUE`.

    Raises:
      ValueError: an argument is something else.
    """
    prefix = "--gin."
    for argument in arguments:
        if not argument.startswith(prefix):
            raise ValueError(f"{argument} is not an option of this command; see --help")
    return [argument.removeprefix(prefix) for argument in arguments]


@functools.cache
def _search(directory: str) -> None:
    # gin keeps its search paths for the life of the process.
    gin.add_config_file_search_path(directory)


@contextlib.contextmanager
def _without_search_messages() -> Iterator[None]:
    # gin logs an error for every place where it looks for a file in vain.
    root, silent = logging.getLogger(), logging.NullHandler()

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("Path not found: ")

    root.addHandler(silent)  # otherwise the first message installs one for good
    root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)
        root.removeHandler(silent)


def _parse(action: Callable[[], Any], where: str) -> Any:
    try:
        with _without_search_messages():
            return action()
    except (
        ValueError,
        TypeError,
        SyntaxError,
        NameError,
        OSError,
        tokenize.TokenError,
        RuntimeError,
    ) as error:
        raise ValueError(f"{where}: {_explain(error)}") from error


def _explain(error: Exception) -> str:
    """What is wrong, and the remedy where gin and Python do not say it."""
    # gin appends a trace of scopes to the message; its first line says what is wrong.
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    if isinstance(error, tokenize.TokenError):
        return "a bracket or a quote is not closed"
    if unset := re.search(r"In call to configurable 'macro' .* in scope '(.+?)'", str(error)):
        return f"%{unset[1]} is used, but not set; set it with --gin.{unset[1]}=VALUE"
    for pattern, remedy in _REMEDIES.items():
        if found := re.match(pattern, reason):
            return f"{found[0].rstrip('. ')}; {remedy(found)}"
    return reason


# Messages of gin and Python, as far as they are shown -> what to do.
_REMEDIES: dict[str, Callable[[re.Match[str]], str]] = {
    r"malformed node or string": lambda found: (
        "text needs quotes, on a command line within other quotes: \"'text'\""
    ),
    r"Unable to parse value.*|Expected newline.*|invalid syntax.*": lambda found: (
        "values are those of Python, or @NAME, @NAME() and %NAME"
    ),
    r"No configurable matching .*": lambda found: f"there are {', '.join(CONFIGURABLES)}",
    r"Configurable '(.+)' doesn't have a parameter.*": lambda found: (
        f"its parameters are {', '.join(inspect.signature(_target(found[1])).parameters)}"
    ),
    r"Unable to open file: [^ ]+": lambda found: (
        f"it is neither here nor among the shipped ones: {', '.join(shipped_files())}"
    ),
    r"(\w+)(?:\.__init__)?\(\) missing .*": lambda found: (
        f"bind them in a gin file or with --gin.{found[1]}.NAME=VALUE"
    ),
}
