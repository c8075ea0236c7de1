"""`mt3 data check`: looks for faults in a prepared dataset before a model learns them.

`CHECKS` lists all checks; each is a plain function. Recordings are read one at
a time in worker processes: memory does not grow with the dataset, but for a few
figures of each recording. Damage to one recording never stops the audit of others.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mt3.data import audit_recordings as of_recordings
from mt3.data import audit_splits as of_splits
from mt3.data import parallel
from mt3.data.alignment import SEARCHED_SECONDS
from mt3.data.audit_recordings import ERROR, WARNING, Problem, RecordingDigest
from mt3.data.audit_splits import AuditedSplit, shard_problems
from mt3.data.manifests import Manifest, ShardInfo, manifest_path
from mt3.data.prepared import choose_datasets
from mt3.data.records import Recordings, read_recordings
from mt3.data.sources import SOURCES, find_source
from mt3.data.tfrecords import RecordError
from mt3.processes import available_cores

# Recordings that are sent to a worker together.
_CHUNK_SIZE = 4
# Lags of weaker agreement say nothing.
_MIN_LISTED_STRENGTH = 5.0


@dataclasses.dataclass(frozen=True)
class Check:
    """A row of `CHECKS`.

    Attributes:
      description: what it finds, for people.
      severity: `ERROR` for what must not be trained on, `WARNING` for what is to be looked at.
      subject: what `find` is given: a `LoadedRecording` ("record": any; "notes":
        whose notes, "sound": whose notes and samples could be read), an
        `AuditedSplit` ("split") or all of them ("dataset").
      find: yields problems.
    """

    description: str
    severity: str
    subject: str
    find: Callable[[Any], Iterator[Problem]]


CHECKS: dict[str, Check] = {
    "unreadable": Check(
        "record damaged, or audio that cannot be decoded", ERROR, "record", of_recordings.unreadable
    ),
    "unlisted": Check("record other than the manifest lists", ERROR, "notes", of_recordings.unlisted),
    "audio_length": Check("audio of another length than stated", ERROR, "sound", of_recordings.audio_length),
    "silent": Check("silent audio", ERROR, "sound", of_recordings.silent),
    "notes_in_silence": Check(
        "notes that start in digital silence", ERROR, "sound", of_recordings.notes_in_silence
    ),
    "no_notes": Check("no notes at all", WARNING, "notes", of_recordings.no_notes),
    "note_times": Check(
        "notes of no or negative length, or before the start", ERROR, "notes", of_recordings.note_times
    ),
    "out_of_range": Check(
        "pitch, program or velocity outside 0..127", ERROR, "notes", of_recordings.out_of_range
    ),
    "unusual_pitches": Check(
        "many pitches beyond a piano's", WARNING, "notes", of_recordings.unusual_pitches
    ),
    "overlaps": Check("overlapping notes of one pitch and program", WARNING, "notes", of_recordings.overlaps),
    "after_the_end": Check("notes after the end of the audio", ERROR, "sound", of_recordings.after_the_end),
    "held_after_the_end": Check(
        "notes held beyond the end of the audio", WARNING, "sound", of_recordings.held_after_the_end
    ),
    "misaligned": Check("sound and labels at different times", ERROR, "sound", of_recordings.misaligned),
    "unfitting": Check("labels that do not fit the sound", WARNING, "sound", of_recordings.unfitting),
    "shards": Check("shard missing, or not as it was written", ERROR, "split", of_splits.shards),
    "manifest": Check("manifest that is unreadable or contradicts itself", ERROR, "split", of_splits.totals),
    "programs": Check("other program totals than the manifest's", ERROR, "split", of_splits.programs),
    "repeated_ids": Check("several recordings of one id in a split", ERROR, "split", of_splits.repeated_ids),
    "published_count": Check(
        "another number than was published", WARNING, "split", of_splits.published_count
    ),
    "duplicates": Check("recordings that are in two splits", ERROR, "dataset", of_splits.duplicates),
}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One fault.

    Attributes:
      check: key of `CHECKS`.
      severity: "error" or "warning".
      split: where.
      recording: id; empty where the split as a whole is meant.
      message: one line, with the value and the bound.
      value: the figure to sort by, larger is worse.
    """

    check: str
    severity: str
    split: str
    recording: str
    message: str
    value: float


@dataclasses.dataclass(frozen=True)
class RecordingLag:
    """By how much the sound of a recording is later than its labels; see `alignment.OnsetLag`."""

    split: str
    recording: str
    seconds: float
    strength: float
    num_onsets: int


@dataclasses.dataclass(frozen=True)
class AuditReport:
    """What an audit found.

    Attributes:
      dataset: name of the dataset.
      directory: where it lies.
      splits: split -> number of recordings.
      findings: in the order of `CHECKS`, splits and recordings.
      lags: of the recordings where it can be told, worst first.
    """

    dataset: str
    directory: Path
    splits: Mapping[str, int]
    findings: tuple[Finding, ...]
    lags: tuple[RecordingLag, ...]

    @property
    def num_recordings(self) -> int:
        """In all splits."""
        return sum(self.splits.values())

    @property
    def errors(self) -> tuple[Finding, ...]:
        """The findings that forbid training on this."""
        return tuple(finding for finding in self.findings if finding.severity == ERROR)

    @property
    def warnings(self) -> tuple[Finding, ...]:
        """The others."""
        return tuple(finding for finding in self.findings if finding.severity == WARNING)

    def lines(self, max_examples: int = 5, max_lags: int = 5) -> list[str]:
        """For people: each check with its worst examples, then the worst lags.

        Args:
          max_examples: of a check; the rest is counted.
          max_lags: rows of the table.
        """
        counts = ", ".join(f"{split} {number}" for split, number in self.splits.items())
        lines = [
            f"{self.dataset} in {self.directory}: {counts} recordings; "
            f"{len(self.errors)} errors, {len(self.warnings)} warnings"
        ]
        for severity in (ERROR, WARNING):
            for name, check in CHECKS.items():
                found = [one for one in self.findings if (one.check, one.severity) == (name, severity)]
                if found:
                    lines.append(f"{severity} {name} ({len(found)}): {check.description}")
                found.sort(key=lambda one: -one.value)
                lines += [
                    f"  {one.split}{one.recording and '/'}{one.recording}: {one.message}"
                    for one in found[:max_examples]
                ]
                if len(found) > max_examples:
                    lines.append(f"  and {len(found) - max_examples} more")
        if self.lags and max_lags:
            lines.append("largest lags of the sound behind its labels (ms, strength, onsets):")
            lines += [
                f"  {lag.seconds * 1000:+5.0f} {lag.strength:6.1f} {lag.num_onsets:6d}  "
                f"{lag.split}/{lag.recording}"
                for lag in self.lags[:max_lags]
            ]
        return lines

    def text(self) -> str:
        """`lines` as one text."""
        return "\n".join(self.lines())


def audit_dataset(
    directory: Path | str,
    *,
    name: str | None = None,
    splits: Sequence[str] | None = None,
    workers: int | None = None,
    max_lag_seconds: float = 0.05,
    progress: bool = True,
    published_counts: Mapping[str, int] | None = None,
) -> AuditReport:
    """Runs all `CHECKS` on a prepared dataset.

    Args:
      directory: where it was prepared.
      name: of the dataset; may be left out where the directory holds one.
      splits: only these; all that are prepared by default.
      workers: processes; None for one a core, 0 for none but this one.
      max_lag_seconds: bound of the lag between labels and sound.
      progress: show a bar, where stderr is a terminal.
      published_counts: "DATASET/SPLIT" -> recordings; by default what the
        registry of sources knows.

    Raises:
      ValueError: when the dataset, or a split that was asked for, is not
        prepared, or when `name` is needed to choose.
    """
    if not 0 < max_lag_seconds < SEARCHED_SECONDS:
        raise ValueError(
            f"max_lag_seconds is {max_lag_seconds}; it must be above 0, below {SEARCHED_SECONDS}."
        )
    datasets = choose_datasets(directory, name)
    if len(datasets) > 1:
        names = ", ".join(dataset.name for dataset in datasets)
        raise ValueError(f"{directory} holds several datasets; name one of {names}.")
    dataset = datasets[0]
    workers = available_cores() if workers is None else workers
    counts = published_counts_of(dataset.name) if published_counts is None else published_counts
    findings: list[Finding] = []
    lags: list[RecordingLag] = []
    audited: list[AuditedSplit] = []
    numbers: dict[str, int] = {}
    for split in dataset.splits if splits is None else splits:
        try:
            recordings = read_recordings(dataset.directory, split, name=dataset.name)
        except RecordError as error:
            if not manifest_path(dataset.directory, dataset.name, split).exists():
                raise
            findings.append(Finding("manifest", ERROR, split, "", str(error), 0.0))
            numbers[split] = 0
            continue
        results = _audit_recordings(dataset.directory, recordings, workers, max_lag_seconds, progress)
        for result in results:
            findings += [
                _finding(check, problem, split, result.digest.id) for check, problem in result.problems
            ]
            if result.lag is not None:
                lags.append(result.lag)
        audited.append(
            AuditedSplit(
                recordings,
                [result.digest for result in results],
                _audit_shards(dataset.directory, recordings.manifest, workers, progress),
                counts.get(f"{dataset.name}/{split}"),
            )
        )
        numbers[split] = len(recordings)
        findings += [_finding(check, problem, split) for check, problem in _problems(("split",), audited[-1])]
    findings += [_finding(check, problem) for check, problem in _problems(("dataset",), audited)]
    order = list(CHECKS)
    findings.sort(
        key=lambda finding: order.index(finding.check)
    )  # stable: splits and recordings stay in order
    lags.sort(key=lambda lag: -abs(lag.seconds))
    return AuditReport(dataset.name, dataset.directory, numbers, tuple(findings), tuple(lags))


def published_counts_of(dataset: str) -> Mapping[str, int]:
    """ "DATASET/SPLIT" -> recordings of the published dataset; empty where it is unknown."""
    for name, row in SOURCES.items():
        if dataset == name or dataset in row.datasets:
            return find_source(name).published_counts
    return {}


def _finding(check: str, problem: Problem, split: str = "", recording: str = "") -> Finding:
    return Finding(
        check,
        problem.severity or CHECKS[check].severity,
        problem.split or split,
        problem.recording or recording,
        problem.message,
        float(problem.value),
    )


def _problems(subjects: Sequence[str], subject: Any) -> list[tuple[str, Problem]]:
    """What the checks of these kinds find, with their names."""
    return [
        (name, problem)
        for name, check in CHECKS.items()
        if check.subject in subjects
        for problem in check.find(subject)
    ]


@dataclasses.dataclass(frozen=True)
class _Job:
    """A recording to be audited; `made_at` tells manifests of one name apart."""

    directory: Path
    dataset: str
    split: str
    made_at: int
    index: int
    max_lag_seconds: float


@dataclasses.dataclass(frozen=True)
class _Result:
    problems: list[tuple[str, Problem]]
    lag: RecordingLag | None
    digest: RecordingDigest


def _audit_recordings(
    directory: Path, recordings: Recordings, workers: int, max_lag_seconds: float, progress: bool
) -> list[_Result]:
    """Of the recordings whose shards are there, in order."""
    manifest = recordings.manifest
    present = {index for index, shard in enumerate(manifest.shards) if (directory / shard.file).exists()}
    made_at = manifest_path(directory, manifest.name, manifest.split).stat().st_mtime_ns
    jobs = [
        _Job(directory, manifest.name, manifest.split, made_at, index, max_lag_seconds)
        for index, info in enumerate(manifest.recordings)
        if info.shard in present
    ]
    description = f"{manifest.name} {manifest.split}" if progress else ""
    return list(
        parallel.ordered_map(
            _audit_recording, jobs, workers=workers, description=description, chunk_size=_CHUNK_SIZE
        )
    )


def _audit_recording(job: _Job) -> _Result:
    recordings = _open_split(job.directory, job.dataset, job.split, job.made_at)
    info = recordings.manifest.recordings[job.index]
    loaded = of_recordings.load(info, lambda: recordings[job.index], job.max_lag_seconds)
    subjects = ["record"]
    if loaded.notes is not None:
        subjects.append("notes")
    if loaded.samples is not None:
        subjects.append("sound")
    problems = _problems(subjects, loaded)
    lag = None
    if loaded.onset_lag is not None and loaded.onset_lag.peak_strength >= _MIN_LISTED_STRENGTH:
        found = loaded.onset_lag
        lag = RecordingLag(job.split, info.id, found.seconds, found.peak_strength, found.num_onsets)
    return _Result(problems, lag, of_recordings.digest_of(loaded, job.index))


@functools.lru_cache(maxsize=2)
def _open_split(directory: Path, dataset: str, split: str, made_at: int) -> Recordings:
    """Once in each worker: the manifest of a large split takes a while to read."""
    return read_recordings(directory, split, name=dataset)


def _audit_shards(directory: Path, manifest: Manifest, workers: int, progress: bool) -> list[Problem]:
    jobs = [(directory / shard.file, shard) for shard in manifest.shards]
    description = f"{manifest.name} {manifest.split}, shards" if progress else ""
    found = parallel.ordered_map(
        _audit_shard, jobs, workers=min(workers, len(jobs) - 1), description=description
    )
    return [problem for problems in found for problem in problems]


def _audit_shard(job: tuple[Path, ShardInfo]) -> list[Problem]:
    return list(shard_problems(*job))
