"""Prepares a dataset: from a source's plan to shards and manifests.

What all sources share. Each shard is made by itself, by any process on any
machine that sees the output directory, and its bytes depend on the plan alone:
so a run that was killed and started again makes only the shards that are
missing, and ends with the same bytes as one that was not. An item that cannot
be used is named, listed in the manifest and left out (or ends everything with
`strict`). A split that is finished already is not made again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mt3
from mt3 import files
from mt3.data import parallel
from mt3.data.manifests import Manifest, SkippedItem, manifest_path, read_manifest, shard_name
from mt3.data.record_writer import finish_split, remove_left_behind
from mt3.data.recordings import EncodedAudio, Recording
from mt3.data.shards import SAMPLE_RATE, ShardPart, ShardWriter, finished_part, write_part
from mt3.data.sources.base import SPLITS, Item, LeftOut, Plan, PlanOptions, Source
from mt3.processes import available_cores

_MAX_SHARDS = 99999
_FAILURE_FILE = "failure"


class PrepareError(ValueError):
    """A dataset that cannot be prepared as asked; the message says the remedy."""


@dataclasses.dataclass(frozen=True)
class ShardTask:
    """One shard to be made; all that a worker needs.

    Attributes:
      make: the source's.
      items: that go into the shard.
      directory: of the output.
      dataset, split: names.
      index, num_shards: which shard of how many.
      made_from: see `ShardPart`.
      strict: stop everything at the first item that is at fault.
    """

    make: Callable[[Any], Iterable[Recording]]
    items: Sequence[Item]
    directory: str
    dataset: str
    split: str
    index: int
    num_shards: int
    made_from: str
    strict: bool

    @property
    def shard_path(self) -> Path:
        return Path(self.directory) / shard_name(self.dataset, self.split, self.index, self.num_shards)

    @property
    def part_path(self) -> Path:
        return parts_directory(self.directory, self.dataset, self.split) / f"{self.index:05d}.json"


def parts_directory(directory: Path | str, dataset: str, split: str) -> Path:
    """Where the parts of a split lie until its manifest is written."""
    return Path(directory) / f".{dataset}-{split}.parts"


def prepare(
    source: Source,
    config: Any,
    inputs: Sequence[str | Path],
    output_dir: Path | str,
    *,
    splits: Sequence[str] | None = None,
    limit: int | None = None,
    num_shards: int | None = None,
    workers: int | None = None,
    strict: bool = False,
    overwrite: bool = False,
    cache_dir: Path | str | None = None,
    runner_flags: Sequence[str] = (),
) -> dict[str, Manifest]:
    """Writes the records of a dataset; what is finished is left as it is.

    Args:
      source: which dataset.
      config: its settings.
      inputs: folders and archives of the published dataset.
      output_dir: for shards and manifests.
      splits: only these.
      limit: only the first so many items of each split.
      num_shards: files of each split; by default by the number of items.
      workers: processes of this machine; None for one a core, 0 for none but this one.
      strict: fail at the first item that cannot be used, instead of leaving it out.
      overwrite: make finished splits anew.
      cache_dir: see `PlanOptions`.
      runner_flags: of Apache Beam, for another runner than this machine's
        processes; `output_dir` and the inputs must be visible to its workers.

    Returns:
      split -> manifest.

    Raises:
      ValueError: for input, splits or an output directory that cannot be used.
    """
    workers = available_cores() if workers is None else workers
    plan = make_plan(source, config, inputs, output_dir, workers=workers, cache_dir=cache_dir, strict=strict)
    plan = narrow(plan, splits, limit)
    if strict and (faults := [skip for skip in plan.skipped if skip.is_fault]):
        raise PrepareError(f"{faults[0].item}: {faults[0].reason}")
    manifests = {}
    first = next(iter(plan.items))
    for split, items in plan.items.items():
        manifests[split] = _finished(output_dir, plan, split, overwrite) or _write_split(
            source,
            items,
            plan,
            split,
            Path(output_dir),
            num_shards=num_shards,
            workers=workers,
            strict=strict,
            # What planning could not place is listed once, with the first split.
            skipped=plan.skipped if split == first else (),
            runner_flags=runner_flags,
        )
    shutil.rmtree(index_directory(output_dir), ignore_errors=True)
    return manifests


def index_directory(output_dir: Path | str) -> Path:
    """Where the seek points of compressed tars lie while a dataset is prepared."""
    return Path(output_dir) / ".archives"


def make_plan(
    source: Source,
    config: Any,
    inputs: Sequence[str | Path],
    output_dir: Path | str,
    *,
    workers: int = 0,
    cache_dir: Path | str | None = None,
    strict: bool = False,
) -> Plan:
    """The source's plan; raises `SourceError` where the input is not the dataset."""
    options = PlanOptions(workers, cache_dir, index_directory(output_dir), strict)
    return source.plan(config, [str(given) for given in inputs], options)


def narrow(plan: Plan, splits: Sequence[str] | None, limit: int | None) -> Plan:
    """Only some splits, in the usual order, and the first items of each.

    Raises:
      PrepareError: for a split that the dataset does not have, or when nothing is left.
    """
    known = [split for split in SPLITS if plan.items.get(split)]
    if unknown := [split for split in splits or () if split not in known]:
        raise PrepareError(
            f"{plan.dataset} has no split {unknown[0]!r} here; it has {', '.join(known) or 'none'}."
        )
    chosen = {split: plan.items[split][:limit] for split in known if splits is None or split in splits}
    if not chosen:
        reasons = "; ".join(f"{skip.item}: {skip.reason}" for skip in plan.skipped[:1])
        raise PrepareError(f"There is nothing to prepare for {plan.dataset}. {reasons}".strip())
    config = plan.config if limit is None else {**plan.config, "limit": limit}
    return dataclasses.replace(plan, items=chosen, config=config)


def _finished(output_dir: Path | str, plan: Plan, split: str, overwrite: bool) -> Manifest | None:
    """The manifest of a split that is already prepared in just this way, None where there is none.

    Raises:
      PrepareError: when it was prepared in another way.
    """
    path = manifest_path(output_dir, plan.dataset, split)
    if overwrite:
        path.unlink(missing_ok=True)
        shutil.rmtree(parts_directory(output_dir, plan.dataset, split), ignore_errors=True)
    if not path.exists():
        return None
    manifest = read_manifest(output_dir, split, plan.dataset)
    expected = {"config": _as_json(plan.config), "seed": plan.seed, "code_version": mt3.__version__}
    for key, value in expected.items():
        if getattr(manifest, key) != value:
            what = _first_difference(key, getattr(manifest, key), value)
            raise PrepareError(
                f"{path} was prepared differently ({what}); choose another output directory or overwrite it."
            )
    shutil.rmtree(parts_directory(output_dir, plan.dataset, split), ignore_errors=True)
    remove_left_behind(Path(output_dir), plan.dataset, split)
    return manifest


def _as_json(values: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(values))


def _first_difference(key: str, old: Any, new: Any) -> str:
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return f"{key} was {old!r}, is {new!r}"
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return f"{names[0]} was {old.get(names[0])!r}, is {new.get(names[0])!r}"


def _write_split(
    source: Source,
    items: Sequence[Item],
    plan: Plan,
    split: str,
    directory: Path,
    *,
    num_shards: int | None,
    workers: int,
    strict: bool,
    skipped: Sequence[SkippedItem],
    runner_flags: Sequence[str],
) -> Manifest:
    directory.mkdir(parents=True, exist_ok=True)
    remove_left_behind(directory, plan.dataset, split)
    parts_dir = parts_directory(directory, plan.dataset, split)
    parts_dir.mkdir(exist_ok=True)
    (parts_dir / _FAILURE_FILE).unlink(missing_ok=True)
    tasks = shard_tasks(source, items, plan, split, directory, num_shards=num_shards, strict=strict)
    missing = [task for task in tasks if _part_of(task) is None]
    _run(missing, parts_dir, workers, runner_flags, f"Making {plan.dataset} {split}")
    if (parts_dir / _FAILURE_FILE).exists():
        raise PrepareError((parts_dir / _FAILURE_FILE).read_text(encoding="utf-8"))
    parts = [part for task in tasks if (part := _part_of(task)) is not None]
    if len(parts) < len(tasks):
        raise PrepareError(
            f"{len(tasks) - len(parts)} of {len(tasks)} shards of {plan.dataset} {split} were not written "
            f"to {directory}; all workers must see it. Run the command again to make them."
        )
    if not any(part.recordings for part in parts):
        for task in tasks:
            task.shard_path.unlink()
        shutil.rmtree(parts_dir)
        raise _nothing_usable(plan.dataset, split, items, parts)
    finish_split(directory, plan.dataset, split, parts, skipped=skipped, seed=plan.seed, config=plan.config)
    shutil.rmtree(parts_dir)
    return read_manifest(directory, split, plan.dataset)


def _nothing_usable(
    dataset: str, split: str, items: Sequence[Item], parts: Sequence[ShardPart]
) -> PrepareError:
    skips = [skip for part in parts for skip in part.skipped]
    first = f"; the first: {skips[0].item}: {skips[0].reason}" if skips else ""
    return PrepareError(f"None of {len(items)} inputs of {dataset} {split} could be used{first}")


def shard_tasks(
    source: Source,
    items: Sequence[Item],
    plan: Plan,
    split: str,
    directory: Path,
    *,
    num_shards: int | None = None,
    strict: bool = False,
) -> list[ShardTask]:
    """The shards of a split: runs of neighbouring items, about equally many in each."""
    wanted = num_shards or -(-len(items) // source.items_per_shard)
    num_shards = max(1, min(wanted, len(items), _MAX_SHARDS))
    bounds = [len(items) * index // num_shards for index in range(num_shards + 1)]
    common = json.dumps([plan.config, plan.seed, mt3.__version__, num_shards], sort_keys=True)
    tasks = []
    for index, (first, last) in enumerate(itertools.pairwise(bounds)):
        ids = json.dumps([item.id for item in items[first:last]])
        made_from = hashlib.sha256(f"{common}\n{ids}".encode()).hexdigest()
        tasks.append(
            ShardTask(
                source.make,
                items[first:last],
                str(directory),
                plan.dataset,
                split,
                index,
                num_shards,
                made_from,
                strict,
            )
        )
    return tasks


def _part_of(task: ShardTask) -> ShardPart | None:
    return finished_part(task.part_path, task.shard_path, task.made_from)


def _run(
    tasks: Sequence[ShardTask],
    parts_dir: Path,
    workers: int,
    runner_flags: Sequence[str],
    description: str,
) -> None:
    """Makes the shards: here, in processes of this machine, or wherever the runner's flags say."""
    workers = min(workers, len(tasks))
    if workers <= 1 and not runner_flags:  # starting others would only cost time
        for _ in parallel.ordered_map(write_shard, tasks, description=description):
            pass
        return
    from mt3.data import beam_pipeline

    num_before = len(list(parts_dir.glob("*.json")))
    beam_pipeline.run_everywhere(
        write_shard,
        tasks,
        workers=workers,
        flags=runner_flags,
        num_done=lambda: len(list(parts_dir.glob("*.json"))) - num_before,
        description=description,
    )


def write_shard(task: ShardTask) -> None:
    """Makes a shard and its part.

    With `strict`, the first item that is at fault is told in a file that stops
    the makers of other shards too; an exception would come back through a
    runner as pages of its own.
    """
    failure_path = task.part_path.with_name(_FAILURE_FILE)
    with ShardWriter(task.shard_path, task.index, made_from=task.made_from) as writer:
        for item in task.items:
            if failure_path.exists():
                return
            skip = write_item(task.make, item, writer)
            if skip is None:
                continue
            if skip.is_fault and task.strict:
                files.write_text(failure_path, f"{skip.item}: {skip.reason}")
                return
            logging.getLogger(__name__).info("Skipped %s: %s", skip.item, skip.reason)
            writer.skip(skip)
    write_part(task.part_path, writer.part)


def write_item(
    make: Callable[[Any], Iterable[Recording]], item: Item, writer: ShardWriter
) -> SkippedItem | None:
    """Adds the recordings of an item, all or none; returns why there are none."""
    try:
        recordings = [
            dataclasses.replace(recording, audio=EncodedAudio.of(recording.audio, SAMPLE_RATE))
            for recording in make(item)
        ]
    except LeftOut as reason:
        return SkippedItem(item.id, str(reason), is_fault=False)
    except (ValueError, OSError) as error:
        return SkippedItem(item.id, str(error))
    for recording in recordings:
        writer.write(recording)
    return None
