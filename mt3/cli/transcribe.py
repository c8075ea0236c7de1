"""`mt3 transcribe`: audio files to files of notes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mt3.cli.options import Checkpoint, Heads, Preset, SpecFile, model_hints


def transcribe_command(
    files: Annotated[
        list[Path], typer.Argument(help="Audio files: WAV, FLAC, MP3, OGG.", show_default=False)
    ],
    checkpoint: Checkpoint,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Directory that the results go to.")
    ] = Path(),
    formats: Annotated[
        list[str], typer.Option("--format", "-f", help="midi, json, csv or note_sequence; repeatable.")
    ] = ["midi"],  # noqa: B006  (typer copies it)
    batch_segments: Annotated[int, typer.Option(help="Segments decoded together.", min=1)] = 8,
    beam_size: Annotated[int, typer.Option(help="Hypotheses kept; 1 is greedy.", min=1)] = 1,
    temperature: Annotated[
        float, typer.Option(help="0: the likeliest tokens; above: sampled.", min=0.0)
    ] = 0.0,
    preset: Preset = None,
    heads: Heads = None,
    spec_file: SpecFile = None,
) -> None:
    """Transcribe audio FILES into notes."""
    from mt3.audio.io import AudioError
    from mt3.cli.runtime import start_jax
    from mt3.inference.formats import FORMATS, WRITTEN_FORMATS, write_notes
    from mt3.inference.transcriber import DecodingOptions, Transcriber

    for name in formats:
        if name not in WRITTEN_FORMATS:
            raise ValueError(f"--format {name}: choose from {', '.join(WRITTEN_FORMATS)}")
    targets = _targets(files, output)
    start_jax()
    transcriber = Transcriber.from_checkpoint(
        checkpoint,
        model_hints(preset, heads, spec_file),
        batch_segments=batch_segments,
        decoding=DecodingOptions(beam_size=beam_size, temperature=temperature),
    )
    output.mkdir(parents=True, exist_ok=True)
    failed = 0
    for file, target in targets.items():
        try:
            transcription = transcriber.transcribe(file)
        except AudioError as error:
            # The other files are still worth having; the exit code tells.
            print(f"mt3: error: {error}", file=sys.stderr)
            failed += 1
            continue
        for name in formats:
            path = target.with_name(target.name + FORMATS[name].suffix)
            write_notes(transcription.notes, path, name)
            typer.echo(f"{path}: {len(transcription.notes)} notes in {transcription.duration_seconds:.1f} s")
    if failed:
        print(f"mt3: {failed} of {len(files)} files could not be transcribed", file=sys.stderr)
        raise typer.Exit(1)


def _targets(files: list[Path], output: Path) -> dict[Path, Path]:
    """Where each file's result goes, without its suffix.

    Raises:
      ValueError: two files would be written to one place.
    """
    targets = {file: output / file.stem for file in files}
    if len(set(targets.values())) < len(targets):
        # song.wav and song.mp3, or a/song.wav and b/song.wav.
        targets = {file: output / file.name for file in files}
    if len(set(targets.values())) < len(targets):
        names = sorted(file.name for file in files)
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{twice} is the name of several files: transcribe them into different directories")
    return targets
