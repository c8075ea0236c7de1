"""What a prepared dataset is like: how much, which instruments, how dense, how long its targets are.

Everything is computed from notes and lengths; audio is never decoded, so that a
large dataset takes minutes. It promises exact figures: every quantity is kept as
its values with their weights (`Distribution`), which add up over recordings and
processes without loss; note lengths alone are rounded, to 1 ms.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mt3.data import parallel
from mt3.data.distributions import Distribution
from mt3.data.manifests import count_programs
from mt3.data.prepared import DataDirectories, PreparedDataset, choose_datasets
from mt3.data.recordings import EncodedAudio, Recording
from mt3.data.records import read_recordings
from mt3.processes import available_cores
from mt3.symbolic.general_midi import DRUMS_NAME, program_name
from mt3.symbolic.note_cleaning import trim_overlaps
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

# MT3's own, for which its published bound of 1024 target tokens holds.
MT3_TOKENIZER = Tokenizer(VocabularyConfig(num_velocity_bins=1, program_granularity="full"), ties=True)

ALL_SPLITS = "all"

# Fewer recordings are counted faster than worker processes start.
_MIN_RECORDINGS_FOR_WORKERS = 100
# Every job reads the manifest once; many jobs balance the load and move the progress bar.
_JOBS_PER_WORKER = 32

_NOTE_LENGTH_STEP_SECONDS = 0.001


# Field of Statistics -> its name in tables and the decimals shown there.
QUANTITIES: dict[str, tuple[str, int]] = {
    "recording_seconds": ("Length of a recording (s)", 1),
    "instruments": ("Instruments in a recording", 0),
    "polyphony": ("Notes sounding at a time", 0),
    "notes_per_second": ("Notes a second", 0),
    "note_seconds": ("Length of a note (s)", 3),
    "pitch": ("Pitch", 0),
    "velocity": ("Velocity (0: unknown)", 0),
    "tokens": ("Tokens of a segment", 0),
}


@dataclasses.dataclass(frozen=True, eq=False)
class Statistics:
    """Of some recordings: one, a split, or all.

    Attributes:
      num_recordings: how many.
      seconds: of audio.
      num_notes: drums included.
      programs: General MIDI program as text, or "drums" -> number of notes.
      program_recordings: the same -> number of recordings with it.
      recording_seconds: lengths of recordings.
      instruments: of a recording, distinct programs and drums.
      polyphony: pitched notes that sound at a time, weighted with seconds;
        silence is 0. Within the audio, notes as they were prepared.
      notes_per_second: onsets, drums included, in each second of a recording
        (the last one may be incomplete).
      note_seconds: lengths of pitched notes, rounded to 1 ms.
      pitch: of pitched notes.
      velocity: of all notes.
      tokens: of consecutive segments, EOS included, before anything is truncated.
    """

    num_recordings: int
    seconds: float
    num_notes: int
    programs: Mapping[str, int]
    program_recordings: Mapping[str, int]
    recording_seconds: Distribution
    instruments: Distribution
    polyphony: Distribution
    notes_per_second: Distribution
    note_seconds: Distribution
    pitch: Distribution
    velocity: Distribution
    tokens: Distribution

    @classmethod
    def merge(cls, parts: Iterable[Statistics]) -> Statistics:
        """Of the recordings of all parts together."""
        parts = list(parts)
        return cls(
            num_recordings=sum(part.num_recordings for part in parts),
            seconds=sum(part.seconds for part in parts),
            num_notes=sum(part.num_notes for part in parts),
            programs=_added(part.programs for part in parts),
            program_recordings=_added(part.program_recordings for part in parts),
            recording_seconds=Distribution.merge(part.recording_seconds for part in parts),
            instruments=Distribution.merge(part.instruments for part in parts),
            polyphony=Distribution.merge(part.polyphony for part in parts),
            notes_per_second=Distribution.merge(part.notes_per_second for part in parts),
            note_seconds=Distribution.merge(part.note_seconds for part in parts),
            pitch=Distribution.merge(part.pitch for part in parts),
            velocity=Distribution.merge(part.velocity for part in parts),
            tokens=Distribution.merge(part.tokens for part in parts),
        )

    @property
    def hours(self) -> float:
        return self.seconds / 3600

    @property
    def num_drum_notes(self) -> int:
        return self.programs.get("drums", 0)

    def to_dict(self, max_target_tokens: int) -> dict[str, Any]:
        """Plain values for JSON, with histograms of what has whole values."""
        plain: dict[str, Any] = {
            "recordings": self.num_recordings,
            "hours": self.hours,
            "notes": self.num_notes,
            "drum_notes": self.num_drum_notes,
            "programs": {
                key: {
                    "name": instrument_name(key),
                    "notes": num_notes,
                    "recordings": self.program_recordings[key],
                }
                for key, num_notes in self.programs.items()
            },
        }
        for field in QUANTITIES:
            distribution: Distribution = getattr(self, field)
            plain[field] = distribution.summary()
            if field not in ("recording_seconds", "note_seconds"):
                pairs = zip(distribution.values.tolist(), distribution.weights.tolist(), strict=True)
                plain[field]["histogram"] = {f"{value:g}": weight for value, weight in pairs}
        plain["segments"] = int(self.tokens.total)
        plain["segments_too_long"] = int(self.tokens.weight_above(max_target_tokens))
        return plain


def _added(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Sums by program, in order of programs, drums last."""
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    return dict(sorted(total.items(), key=lambda item: (len(item[0]), item[0])))


def instrument_name(key: str) -> str:
    """General MIDI's name of a key of `Statistics.programs`."""
    return DRUMS_NAME if key == "drums" else program_name(int(key))


@dataclasses.dataclass(frozen=True, eq=False)
class DatasetStatistics:
    """Statistics of a prepared dataset and what its targets were made with.

    Attributes:
      name: of the dataset.
      splits: split -> its statistics; train first.
      tokenizer: that counted the tokens.
      segment_frames: frames of a segment.
      max_target_tokens: the bound that targets are held against.
    """

    name: str
    splits: Mapping[str, Statistics]
    tokenizer: Tokenizer
    segment_frames: int
    max_target_tokens: int

    @property
    def total(self) -> Statistics:
        """Of all splits together."""
        return Statistics.merge(self.splits.values())

    def parts(self) -> dict[str, Statistics]:
        """The splits and, where there are several, "all"."""
        return {**self.splits, **({ALL_SPLITS: self.total} if len(self.splits) > 1 else {})}

    def to_json(self) -> str:
        """Readable JSON; equal statistics give equal text."""
        plain = {
            "dataset": self.name,
            "tokenizer": self.tokenizer.to_dict(),
            "segment_frames": self.segment_frames,
            "max_target_tokens": self.max_target_tokens,
            "splits": {split: part.to_dict(self.max_target_tokens) for split, part in self.parts().items()},
        }
        return json.dumps(plain, indent=1) + "\n"


def dataset_statistics(
    data_dir: DataDirectories,
    *,
    name: str | None = None,
    splits: Sequence[str] | None = None,
    tokenizer: Tokenizer = MT3_TOKENIZER,
    segment_frames: int = 256,
    max_target_tokens: int = 1024,
    workers: int | None = None,
    progress: bool = True,
) -> DatasetStatistics:
    """Reads all recordings of a prepared dataset once.

    Args:
      data_dir: where it was prepared, or a directory above that, or several.
      name: of the dataset; may be left out where there is only one.
      splits: which; by default all that are prepared.
      tokenizer: whose tokens are counted.
      segment_frames: frames of a segment; the segments of a recording are
        consecutive, as in evaluation, and the last may be shorter.
      max_target_tokens: the bound that targets are held against.
      workers: processes; 0 for none but this one, None for one a core where
        that is worth it.
      progress: show a bar on a terminal.

    Raises:
      MissingDatasetError: when the dataset is not there.
      RecordError: when a split is not prepared, or a shard is damaged.
      ValueError: when `name` is needed to choose, or for notes that the
        tokenizer refuses; names the recording.
    """
    if segment_frames < 1:
        raise ValueError(f"segment_frames is {segment_frames}; it must be at least 1.")
    dataset = _find_dataset(data_dir, name)
    name, directory = dataset.name, dataset.directory
    splits = list(dict.fromkeys(dataset.splits if splits is None else splits))
    sizes = {split: len(read_recordings(directory, split, name=name)) for split in splits}
    if workers is None:
        workers = available_cores() if sum(sizes.values()) >= _MIN_RECORDINGS_FOR_WORKERS else 0
    step = max(1, -(-sum(sizes.values()) // (_JOBS_PER_WORKER * max(1, workers))))
    jobs = [
        _Job(directory, name, split, first, min(first + step, size), tokenizer, segment_frames)
        for split, size in sizes.items()
        for first in range(0, size, step)
    ]
    parts: dict[str, list[Statistics]] = {split: [] for split in splits}
    description = f"Counting {name}" if progress else ""
    with contextlib.closing(
        parallel.ordered_map(_measure_job, jobs, workers=workers, description=description)
    ) as results:
        for job, statistics in zip(jobs, results, strict=True):
            parts[job.split].append(statistics)
    merged = {split: Statistics.merge(parts[split]) for split in splits}
    return DatasetStatistics(name, merged, tokenizer, segment_frames, max_target_tokens)


def _find_dataset(data_dir: DataDirectories, name: str | None) -> PreparedDataset:
    found = choose_datasets(data_dir, name)
    if len(found) > 1:
        names = ", ".join(dataset.name for dataset in found)
        raise ValueError(f"{data_dir} holds {len(found)} datasets ({names}); name one of them.")
    return found[0]


@dataclasses.dataclass(frozen=True)
class _Job:
    """Recordings first..last - 1 of a split; small enough to be sent to a worker."""

    directory: Path
    name: str
    split: str
    first: int
    last: int
    tokenizer: Tokenizer
    segment_frames: int


def _measure_job(job: _Job) -> Statistics:
    recordings = read_recordings(job.directory, job.split, name=job.name)[job.first : job.last]
    return Statistics.merge(
        measure_recording(recording, job.tokenizer, job.segment_frames) for recording in recordings
    )


def measure_recording(recording: Recording, tokenizer: Tokenizer, segment_frames: int) -> Statistics:
    """Statistics of one recording of a prepared dataset; its audio is not decoded.

    Raises:
      ValueError: for notes that the tokenizer refuses.
    """
    audio, notes = recording.audio, recording.notes
    if not isinstance(audio, EncodedAudio):
        raise TypeError(f"{recording.id}: the length of {type(audio).__name__} is not known; encode it.")
    seconds = audio.num_samples / audio.sample_rate
    num_frames = int(-(-audio.num_samples * tokenizer.frames_per_second // audio.sample_rate))
    try:
        tokens = count_tokens(notes, num_frames, tokenizer, segment_frames)
    except ValueError as error:
        raise ValueError(f"{recording.id}: {error}") from error
    pitched = notes[~notes.is_drum]
    programs = count_programs(notes)
    note_steps = np.rint(pitched.duration_seconds / _NOTE_LENGTH_STEP_SECONDS)
    return Statistics(
        num_recordings=1,
        seconds=seconds,
        num_notes=len(notes),
        programs=programs,
        program_recordings=dict.fromkeys(programs, 1),
        recording_seconds=Distribution.of([seconds]),
        instruments=Distribution.of([len(programs)]),
        polyphony=polyphony(pitched, seconds),
        notes_per_second=onsets_in_each_second(notes, seconds),
        note_seconds=Distribution.of(note_steps * _NOTE_LENGTH_STEP_SECONDS),
        pitch=Distribution.of(pitched.pitch),
        velocity=Distribution.of(notes.velocity),
        tokens=Distribution.of(tokens),
    )


def count_tokens(notes: Notes, num_frames: int, tokenizer: Tokenizer, segment_frames: int) -> list[int]:
    """Tokens of the consecutive segments of a recording, as evaluation tasks cut them."""
    events = tokenizer.prepare(trim_overlaps(notes))
    starts = np.arange(0, num_frames, segment_frames)
    lengths = np.minimum(num_frames - starts, segment_frames)
    return [len(target) for target in tokenizer.encode_segments(events, starts, lengths)]


def polyphony(notes: Notes, seconds: float) -> Distribution:
    """How many notes sound at a time in [0, seconds), weighted with seconds."""
    onset = np.clip(notes.onset_seconds, 0.0, seconds)
    offset = np.clip(notes.offset_seconds, 0.0, seconds)
    times = np.concatenate([[0.0, seconds], onset, np.maximum(onset, offset)])
    change = np.repeat([0, 1, -1], [2, len(notes), len(notes)])
    order = np.argsort(times, kind="stable")
    lasting = np.diff(times[order])
    sounding = np.cumsum(change[order])[:-1]
    return Distribution.of(sounding[lasting > 0], lasting[lasting > 0])


def onsets_in_each_second(notes: Notes, seconds: float) -> Distribution:
    """Onsets in [0, 1), [1, 2), ... up to the end of the audio, the last second included."""
    num_seconds = int(np.ceil(seconds))
    inside = notes.onset_seconds[(notes.onset_seconds >= 0) & (notes.onset_seconds < num_seconds)]
    return Distribution.of(np.bincount(inside.astype(np.int64), minlength=num_seconds))
