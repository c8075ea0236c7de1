"""`mt3 prepare NAME`: a dataset's records, one subcommand a source, all with the same options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mt3.cli.options import GinFiles, GinSearchPaths
from mt3.data.sources import SOURCES, find_source

if TYPE_CHECKING:
    from mt3.data.manifests import Manifest
    from mt3.data.sources.base import Source

app = typer.Typer(help="Prepare a dataset: records, splits and manifests.", no_args_is_help=True)

# Left over after the command's own options are `--gin.NAME=VALUE` bindings and Beam's flags.
WITH_MORE = {"allow_extra_args": True, "ignore_unknown_options": True}


@app.callback()
def _prepare() -> None:
    """Prepare a dataset: records, splits and manifests."""


def prepare_command(
    context: typer.Context,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for records and manifests.")],
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            "-i",
            help="Folder or archive (zip, tar, tar.gz) of the published dataset, or a folder of its "
            "archives; repeatable. For synth: folders or zips of MIDI files, or collections of music21.",
        ),
    ] = [],  # noqa: B006  (typer copies it)
    splits: Annotated[
        list[str], typer.Option("--splits", help="Only these: train, validation, test; repeatable.")
    ] = [],  # noqa: B006
    limit: Annotated[int | None, typer.Option(help="Only the first so many items a split.", min=1)] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be made, and how much disk and time it takes.")
    ] = False,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch the published archives into the input folder first.")
    ] = False,
    variant: Annotated[str, typer.Option(help="Which version or part to download, where several are.")] = "",
    mirror: Annotated[str, typer.Option(help="Download from this URL, where the same files lie.")] = "",
    gin_files: GinFiles = [],  # noqa: B006
    gin_search_paths: GinSearchPaths = [],  # noqa: B006
    workers: Annotated[int | None, typer.Option(help="Processes; one a core by default.", min=0)] = None,
    shards: Annotated[int | None, typer.Option(help="Files a split; by its size by default.", min=1)] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail at the first input that cannot be used.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make finished splits anew.")] = False,
) -> None:
    from mt3.cli import configuration
    from mt3.data import prepare as preparing

    name = str(context.info_name)
    source = find_source(name)
    bindings, flags = _sort_out(context.args)
    configuration.parse(gin_files, bindings, gin_search_paths)
    config = configuration.build(SOURCES[name].config)
    if download:
        _download(source, inputs, variant, mirror, output)
    elif not inputs and name != "synth":
        raise ValueError(
            f"Name the folder or archive of the published dataset: --input DIR. {_access(source)}"
        )
    if dry_run:
        plan = preparing.make_plan(source, config, inputs, output, workers=workers or 0, strict=strict)
        _say_estimate(source, preparing.narrow(plan, splits or None, limit), workers)
        return
    manifests = preparing.prepare(
        source,
        config,
        inputs,
        output,
        splits=splits or None,
        limit=limit,
        num_shards=shards,
        workers=workers,
        strict=strict,
        overwrite=overwrite,
        runner_flags=flags,
    )
    _say_result(manifests)


for _name, _row in SOURCES.items():
    app.command(
        _name,
        context_settings=WITH_MORE,
        help=f"Prepare {_row.description}. Settings are {_row.config}'s, set by gin files and "
        f"--gin.{_row.config}.NAME=VALUE. Other flags, such as --runner, go to Apache Beam.",
        short_help=_row.description,
    )(prepare_command)


def _sort_out(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """gin bindings, and flags of Beam (checked here: a misspelt option is told before any work)."""
    from mt3.cli.configuration import bindings_from

    bindings = bindings_from([argument for argument in arguments if argument.startswith("--gin.")])
    flags = [argument for argument in arguments if not argument.startswith("--gin.")]
    if flags:
        from mt3.data.beam_pipeline import check_flags

        check_flags(flags)
    return bindings, flags


def _download(source: Source, inputs: list[str], variant: str, mirror: str, output: Path) -> None:
    from mt3.data.downloads import download_all

    if not inputs:
        inputs.append(str(output / "downloads"))
    typer.echo(f"mt3: the licence of {source.name}: {source.licence}", err=True)
    download_all(source, Path(inputs[0]), variant=variant, mirror=mirror)


def _access(source: Source) -> str:
    where = f"It is published at {source.homepage}." if source.homepage else ""
    how = "--download fetches it." if source.downloads else source.access
    return f"{where} {how}".strip()


def _say_estimate(source: Source, plan: Any, workers: int | None) -> None:
    from mt3.data.estimate import estimate
    from mt3.processes import available_cores

    cores = max(1, available_cores() if workers is None else workers)
    for split, found in estimate(source, plan).items():
        typer.echo(
            f"{split}: {found.num_items} items, about {found.num_recordings:.0f} recordings, "
            f"{found.audio_seconds / 3600:.1f} hours, {found.num_bytes / 1e9:.2f} GB, "
            f"{found.core_seconds / cores / 60:.1f} minutes on {cores} cores "
            f"(from {found.num_sampled} of the items)"
        )
        for failure in found.failures:
            typer.echo(f"mt3: would skip {failure}", err=True)
    for skip in plan.skipped:
        typer.echo(f"mt3: would skip {skip.item}: {skip.reason}", err=True)


def _say_result(manifests: Mapping[str, Manifest]) -> None:
    for split, manifest in manifests.items():
        faults = sum(skip.is_fault for skip in manifest.skipped)
        left_out = len(manifest.skipped) - faults
        typer.echo(
            f"{split}: {manifest.num_recordings} recordings, {manifest.seconds / 60:.1f} minutes, "
            f"{manifest.num_notes} notes"
            + (f", {left_out} left out by rule" if left_out else "")
            + f", {faults} skipped"
            + "".join(f", {name}: {count}" for name, count in manifest.corrections.items())
        )
    skips = dict.fromkeys(skip for manifest in manifests.values() for skip in manifest.skipped)
    for skip in skips:
        if skip.is_fault:
            typer.echo(f"mt3: skipped {skip.item}: {skip.reason}", err=True)
