"""`mt3 prepare NAME`: a dataset's records, one subcommand a source."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mt3.cli.options import GinFiles, GinSearchPaths

app = typer.Typer(help="Prepare a dataset: records, splits and manifests.", no_args_is_help=True)

WITH_BINDINGS = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.callback()
def _prepare() -> None:
    # With a callback, one subcommand is still a subcommand.
    """Prepare a dataset: records, splits and manifests."""


@app.command("synth", context_settings=WITH_BINDINGS)
def prepare_synth_command(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for records and manifests.")],
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            "-i",
            help="A folder or zip of MIDI files, or a collection of music21: bach_chorales, string_quartets, "
            "folk_songs, fiddle_tunes; repeatable. Default: what the gin files say, else bach_chorales.",
        ),
    ] = [],  # noqa: B006  (typer copies it)
    gin_files: GinFiles = [],  # noqa: B006
    gin_search_paths: GinSearchPaths = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option(help="Processes; one a core by default.", min=0)] = None,
    shards: Annotated[int, typer.Option(help="Files of the training split.", min=1)] = 4,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail at the first piece that cannot be used.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make finished splits anew.")] = False,
) -> None:
    """Render a Slakh-like dataset from scores or MIDI files.

    What is rendered and how is SynthConfig, set by gin files and --gin.SynthConfig.NAME=VALUE.
    """
    from mt3.cli import configuration
    from mt3.data.sources.synth import prepare_synth

    bindings = configuration.bindings_from(context.args)
    if inputs:
        bindings.append(f"SynthConfig.collections = {inputs!r}")
    configuration.parse(gin_files, bindings, gin_search_paths)
    manifests = prepare_synth(
        configuration.build("SynthConfig"),
        output,
        workers=workers,
        num_shards=shards,
        strict=strict,
        overwrite=overwrite,
    )
    for split, manifest in manifests.items():
        typer.echo(
            f"{split}: {manifest.num_recordings} recordings, {manifest.seconds / 60:.1f} minutes, "
            f"{manifest.num_notes} notes, {len(manifest.skipped)} skipped"
        )
    for item in dict.fromkeys(item for manifest in manifests.values() for item in manifest.skipped):
        typer.echo(f"mt3: skipped {item.item}: {item.reason}", err=True)
