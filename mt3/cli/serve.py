"""`mt3 serve`: a page on which recordings are dropped and transcribed."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from mt3.cli.options import (
    Checkpoint,
    Grammar,
    Heads,
    InstrumentList,
    Overlap,
    Preset,
    SmoothPrograms,
    SpecFile,
    TieConsistency,
    Weights,
    continuity_given,
    continuity_options,
    decoding_options,
    model_hints,
)

_MEGABYTE = 1_000_000


def serve_command(
    checkpoint: Checkpoint,
    host: Annotated[
        str, typer.Option(help="Address to listen at; 0.0.0.0 lets every machine of the network in.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 for any that is free.", min=0, max=65535)] = 8765,
    allow_host: Annotated[
        list[str], typer.Option(help="A host name that the page is reached by, beside addresses; repeatable.")
    ] = [],  # noqa: B006  (typer copies it)
    max_megabytes: Annotated[float, typer.Option(help="Of one upload.", min=0.001)] = 200.0,
    max_minutes: Annotated[float, typer.Option(help="Of audio in one upload.", min=0.01)] = 30.0,
    max_jobs: Annotated[int, typer.Option(help="Recordings not done yet, of all clients.", min=1)] = 64,
    max_jobs_per_client: Annotated[int, typer.Option(help="The same, of one address.", min=1)] = 16,
    job_minutes: Annotated[float, typer.Option(help="That one transcription may take.", min=0.01)] = 60.0,
    keep_minutes: Annotated[float, typer.Option(help="That results can be fetched.", min=0.01)] = 60.0,
    temporary: Annotated[
        Path | None,
        typer.Option(help="Where uploads lie until they are read; by default in the cache's directory."),
    ] = None,
    batch_segments: Annotated[int, typer.Option(help="Segments decoded side by side.", min=1)] = 16,
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
    """Serve a page that transcribes recordings: drop audio, watch and hear the notes, download them.

    It is for this machine alone unless --host says otherwise: there are no accounts, and no
    encryption. Uploads are removed once they are read. Ctrl-C stops it.
    """
    if sys.platform == "win32":
        raise ValueError(
            "the page is served on Linux and macOS only, where uploads can be held to limits: use WSL"
        )
    try:
        from mt3.web.server import serve
    except ModuleNotFoundError as error:
        raise ValueError(f"the page needs another package ({error.name}): pip install 'mt3[demo]'") from error
    from mt3.cli.runtime import exit_code_of_sigterm, start_jax
    from mt3.files import cache_directory
    from mt3.inference.transcriber import Transcriber
    from mt3.models.loading import load_model
    from mt3.web.limits import Limits

    limits = Limits(
        upload_bytes=round(max_megabytes * _MEGABYTE),
        audio_seconds=60 * max_minutes,
        jobs=max_jobs,
        jobs_per_client=max_jobs_per_client,
        job_seconds=60 * job_minutes,
        kept_minutes=keep_minutes,
    )
    decoding = decoding_options(weights=weights)
    given = continuity_given(instruments, overlap, tie_consistency, smooth_programs, grammar)
    start_jax()
    spec, params = load_model(checkpoint, model_hints(preset, heads, spec_file))
    transcriber = Transcriber(
        spec,
        params,
        batch_segments=batch_segments,
        decoding=decoding,
        continuity=continuity_options(spec, decoding, given),
    )

    def started(address: str) -> None:
        typer.echo(f"{address} (Ctrl-C stops)")

    try:
        with exit_code_of_sigterm(0):
            serve(
                transcriber,
                limits=limits,
                folder=temporary or cache_directory() / "serve",
                model_name=checkpoint.resolve().name,
                host=host,
                port=port,
                names=allow_host,
                started=started,
            )
    except KeyboardInterrupt:
        typer.echo("stopped")
