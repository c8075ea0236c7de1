"""`mt3 score`: files of notes against files of notes, without TensorFlow or JAX."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from mt3.evaluation.metrics import Track
    from mt3.evaluation.results import EvaluationResult

_COMPARISON_NAME = "comparison.json"
_DRUMS = "drums"


def score_command(
    reference: Annotated[
        Path | None,
        typer.Argument(help="A file of notes, or a folder of such files.", show_default=False),
    ] = None,
    estimate: Annotated[
        Path | None, typer.Argument(help="The same, by the system to be scored.", show_default=False)
    ] = None,
    compare: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            "--compare",
            metavar="A B",
            help="B minus A, recording by recording, with intervals: two estimates of REFERENCE, "
            "or without REFERENCE two results (directories that eval or score wrote).",
        ),
    ] = None,
    metrics: Annotated[
        str, typer.Option(help="Metrics, or groups of them such as all; with commas between.")
    ] = "published",
    tracks: Annotated[
        list[str],
        typer.Option("--track", help=f"NAME=PROGRAM or NAME={_DRUMS}: score it on its own too; repeatable."),
    ] = [],  # noqa: B006  (typer copies it)
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object, metric name -> value, and nothing else.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Directory for results.json, results.csv and both sides' notes."),
    ] = None,
    onsets_only: Annotated[bool, typer.Option("--onsets-only", help="Score onsets, not offsets.")] = False,
    reference_format: Annotated[
        str | None, typer.Option(help="Of the reference's files; by default what their suffixes say.")
    ] = None,
    estimate_format: Annotated[str | None, typer.Option(help="Of the estimate's files.")] = None,
    workers: Annotated[
        int | None,
        typer.Option(help="Processes that score; one a core by default, 0 for none but this one.", min=0),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail at the first file that cannot be scored.")
    ] = False,
) -> None:
    """Score ESTIMATE against REFERENCE: two files, or two folders matched by file name.

    Files are MIDI, JSON, CSV, NoteSequence (.pb, .pbtxt) or JAMS, on each side.
    """
    from mt3.evaluation.file_scoring import score_files

    score = functools.partial(
        score_files,
        onsets_only=onsets_only,
        tracks=[_track(text) for text in tracks],
        metrics=[name.strip() for name in metrics.split(",")],
        reference_format=reference_format,
        estimate_format=estimate_format,
        workers=workers,
        strict=strict,
        progress=not as_json,
    )
    if compare is not None:
        if estimate is not None:
            raise ValueError("--compare A B takes the place of ESTIMATE: give REFERENCE --compare A B.")
        _compare(reference, compare, score, output, as_json)
        return
    if reference is None or estimate is None:
        raise ValueError("Give REFERENCE and ESTIMATE, or --compare A B.")
    _print_scores(score(reference, estimate, output_directory=output), estimate, as_json)


def _print_scores(result: EvaluationResult, estimate: Path, as_json: bool) -> None:
    from mt3.evaluation.report import describe, format_table

    if as_json:
        typer.echo(json.dumps(result.scores, indent=2))
    else:
        typer.echo(format_table({_name_of(estimate): result}, metrics=None))
        typer.echo(describe(result))


def _compare(
    reference: Path | None,
    systems: tuple[Path, Path],
    score: Callable[..., EvaluationResult],
    output: Path | None,
    as_json: bool,
) -> None:
    """Two estimates of `reference`, or two results; `output` gets a folder each, and comparison.json."""
    from mt3.evaluation.report import format_comparison
    from mt3.evaluation.results import read_results
    from mt3.evaluation.system_comparison import compare
    from mt3.files import write_text

    first, second = map(_name_of, systems)
    if first == second:
        first, second = map(str, systems)
    if reference is None:
        results = [read_results(path) for path in systems]
    else:
        folders = [None if output is None else output / folder for folder in ("A", "B")]
        results = [
            score(reference, path, output_directory=folder)
            for path, folder in zip(systems, folders, strict=True)
        ]
    comparison = compare(results[0], results[1], (first, second))
    document = json.dumps(comparison.to_dict(), indent=2)
    if output is not None:
        output.mkdir(parents=True, exist_ok=True)
        write_text(output / _COMPARISON_NAME, document + "\n")
    typer.echo(document if as_json else format_comparison(comparison))


def _name_of(path: Path) -> str:
    """What a system is called: its folder or file, or the folder of its results.json."""
    path = path.resolve()
    return path.parent.name if path.name == "results.json" else path.name


def _track(text: str) -> Track:
    """A track from NAME=PROGRAM.

    Raises:
      ValueError: when it is no such text.
    """
    from mt3.evaluation.metrics import Track

    name, separator, program = text.rpartition("=")
    if program == _DRUMS and name:
        return Track(name, 0, is_drum=True)
    if not (name and separator and program.isdecimal() and int(program) <= 127):
        raise ValueError(f"--track {text}: give NAME=PROGRAM with a program 0..127, or NAME={_DRUMS}.")
    return Track(name, int(program))
