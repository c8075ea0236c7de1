"""What an evaluation has finished, in its directory, so that it can be taken up again.

evaluation.json says what is transcribed by what (the *subject*): an evaluation
of another subject does not mix with it. recordings/ID.json is the result of one
recording, with the way it was scored, and is written last: where it is, the
transcription and the reference beside it are complete. All files appear whole.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from mt3 import files
from mt3.evaluation.results import (
    CSV_NAME,
    JSON_NAME,
    REFERENCES,
    TRANSCRIPTIONS,
    EvaluationError,
    RecordingResult,
    file_name,
)
from mt3.inference.formats import read_notes
from mt3.symbolic.notes import Notes

_SUBJECT = "evaluation.json"
_RECORDINGS = "recordings"
_FORMAT = "mt3.recording_result"
_VERSION = 1

Json = Mapping[str, Any]


class Finished(NamedTuple):
    """A recording that was finished before.

    Attributes:
      result: its scores.
      scoring: how they were made.
    """

    result: RecordingResult
    scoring: Json


@dataclasses.dataclass(frozen=True)
class FinishedRecordings:
    """The finished recordings of a directory; see `open_finished`."""

    directory: Path

    def find(self, id: str) -> Finished | None:
        """What was finished of a recording; None where it is to be done (again)."""
        try:
            document = json.loads(self._path(id).read_text(encoding="utf-8"))
            if (document["format"], document["version"], document["result"]["id"]) != (_FORMAT, _VERSION, id):
                return None
            return Finished(RecordingResult(**document["result"]), document["scoring"])
        # Not there, damaged, or of another version: done again, it is as good as new.
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def notes(self, id: str) -> tuple[Notes, Notes] | None:
        """Reference and transcription of a finished recording; None where they are not there any more."""
        name = f"{file_name(id)}.json"
        try:
            reference, estimate = (
                read_notes(self.directory / folder / name) for folder in (REFERENCES, TRANSCRIPTIONS)
            )
            return reference, estimate
        except (OSError, ValueError):
            return None

    def keep(self, result: RecordingResult, scoring: Json) -> None:
        """Marks a recording as finished; its notes must have been kept.

        Raises:
          OSError: it cannot be written.
        """
        path = self._path(result.id)
        path.parent.mkdir(parents=True, exist_ok=True)
        document = {
            "format": _FORMAT,
            "version": _VERSION,
            "scoring": dict(scoring),
            "result": dataclasses.asdict(result),
        }
        files.write_text(path, json.dumps(document, indent=1, allow_nan=False) + "\n")

    def _path(self, id: str) -> Path:
        return self.directory / _RECORDINGS / f"{file_name(id)}.json"


def open_finished(directory: Path, subject: Json, *, restart: bool = False) -> FinishedRecordings:
    """What is finished in a directory, which is made where needed.

    Args:
      directory: of the results.
      subject: all that transcriptions depend on, JSON values by name.
      restart: remove what is there, whatever its subject.

    Raises:
      EvaluationError: the directory holds the evaluation of another subject.
      OSError: it cannot be written to.
    """
    path = directory / _SUBJECT
    if restart:
        for name in (_RECORDINGS, TRANSCRIPTIONS, REFERENCES):
            shutil.rmtree(directory / name, ignore_errors=True)
        for name in (_SUBJECT, JSON_NAME, CSV_NAME):
            (directory / name).unlink(missing_ok=True)
    now = _flat(json.loads(json.dumps(dict(subject), allow_nan=False)))
    if path.exists():
        before = _read_subject(path)
        differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
        if differing:
            name = differing[0]
            raise EvaluationError(
                f"{directory} holds an evaluation with {name} {_shown(before.get(name))}, this one has "
                f"{_shown(now.get(name))}: choose another directory, or give --restart to replace it."
            )
    else:
        directory.mkdir(parents=True, exist_ok=True)
        files.write_text(path, json.dumps(dict(subject), indent=1) + "\n")
    return FinishedRecordings(directory)


def _read_subject(path: Path) -> dict[str, Any]:
    try:
        return _flat(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise EvaluationError(
            f"{path} cannot be read ({error}): choose another directory, or give --restart to replace it."
        ) from error


def _flat(values: Json, prefix: str = "") -> dict[str, Any]:
    """Nested names joined by dots -> values."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {f"{prefix}{name}": value}
    return flat


def _shown(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 24 else f"{text[:20]}..."
