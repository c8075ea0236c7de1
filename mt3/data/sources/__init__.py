"""The datasets that can be prepared: a file and a row of `SOURCES` each."""

from __future__ import annotations

import dataclasses
import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mt3.data.sources.base import Source


@dataclasses.dataclass(frozen=True)
class SourceRow:
    """Where the code of a dataset is; imported when it is asked for.

    Attributes:
      module: whose `SOURCE` it is.
      config: name of the settings in gin files.
      description: one line for people.
      datasets: names of the prepared datasets, first parts of their tasks'
        names; empty where the configuration names it.
    """

    module: str
    config: str
    description: str
    datasets: tuple[str, ...] = ()


SOURCES: dict[str, SourceRow] = {
    "synth": SourceRow(
        "mt3.data.sources.synth",
        "SynthConfig",
        "real scores (music21's corpus or any MIDI files), arranged and rendered with SoundFonts",
    ),
    "slakh": SourceRow(
        "mt3.data.sources.slakh",
        "SlakhConfig",
        "Slakh2100: rendered multi-track music, in random sub-mixes for training",
        ("slakh",),
    ),
    "cerberus4": SourceRow(
        "mt3.data.sources.cerberus4",
        "Cerberus4Config",
        "mixes of a piano, a guitar, a bass and a drum stem of Slakh2100",
        ("cerberus4",),
    ),
    "maestro": SourceRow(
        "mt3.data.sources.maestro",
        "MaestroConfig",
        "MAESTRO v1, v2 or v3: piano performances, from the zip or from Google's TFRecords",
        ("maestrov1", "maestrov2", "maestrov3"),
    ),
    "guitarset": SourceRow(
        "mt3.data.sources.guitarset",
        "GuitarSetConfig",
        "GuitarSet: acoustic guitar, microphone and pickup",
        ("guitarset",),
    ),
    "urmp": SourceRow(
        "mt3.data.sources.urmp", "UrmpConfig", "URMP: chamber music of 2 to 5 players", ("urmp",)
    ),
    "musicnet": SourceRow(
        "mt3.data.sources.musicnet", "MusicNetConfig", "MusicNet: classical recordings", ("musicnet",)
    ),
    "musicnet_em": SourceRow(
        "mt3.data.sources.musicnet_em",
        "MusicNetEmConfig",
        "MusicNet's audio with the realigned labels of MusicNetEM",
        ("musicnet_em",),
    ),
    "folder": SourceRow(
        "mt3.data.sources.folder",
        "FolderConfig",
        "your own recordings: audio beside MIDI, JAMS or CSV files",
    ),
}


def find_source(name: str) -> Source:
    """A source by the name of its command.

    Raises:
      ValueError: when there is none of that name.
    """
    if name not in SOURCES:
        raise ValueError(f"The dataset {name!r} is unknown; choose one of {', '.join(SOURCES)}.")
    return importlib.import_module(SOURCES[name].module).SOURCE


def preparing_command(dataset: str) -> str:
    """The command that prepares a dataset, by the dataset's name."""
    for name, row in SOURCES.items():
        if dataset == name or dataset in row.datasets:
            return f"mt3 prepare {name}"
    return f"mt3 prepare folder --gin.FolderConfig.dataset=\"'{dataset}'\""
