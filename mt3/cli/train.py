"""`mt3 train`: a training run from gin files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mt3.cli.options import GinFiles, GinSearchPaths

# A run that was stopped by a signal and can be resumed; 75 is EX_TEMPFAIL of sysexits.h.
RESUMABLE_EXIT_CODE = 75


def train_command(
    context: typer.Context,
    run_dir: Annotated[
        Path,
        typer.Option("--run-dir", "-o", help="The run's directory; one that has checkpoints is resumed."),
    ],
    gin_files: GinFiles = [],  # noqa: B006  (typer copies it)
    gin_search_paths: GinSearchPaths = [],  # noqa: B006
    resume: Annotated[
        bool, typer.Option(help="Whether a directory with checkpoints is resumed or refused.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")
    ] = False,
) -> None:
    """Train a model as gin files say; --gin.NAME=VALUE overrides what they say."""
    from mt3.cli import configuration
    from mt3.cli.messages import show_progress_as_lines
    from mt3.cli.runtime import quiet_tensorflow, start_jax
    from mt3.training.loop import TrainingInterrupted

    quiet_tensorflow()
    show_progress_as_lines()
    configuration.parse(gin_files, configuration.bindings_from(context.args), gin_search_paths)
    run = configuration.build("TrainingRun")
    start_jax()
    batches = run.batches(run.spec)
    try:
        config_text = configuration.resolved()
        if dry_run:
            typer.echo(config_text)
            return
        state = run.run(batches, run_dir, config_text=config_text, resume=resume)
    except TrainingInterrupted as interruption:
        typer.echo(f"mt3: {interruption}", err=True)
        raise typer.Exit(RESUMABLE_EXIT_CODE) from None
    finally:
        close = getattr(batches, "close", None)
        if close is not None:
            close()
    typer.echo(f"{run_dir}: trained to step {int(state.step)}")
