"""`mt3 score`: files of notes against files of notes, without TensorFlow or JAX."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer


def score_command(
    reference: Annotated[Path, typer.Argument(help="A MIDI file, or a folder of them.", show_default=False)],
    estimate: Annotated[
        Path, typer.Argument(help="The same, by the system to be scored.", show_default=False)
    ],
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, metric name -> value, and nothing else.")
    ] = False,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Directory for results.json and results.csv.")
    ] = None,
    onsets_only: Annotated[bool, typer.Option("--onsets-only", help="Score onsets, not offsets.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail at the first file that cannot be scored.")
    ] = False,
) -> None:
    """Score ESTIMATE against REFERENCE: two files, or two folders matched by file name."""
    from mt3.evaluation.evaluator import score_files
    from mt3.evaluation.report import describe, format_table
    from mt3.evaluation.results import write_results

    result = score_files(reference, estimate, onsets_only=onsets_only, strict=strict, progress=not as_json)
    if output is not None:
        write_results(result, output)
    if as_json:
        typer.echo(json.dumps(result.scores, indent=2))
    else:
        typer.echo(format_table({estimate.name: result}, metrics=None))
        typer.echo(describe(result))
