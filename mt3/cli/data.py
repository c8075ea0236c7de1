"""`mt3 data`: looking into prepared datasets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from mt3.cli.runtime import quiet_tensorflow

DataDirs = Annotated[
    list[Path],
    typer.Argument(help="What `mt3 prepare` wrote, or directories of that.", show_default=False),
]
Splits = Annotated[
    list[str], typer.Option("--splits", help="Only these: train, validation, test; repeatable.")
]
Dataset = Annotated[str | None, typer.Option(help="Which dataset, where there are several.")]
Workers = Annotated[int | None, typer.Option(help="Processes; one a core by default.", min=0)]

app = typer.Typer(help="Look into prepared datasets.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Look into prepared datasets."""


@app.command("export")
def export_command(
    directories: DataDirs,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the files.")],
    dataset: Dataset = None,
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Only the first so many recordings.", min=1)] = None,
) -> None:
    """Write recordings as files, to be heard and seen: audio (WAV) beside their notes (MIDI)."""
    from mt3.audio.io import write_audio
    from mt3.data.recording_sets import split_recordings
    from mt3.inference.formats import write_notes

    sample_rate = 16000
    output.mkdir(parents=True, exist_ok=True)
    for chosen in split_recordings(list(directories), split, dataset)[:limit]:
        recording = chosen.read()
        # Ids are paths within their dataset.
        path = output / re.sub(r"[^\w.+@-]+", "_", recording.id)
        write_audio(Path(f"{path}.wav"), recording.load_audio(sample_rate), sample_rate)
        write_notes(recording.notes, Path(f"{path}.mid"))
        typer.echo(f"{path}.wav: {len(recording.notes)} notes")


@app.command("check")
def check_command(
    directories: DataDirs,
    dataset: Dataset = None,
    splits: Splits = [],  # noqa: B006  (typer copies it)
    examples: Annotated[int, typer.Option(help="Findings of a kind to list.", min=1)] = 5,
    workers: Workers = None,
) -> None:
    """Look for faults: damaged or silent audio, labels that do not fit it, duplicates, missing recordings.

    Each finding is a line. The exit code is 1 where one is an error, 0 where there are none or warnings.
    """
    from mt3.data.audit import audit_dataset
    from mt3.data.prepared import choose_datasets

    has_errors = False
    for found in choose_datasets(list(directories), dataset):
        report = audit_dataset(found.directory, name=found.name, splits=splits or None, workers=workers)
        typer.echo("\n".join(report.lines(max_examples=examples)))
        has_errors |= bool(report.errors)
    if has_errors:
        raise typer.Exit(1)


@app.command("stats")
def stats_command(
    directories: DataDirs,
    dataset: Dataset = None,
    splits: Splits = [],  # noqa: B006
    picture: Annotated[Path | None, typer.Option(help="Draw them too: a PNG file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead.")] = False,
    segment_frames: Annotated[int, typer.Option(help="Frames of a segment.", min=1)] = 256,
    max_target_tokens: Annotated[int, typer.Option(help="Bound of a segment's tokens.", min=1)] = 1024,
    workers: Workers = None,
) -> None:
    """Count what is in a dataset: programs, polyphony, notes a second, lengths, tokens a segment."""
    from mt3.data.statistics import dataset_statistics
    from mt3.data.statistics_tables import statistics_text

    statistics = dataset_statistics(
        list(directories),
        name=dataset,
        splits=splits or None,
        segment_frames=segment_frames,
        max_target_tokens=max_target_tokens,
        workers=workers,
    )
    typer.echo(statistics.to_json() if as_json else statistics_text(statistics))
    if picture is not None:
        from mt3.data.statistics_picture import statistics_picture

        statistics_picture(statistics, picture)


@app.command("show")
def show_command(
    task: Annotated[
        str, typer.Argument(help="A task or mixture, e.g. slakh_notes_ties_vb1_train.", show_default=False)
    ],
    data_dir: Annotated[list[Path], typer.Option("--data-dir", "-d", help="Prepared datasets; repeatable.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the files.")],
    count: Annotated[int, typer.Option(help="Examples to show.", min=1)] = 8,
    seed: Annotated[int, typer.Option(help="Of the order and the random cuts.")] = 0,
    input_frames: Annotated[int, typer.Option(help="Frames of a segment.", min=1)] = 256,
    max_target_tokens: Annotated[int, typer.Option(help="Bound of a segment's tokens.", min=1)] = 1024,
    max_examples_per_mix: Annotated[int, typer.Option(help="Segments that are summed.", min=1)] = 1,
    cache_dir: Annotated[Path | None, typer.Option(help="Read caches that lie there.")] = None,
    mixture_datasets: Annotated[str, typer.Option(help="Datasets of mega mixtures.")] = "paper",
    missing_datasets: Annotated[str, typer.Option(help="error or leave_out.")] = "error",
    render: Annotated[bool, typer.Option(help="Render the notes too, to compare by ear.")] = True,
) -> None:
    """Write what a model is taught, to be heard and seen: audio, MIDI, piano roll, and a page of them."""
    quiet_tensorflow()
    from mt3.data.showing import show_task

    shown = show_task(
        task,
        list(data_dir),
        output,
        count=count,
        seed=seed,
        input_frames=input_frames,
        max_target_tokens=max_target_tokens,
        max_examples_per_mix=max_examples_per_mix,
        cache_dir=cache_dir,
        mixture_datasets=mixture_datasets,
        missing_datasets=missing_datasets,
        render=render,
    )
    typer.echo(f"{output / 'index.html'}: {len(shown)} examples of {task}")


@app.command("cache")
def cache_command(
    directories: DataDirs,
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory of caches.")],
    dataset: Annotated[list[str], typer.Option(help="Only these datasets; repeatable.")] = [],  # noqa: B006
    split: Annotated[str, typer.Option(help="Of the records.")] = "train",
    workers: Workers = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Make finished caches anew.")] = False,
) -> None:
    """Decode and cut recordings once, for training that is not held up: 32 KB a second of audio."""
    from mt3.data.cache import cache_datasets

    made = cache_datasets(
        list(directories), output, dataset or None, split=split, workers=workers, overwrite=overwrite
    )
    for name, path in made.items():
        typer.echo(f"{name}: {path}")
