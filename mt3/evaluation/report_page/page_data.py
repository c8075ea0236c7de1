"""What a report page says, as plain values: from runs to `PageData`.

`PageData` is JSON values throughout. Notes and sound, which are most of a page
by size, lie beside it as named blocks of base64 text, which the page decodes
when they are looked at.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import mt3
from mt3.evaluation.breakdowns import GROUPINGS
from mt3.evaluation.note_errors import KINDS
from mt3.evaluation.published_results import PUBLISHED_SCORES
from mt3.evaluation.report_page.audio import MEDIA_TYPE, AudioOptions, OriginalAudio, Sound, make_sound
from mt3.evaluation.report_page.comparing import (
    BreakdownData,
    ComparedRun,
    ConfusionData,
    breakdown_data,
    compare_run,
    confusion_data,
)
from mt3.evaluation.report_page.packing import pack_notes
from mt3.evaluation.report_page.runs import Run
from mt3.evaluation.report_page.selection import choose_pieces
from mt3.evaluation.report_page.summary import MetricRow, metric_rows
from mt3.evaluation.results import RecordingResult
from mt3.symbolic.general_midi import DRUMS_NAME, FAMILIES, PROGRAM_NAMES


@dataclasses.dataclass(frozen=True)
class RunData:
    """A run's column.

    Attributes:
      name: of the run.
      facts: (what, value) of how it was made, as text.
      datasets: dataset -> metric -> mean over its recordings; empty where recordings are of none.
      num_recordings: scored ones.
      skipped: (id, reason) of what was not scored.
      without_notes: ids of recordings whose notes are not there, and why.
    """

    name: str
    facts: tuple[tuple[str, str], ...]
    datasets: Mapping[str, Mapping[str, float]]
    num_recordings: int
    skipped: tuple[tuple[str, str], ...]
    without_notes: tuple[tuple[str, str], ...]


@dataclasses.dataclass(frozen=True)
class RecordingData:
    """A recording's row; lists have an entry a run.

    Attributes:
      id: of the recording.
      num_reference_notes, num_estimated_notes: None where a run lacks it.
      notes: names of blocks, see `packing`; None where there are no notes.
      clips: {"source", "run", "block"} of its sound.
    """

    id: str
    num_reference_notes: tuple[int | None, ...]
    num_estimated_notes: tuple[int | None, ...]
    notes: tuple[str | None, ...]
    clips: tuple[Mapping[str, Any], ...]


@dataclasses.dataclass(frozen=True)
class PageData:
    """All that a page says.

    Attributes:
      title: of the page.
      version: of this package.
      kinds: names of the kinds of notes.
      programs: names of the 128 programs and of drums.
      families: names of the families of 8 programs, and of drums.
      runs: in the order of the columns.
      metrics: scores in all and their differences.
      recordings: all that any run has.
      scores: metric -> [runs][recordings] value or None.
      published: scores of papers, as mappings of `PublishedScore`.
      breakdowns: in order.
      confusions: [runs] instruments taken for one another; None where a run has no notes.
      media_type: of the sound.
      remarks: what a reader must know that is not an error of a recording.
    """

    title: str
    version: str
    kinds: tuple[str, ...]
    programs: tuple[str, ...]
    families: tuple[str, ...]
    runs: tuple[RunData, ...]
    metrics: tuple[MetricRow, ...]
    recordings: tuple[RecordingData, ...]
    scores: Mapping[str, tuple[tuple[float | None, ...], ...]]
    published: tuple[Mapping[str, Any], ...]
    breakdowns: tuple[BreakdownData, ...]
    confusions: tuple[ConfusionData | None, ...]
    media_type: str
    remarks: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Page:
    """A page's data.

    Attributes:
      data: what it says.
      blocks: name -> base64 text that `data` refers to.
    """

    data: PageData
    blocks: Mapping[str, str]


def make_page(
    runs: Sequence[Run],
    *,
    title: str,
    audio: AudioOptions,
    original: OriginalAudio = lambda id, rate: None,
) -> Page:
    """Compares the notes of all recordings of all runs, and renders a few.

    Args:
      runs: one at least, under different names.
      title: of the page.
      audio: how much sound.
      original: gives recordings' own audio.

    Raises:
      SynthesisError, SoundFontError: sound is wanted and cannot be made.
    """
    comparisons = [compare_run(run) for run in runs]
    sound = make_sound(choose_pieces(runs, comparisons), audio, original)
    ids = list(dict.fromkeys(recording.id for run in runs for recording in run.result.recordings))
    results = [{recording.id: recording for recording in run.result.recordings} for run in runs]
    blocks: dict[str, str] = {}
    recordings = tuple(
        _recording_data(number, id, results, comparisons, sound, blocks) for number, id in enumerate(ids)
    )
    metrics = metric_rows([run.result for run in runs])
    data = PageData(
        title=title,
        version=mt3.__version__,
        kinds=KINDS,
        programs=(*PROGRAM_NAMES, DRUMS_NAME),
        families=(*FAMILIES, DRUMS_NAME),
        runs=tuple(map(_run_data, runs, comparisons)),
        metrics=metrics,
        recordings=recordings,
        scores={row.name: _score_columns(row.name, ids, results) for row in metrics},
        published=tuple(map(dataclasses.asdict, PUBLISHED_SCORES)),
        breakdowns=tuple(breakdown_data(name, comparisons) for name in GROUPINGS),
        confusions=tuple(map(confusion_data, comparisons)),
        media_type=MEDIA_TYPE,
        remarks=tuple(f"No sound for {reason}" for reason in sound.left_out),
    )
    return Page(data, blocks)


def _recording_data(
    number: int,
    id: str,
    results: Sequence[Mapping[str, RecordingResult]],
    comparisons: Sequence[ComparedRun],
    sound: Sound,
    blocks: dict[str, str],
) -> RecordingData:
    """A recording's row; its notes and sound are added to `blocks`."""
    notes: list[str | None] = []
    for run, comparison in enumerate(comparisons):
        name = f"notes-{number}-{run}"
        notes.append(name if id in comparison.errors else None)
        if id in comparison.errors:
            blocks[name] = pack_notes(comparison.errors[id])
    clips = []
    for clip in sound.clips:
        if clip.id == id:
            name = f"audio-{number}-{clip.source}-{clip.run}"
            blocks[name] = clip.content
            clips.append({"source": clip.source, "run": clip.run, "block": name})
    return RecordingData(
        id,
        tuple(own[id].num_reference_notes if id in own else None for own in results),
        tuple(own[id].num_estimated_notes if id in own else None for own in results),
        tuple(notes),
        tuple(clips),
    )


def _score_columns(
    name: str, ids: Sequence[str], results: Sequence[Mapping[str, RecordingResult]]
) -> tuple[tuple[float | None, ...], ...]:
    """[runs][recordings] of a score, rounded; None where there is none."""

    def value(own: Mapping[str, RecordingResult], id: str) -> float | None:
        score = own[id].scores.get(name) if id in own else None
        return None if score is None else round(score, 5)

    return tuple(tuple(value(own, id) for id in ids) for own in results)


def _run_data(run: Run, comparison: ComparedRun) -> RunData:
    return RunData(
        name=run.name,
        facts=tuple(_facts(run)),
        datasets={name: own.scores for name, own in run.result.datasets.items()},
        num_recordings=len(run.result.recordings),
        skipped=tuple((skipped.id, skipped.reason) for skipped in run.result.skipped),
        without_notes=tuple(comparison.missing.items()),
    )


def _facts(run: Run) -> Iterator[tuple[str, str]]:
    """How a run was made, as far as it can be said in a line each."""
    yield "results", str(run.directory)
    yield from _lines(run.result.settings)
    yield "invalid events", str(run.result.invalid_events)
    yield "dropped events", str(run.result.dropped_events)


def _lines(settings: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, str]]:
    for key, value in settings.items():
        name = within + key.replace("_", " ")
        if isinstance(value, Mapping):
            yield from _lines(value, f"{name}: ")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value))
        elif value is not None and "\n" not in str(value):
            yield name, str(value)
