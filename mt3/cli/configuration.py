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
import tokenize
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import gin

import mt3

# Name in gin files -> module that defines it.
CONFIGURABLES: dict[str, str] = {
    "VocabularyConfig": "mt3.symbolic.vocabularies",
    "Tokenizer": "mt3.symbolic.tokenizer",
    "SpectrogramConfig": "mt3.audio.spectrograms",
    "TransformerConfig": "mt3.models.transformer",
    "ModelSpec": "mt3.models.model",
    "DecodingOptions": "mt3.inference.transcriber",
    "OptimizerConfig": "mt3.training.optimizers",
    "SynthConfig": "mt3.data.sources.synth",
    "AugmentationConfig": "mt3.data.augmentation",
    "TrainingRun": "mt3.cli.runs",
    "EvaluationRun": "mt3.cli.runs",
    "CheckpointConfig": "mt3.training.checkpoints",
    "MeshConfig": "mt3.training.partitioning",
    "prepared_recordings": "mt3.cli.runs",
    "rendered_recordings": "mt3.cli.runs",
    "seqio_batches": "mt3.data.seqio_batches",
    "stream_batches": "mt3.cli.runs",
}


def configs_directory() -> Path:
    """Where the shipped gin files are: inside the installed package, or beside it in a checkout."""
    package = Path(mt3.__file__).parent
    installed = package / "configs"
    return installed if installed.is_dir() else package.parent / "configs"


@functools.cache
def register() -> None:
    """Makes the rows of `CONFIGURABLES` known to gin."""
    for name, module in CONFIGURABLES.items():
        target = getattr(importlib.import_module(module), name)
        gin.external_configurable(_constructor(target), name=name, module=module.split(".", 1)[1])


def _constructor(target: Callable[..., Any]) -> Callable[..., Any]:
    # gin would put a subclass in a class's place, and instances of the two
    # would never be equal; a function with its signature makes real ones.
    def make(*args: Any, **kwargs: Any) -> Any:
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
        if not (name.strip() and equals):
            raise ValueError(
                f"--gin.{binding}: write --gin.NAME=VALUE, text in two pairs of quotes: --gin.NAME=\"'text'\""
            )
        _parse(lambda line=f"{name} = {value}": gin.parse_config(line), f"--gin.{binding}")


def build(name: str) -> Any:
    """Calls the configurable of that name with what the gin files bind.

    Raises:
      ValueError: something that it needs is not bound, or a bound value is refused.
    """
    return _parse(gin.get_configurable(name), f"building {name} from the gin configuration")


def resolved() -> str:
    """All parameters of what has been built, defaults included, as a gin file that builds it again."""
    return gin.operative_config_str()


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
        # gin appends a trace of scopes to the message; its first line says what is wrong.
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ValueError(f"{where}: {reason}") from error
