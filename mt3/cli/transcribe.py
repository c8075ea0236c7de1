"""`mt3 transcribe`: audio files to files of notes."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from mt3.cli.options import Checkpoint, Heads, Preset, SpecFile, model_hints

if TYPE_CHECKING:
    from mt3.cli.transcription_inputs import Input
    from mt3.inference.continuity import ContinuityOptions

_DECODING, _CONTINUITY, _OUTPUT = "How tokens are chosen", "How segments go on into each other", "Results"

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
        int, typer.Option(help="Segments decoded together.", min=1, rich_help_panel=_DECODING)
    ] = 8,
    beam_size: Annotated[
        int | None, typer.Option(help="Hypotheses kept; 1 is greedy.", min=1, rich_help_panel=_DECODING)
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(help="0: the likeliest tokens; above: sampled.", min=0.0, rich_help_panel=_DECODING),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            help="Parameters as float32, bfloat16 or int8: faster, less exact.", rich_help_panel=_DECODING
        ),
    ] = None,
    overlap: Annotated[
        float | None,
        typer.Option(
            help="Share of a segment that the next one hears again, 0 to 0.75: slower, steadier.",
            rich_help_panel=_CONTINUITY,
        ),
    ] = None,
    tie_consistency: Annotated[
        str | None,
        typer.Option(
            help="Where ties contradict what sounds: published, same_note, lasting or adopt.",
            rich_help_panel=_CONTINUITY,
        ),
    ] = None,
    smooth_programs: Annotated[
        float | None,
        typer.Option(
            help="Instruments with less than this share of the notes are given to likelier ones.",
            rich_help_panel=_CONTINUITY,
        ),
    ] = None,
    instruments: Annotated[
        str | None,
        typer.Option(
            help="The only ones that there are, such as piano,bass,drums; names or General MIDI numbers.",
            rich_help_panel=_CONTINUITY,
        ),
    ] = None,
    grammar: Annotated[
        bool | None,
        typer.Option(
            "--grammar/--no-grammar",
            help="Whether tokens that make no sense where they stand are unreachable.",
            rich_help_panel=_CONTINUITY,
            show_default=False,
        ),
    ] = None,
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
    from mt3.inference.transcriber import DecodingOptions, Transcriber
    from mt3.models.loading import load_model

    report = choose_report(stream=stream, as_json=as_json)
    formats = _checked(formats or ([] if stream else ["midi"]))
    options = OutputOptions(tempo_map=tempo_map, beats_per_measure=beats_per_measure)
    decoding = DecodingOptions(**_given(beam_size=beam_size, temperature=temperature, weights=weights))
    continuity = _continuity(
        instruments,
        overlap=overlap,
        tie_consistency=tie_consistency,
        smooth_programs=smooth_programs,
        grammar=grammar,
    )
    with _inputs(files, stdin_audio) as inputs, without_library_output():
        show_progress_as_lines()
        start_jax()
        spec, params = load_model(checkpoint, model_hints(preset, heads, spec_file))
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


def _given(**options: Any) -> dict[str, Any]:
    """Those that the command line has; the defaults of the others are where they are defined."""
    return {name: value for name, value in options.items() if value is not None}


def _continuity(instruments: str | None, **options: Any) -> ContinuityOptions:
    from mt3.inference.continuity import ContinuityOptions
    from mt3.symbolic.instrument_names import parse_instruments

    chosen = ContinuityOptions(**_given(**options))
    if instruments is None:
        return chosen
    return dataclasses.replace(chosen, instruments=parse_instruments(instruments))


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
