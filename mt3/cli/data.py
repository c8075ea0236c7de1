"""`mt3 data`: looking into prepared datasets."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="Look into prepared datasets.", no_args_is_help=True)


@app.callback()
def _data() -> None:
    """Look into prepared datasets."""


@app.command("export")
def export_command(
    directory: Annotated[Path, typer.Argument(help="What `mt3 prepare` wrote.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for the files.")],
    split: Annotated[str, typer.Option(help="train, validation or test.")] = "test",
    limit: Annotated[int | None, typer.Option(help="Only the first so many recordings.", min=1)] = None,
) -> None:
    """Write recordings as files, to be heard and seen: audio (WAV) beside their notes (MIDI)."""
    from mt3.audio.io import write_audio
    from mt3.data.records import read_recordings
    from mt3.inference.formats import write_notes

    sample_rate = 16000
    output.mkdir(parents=True, exist_ok=True)
    for recording in read_recordings(directory, split)[:limit]:
        # Ids are paths within their dataset.
        path = output / re.sub(r"[^\w.+@-]+", "_", recording.id)
        write_audio(Path(f"{path}.wav"), recording.load_audio(sample_rate), sample_rate)
        write_notes(recording.notes, Path(f"{path}.mid"))
        typer.echo(f"{path}.wav: {len(recording.notes)} notes")
