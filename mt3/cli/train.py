"""`mt3 train`: a training run from gin files."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Annotated

import typer

from mt3.cli.options import (
    Coordinator,
    Distributed,
    GinFiles,
    GinSearchPaths,
    NumProcesses,
    ProcessIndex,
)

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
    mesh: Annotated[
        str | None,
        typer.Option(help="How devices share the work: single, data, fsdp or fsdp+model."),
    ] = None,
    distributed: Distributed = False,
    coordinator: Coordinator = None,
    num_processes: NumProcesses = None,
    process_index: ProcessIndex = None,
    resume: Annotated[
        bool, typer.Option(help="Whether a directory with checkpoints is resumed or refused.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print the resolved configuration and stop.")
    ] = False,
) -> None:
    """Train a model as gin files say; --gin.NAME=VALUE overrides what they say."""
    from mt3.cli import configuration
    from mt3.cli.runtime import exit_code_of_sigterm, join_processes, quiet_tensorflow, start_jax

    bindings = configuration.bindings_from(context.args)
    if mesh is not None:
        bindings.append(f"TrainingRun.mesh={mesh!r}")
    quiet_tensorflow()
    # The loop saves and stops; before it, there is nothing to save.
    with (
        exit_code_of_sigterm(RESUMABLE_EXIT_CODE),
        join_processes(distributed, coordinator, num_processes, process_index),
    ):
        configuration.parse(gin_files, bindings, gin_search_paths)
        start_jax()
        interruption = _train(run_dir, resume, dry_run)
    if interruption:
        raise typer.Exit(RESUMABLE_EXIT_CODE)


def _train(run_dir: Path, resume: bool, dry_run: bool) -> bool:
    """Trains, and says how far it came; returns whether a signal ended it before its time."""
    from mt3.cli import configuration
    from mt3.training import multihost
    from mt3.training.loop import TrainingInterrupted

    run = configuration.build("TrainingRun")
    batches = run.open_batches()
    message, interrupted = "", False
    with contextlib.ExitStack() as stack:
        stack.callback(getattr(batches, "close", lambda: None))
        config_text = configuration.resolved()
        if dry_run:
            message = config_text
        else:
            try:
                state = run.run(batches, run_dir, config_text=config_text, resume=resume)
                message = f"{run_dir}: trained to step {int(state.step)}"
            except TrainingInterrupted as interruption:
                message, interrupted = f"mt3: {interruption}", True
    if multihost.is_primary():
        typer.echo(message, err=interrupted)
    return interrupted
