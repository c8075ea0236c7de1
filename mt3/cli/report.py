"""`mt3 report`: one page that shows what evaluations found."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np

    from mt3.data.recording_sets import SetRecording
    from mt3.evaluation.report_page.audio import OriginalAudio
    from mt3.evaluation.report_page.runs import Run

_LOG = logging.getLogger(__name__)

_AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".aiff")


def report_command(
    results: Annotated[
        list[Path],
        typer.Argument(
            help="Results directories of `mt3 eval -o` or `mt3 score -o`; several are shown side by side.",
            show_default=False,
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Directory for index.html.")],
    title: Annotated[str, typer.Option(help="Of the page.")] = "Transcription results",
    audio: Annotated[
        Path | None,
        typer.Option(
            help="Directory of the recordings' audio, by id; by default from the data that were evaluated, "
            "where they are there."
        ),
    ] = None,
    max_sounds: Annotated[
        int, typer.Option(help="Recordings that get sound: the best, the worst and some between.", min=0)
    ] = 6,
    max_megabytes: Annotated[float, typer.Option(help="Of all sound together.", min=0)] = 40.0,
    kilobits: Annotated[float, typer.Option(help="A second of each sound.", min=6, max=256)] = 32.0,
    soundfont: Annotated[Path | None, typer.Option(help="To render notes with.")] = None,
) -> None:
    """Write one HTML page of RESULTS: tables, breakdowns, and piano rolls that can be played.

    The page has everything in it: it opens from its file, without a network.
    """
    from mt3.evaluation.report_page.audio import AudioOptions
    from mt3.evaluation.report_page.page import write_report_page
    from mt3.evaluation.report_page.page_data import make_page
    from mt3.evaluation.report_page.runs import read_runs

    options = AudioOptions(
        max_recordings=max_sounds,
        max_megabytes=max_megabytes,
        kilobits_per_second=kilobits,
        soundfont=soundfont,
    )
    runs = read_runs(results)
    original = audio_of_files(audio) if audio is not None else audio_of_data(runs)
    path = write_report_page(make_page(runs, title=title, audio=options, original=original), output)
    typer.echo(f"{path}: {len(runs)} run{'s' if len(runs) > 1 else ''}, {path.stat().st_size / 1e6:.1f} MB")


def audio_of_files(directory: Path) -> OriginalAudio:
    """Audio by recording id: ID.wav and so on in a directory or its subdirectories.

    Slashes of an id may be subdirectories, %2F as in the names of transcriptions, or underscores.

    Raises:
      OSError: the directory does not exist.
    """
    from mt3.audio.io import load_audio
    from mt3.evaluation.results import file_name

    if not directory.is_dir():
        raise NotADirectoryError(f"{directory} is no directory of audio files.")

    def load(id: str, sample_rate: int) -> np.ndarray | None:
        for name in dict.fromkeys((id, file_name(id), id.replace("/", "_"))):
            for suffix in _AUDIO_SUFFIXES:
                path = directory / f"{name}{suffix}"
                # An id is a name in a file, which must not lead out of the directory.
                if path.resolve().is_relative_to(directory.resolve()) and path.is_file():
                    return load_audio(path, sample_rate)
        return None

    return load


def audio_of_data(runs: Sequence[Run]) -> OriginalAudio:
    """Audio of the prepared recordings that the runs were evaluated on, as far as these are still there."""
    recordings = {recording.id: recording for run in runs for recording in _evaluated_recordings(run)}

    def load(id: str, sample_rate: int) -> np.ndarray | None:
        return recordings[id].load_audio(sample_rate) if id in recordings else None

    return load


def _evaluated_recordings(run: Run) -> Sequence[SetRecording]:
    """Under the ids that they have in the results; none where a split is not there or is another by now."""
    from mt3.data.recording_sets import RecordingSet, SetPart
    from mt3.data.records import read_recordings

    directories, data = (run.result.settings.get(name) or {} for name in ("data_directories", "data"))
    parts = []
    for label, directory in directories.items():
        wanted = data[label]
        try:
            part = SetPart(label, read_recordings(directory, wanted["split"], name=wanted["dataset"]))
        except (ValueError, OSError) as error:
            _LOG.warning("No original audio of %s: %s", run.name, error)
            return ()
        if part.describe() != wanted:
            _LOG.warning("No original audio of %s: %s was prepared anew since.", run.name, directory)
            return ()
        parts.append(part)
    return RecordingSet(parts)
