"""What an evaluation found, in memory and as files.

`results.json` holds everything and is read back by `read_results`;
`results.csv` is one line a recording and a last one of means, for spreadsheets.
Both are replaced in one step. Values of a recording are shares in [0, 1].
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mt3.files import atomic_path

_JSON_NAME = "results.json"
_CSV_NAME = "results.csv"
_JSON_FORMAT = "mt3.results"
_JSON_VERSION = 1


@dataclasses.dataclass(frozen=True)
class RecordingResult:
    """Of one recording.

    Attributes:
      id: the recording's.
      scores: metric name -> value, see `mt3.evaluation.metrics`.
      num_reference_notes: notes that there are.
      num_estimated_notes: notes that were transcribed.
      invalid_events: tokens that could not follow those before them.
      dropped_events: tokens ignored because their time had passed.
    """

    id: str
    scores: Mapping[str, float]
    num_reference_notes: int
    num_estimated_notes: int
    invalid_events: int = 0
    dropped_events: int = 0


@dataclasses.dataclass(frozen=True)
class Skipped:
    """What was not scored, and why."""

    id: str
    reason: str


@dataclasses.dataclass(frozen=True)
class EvaluationResult:
    """Of a set of recordings.

    Attributes:
      recordings: those that were scored, in order.
      skipped: those that were not; they have no part in the means.
      settings: how it was scored and of what, JSON values.
    """

    recordings: tuple[RecordingResult, ...]
    skipped: tuple[Skipped, ...] = ()
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @functools.cached_property
    def scores(self) -> dict[str, float]:
        """Metric name -> mean over the recordings that have it, each counting the same."""
        values: dict[str, list[float]] = {}
        for recording in self.recordings:
            for name, value in recording.scores.items():
                values.setdefault(name, []).append(value)
        return {name: float(np.mean(column)) for name, column in values.items()}

    @property
    def invalid_events(self) -> int:
        """Of all recordings together."""
        return sum(recording.invalid_events for recording in self.recordings)

    @property
    def dropped_events(self) -> int:
        """Of all recordings together."""
        return sum(recording.dropped_events for recording in self.recordings)

    def to_dict(self) -> dict[str, Any]:
        """JSON values, as in `results.json`."""
        return {
            "format": _JSON_FORMAT,
            "version": _JSON_VERSION,
            "settings": dict(self.settings),
            "scores": self.scores,
            "invalid_events": self.invalid_events,
            "dropped_events": self.dropped_events,
            "recordings": [dataclasses.asdict(recording) for recording in self.recordings],
            "skipped": [dataclasses.asdict(skipped) for skipped in self.skipped],
        }

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> EvaluationResult:
        """The inverse of `to_dict`.

        Raises:
          ValueError: when it is something else.
        """
        kind = (document.get("format"), document.get("version"))
        if kind != (_JSON_FORMAT, _JSON_VERSION):
            raise ValueError(
                f"Evaluation results have format and version {_JSON_FORMAT, _JSON_VERSION}, not {kind}."
            )
        return cls(
            recordings=tuple(RecordingResult(**row) for row in document["recordings"]),
            skipped=tuple(Skipped(**row) for row in document["skipped"]),
            settings=document["settings"],
        )


def write_results(result: EvaluationResult, directory: str | os.PathLike[str]) -> None:
    """Writes `results.json` and `results.csv` into a directory, making it where needed."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with atomic_path(directory / _CSV_NAME) as path:
        _write_csv(result, path)
    with atomic_path(directory / _JSON_NAME) as path:
        path.write_text(json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def read_results(path: str | os.PathLike[str]) -> EvaluationResult:
    """From `results.json` or the directory that it is in.

    Raises:
      OSError: when there is none.
      ValueError: when it is not such a file.
    """
    path = Path(path)
    path = path / _JSON_NAME if path.is_dir() else path
    try:
        return EvaluationResult.from_dict(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path} does not hold evaluation results: {error}") from error


def _write_csv(result: EvaluationResult, path: Path) -> None:
    counts = [
        field.name for field in dataclasses.fields(RecordingResult) if field.name not in ("id", "scores")
    ]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["id", *counts, *result.scores], lineterminator="\n")
        writer.writeheader()
        for recording in result.recordings:
            own = {name: getattr(recording, name) for name in counts}
            writer.writerow({"id": recording.id, **own, **recording.scores})
        writer.writerow({"id": "mean", **result.scores})
