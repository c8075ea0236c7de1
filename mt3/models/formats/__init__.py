"""The formats that checkpoints are read from and written to: a file and a row of `FORMATS` each."""

from __future__ import annotations

import dataclasses
import importlib
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mt3.models.formats.base import Format, StoredModel


@dataclasses.dataclass(frozen=True)
class FormatRow:
    """Where the code of a format is; imported when it is needed.

    Attributes:
      module: whose `FORMAT` it is.
      description: a few words for people.
    """

    module: str
    description: str


# In the order in which a path is tried; the last takes what is none of the others, or says what is wrong.
FORMATS: dict[str, FormatRow] = {
    "t5x": FormatRow("mt3.models.formats.t5x", "T5X checkpoint"),
    "safetensors": FormatRow("mt3.models.formats.safetensors", "safetensors file"),
    "npz": FormatRow("mt3.models.formats.npz", "NumPy archive"),
    "pytorch": FormatRow("mt3.models.formats.pytorch", "PyTorch state dictionary"),
    "run": FormatRow("mt3.models.formats.run", "checkpoint of a run"),
}


def get_format(name: str) -> Format:
    """A format by its name.

    Raises:
      ValueError: there is none of that name.
    """
    if name not in FORMATS:
        raise ValueError(f"format is {name!r}: choose one of {', '.join(FORMATS)}")
    return importlib.import_module(FORMATS[name].module).FORMAT


def find_format(path: str | Path) -> str:
    """The name of the format of a path."""
    *others, last = FORMATS
    if not Path(path).exists():
        return last
    return next((name for name in others if get_format(name).recognizes(Path(path))), last)


def open_model(path: str | Path) -> StoredModel:
    """Opens a checkpoint of any format; its arrays are read when they are needed.

    Raises:
      CheckpointError: it cannot be opened; says why, on one line.
    """
    return get_format(find_format(path)).open(Path(path).absolute())


def write_model(path: str | Path, model: StoredModel, name: str) -> None:
    """Writes a model in a format, array by array, whole or not at all.

    Raises:
      ValueError: the format is not written.
      CheckpointError: there is something at `path` already, or an array cannot be read.
    """
    from mt3.models.checkpoints import CheckpointError

    write = get_format(name).write
    if write is None:
        written = ", ".join(row for row in FORMATS if get_format(row).write is not None)
        raise ValueError(f"format {name!r} is only read: choose one of {written}")
    path = Path(path).absolute()
    if path.exists():
        raise CheckpointError(f"{path} is there already: remove it or choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, model)
