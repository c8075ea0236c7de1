"""What `mt3 eval` puts together from gin files: recordings, a model on a mesh of devices, and metrics.

Everything here is plain Python: a script may build an `EvaluationRun` without gin.
"""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np

import mt3
from mt3.data.recording_sets import RecordingSet, SetPart, parse_task, recordings_of_tasks, split_recordings
from mt3.data.recordings import Recording
from mt3.data.sources.synth import SynthConfig, synthetic_recordings
from mt3.data.task_names import variant_name
from mt3.evaluation import baselines
from mt3.evaluation.evaluator import ALONE, BatchTranscriber, Fellows, Transcription, evaluate
from mt3.evaluation.finished import FinishedRecordings, open_finished
from mt3.evaluation.metrics import PUBLISHED_METRICS, Track
from mt3.evaluation.results import EvaluationResult
from mt3.files import cache_directory
from mt3.inference.continuity import ContinuityOptions
from mt3.inference.transcriber import DecodingOptions, Transcriber
from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.parameter_hash import parameter_hash
from mt3.processes import available_cores
from mt3.symbolic.notes import COLUMNS, Notes
from mt3.training.partitioning import DEFAULT_AXIS_RULES, MeshConfig, Partitioner, make_mesh, mesh_config

_LOG = logging.getLogger(__name__)

# Each step of decoding needs all of a parameter that `fsdp` would cut up; the axis cuts batches only.
_DECODING_AXIS_RULES = (("embed", None), *DEFAULT_AXIS_RULES)

# For fewer recordings than this, it takes longer to start a worker than to score them.
_RECORDINGS_PER_WORKER = 8


class EvaluatedRecording(Protocol):
    """What is known of a recording to be evaluated."""

    @property
    def id(self) -> str: ...

    @property
    def dataset(self) -> str: ...

    @property
    def notes(self) -> Notes: ...

    def load_audio(self, sample_rate: int = 16000) -> np.ndarray:
        """Mono float32 [samples]."""
        ...


def prepared_recordings(
    data_dir: str | Sequence[str],
    split: str = "test",
    max_recordings: int | None = None,
    dataset: str | Sequence[str] | None = None,
    missing_datasets: str = "error",
) -> RecordingSet:
    """The recordings of a split that `mt3 prepare` wrote, read when they are needed.

    Args:
      data_dir: what `mt3 prepare` was given as `--output`, or a directory of
        such directories, or several.
      split: train, validation or test.
      max_recordings: only the first so many of each dataset.
      dataset: one dataset or several, one after the other; None for all that are there.
      missing_datasets: "error", or "leave_out" for datasets that are not there.
    """
    return split_recordings(data_dir, split, dataset, max_recordings=max_recordings, missing=missing_datasets)


def task_recordings(
    task: str | Sequence[str],
    data_dir: str | Sequence[str],
    max_recordings: int | None = None,
    mixture_datasets: str | Sequence[str] = "paper",
    missing_datasets: str = "error",
) -> RecordingSet:
    """The recordings of tasks or mixtures by MT3's names.

    Args:
      task: a name or several, e.g. "slakh_notes_ties_vb1_test" or "mega_notes_ties_vb1_eval".
      data_dir: see `prepared_recordings`.
      max_recordings: only the first so many of each dataset.
      mixture_datasets: datasets of the `mega` mixtures: a name of
        `mt3.data.mixtures.DATASET_GROUPS`, or names of datasets.
      missing_datasets: "error", or "leave_out" for datasets that are not there.
    """
    return recordings_of_tasks(
        task,
        data_dir,
        mixture_datasets=mixture_datasets,
        max_recordings=max_recordings,
        missing=missing_datasets,
    )


def rendered_recordings(
    music: SynthConfig, split: str = "validation", count: int | None = 8
) -> Sequence[Recording]:
    """Recordings that are rendered when they are needed, without any files; see `synthetic_recordings`.

    Args:
      music: what is played, and how.
      split: train, validation or test.
      count: how many; None for as many as `music` says.
    """
    return synthetic_recordings(music, split, count, cache_dir=cache_directory())


@dataclasses.dataclass(frozen=True)
class EvaluationRun:
    """What to score, and how.

    Attributes:
      recordings: gives the recordings, e.g. `prepared_recordings` or
        `task_recordings` with its arguments bound.
      tracks: instruments to score on their own too: a `Track` or its fields each.
      decoding: how tokens are chosen.
      continuity: how segments are made to agree.
      batch_segments: segments decoded together, on each device that has its own.
      training_recordings: what the model was trained on, for `controls`.
      metrics: names of metrics or of groups of them.
      max_recordings: only the first so many of each dataset; None for all.
      workers: processes that score; None for what is worth it, 0 for none but this one.
      mesh: of the devices of a process, as `TrainingRun.mesh`; of a mesh, `model`
        cuts parameters, `data` and `fsdp` batches.
    """

    recordings: Callable[[], Sequence[EvaluatedRecording]]
    tracks: Sequence[Track | Mapping[str, Any]] = ()
    decoding: DecodingOptions = DecodingOptions()
    continuity: ContinuityOptions = ContinuityOptions()
    batch_segments: int = 16
    training_recordings: Callable[[], Sequence[EvaluatedRecording]] | None = None
    metrics: Sequence[str] = PUBLISHED_METRICS
    max_recordings: int | None = None
    workers: int | None = None
    mesh: str | MeshConfig | None = None

    def __post_init__(self) -> None:
        # Before any transcribing, not after.
        object.__setattr__(self, "tracks", tuple(map(Track.of, self.tracks)))
        mesh_config(self.mesh)
        for name, least in (("max_recordings", 1), ("workers", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"EvaluationRun.{name} is {value}: give at least {least}, or None")

    def run(
        self,
        spec: ModelSpec,
        params: Any,
        *,
        output_directory: Path | None = None,
        restart: bool = False,
        settings: Mapping[str, Any] | None = None,
        strict: bool = False,
        progress: bool = True,
        observe: Callable[[Any, Notes], None] | None = None,
        fellows: Fellows = ALONE,
    ) -> EvaluationResult:
        """Transcribes and scores all recordings; see `mt3.evaluation.evaluator.evaluate`.

        With an output directory, what was finished there before is not done again.

        Args:
          restart: remove what is in the output directory.

        Raises:
          EvaluationError: as `evaluate`; or the output directory holds the
            evaluation of another checkpoint, other data or other decoding options.
        """
        recordings = self.recordings()
        finished, known = None, {}
        if output_directory is not None:
            known = self._subject(spec, params, recordings)
            finished = _open_together(output_directory, known, restart, fellows)
        tasks = [part.task for part in _parts_of(recordings) if part.task]
        _warn_of_other_tokens(tasks, variant_name(spec.tokenizer))
        return self._score(
            recordings,
            spec,
            self._transcriber(spec, params),
            output_directory=output_directory,
            finished=finished,
            settings={
                **(settings or {}),
                **known,
                "tasks": tasks,
                "data_directories": {
                    part.label: str(part.recordings.directory.resolve()) for part in _parts_of(recordings)
                },
            },
            strict=strict,
            progress=progress,
            observe=observe,
            fellows=fellows,
        )

    def controls(
        self, spec: ModelSpec, *, progress: bool = True, fellows: Fellows = ALONE
    ) -> dict[str, EvaluationResult]:
        """What the same recordings give without learning: an untrained network, and a deaf baseline.

        Raises:
          ValueError: `training_recordings` is not set; the baseline is made from them.
        """
        if self.training_recordings is None:
            raise ValueError("controls need EvaluationRun.training_recordings, for the commonest notes")
        baseline = baselines.fit(recording.notes for recording in self.training_recordings())
        untrained = TranscriptionModel(spec).init(jax.random.key(0))
        deaf = baseline.transcriber(spec.spectrogram.sample_rate)
        return {
            "untrained": self.run(spec, untrained, progress=progress, fellows=fellows),
            "commonest notes": self._score(self.recordings(), spec, deaf, progress=progress, fellows=fellows),
        }

    def _score(
        self,
        recordings: Sequence[EvaluatedRecording],
        spec: ModelSpec,
        transcribe: Callable[[np.ndarray], Transcription] | BatchTranscriber,
        **options: Any,
    ) -> EvaluationResult:
        recordings = _first_of_each_dataset(recordings, self.max_recordings)
        worthwhile = min(available_cores() - 1, len(recordings) // _RECORDINGS_PER_WORKER)
        return evaluate(
            recordings,
            transcribe,
            sample_rate=spec.spectrogram.sample_rate,
            onsets_only=spec.tokenizer.onsets_only,
            tracks=self.tracks,
            metrics=self.metrics,
            segment_seconds=spec.segment_seconds,
            workers=worthwhile if self.workers is None else self.workers,
            **options,
        )

    def _transcriber(self, spec: ModelSpec, params: Any) -> Transcriber:
        sharding = None
        # Each process decodes recordings of its own.
        mesh = make_mesh(self.mesh, jax.local_devices())
        if mesh.size > 1:
            partitioner = Partitioner(mesh, _DECODING_AXIS_RULES)
            params = partitioner.place_params(params, TranscriptionModel(spec).logical_axes())
            sharding = partitioner.sharding("batch")
        return Transcriber(
            spec,
            params,
            batch_segments=self.batch_segments,
            decoding=self.decoding,
            continuity=self.continuity,
            batch_sharding=sharding,
        )

    def _subject(
        self, spec: ModelSpec, params: Any, recordings: Sequence[EvaluatedRecording]
    ) -> dict[str, Any]:
        """All that transcriptions depend on."""
        return {
            "checkpoint_hash": parameter_hash(params),
            "code_version": mt3.__version__,
            "model": spec.to_dict(),
            "decoding": dataclasses.asdict(self.decoding),
            "continuity": dataclasses.asdict(self.continuity),
            "data": _described(recordings),
        }


def _first_of_each_dataset(
    recordings: Sequence[EvaluatedRecording], count: int | None
) -> Sequence[EvaluatedRecording]:
    if count is None:
        return recordings
    seen: collections.Counter[str] = collections.Counter()
    chosen = []
    for recording in recordings:
        seen[recording.dataset] += 1
        if seen[recording.dataset] <= count:
            chosen.append(recording)
    return chosen


def _warn_of_other_tokens(tasks: Sequence[str], variant: str) -> None:
    for task in tasks:
        if parse_task(task).variant != variant:
            _LOG.warning(
                "the task %s is of other tokens than the model's, which are called %s; its recordings are "
                "transcribed with the model's",
                task,
                variant,
            )


def _open_together(
    directory: Path, subject: Mapping[str, Any], restart: bool, fellows: Fellows
) -> FinishedRecordings:
    """Opens a directory, in the first process before the others."""
    finished = open_finished(directory, subject, restart=restart) if fellows.index == 0 else None
    fellows.exchange(None)
    return finished or open_finished(directory, subject)


def _parts_of(recordings: Sequence[EvaluatedRecording]) -> list[SetPart]:
    """The splits that recordings are from, as far as they are prepared ones."""
    parts = (getattr(recording, "part", None) for recording in recordings)
    return list({part.label: part for part in parts if isinstance(part, SetPart)}.values())


def _described(recordings: Sequence[EvaluatedRecording]) -> dict[str, Any]:
    """What the recordings are, as JSON values."""
    parts = _parts_of(recordings)
    if parts:
        return {part.label: part.describe() for part in parts}
    digest = hashlib.sha256()
    for recording in recordings:
        digest.update(recording.id.encode())
        for column in COLUMNS:
            digest.update(np.ascontiguousarray(getattr(recording.notes, column)).tobytes())
    return {"recordings": {"notes_hash": digest.hexdigest()}}
