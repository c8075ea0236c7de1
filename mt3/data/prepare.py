"""Writes the records of a split from independent jobs, in parallel, in a fixed order.

What every source's preparation shares: workers make recordings, this process
writes them in the order of the jobs; a job that fails is named, listed in the
manifest and left out (or stops everything with `strict`); a split that is
finished already is not made again.
"""

from __future__ import annotations

import contextlib
import functools
import json
import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import mt3
from mt3.data import parallel
from mt3.data.manifests import Manifest, SkippedItem, manifest_path, read_manifest
from mt3.data.recordings import Recording
from mt3.data.records import RecordWriter

Job = TypeVar("Job")


class PrepareError(ValueError):
    """A dataset that cannot be prepared as asked; the message says the remedy."""


def finished_manifest(
    directory: Path | str, name: str, split: str, config: Mapping[str, Any], seed: int
) -> Manifest | None:
    """The manifest of a split that is already prepared in just this way, None where there is none.

    Raises:
      PrepareError: when it was prepared in another way.
    """
    path = manifest_path(directory, name, split)
    if not path.exists():
        return None
    manifest = read_manifest(directory, split, name)
    expected = {"config": json.loads(json.dumps(config)), "seed": seed, "code_version": mt3.__version__}
    for key, value in expected.items():
        if getattr(manifest, key) != value:
            what = _first_difference(key, getattr(manifest, key), value)
            raise PrepareError(
                f"{path} was prepared differently ({what}); choose another output directory or overwrite it."
            )
    return manifest


def _first_difference(key: str, old: Any, new: Any) -> str:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return f"{key} was {old!r}, is {new!r}"
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return f"{names[0]} was {old.get(names[0])!r}, is {new.get(names[0])!r}"


def write_split(
    directory: Path | str,
    name: str,
    split: str,
    jobs: Sequence[Job],
    make: Callable[[Job], list[Recording]],
    *,
    job_name: Callable[[Job], str],
    num_shards: int = 1,
    workers: int = 0,
    strict: bool = False,
    skipped: Sequence[SkippedItem] = (),
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
) -> Manifest:
    """Prepares one split.

    Args:
      directory: for shards and manifest.
      name: of the dataset.
      split: train, validation or test.
      jobs: what `make` takes; their order is that of the records.
      make: recordings of one job, their audio encoded; at the top level of a
        module, run in workers. ValueError and OSError mean that the job's input
        is at fault; other errors stop everything.
      job_name: names a job in the list of what was skipped; at top level too.
      num_shards: files; no more than there are jobs.
      workers: processes; 0 for none but this one.
      strict: stop at the first job that fails.
      skipped: inputs that were left out before.
      seed: for the manifest.
      config: for the manifest.

    Raises:
      PrepareError: when nothing could be made; with `strict`, when a job fails.
    """
    work = functools.partial(_attempt, make, job_name)
    num_shards = max(1, min(num_shards, len(jobs)))
    results = parallel.ordered_map(work, jobs, workers=workers, description=f"Making {name} {split}")
    with (
        RecordWriter(directory, name, split, num_shards=num_shards, seed=seed, config=config) as writer,
        contextlib.closing(results),
    ):
        num_written, failures = 0, []
        for skip in skipped:
            writer.skip(skip.item, skip.reason)
        for result in results:
            if isinstance(result, SkippedItem):
                failure = f"{result.item}: {result.reason}"
                if strict:
                    raise PrepareError(failure)
                logging.getLogger(__name__).info("Skipped %s", failure)
                writer.skip(result.item, result.reason)
                failures.append(failure)
                continue
            for recording in result:
                writer.write(recording)
                num_written += 1
        if not num_written:
            first = f"; the first: {failures[0]}" if failures else ""
            raise PrepareError(f"None of {len(jobs)} inputs of {name} {split} could be used{first}")
    return read_manifest(directory, split, name)


def _attempt(
    make: Callable[[Job], list[Recording]], job_name: Callable[[Job], str], job: Job
) -> list[Recording] | SkippedItem:
    try:
        return make(job)
    except (ValueError, OSError) as error:
        return SkippedItem(job_name(job), str(error))
