"""`mt3 transcribe`: audio files to files of notes."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from mt3.cli.options import (
    DECODING_PANEL,
    BeamSize,
    Checkpoint,
    Grammar,
    Heads,
    InstrumentList,
    Overlap,
    Preset,
    SmoothPrograms,
    SpecFile,
    Temperature,
    TieConsistency,
    Weights,
    continuity_given,
    continuity_options,
    decoding_options,
    model_hints,
)

if TYPE_CHECKING:
    from mt3.cli.transcription_inputs import Input

_OUTPUT = "Results"

# What a shell says of a program that Ctrl-C has ended.
_INTERRUPTED = 130


def transcribe_command(
    checkpoint: Checkpoint,
    files: Annotated[
        list[str],
        typer.Argument(
            help="Audio files, folders of such, quoted patterns such as 'music/**/*.flac', or - for names on "
            "standard input, a line each.",
            show_default=False,
        ),
    ] = [],  # noqa: B006  (typer copies it)
    stdin_audio: Annotated[
        bool, typer.Option("--stdin-audio", help="Standard input is an audio file; its results are stdin.*.")
    ] = False,
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="Directory of the results, in the tree of a folder.",
            rich_help_panel=_OUTPUT,
        ),
    ] = Path(),
    formats: Annotated[
        list[str],
        typer.Option(
            "--format",
            "-f",
            help="midi (the default), json, csv, note_sequence, note_sequence_text, musicxml, svg, png, "
            "rendering or comparison; repeatable.",
            rich_help_panel=_OUTPUT,
        ),
    ] = [],  # noqa: B006
    tempo_map: Annotated[
        bool,
        typer.Option("--tempo-map", help="MIDI files get an estimated tempo.", rich_help_panel=_OUTPUT),
    ] = False,
    beats_per_measure: Annotated[
        int | None,
        typer.Option(help="Of scores and tempo maps; estimated if not given.", rich_help_panel=_OUTPUT),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Transcribe again what was finished with the same model, options and audio.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="End at the first file that fails.", rich_help_panel=_OUTPUT)
    ] = False,
    stream: Annotated[
        bool,
        typer.Option(
            "--stream",
            help="JSON lines on standard output: notes as they become final. Files only of formats given.",
            rich_help_panel=_OUTPUT,
        ),
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option(
            "--json", help="One JSON object on standard output, at the end.", rich_help_panel=_OUTPUT
        ),
    ] = False,
    batch_segments: Annotated[
        int, typer.Option(help="Segments decoded side by side.", min=1, rich_help_panel=DECODING_PANEL)
    ] = 16,
    beam_size: BeamSize = None,
    temperature: Temperature = None,
    weights: Weights = None,
    overlap: Overlap = None,
    tie_consistency: TieConsistency = None,
    smooth_programs: SmoothPrograms = None,
    instruments: InstrumentList = None,
    grammar: Grammar = None,
    preset: Preset = None,
    heads: Heads = None,
    spec_file: SpecFile = None,
) -> None:
    """Transcribe audio FILES into notes.

    A file that cannot be read is a line on standard error, the others are transcribed; the exit
    code is then 1. Run again, the command goes on where it was interrupted.
    """
    from mt3.cli.messages import show_progress_as_lines, without_library_output
    from mt3.cli.runtime import start_jax
    from mt3.cli.transcription_records import FinishedOutputs, settings_hash
    from mt3.cli.transcription_reports import choose_report
    from mt3.cli.transcription_runs import TranscriptionRun, settings_of
    from mt3.inference.formats import OutputOptions
    from mt3.inference.transcriber import Transcriber
    from mt3.models.loading import load_model

    report = choose_report(stream=stream, as_json=as_json)
    formats = _checked(formats or ([] if stream else ["midi"]))
    options = OutputOptions(tempo_map=tempo_map, beats_per_measure=beats_per_measure)
    decoding = decoding_options(beam_size=beam_size, temperature=temperature, weights=weights)
    given = continuity_given(instruments, overlap, tie_consistency, smooth_programs, grammar)
    with _inputs(files, stdin_audio) as inputs, without_library_output():
        show_progress_as_lines()
        start_jax()
        spec, params = load_model(checkpoint, model_hints(preset, heads, spec_file))
        continuity = continuity_options(spec, decoding, given)
        transcriber = Transcriber(
            spec, params, batch_segments=batch_segments, decoding=decoding, continuity=continuity
        )
        output.mkdir(parents=True, exist_ok=True)
        made_by = settings_hash(settings_of(spec, params, decoding, continuity, options))
        records = None if stdin_audio else FinishedOutputs(output, made_by)
        run = TranscriptionRun(
            transcriber, inputs, output, formats, options, records, overwrite=overwrite, strict=strict
        )
        run.check()
        try:
            run.run(report)
        except KeyboardInterrupt:
            print("mt3: interrupted; what is finished is complete: run it again to go on", file=sys.stderr)
            raise typer.Exit(_INTERRUPTED) from None
        finally:
            report.end()
    if failed := report.counts["failed"]:
        print(f"mt3: {failed} of {len(inputs)} files could not be transcribed", file=sys.stderr)
        raise typer.Exit(1)


def _checked(names: list[str]) -> list[str]:
    """Names of formats, each once, that can be written here.

    Raises:
      ValueError: one cannot.
    """
    from mt3.inference.formats import FORMATS, WRITTEN_FORMATS

    for name in names:
        if name not in WRITTEN_FORMATS:
            raise ValueError(f"--format {name}: choose from {', '.join(WRITTEN_FORMATS)}")
        if problem := FORMATS[name].missing:
            raise ValueError(f"--format {name}: {problem}")
    return list(dict.fromkeys(names))


@contextlib.contextmanager
def _inputs(files: list[str], stdin_audio: bool) -> Iterator[list[Input]]:
    """The recordings, as long as the context lasts.

    Raises:
      ValueError, OSError: see `find_inputs`.
    """
    from mt3.cli.transcription_inputs import audio_of_standard_input, find_inputs
    from mt3.inference.formats import FORMATS

    if not stdin_audio:
        endings = [suffix for entry in FORMATS.values() for suffix in entry.suffixes]
        yield find_inputs(files, _standard_input(), without=endings)
        return
    if files not in ([], ["-"]):
        raise ValueError(f"--stdin-audio takes the one recording on standard input: leave out {files[0]}")
    with audio_of_standard_input(_standard_input()) as item:
        yield [item]


def _standard_input() -> BinaryIO:
    """Bytes of standard input; none where it is closed."""
    return io.BytesIO() if sys.stdin is None else sys.stdin.buffer
