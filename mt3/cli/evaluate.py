"""`mt3 eval`: scores a checkpoint on prepared recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

from mt3.cli.options import Checkpoint, GinFiles, GinSearchPaths, Heads, Preset, SpecFile, model_hints

MetricChoice = Literal["summary", "all"]


def eval_command(
    context: typer.Context,
    checkpoint: Checkpoint,
    gin_files: GinFiles = [],  # noqa: B006  (typer copies it)
    gin_search_paths: GinSearchPaths = [],  # noqa: B006
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="Directory for results.json, results.csv and the transcriptions."
        ),
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, metric name -> value, and nothing else.")
    ] = False,
    metrics: Annotated[
        MetricChoice, typer.Option("--metrics", help="Print the summary or all metrics; the files have all.")
    ] = "summary",
    controls: Annotated[
        bool,
        typer.Option(
            "--controls", help="Also score the untrained network and the training set's commonest notes."
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail at the first recording that cannot be scored.")
    ] = False,
    preset: Preset = None,
    heads: Heads = None,
    spec_file: SpecFile = None,
) -> None:
    """Score a checkpoint on the recordings that the gin files name; --gin.NAME=VALUE overrides them.

    For a prepared split: --gin_file eval.gin --gin.DATA_DIR="'data/synth'" --gin.SPLIT="'test'".
    """
    from mt3.cli import configuration
    from mt3.cli.runtime import start_jax
    from mt3.evaluation.report import SUMMARY_METRICS, describe, format_table
    from mt3.models.loading import load_model

    configuration.parse(gin_files, configuration.bindings_from(context.args), gin_search_paths)
    run = configuration.build("EvaluationRun")
    start_jax()
    spec, params = load_model(checkpoint, model_hints(preset, heads, spec_file))
    result = run.run(
        spec,
        params,
        output_directory=output,
        settings={"checkpoint": str(checkpoint), "configuration": configuration.resolved()},
        strict=strict,
        progress=not as_json,
    )
    if as_json:
        typer.echo(json.dumps(result.scores, indent=2))
        return
    systems = {"trained": result, **run.controls(spec)} if controls else {str(checkpoint): result}
    typer.echo(format_table(systems, metrics=None if metrics == "all" else SUMMARY_METRICS))
    typer.echo(describe(result))
