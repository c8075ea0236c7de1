"""`mt3 reproduce`: the runs behind a published table, and the table with ours beside theirs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mt3.evaluation.reproduction.jobs import Job
    from mt3.evaluation.reproduction.launching import Failure
    from mt3.evaluation.reproduction.states import State

# As `mt3 train`: told to stop, and to be called again.
RESUMABLE_EXIT_CODE = 75


def reproduce_command(
    context: typer.Context,
    table: Annotated[
        str,
        typer.Argument(
            help="Which, such as table2 of the MT3 paper, or ismir2021; a name that is none lists all.",
            show_default=False,
        ),
    ],
    work_dir: Annotated[
        Path | None,
        typer.Option(
            help="Where runs are kept; runs/reproduce by default. Tables share runs.", show_default=False
        ),
    ] = None,
    data_dir: Annotated[
        list[Path], typer.Option("--data-dir", "-d", help="Prepared datasets; repeatable.")
    ] = [Path("data")],  # noqa: B006  (typer copies it)
    cache_dir: Annotated[Path | None, typer.Option(help="Caches of `mt3 data cache`.")] = None,
    scale: Annotated[
        str, typer.Option(help="paper, or toy: tiny networks and made-up music, to see it run.")
    ] = "paper",
    only: Annotated[list[str], typer.Option("--only", help="Only these runs, by name; repeatable.")] = [],  # noqa: B006
    run: Annotated[
        bool, typer.Option("--run/--dry-run", help="Start what is not done, or only say how.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object and nothing else.")] = False,
) -> None:
    """Show a published table with ours beside theirs, and the runs that it takes: done, or to be done.

    --run trains and scores what is not done; interrupted runs go on where they were. Runs may as well be
    started elsewhere, by the commands that are listed. --gin.NAME=VALUE goes to every training.
    """
    from mt3.cli.configuration import bindings_from
    from mt3.cli.runtime import exit_code_of_sigterm
    from mt3.evaluation.reproduction.comparing import compare, comparison_text, comparison_values
    from mt3.evaluation.reproduction.jobs import Settings, make_jobs
    from mt3.evaluation.reproduction.scales import find_scale
    from mt3.evaluation.reproduction.tables import find_table

    chosen_table, chosen_scale = find_table(table), find_scale(scale)
    work_dir = chosen_scale.work_dir if work_dir is None else work_dir
    data_dirs = (work_dir / "data",) if chosen_scale.makes_data else tuple(data_dir)
    bindings = tuple(bindings_from(context.args))
    if any(binding.startswith("TrainingRun.num_steps") for binding in bindings):
        raise ValueError("TrainingRun.num_steps is the table's: leave out --gin.TrainingRun.num_steps")
    settings = Settings(work_dir, data_dirs, cache_dir, chosen_scale, bindings)
    jobs = make_jobs(chosen_table, settings)
    selected = _select(jobs, only)
    failures: list[Failure] = []
    if run:
        with exit_code_of_sigterm(RESUMABLE_EXIT_CODE):
            failures = _run_all(selected, lambda line: typer.echo(line, err=True))
    states = [_state(job) for job in jobs]
    comparison = compare(chosen_table, states)
    if as_json:
        typer.echo(json.dumps(comparison_values(comparison), indent=2))
    else:
        typer.echo(comparison_text(comparison))
        if not run:
            _say_what_is_left([state for state in states if state.job in selected])
    for failure in failures:
        typer.echo(f"mt3: {failure.training} failed: {failure.reason}", err=True)
    if failures:
        raise typer.Exit(1)


def _select(jobs: Sequence[Job], names: Sequence[str]) -> list[Job]:
    known = [job.training.name for job in jobs]
    for name in names:
        if name not in known:
            raise ValueError(f"the run {name!r} is none of this table's: choose of {', '.join(known)}")
    return [job for job in jobs if not names or job.training.name in names]


def _state(job: Job) -> State:
    from mt3.data.prepared import find_datasets
    from mt3.evaluation.reproduction.states import read_state

    found = find_datasets(job.settings.data_dirs)
    return read_state(job, {dataset.name for dataset in found if {"train", "test"} <= {*dataset.splits}})


def _run_all(jobs: Sequence[Job], say: Callable[[str], None]) -> list[Failure]:
    """Does what is left of each that is possible; the others go on where one fails."""
    from mt3.evaluation.reproduction.launching import launch

    failures = []
    for job in jobs:
        state = _state(job)
        if not state.is_done and job.is_possible and (failure := launch(state, say)):
            failures.append(failure)
    return failures


def _say_what_is_left(states: Sequence[State]) -> None:
    """The commands that are left to do, and those that prepare what they need."""
    from mt3.data.sources import preparing_command
    from mt3.evaluation.reproduction.launching import command_line

    left = [state for state in states if state.commands() and not state.is_running]
    if not left:
        return
    settings = left[0].job.settings
    if settings.scale.makes_data:
        typer.echo("\nTo be done, with made-up data; --run makes them and does it")
    else:
        missing = dict.fromkeys(name for state in left for name in state.missing_data)
        for number, name in enumerate(missing):
            if not number:
                typer.echo("\nTo be prepared first, from the published archives")
            typer.echo(f"{preparing_command(name)} -i DOWNLOADED -o {settings.data_dirs[0] / name}")
        typer.echo("\nTo be done; --run does it")
    for state in left:
        typer.echo("\n".join(map(command_line, state.commands())))
