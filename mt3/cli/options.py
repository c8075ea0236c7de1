"""Options that several commands take."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mt3.models.loading import ModelHints

GinFiles = Annotated[
    list[str],
    typer.Option(
        "--gin_file",
        help="A gin file, looked for here and among the shipped ones; repeatable, later ones win.",
    ),
]
GinSearchPaths = Annotated[
    list[str],
    typer.Option("--gin_search_paths", help="Further directories to look for gin files in; repeatable."),
]

Checkpoint = Annotated[
    Path,
    typer.Option(
        "--checkpoint",
        "-c",
        help="A run's directory or one of its checkpoints, a T5X directory, a .safetensors, .npz or .pth.",
    ),
]
Preset = Annotated[
    str | None,
    typer.Option(help="Of a checkpoint that does not say what its model is: mt3 or ismir2021."),
]
Heads = Annotated[
    int | None, typer.Option(help="Of such a checkpoint: attention heads, one for 64 if not given.")
]
SpecFile = Annotated[
    Path | None, typer.Option("--spec", help="A model.json, in place of what a checkpoint says of its model.")
]

Distributed = Annotated[
    bool,
    typer.Option("--distributed", help="One of several processes, as SLURM, Open MPI or TPU VMs say."),
]
Coordinator = Annotated[
    str | None,
    typer.Option(help="One of several processes: HOST:PORT at which the first one listens."),
]
NumProcesses = Annotated[int | None, typer.Option(help="With --coordinator: how many there are.", min=1)]
ProcessIndex = Annotated[
    int | None, typer.Option(help="With --coordinator: which this one is, from 0.", min=0)
]


def model_hints(preset: str | None, heads: int | None, spec_file: Path | None) -> ModelHints:
    """What the three options say.

    Raises:
      ValueError: they exclude each other, or the file is no model's spec.
    """
    from mt3.models.loading import ModelHints
    from mt3.models.model import ModelSpec

    spec = None
    if spec_file is not None:
        try:
            spec = ModelSpec.from_dict(json.loads(spec_file.read_text(encoding="utf-8")))
        except (ValueError, TypeError, AttributeError, KeyError) as error:
            raise ValueError(
                f"{spec_file} is no spec of a model: {error}. Give a run's model.json"
            ) from error
    return ModelHints(preset, heads, spec)
