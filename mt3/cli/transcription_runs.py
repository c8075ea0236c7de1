"""The recordings of `mt3 transcribe`, through one model and one queue, into files.

Everything here is plain Python: a script may run it without the command.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import mt3
from mt3.cli.transcription_inputs import Input
from mt3.cli.transcription_records import FinishedOutputs, Identity, identity_of
from mt3.cli.transcription_reports import Report
from mt3.inference.continuity import ContinuityOptions
from mt3.inference.formats import FORMATS, OutputOptions, write_transcription
from mt3.inference.transcriber import DecodingOptions, Transcriber
from mt3.inference.transcription import Failed, Finished, Job, Progress, Transcription
from mt3.models.model import ModelSpec
from mt3.models.parameter_hash import parameter_hash

# Errors of a file system that every further file would meet too.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


def settings_of(
    spec: ModelSpec,
    params: Any,
    decoding: DecodingOptions,
    continuity: ContinuityOptions,
    options: OutputOptions,
) -> dict[str, Any]:
    """All that results depend on besides the audio, as JSON values."""
    return {
        "version": mt3.__version__,
        "parameters": parameter_hash(params),
        "model": spec.to_dict(),
        "decoding": dataclasses.asdict(decoding),
        "continuity": dataclasses.asdict(continuity),
        "output": {name: str(value) for name, value in dataclasses.asdict(options).items()},
    }


@dataclasses.dataclass(frozen=True)
class _Handed:
    """A recording that the transcriber has been given."""

    item: Input
    audio: Identity | None  # when it was


@dataclasses.dataclass(frozen=True)
class TranscriptionRun:
    """What is to be written, and by whom.

    Attributes:
      transcriber: hears them.
      inputs: recordings; their targets are all different.
      output: directory of the results; it must exist.
      formats: of files to be written for each; may be none.
      options: of the formats.
      records: what is finished; None where everything is to be done and nothing kept.
      overwrite: whether what is finished is done again.
      strict: whether the first recording that fails ends the run.
    """

    transcriber: Transcriber
    inputs: Sequence[Input]
    output: Path
    formats: Sequence[str] = ("midi",)
    options: OutputOptions = dataclasses.field(default_factory=OutputOptions)
    records: FinishedOutputs | None = None
    overwrite: bool = False
    strict: bool = False

    def check(self) -> None:
        """Looks for what would go wrong at the end.

        Raises:
          ValueError: a result would replace a recording.
        """
        heard = {item.path.absolute(): item.path for item in self.inputs}
        for item in self.inputs:
            for path in self.outputs_of(item).values():
                if path.absolute() in heard:
                    raise ValueError(
                        f"{path} is to be transcribed and would be replaced: choose another --output"
                    )

    def run(self, report: Report) -> None:
        """Transcribes all, telling `report`.

        Raises:
          OSError: nothing can be written any more. What is finished by then is complete.
        """
        handed: list[_Handed] = []
        report.begin(self.inputs)
        events = self.transcriber.follow(self._jobs(handed, report))
        # Closed at once, not when it is collected: it reads files that are still open.
        with contextlib.closing(events):
            for event in events:
                now = handed[event.index]
                if isinstance(event, Progress):
                    report.progress(now.item.name, event.decoded_seconds, event.notes, event.confidence)
                elif isinstance(event, Finished):
                    self._finish(now, event.transcription, report)
                elif isinstance(event, Failed):
                    report.failed(now.item.name, now.item.told(event.error))
                if self.strict and report.counts["failed"]:
                    return

    def outputs_of(self, item: Input) -> dict[str, Path]:
        """Format -> file, of one recording."""
        target = self.output / item.target
        return {name: target.with_name(target.name + FORMATS[name].suffix) for name in self.formats}

    def _jobs(self, handed: list[_Handed], report: Report) -> Iterator[Job]:
        for item in self.inputs:
            audio = identity_of(item.path)
            if self._is_finished(item, audio):
                report.skipped(item.name, self.outputs_of(item))
                continue
            handed.append(_Handed(item, audio))
            yield Job(item.path)

    def _is_finished(self, item: Input, audio: Identity | None) -> bool:
        if self.records is None or self.overwrite or not self.formats:
            return False
        written = self.records.formats(item.target, audio)
        outputs = self.outputs_of(item)
        return written.issuperset(outputs) and all(path.exists() for path in outputs.values())

    def _finish(self, now: _Handed, transcription: Transcription, report: Report) -> None:
        outputs = self.outputs_of(now.item)
        try:
            for name, path in outputs.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_transcription(transcription, path, name, options=self.options, audio=now.item.path)
            if self.records is not None and outputs:
                self.records.keep(now.item.target, now.audio, outputs)
        except (ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno in _FULL:
                raise
            report.failed(now.item.name, str(error))
            return
        report.finished(now.item.name, transcription, outputs)
