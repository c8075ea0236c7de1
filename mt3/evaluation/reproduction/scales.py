"""How large runs are made: as published, or so small that a table is run through in minutes.

At the toy scale every command is the same, and so are the names of datasets,
tasks and mixtures; the network is tiny, trained for two updates, and each
dataset is a few seconds of made-up music, rendered under the dataset's name.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from mt3.symbolic.conversions import write_midi
from mt3.symbolic.notes import Notes

_TOY_PIECES = 3
_TOY_NOTES = 8
_NOTE_SECONDS = 0.4


@dataclasses.dataclass(frozen=True)
class Scale:
    """What is changed of every training.

    Attributes:
      name: for the command.
      work_dir: where runs are kept unless said otherwise; not the same for two scales.
      gin_files: read after a training's own.
      num_steps: updates in place of the training's.
      makes_data: whether datasets are made up, in the work directory.
      remark: what to think of the scores.
    """

    name: str
    work_dir: Path
    gin_files: tuple[str, ...] = ()
    num_steps: int | None = None
    makes_data: bool = False
    remark: str = ""


SCALES: dict[str, Scale] = {
    scale.name: scale
    for scale in (
        Scale("paper", Path("runs/reproduce")),
        Scale(
            "toy",
            Path("runs/reproduce_toy"),
            gin_files=("toy.gin",),
            num_steps=2,
            makes_data=True,
            remark="toy scale: two updates on made-up music; the scores mean nothing",
        ),
    )
}


def find_scale(name: str) -> Scale:
    """The row of `SCALES` of that name.

    Raises:
      ValueError: there is none.
    """
    if name not in SCALES:
        raise ValueError(f"the scale {name!r} is unknown: choose one of {', '.join(SCALES)}")
    return SCALES[name]


def write_toy_music(directory: Path) -> None:
    """Writes a few MIDI files, the same whenever it is called."""
    directory.mkdir(parents=True, exist_ok=True)
    for number in range(_TOY_PIECES):
        rng = np.random.default_rng(number)
        onsets = _NOTE_SECONDS * np.arange(_TOY_NOTES)
        rows = [
            (onset, onset + _NOTE_SECONDS, int(pitch), 80, 0, False)
            for onset, pitch in zip(onsets.tolist(), rng.integers(48, 84, _TOY_NOTES), strict=True)
        ]
        write_midi(Notes.from_rows(rows).sorted(), directory / f"piece{number}.mid")


def toy_prepare_arguments(dataset: str, music: Path, output: Path) -> list[str]:
    """Of `mt3 prepare`: that music under the name of a dataset, one recording each to train and to test."""
    bindings = {
        "dataset": dataset,
        "instrumentation": "written",
        "num_train": 1,
        "num_validation": 0,
        "num_test": 1,
        "test_fraction": 0.3,
        "min_notes": 1,
    }
    options = [f"--gin.SynthConfig.{name}={value!r}" for name, value in bindings.items()]
    return ["prepare", "synth", "-i", str(music), "-o", str(output), "--workers", "0", *options]
