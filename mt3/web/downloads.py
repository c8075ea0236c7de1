"""Results as files: every format that can be written here, made when first asked for."""

from __future__ import annotations

import dataclasses
import mimetypes
import shutil
from pathlib import Path, PurePath

from mt3.inference.formats import FORMATS, WRITTEN_FORMATS, OutputOptions, write_transcription
from mt3.web.jobs import Job
from mt3.web.refusals import Refusal


@dataclasses.dataclass(frozen=True)
class Download:
    """A format that results can be fetched in.

    Attributes:
      name: a key of `FORMATS`.
      suffix: of the file.
      label: for people.
      media_type: of the answer.
    """

    name: str
    suffix: str
    label: str
    media_type: str


# Where the suffix does not tell everywhere.
_MEDIA_TYPES = {
    ".mid": "audio/midi",
    ".musicxml": "application/vnd.recordare.musicxml+xml",
    ".pb": "application/x-protobuf",
    ".pbtxt": "text/plain",
}


def offered_downloads() -> dict[str, Download]:
    """What can be written with the packages that are installed, by name.

    Formats that need the original audio are not among them: it is not kept.
    """
    return {
        name: Download(name, FORMATS[name].suffix, FORMATS[name].label, _media_type(FORMATS[name].suffix))
        for name in WRITTEN_FORMATS
        if not FORMATS[name].needs_audio and FORMATS[name].missing is None
    }


def _media_type(suffix: str) -> str:
    guessed = _MEDIA_TYPES.get(suffix) or mimetypes.guess_type(f"name{suffix}", strict=False)[0]
    return guessed or "application/octet-stream"


class ResultFiles:
    """Files of results, in a folder a job. Thread-safe, as files appear whole."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def path(self, job: Job, download: Download) -> Path:
        """The file of a job's result, written now where it is not there yet.

        Raises:
          Refusal: the job is not done, or the format cannot hold its notes.
        """
        transcription = job.transcription
        if transcription is None:
            raise Refusal(409, f"{job.name} is {job.state.value}: results are there once it is done")
        path = self._folder / job.id / f"result-{download.name}{download.suffix}"
        options = OutputOptions(title=PurePath(job.name).stem)
        if not path.exists():
            path.parent.mkdir(mode=0o700, exist_ok=True)
            try:
                write_transcription(transcription, path, download.name, options=options)
            except ValueError as error:
                raise Refusal(422, str(error)) from error
        return path

    def remove(self, job: Job) -> None:
        """Removes what was written for a job."""
        shutil.rmtree(self._folder / job.id, ignore_errors=True)
