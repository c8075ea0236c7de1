"""`mt3 eval`: scores a checkpoint on prepared recordings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mt3.cli.options import (
    Checkpoint,
    Coordinator,
    Distributed,
    GinFiles,
    GinSearchPaths,
    Heads,
    NumProcesses,
    Preset,
    ProcessIndex,
    SpecFile,
    model_hints,
)

if TYPE_CHECKING:
    from mt3.cli.evaluation_runs import EvaluationRun
    from mt3.evaluation.results import EvaluationResult
    from mt3.models.loading import ModelHints

# What is evaluated where no gin file says it.
_DEFAULT_GIN_FILE = "eval.gin"

# Of --metrics: what papers compare first is printed, the published ones are computed.
_SUMMARY = "summary"


def eval_command(
    context: typer.Context,
    checkpoint: Checkpoint,
    gin_files: GinFiles = [],  # noqa: B006  (typer copies it)
    gin_search_paths: GinSearchPaths = [],  # noqa: B006
    tasks: Annotated[
        list[str],
        typer.Option(
            "--task",
            help="What is evaluated, by MT3's name of a task or mixture, e.g. slakh_notes_ties_vb1_test or "
            "mega_notes_ties_vb1_eval; repeatable.",
        ),
    ] = [],  # noqa: B006
    data_dir: Annotated[
        list[Path],
        typer.Option(
            "--data-dir",
            help="Where datasets are prepared, or a directory of such: sets DATA_DIR; repeatable.",
        ),
    ] = [],  # noqa: B006
    max_recordings: Annotated[
        int | None, typer.Option(help="Only the first so many recordings of each dataset.", min=1)
    ] = None,
    metrics: Annotated[
        str,
        typer.Option(
            help="Metrics, or groups of them such as all, to compute and print; with commas between. "
            "summary: compute the published ones, print those that papers compare first.",
        ),
    ] = _SUMMARY,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="Directory for results.json, results.csv and the transcriptions. What it has of the same "
            "checkpoint and data is not transcribed again.",
        ),
    ] = None,
    restart: Annotated[
        bool, typer.Option("--restart", help="Remove earlier results from the output directory.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, metric name -> value, and nothing else.")
    ] = False,
    controls: Annotated[
        bool,
        typer.Option(
            "--controls", help="Also score the untrained network and the training set's commonest notes."
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail at the first recording that cannot be scored.")
    ] = False,
    mesh: Annotated[
        str | None,
        typer.Option(help="How devices share the work: single, data, fsdp or fsdp+model; data by default."),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="Processes that score, 0 for none but this one; what is worth it by default.", min=0
        ),
    ] = None,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_index: ProcessIndex = None,
    preset: Preset = None,
    heads: Heads = None,
    spec_file: SpecFile = None,
) -> None:
    """Score a checkpoint on tasks, or on what gin files say; --gin.NAME=VALUE overrides them.

    mt3 eval -c RUN --data-dir data --task slakh_notes_ties_vb1_test -o results/

    For a prepared split: mt3 eval -c RUN --data-dir data --gin.SPLIT="'test'". Run again, it goes on
    where it was interrupted.
    """
    from mt3.cli import configuration
    from mt3.cli.runtime import join_processes, start_jax
    from mt3.training import multihost

    if restart and output is None:
        raise ValueError("--restart is about an output directory: give --output too")
    bindings = _bindings(tasks, data_dir, max_recordings, metrics, mesh, workers)
    bindings += configuration.bindings_from(context.args)
    with join_processes(distributed, coordinator, num_processes, process_index):
        configuration.parse(gin_files or [_DEFAULT_GIN_FILE], bindings, gin_search_paths)
        run = configuration.build("EvaluationRun")
        start_jax()
        systems = _evaluate(
            run,
            checkpoint,
            hints=model_hints(preset, heads, spec_file),
            settings={"checkpoint": str(checkpoint), "configuration": configuration.resolved()},
            controls=controls and not as_json,
            progress=not as_json,
            output_directory=output,
            restart=restart,
            strict=strict,
        )
        if multihost.is_primary():
            _print(systems, as_json=as_json, summary=metrics == _SUMMARY)


def _bindings(
    tasks: Sequence[str],
    data_dir: Sequence[Path],
    max_recordings: int | None,
    metrics: str,
    mesh: str | None,
    workers: int | None,
) -> list[str]:
    """What options say, as gin bindings."""
    bindings = []
    if tasks:
        bindings += ["EvaluationRun.recordings=@task_recordings", f"task_recordings.task={tuple(tasks)!r}"]
        bindings.append("task_recordings.data_dir=%DATA_DIR")
    if data_dir:
        first, *others = map(str, data_dir)
        bindings.append(f"DATA_DIR={(first, *others) if others else first!r}")
    if metrics != _SUMMARY:
        names = tuple(name.strip() for name in metrics.split(","))
        bindings.append(f"EvaluationRun.metrics={names!r}")
    for name, value in (("max_recordings", max_recordings), ("mesh", mesh), ("workers", workers)):
        if value is not None:
            bindings.append(f"EvaluationRun.{name}={value!r}")
    return bindings


def _evaluate(
    run: EvaluationRun,
    checkpoint: Path,
    *,
    hints: ModelHints,
    settings: Mapping[str, Any],
    controls: bool,
    progress: bool,
    **options: Any,
) -> dict[str, EvaluationResult]:
    """Results by the names of systems; the same in all processes."""
    import jax

    from mt3.evaluation.evaluator import Fellows
    from mt3.models.loading import load_model
    from mt3.training import multihost

    fellows = Fellows(jax.process_index(), jax.process_count(), multihost.Exchange("evaluation"))
    spec, params = load_model(checkpoint, hints)
    result = run.run(spec, params, settings=settings, progress=progress, fellows=fellows, **options)
    if controls:
        return {"trained": result, **run.controls(spec, progress=progress, fellows=fellows)}
    several = result.datasets if len(result.datasets) > 1 else {}
    return {str(checkpoint): result, **several}


def _print(systems: Mapping[str, EvaluationResult], *, as_json: bool, summary: bool) -> None:
    from mt3.evaluation.report import SUMMARY_METRICS, describe, format_table

    result = next(iter(systems.values()))
    if as_json:
        typer.echo(json.dumps(result.scores, indent=2))
        return
    typer.echo(format_table(systems, metrics=SUMMARY_METRICS if summary else None))
    typer.echo(describe(result))
