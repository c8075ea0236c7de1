"""What an evaluation found, in memory and as files.

`results.json` holds everything and is read back by `read_results`;
`results.csv` is one line a recording, one of means and, from two recordings on,
two of the bounds of their 95 % intervals, for spreadsheets. Both are replaced in
one step.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mt3.evaluation import bootstrap
from mt3.files import atomic_path
from mt3.inference.formats import write_notes
from mt3.symbolic.notes import Notes

JSON_NAME = "results.json"
CSV_NAME = "results.csv"
_JSON_FORMAT = "mt3.results"
_JSON_VERSION = 1
TRANSCRIPTIONS = "transcriptions"
REFERENCES = "references"
_INTERVAL_METHOD = {
    "method": "percentile bootstrap over recordings",
    "confidence": bootstrap.CONFIDENCE,
    "num_resamples": bootstrap.NUM_RESAMPLES,
    "seed": bootstrap.SEED,
}


class EvaluationError(ValueError):
    """There is nothing that could be scored, or with `strict` something that could not."""


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
      dataset: of which it is one, empty where it is of none.
      num_events: all tokens, those above among them; 0 where it is not known.
    """

    id: str
    scores: Mapping[str, float]
    num_reference_notes: int
    num_estimated_notes: int
    invalid_events: int = 0
    dropped_events: int = 0
    dataset: str = ""
    num_events: int = 0


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

    @classmethod
    def of(
        cls, recordings: Iterable[RecordingResult], skipped: Iterable[Skipped], settings: Mapping[str, Any]
    ) -> EvaluationResult:
        """Of what was scored and what was not.

        Raises:
          EvaluationError: nothing was scored.
        """
        result = cls(tuple(recordings), tuple(skipped), settings)
        if result.recordings:
            return result
        if not result.skipped:
            raise EvaluationError("There are no recordings to score.")
        first = result.skipped[0]
        raise EvaluationError(
            f"None of {len(result.skipped)} recordings could be scored; {first.id}: {first.reason}"
        )

    @functools.cached_property
    def scores(self) -> dict[str, float]:
        """Metric name -> mean over the recordings that have it, each counting the same."""
        values: dict[str, list[float]] = {}
        for recording in self.recordings:
            for name, value in recording.scores.items():
                values.setdefault(name, []).append(value)
        return {name: float(np.mean(column)) for name, column in values.items()}

    @functools.cached_property
    def intervals(self) -> dict[str, tuple[float, float]]:
        """Metric name -> bounds of the mean's 95 % interval, see `mt3.evaluation.bootstrap`.

        Metrics that fewer than two recordings have are absent.
        """
        names, values = score_table(self.recordings)
        bounds = bootstrap.mean_intervals(values).tolist()
        return {
            name: (low, high) for name, (low, high) in zip(names, bounds, strict=True) if np.isfinite(low)
        }

    @functools.cached_property
    def datasets(self) -> dict[str, EvaluationResult]:
        """Dataset -> the result of its recordings alone, where recordings are of datasets."""
        names = dict.fromkeys(recording.dataset for recording in self.recordings)
        return {
            name: dataclasses.replace(
                self,
                recordings=tuple(recording for recording in self.recordings if recording.dataset == name),
                skipped=(),
            )
            for name in names
            if name
        }

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
            "intervals": {name: list(bounds) for name, bounds in self.intervals.items()},
            "interval_method": _INTERVAL_METHOD,
            "invalid_events": self.invalid_events,
            "dropped_events": self.dropped_events,
            "datasets": {
                name: {"num_recordings": len(own.recordings), "scores": own.scores}
                for name, own in self.datasets.items()
            },
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


def score_table(recordings: Sequence[RecordingResult]) -> tuple[list[str], np.ndarray]:
    """Names of all metrics, and float64 [num_recordings, num_metrics]; NaN where a recording lacks one."""
    names = dict.fromkeys(name for recording in recordings for name in recording.scores)
    columns = {name: index for index, name in enumerate(names)}
    values = np.full((len(recordings), len(columns)), np.nan)
    for row, recording in enumerate(recordings):
        for name, value in recording.scores.items():
            values[row, columns[name]] = value
    return list(columns), values


def write_results(result: EvaluationResult, directory: str | os.PathLike[str]) -> None:
    """Writes `results.json` and `results.csv` into a directory, making it where needed."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    with atomic_path(directory / CSV_NAME) as path:
        _write_csv(result, path)
    with atomic_path(directory / JSON_NAME) as path:
        path.write_text(json.dumps(result.to_dict(), indent=1, allow_nan=False) + "\n", encoding="utf-8")


def file_name(id: str) -> str:
    """`id` with what a file name cannot hold, slashes above all, as %XX: one name an id."""
    return re.sub(r"[^\w .,()+=@-]", lambda match: f"%{ord(match.group()):02X}", id)


def keep_notes(directory: str | os.PathLike[str], id: str, reference: Notes, estimate: Notes) -> None:
    """Writes transcriptions/ID.mid and .json, and references/ID.json, beside the results.

    Raises:
      OSError: when that cannot be written.
    """
    # MIDI, which is there to be listened to, has no times before 0.
    for notes, folder, suffix in (
        (estimate, TRANSCRIPTIONS, ".json"),
        (estimate.crop(0.0, np.inf), TRANSCRIPTIONS, ".mid"),
        (reference, REFERENCES, ".json"),
    ):
        path = Path(directory, folder, f"{file_name(id)}{suffix}")
        path.parent.mkdir(parents=True, exist_ok=True)
        write_notes(notes, path)


def read_results(path: str | os.PathLike[str]) -> EvaluationResult:
    """From `results.json` or the directory that it is in.

    Raises:
      OSError: when there is none.
      ValueError: when it is not such a file.
    """
    path = Path(path)
    path = path / JSON_NAME if path.is_dir() else path
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
        if len(result.datasets) > 1:
            for name, own in result.datasets.items():
                writer.writerow({"id": f"mean of {name}", "dataset": name, **own.scores})
        if result.intervals:
            for index, bound in enumerate(("low", "high")):
                bounds = {name: interval[index] for name, interval in result.intervals.items()}
                writer.writerow({"id": f"mean 95 % {bound}", **bounds})
