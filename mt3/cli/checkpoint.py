"""`mt3 checkpoint`: checkpoints of other programs in and out, and what is in one."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mt3.cli.options import GinFiles, GinSearchPaths, Heads, Preset, SpecFile, model_hints

if TYPE_CHECKING:
    from mt3.models.formats.base import StoredArray, StoredModel
    from mt3.models.loading import ModelHints

app = typer.Typer(no_args_is_help=True, help="Import, export and show checkpoints; see docs/checkpoints.md.")

Source = Annotated[
    Path,
    typer.Argument(
        help="A run's directory or one of its checkpoints, a T5X directory, a .safetensors, .npz or .pth."
    ),
]


@app.command("import", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def import_command(
    context: typer.Context,
    path: Source,
    output: Annotated[Path, typer.Option("--output", "-o", help="The directory of the run to be made.")],
    preset: Preset = None,
    heads: Heads = None,
    spec_file: SpecFile = None,
    gin_files: GinFiles = [],  # noqa: B006  (typer copies it)
    gin_search_paths: GinSearchPaths = [],  # noqa: B006
    optimizer: Annotated[
        bool, typer.Option(help="Whether optimizer slots, where there are any, are taken over.")
    ] = True,
) -> None:
    """Make a run of a checkpoint: it transcribes, and training goes on from it.

    With gin files the model is their ModelSpec, the optimizer their OptimizerConfig.
    """
    from mt3.cli import configuration
    from mt3.cli.runtime import start_jax
    from mt3.models.loading import ModelHints, spec_of
    from mt3.training.t5x_checkpoints import import_run, open_with_slots

    hints, optimizer_config, config_text = model_hints(preset, heads, spec_file), None, None
    bindings = configuration.bindings_from(context.args)
    if gin_files or bindings:
        if hints != ModelHints():
            raise ValueError("gin files say what the model is: leave out --preset, --heads and --spec")
        configuration.parse(gin_files, bindings, gin_search_paths)
        hints = ModelHints(spec=configuration.build("ModelSpec"))
        optimizer_config = configuration.build("OptimizerConfig")
        config_text = configuration.resolved()
    start_jax()
    stored = open_with_slots(path)
    step = import_run(
        stored,
        spec_of(stored, hints),
        output,
        optimizer=optimizer_config,
        with_optimizer=optimizer,
        config_text=config_text,
    )
    took = "with its optimizer slots" if optimizer and stored.slots else "parameters only"
    typer.echo(f"{output}: step {step}, {took}")


@app.command("export")
def export_command(
    path: Source,
    name: Annotated[str, typer.Option("--format", "-f", help="t5x, safetensors or npz.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file or directory to be made.")],
    preset: Preset = None,
    heads: Heads = None,
    spec_file: SpecFile = None,
) -> None:
    """Write a checkpoint in another format; T5X directories get Adafactor's state where there is one."""
    from mt3.models.formats import write_model
    from mt3.models.formats.base import StoredArray
    from mt3.models.loading import read_params, spec_of
    from mt3.models.tree_shapes import named_leaves
    from mt3.training.t5x_checkpoints import open_with_slots

    stored = open_with_slots(path)
    spec = spec_of(stored, model_hints(preset, heads, spec_file))
    checked = {key: StoredArray.of(array) for key, array in named_leaves(read_params(stored, spec)).items()}
    write_model(output, dataclasses.replace(stored, arrays=checked, spec=spec.to_dict()), name)
    slots = "with optimizer slots" if name == "t5x" and stored.slots else "no optimizer slots"
    typer.echo(f"{output}: {len(checked)} parameters, {slots}")


@app.command("show")
def show_command(
    path: Source,
    preset: Preset = None,
    heads: Heads = None,
    spec_file: SpecFile = None,
) -> None:
    """Print shapes, sizes, step and configuration of a checkpoint of any format."""
    from mt3.models.formats import FORMATS, find_format
    from mt3.training.t5x_checkpoints import open_with_slots

    stored = open_with_slots(path)
    step = "step unknown" if stored.step is None else f"step {stored.step}"
    typer.echo(f"{stored.path}: {FORMATS[find_format(path)].description}, {step}")
    width = max(map(len, stored.arrays), default=0)
    for name, array in sorted(stored.arrays.items()):
        shape = " x ".join(map(str, array.shape)) or "scalar"
        typer.echo(f"  {name:{width}}  {array.dtype:8}  {shape:>12}  {_size(array.num_bytes):>10}")
    typer.echo(f"parameters: {_summary(stored.arrays)}")
    typer.echo(f"Adafactor's slots: {_summary(stored.slots) if stored.slots else 'none'}")
    typer.echo(f"configuration: {_configuration(stored, model_hints(preset, heads, spec_file))}")


def _summary(arrays: Mapping[str, StoredArray]) -> str:
    numbers = sum(array.size for array in arrays.values())
    return f"{len(arrays)} arrays, {numbers:,} numbers, {_size(sum(a.num_bytes for a in arrays.values()))}"


def _size(num_bytes: int) -> str:
    size, unit = float(num_bytes), "B"
    for larger in ("KiB", "MiB", "GiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def _configuration(stored: StoredModel, hints: ModelHints) -> str:
    """The model's spec as JSON, or why it is not known: shapes are worth showing all the same."""
    from mt3.models.checkpoints import CheckpointError
    from mt3.models.loading import spec_of

    try:
        return json.dumps(spec_of(stored, hints).to_dict(), indent=2)
    except CheckpointError as error:
        return f"not known: {error}"
