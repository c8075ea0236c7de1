"""The cache of a dataset: its recordings cut into chunks, decoded, ready to be read.

Decoding and resampling cost more than everything else between disk and model;
the cache pays for them once. It has the layout of seqio's offline caches, so
that seqio reads it, but is made without TensorFlow, by worker processes. Chunks
hold no tokens: one cache serves all tokenizers (and lies under the dataset's
name, not under a task's). Beyond one machine, seqio's own caching of the tasks,
on any Beam runner, does the same for one task at a time.

The cache takes 32 KB a second at 16 kHz. Equal records and seed give equal
files; a cache is complete or not there. A run that is killed starts anew, and
removes what was left of the last one. Workers decode and cut, this process
writes: it can take in what about ten workers cut (`scripts/benchmarks/cache.py`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import shutil
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from mt3.data import parallel
from mt3.data.manifests import manifest_path
from mt3.data.prepared import DataDirectories, choose_datasets
from mt3.data.preprocessors import CHUNK_FEATURES, encode_chunk, split_recording
from mt3.data.records import Recordings, read_recordings
from mt3.data.tfrecords import encode_example, frame_record
from mt3.processes import available_cores

# The first version whose caches have true types; seqio reads integers of older ones as 32 bits.
_SEQIO_FORMAT_VERSION = "0.0.0"

# Held open and locked by the run that writes into the directory.
_LOCK_FILE = ".lock"


def chunks_cache_name(dataset: str, split: str) -> str:
    """Directory of a split's cache inside a cache directory."""
    return f"{dataset}_chunks_{split}"


@dataclasses.dataclass(frozen=True)
class _Job:
    """A recording to be cut; what a worker needs.

    `manifest_time` tells that the manifest is still the one that was read before.
    """

    directory: str
    dataset: str
    split: str
    manifest_time: int
    index: int
    sample_rate: int
    hop_samples: int


def cache_datasets(
    data_dir: DataDirectories,
    cache_dir: Path | str,
    datasets: str | Sequence[str] | None = None,
    *,
    split: str = "train",
    missing_datasets: str = "error",
    workers: int | None = None,
    overwrite: bool = False,
) -> dict[str, Path]:
    """`cache_chunks` for several datasets, one after the other.

    Args:
      data_dir: where to look for them: one directory, or several.
      cache_dir: see `cache_chunks`.
      datasets: names; None for all that are prepared there and have the split.
      split: of the records.
      missing_datasets: see `prepared.choose_datasets`.
      workers, overwrite: see `cache_chunks`.

    Returns:
      Name -> directory of the cache.

    Raises:
      MissingDatasetError: when there is none, or one that is named is missing.
      RecordError: when a record is damaged.
    """
    return {
        dataset.name: cache_chunks(
            dataset.directory,
            cache_dir,
            dataset=dataset.name,
            split=split,
            workers=workers,
            overwrite=overwrite,
        )
        for dataset in choose_datasets(data_dir, datasets, split=split, missing=missing_datasets)
    }


def cache_chunks(
    data_dir: Path | str,
    cache_dir: Path | str,
    *,
    dataset: str | None = None,
    split: str = "train",
    sample_rate: int = 16000,
    hop_samples: int = 128,
    num_shards: int = 64,
    workers: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Caches the chunks of a prepared split for the training tasks of the dataset.

    Args:
      data_dir: where it was prepared.
      cache_dir: where caches lie, one directory each; what `seqio_batches` is given.
      dataset: its name; may be left out where data_dir holds one.
      split: of the records.
      sample_rate: in Hz.
      hop_samples: samples of a frame.
      num_shards: files, no more than there are chunks. Chunks go to them at
        random, so that files read side by side give shuffled music.
      workers: processes; all cores by default, 0 for none but this one.
      seed: of which chunk goes where.
      overwrite: make a finished cache anew.

    Returns:
      The cache's directory.

    Raises:
      RecordError: when the split is not prepared or a record is damaged.
    """
    manifest = read_recordings(data_dir, split, name=dataset).manifest
    target = Path(cache_dir) / chunks_cache_name(manifest.name, split)
    if (target / "COMPLETED").exists() and not overwrite:
        return target
    time = manifest_path(data_dir, manifest.name, split).stat().st_mtime_ns
    jobs = [
        _Job(str(data_dir), manifest.name, split, time, index, sample_rate, hop_samples)
        for index in range(manifest.num_recordings)
    ]
    with _unfinished(target) as temporary:
        num_shards = max(1, min(num_shards, manifest.num_chunks))
        workers = available_cores() if workers is None else workers
        with contextlib.closing(_cut(jobs, workers)) as chunks:
            num_chunks = _write_shards(chunks, temporary, split, num_shards, np.random.default_rng(seed))
        _write_descriptions(temporary, split, num_shards, num_chunks)
    return target


@contextlib.contextmanager
def _unfinished(target: Path) -> Iterator[Path]:
    """A directory to be filled, which then takes the place of `target`; on failure it is removed."""
    import fcntl

    for left_behind in target.parent.glob(f".{target.name}.*.tmp"):
        _remove_unless_in_use(left_behind)
    number = uuid.uuid4().hex
    temporary = target.with_name(f".{target.name}.{number}.tmp")
    # Under another name until it is locked: a run that starts just now would take it for left behind.
    unlocked = target.with_name(f".{target.name}.{number}.new")
    unlocked.mkdir(parents=True)
    try:
        with (unlocked / _LOCK_FILE).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            unlocked.replace(temporary)
            yield temporary
            if target.exists():
                shutil.rmtree(target)
            temporary.replace(target)
            (target / _LOCK_FILE).unlink()
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(unlocked, ignore_errors=True)


def _remove_unless_in_use(directory: Path) -> None:
    """Removes what a run left that was killed: its lock ended with it."""
    import fcntl

    try:
        with (directory / _LOCK_FILE).open("r+") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    except FileNotFoundError:
        pass  # killed while it was being removed
    shutil.rmtree(directory, ignore_errors=True)


def _cut(jobs: Sequence[_Job], workers: int) -> Iterator[bytes]:
    """The chunks of all recordings as framed records."""
    results = parallel.ordered_map(_chunks_of, jobs, workers=workers, description="Caching chunks")
    with contextlib.closing(results):
        for chunks in results:
            yield from chunks


def _chunks_of(job: _Job) -> list[bytes]:
    """The chunks of a recording as framed records."""
    recording = _recordings(job.directory, job.dataset, job.split, job.manifest_time)[job.index]
    chunks = split_recording(recording, sample_rate=job.sample_rate, hop_samples=job.hop_samples)
    return [
        frame_record(encode_example(encode_chunk(chunk, job.sample_rate, job.hop_samples)))
        for chunk in chunks
    ]


@functools.lru_cache(maxsize=1)
def _recordings(directory: str, dataset: str, split: str, manifest_time: int) -> Recordings:
    # Once a worker, not once a recording: the manifest of a large dataset takes long to parse.
    return read_recordings(directory, split, name=dataset)


def _write_shards(
    chunks: Iterator[bytes], directory: Path, split: str, num_shards: int, rng: np.random.Generator
) -> int:
    """Deals chunks to shards in rounds of random order; returns how many there were."""
    num_chunks = 0
    with ExitStack() as stack:
        names = [f"{split}.tfrecord-{index:05d}-of-{num_shards:05d}" for index in range(num_shards)]
        files = [stack.enter_context((directory / name).open("wb")) for name in names]
        round_order: list[int] = []
        for chunk in chunks:
            round_order = round_order or rng.permutation(num_shards).tolist()
            files[round_order.pop()].write(chunk)
            num_chunks += 1
    return num_chunks


def _write_descriptions(directory: Path, split: str, num_shards: int, num_chunks: int) -> None:
    types = {bytes: "string", int: "int64"}
    info = {
        "num_shards": num_shards,
        "features": {name: {"shape": [], "dtype": types[kind]} for name, kind in CHUNK_FEATURES.items()},
        "seqio_version": _SEQIO_FORMAT_VERSION,
    }
    (directory / f"info.{split}.json").write_text(json.dumps(info, indent=2))
    (directory / f"stats.{split}.json").write_text(json.dumps({"examples": num_chunks}, indent=2))
    (directory / "COMPLETED").write_text("")
