"""The notes of a run against their references: in tables by group of notes, and by instrument."""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Mapping, Sequence

from mt3.evaluation.breakdowns import GROUPINGS, Breakdown, break_down
from mt3.evaluation.metrics import Comparison, ConfusionMatrix, confusion_matrix
from mt3.evaluation.note_errors import GRANULARITY, KINDS, RIGHT, NoteErrors, find_note_errors
from mt3.evaluation.report_page.runs import Run

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class ComparedRun:
    """A run's recordings.

    Attributes:
      errors: id -> what became of its notes.
      missing: id -> why there are none of it.
    """

    errors: Mapping[str, NoteErrors]
    missing: Mapping[str, str]


def compare_run(run: Run) -> ComparedRun:
    """Compares the notes of all recordings that have any; what is damaged is said, and the others go on."""
    errors: dict[str, NoteErrors] = {}
    missing: dict[str, str] = {}
    for recording in run.result.recordings:
        try:
            notes = run.notes(recording.id)
            if notes is None:
                missing[recording.id] = "its notes are not in the results directory"
            else:
                errors[recording.id] = find_note_errors(*notes)
        except (ValueError, OSError) as error:
            _LOG.warning("No piano roll of %s: %s", recording.id, error)
            missing[recording.id] = str(error)
    return ComparedRun(errors, missing)


@dataclasses.dataclass(frozen=True)
class GroupData:
    """A row of a breakdown.

    Attributes:
      label: of the group.
      reference, estimate: [runs][kinds] counts of notes.
      onset, all: [runs] (precision, recall, F1) by pitch and onset, and of the notes that are right in all.
    """

    label: str
    reference: tuple[tuple[int, ...], ...]
    estimate: tuple[tuple[int, ...], ...]
    onset: tuple[tuple[float, ...], ...]
    all: tuple[tuple[float, ...], ...]


@dataclasses.dataclass(frozen=True)
class BreakdownData:
    """A breakdown of all runs; see `breakdowns.Grouping` for title and explanation."""

    title: str
    explanation: str
    groups: tuple[GroupData, ...]


@dataclasses.dataclass(frozen=True)
class ConfusionData:
    """A run's confusion matrix.

    Attributes:
      labels: of the instruments.
      counts: [reference][estimate]; the last column is missed, the last row extra, as in `ConfusionMatrix`.
    """

    labels: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]


def breakdown_data(name: str, comparisons: Sequence[ComparedRun]) -> BreakdownData:
    """A breakdown of `GROUPINGS` of all runs."""
    grouping = GROUPINGS[name]
    totals = [
        sum((break_down(errors, grouping) for errors in comparison.errors.values()), Breakdown.empty())
        for comparison in comparisons
    ]
    nothing = (0,) * len(KINDS)
    groups = []
    for key in sorted({key for total in totals for key in total.groups}):
        rows = [total.groups.index(key) if key in total.groups else None for total in totals]
        cells = list(zip(totals, rows, strict=True))
        groups.append(
            GroupData(
                label=grouping.label(key),
                reference=tuple(
                    nothing if row is None else tuple(total.reference[row].tolist()) for total, row in cells
                ),
                estimate=tuple(
                    nothing if row is None else tuple(total.estimate[row].tolist()) for total, row in cells
                ),
                onset=tuple(_shares(total, row, grouping.onset_hits) for total, row in cells),
                all=tuple(_shares(total, row, (RIGHT,)) for total, row in cells),
            )
        )
    return BreakdownData(grouping.title, grouping.explanation, tuple(groups))


def confusion_data(comparison: ComparedRun) -> ConfusionData | None:
    """Which instruments were taken for which, in all recordings; None without notes."""
    if not comparison.errors:
        return None
    matrices = (
        confusion_matrix(Comparison(errors.reference, errors.estimate), GRANULARITY)
        for errors in comparison.errors.values()
    )
    total = sum(matrices, ConfusionMatrix.empty(GRANULARITY))
    return ConfusionData(total.names, tuple(map(tuple, total.counts.tolist())))


def _shares(total: Breakdown, row: int | None, hits: tuple[int, ...]) -> tuple[float, ...]:
    if row is None:
        return (0.0, 0.0, 0.0)
    return tuple(round(value, 5) for value in total.counts(row, hits).scores("{}").values())
