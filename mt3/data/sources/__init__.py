"""The datasets that can be prepared: a file and a row of `SOURCES` each."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable
from typing import Any


@dataclasses.dataclass(frozen=True)
class Source:
    """Where the code of a dataset is; imported when it is asked for.

    Attributes:
      module: of the source.
      config: name of its configuration, a frozen dataclass.
      prepare: name of its function (config, output_dir, *, workers, strict,
        overwrite, ...) -> {split: manifest}.
      description: one line for people.
    """

    module: str
    config: str
    prepare: str
    description: str

    def load_config(self) -> type[Any]:
        """The configuration's class."""
        return getattr(importlib.import_module(self.module), self.config)

    def load_prepare(self) -> Callable[..., Any]:
        """The function that prepares the dataset."""
        return getattr(importlib.import_module(self.module), self.prepare)


SOURCES: dict[str, Source] = {
    "synth": Source(
        "mt3.data.sources.synth",
        "SynthConfig",
        "prepare_synth",
        "real scores (music21's corpus or any MIDI files), arranged and rendered with SoundFonts",
    ),
}


def find_source(name: str) -> Source:
    """A source by its dataset's name.

    Raises:
      ValueError: when there is none of that name.
    """
    if name not in SOURCES:
        raise ValueError(f"The dataset {name!r} is unknown; choose one of {', '.join(SOURCES)}.")
    return SOURCES[name]
