"""Training batches from prepared datasets, through seqio.

The provider for datasets on disk, as `mt3.data.stream` is the one for endless
rendered music: an iterator of NumPy batches that can say where it is and be put
back. Importing this module loads no TensorFlow; making `SeqioBatches` does.

Resuming. Batches come in *legs*: stretches that let every dataset pass at least
once, each with a seed of its own made from (seed, leg). The state is the leg and
the number of batches taken from it, so it is small and exact: putting it back
opens that leg and passes over as many batches. These are made and thrown away,
at the speed of the pipeline; a state late in a leg of a large dataset takes
minutes (progress is logged). The same seed, data, settings and TensorFlow give the same batches.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import os
import sys
import time
import weakref
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np

from mt3.data.batches import EXAMPLE_IDS, trim_to_bucket
from mt3.data.prepared import MissingDatasetError
from mt3.models.model import ModelSpec

Batch = dict[str, np.ndarray]

# From one report of progress to the next.
_REPORT_SECONDS = 30.0

# Shorter legs would spend their time on starting.
_MIN_EXAMPLES_PER_LEG = 1 << 16


@dataclasses.dataclass(eq=False, kw_only=True)
class SeqioBatches(Iterator[Batch]):
    """An iterator of batches of a task or mixture, for a model.

    With `num_epochs` it ends; its last batch is filled up with rows of weight 0,
    so that all batches have one shape.

    Attributes:
      spec: of the model: tokenizer, segment sizes, kind of inputs.
      task: name of a task or mixture, or names of tasks to be mixed.
      batch_size: rows of a batch, over all shards.
      data_dir: of prepared datasets, which are directly in it or in directories
        in it; or several such. None where tasks are registered already.
      split: of the task; may be left out where it has one.
      seed: of the order and of all random cuts.
      shuffle: whether the order is random.
      num_epochs: passes over the data; None for no end.
      max_examples_per_mix: most segments that are summed into an example.
      segments_per_chunk: see `seqio_preprocessors.TaskOptions`.
      long_targets: a name of `preprocessors.LONG_TARGET_RULES`.
      shuffle_buffer_size: segments of each task held to shuffle, 130 KB each.
      cache_dir: of caches (`mt3.data.cache`, or seqio's own).
      use_cached: whether to read those; by default if all tasks are cached.
      mixture_datasets: the datasets of a `mega` mixture: "paper", "later_code"
        (`mixtures.DATASET_GROUPS`), or their names.
      missing_datasets: "error", or "leave_out": a mixture is of those of its
        datasets that are prepared; a warning names the others.
      target_buckets: see `batches.trim_to_bucket`.
      shard_index: which part of the data this process reads ...
      num_shards: ... of how many; each gives batch_size / num_shards rows.

    Raises:
      MissingDatasetError: when the task, its dataset or its cache is not there.
      ValueError: when the task's tokens are not the model's, or for settings
        that do not fit each other.
    """

    spec: ModelSpec = dataclasses.field(kw_only=False)
    task: str | Sequence[str]
    batch_size: int
    data_dir: str | Sequence[str] | None = None
    split: str | None = None
    seed: int = 0
    shuffle: bool = True
    num_epochs: int | None = None
    max_examples_per_mix: int = 1
    segments_per_chunk: int | None = None
    long_targets: str = "truncate"
    shuffle_buffer_size: int = 1000
    cache_dir: str | None = None
    use_cached: bool | None = None
    mixture_datasets: str | Sequence[str] = "paper"
    missing_datasets: str = "error"
    target_buckets: Sequence[int] = ()
    shard_index: int = 0
    num_shards: int = 1

    def __post_init__(self) -> None:
        self._check()
        load_tensorflow()
        self._provider = self._find_provider()
        self._split = self._find_split()
        self._reads_cache = self._find_cache()
        self._batches_per_leg = self._count_batches_per_leg()
        self._leg = 0
        self._taken = 0
        self._interrupted = False
        self._batches: Iterator[Batch] | None = None
        self._end_leg: weakref.finalize | None = None

    def _check(self) -> None:
        if self.batch_size < 1 or self.num_shards < 1 or self.batch_size % self.num_shards:
            raise ValueError(
                f"batch_size is {self.batch_size} for {self.num_shards} shards; give a multiple of them."
            )
        if not 0 <= self.shard_index < self.num_shards:
            raise ValueError(f"shard_index is {self.shard_index}; it must be in 0..{self.num_shards - 1}.")

    def __next__(self) -> Batch:
        if self._batches_per_leg is not None and self._taken >= self._batches_per_leg:
            self.close()
            self._leg, self._taken = self._leg + 1, 0
        if self._batches is None:
            self._open_leg()
        assert self._batches is not None
        # Counted also at the end, so that the states of shards that end one after another are the same.
        self._taken += 1
        batch = _filled(next(self._batches), self._rows)
        return trim_to_bucket(batch, self.target_buckets) if self.target_buckets else batch

    def get_state(self) -> dict[str, Any]:
        """Where the iterator is, for JSON: after so many batches of which leg of what."""
        return {"leg": self._leg, "batches_in_leg": self._taken, "made_from": self._fingerprint()}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Goes to where `get_state` was called; the next batch is the one that followed.

        Where the data was shared among another number of processes, an endless iterator
        leaves the rest of the leg out and goes on with the next.

        Raises:
          ValueError: when the state is of batches that were made in another way.
        """
        made_from, expected = dict(state["made_from"]), self._fingerprint()
        leg, taken = int(state["leg"]), int(state["batches_in_leg"])
        if made_from["num_shards"] != self.num_shards and self.num_epochs is None:
            logging.getLogger(__name__).warning(
                "The data was shared among %d processes and is now among %d: "
                "the rest of this pass is left out, the next one begins.",
                *(made_from.pop("num_shards"), self.num_shards),
            )
            leg, taken = leg + 1, 0
        for name in expected.keys() & made_from.keys():
            if expected[name] != made_from[name]:
                raise ValueError(
                    f"The saved batches were made with {name} {made_from[name]!r}, these with "
                    f"{expected[name]!r}; go on with the same, or start a new run."
                )
        self.close()
        self._leg, self._taken = leg, taken

    def counts(self) -> dict[str, int]:
        """Of the segments made in this process so far, read ahead or skipped ones too.

        Returns:
          `segments`, `too_long` (targets, when first made), `dropped`; the same
          after `mixed_` for mixes.
        """
        from mt3.data import tasks

        totals: Counter[str] = Counter()
        for task in tasks.tasks_of(self._provider):
            totals.update(task.counts.totals())
        return dict(totals)

    def interrupt(self) -> None:
        """For another thread: ends the way back to where batches were, with an InterruptedError."""
        self._interrupted = True

    def close(self) -> None:
        """Ends reading ahead; asked for another batch, it starts again from where it was."""
        self._batches = None
        self._interrupted = False
        if self._end_leg is not None:
            self._end_leg()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def _rows(self) -> int:
        return self.batch_size // self.num_shards

    def _find_provider(self) -> Any:
        """The task or mixture, registered for the model's tokenizer if there is a data_dir."""
        from mt3.data import tasks

        provider = tasks.find_provider(
            self.task,
            self.data_dir,
            mixture_datasets=self.mixture_datasets,
            missing_datasets=self.missing_datasets,
            tokenizers=(self.spec.tokenizer,),
            options=tasks.TaskOptions(
                max_examples_per_mix=self.max_examples_per_mix,
                segments_per_chunk=self.segments_per_chunk,
                long_targets=self.long_targets,
                shuffle_buffer_size=self.shuffle_buffer_size,
                sample_rate=self.spec.spectrogram.sample_rate,
                hop_samples=self.spec.spectrogram.hop_samples,
            ),
        )
        for task in tasks.tasks_of(provider):
            if task.tokenizer != self.spec.tokenizer:
                raise ValueError(
                    f"Task {task.name} makes tokens with {task.tokenizer}, the model reads those of "
                    f"{self.spec.tokenizer}; name the task of the model's tokenizer, or register it for it."
                )
        return provider

    def _find_split(self) -> str:
        splits = sorted(self._provider.splits)
        if self.split is None and len(splits) == 1:
            return splits[0]
        if self.split is None or self.split not in splits:
            raise ValueError(
                f"{self._provider.name} has no split {self.split!r}; choose one of {', '.join(splits)}."
            )
        return self.split

    def _find_cache(self) -> bool:
        """Whether caches are read; they are if all tasks have one."""
        from mt3.data import tasks

        if self.use_cached is False:
            return False
        tasks.add_cache_directory(self.cache_dir)
        all_tasks = tasks.tasks_of(self._provider)
        missing = [task.name for task in all_tasks if task.cache_dir is None]
        where = f"in {self.cache_dir}" if self.cache_dir else "anywhere (cache_dir is not set)"
        if missing and self.use_cached:
            raise MissingDatasetError(
                f"{missing[0]} is not cached {where}; make the cache with "
                "`mt3 data cache DATA_DIR -o CACHE_DIR`, or leave use_cached out."
            )
        if missing and len(missing) < len(all_tasks):
            logging.getLogger(__name__).warning(
                "Records are read, not caches: of the tasks of %s, not cached %s: %s",
                *(self._provider.name, where, ", ".join(missing)),
            )
        if not missing:
            for task in all_tasks:
                task.check_cache(self._split)
        return not missing

    def _count_batches_per_leg(self) -> int | None:
        """As many as let every task pass all of its data; None for a given number of passes."""
        from mt3.data import tasks

        if self.num_epochs is not None:
            return None
        examples = [
            task.num_examples_per_epoch(self.spec.input_frames) / share
            for task, share in tasks.shares_of(self._provider).items()
            if share > 0
        ]
        return math.ceil(max([*examples, _MIN_EXAMPLES_PER_LEG]) / self.batch_size)

    def _open_leg(self) -> None:
        from mt3.data import features

        leg = features.numpy_batches(
            self._provider,
            split=self._split,
            batch_size=self._rows,
            input_frames=self.spec.input_frames,
            max_target_tokens=self.spec.max_target_tokens,
            # 31 bits: seqio adds to seeds, and TensorFlow's are signed.
            seed=int(np.random.SeedSequence([self.seed, self._leg]).generate_state(1)[0] >> 1),
            shuffle=self.shuffle,
            num_epochs=self.num_epochs,
            use_cached=self._reads_cache,
            shard=(self.shard_index, self.num_shards) if self.num_shards > 1 else None,
            spectrogram=self.spec.spectrogram if self.spec.input_kind == "log_mel" else None,
        )
        # Also where the program ends without `close`. Left to the interpreter's own end, threads of
        # TensorFlow that come back to Python are ended there, and TensorFlow waits for them for ever.
        self._end_leg = weakref.finalize(self, leg.close)
        self._pass_over(leg)
        self._batches = leg

    def _pass_over(self, leg: Iterator[Batch]) -> None:
        """Throws away the batches of a leg that were taken in an earlier sitting."""
        reported_seconds = time.monotonic()
        for passed in range(self._taken):
            if self._interrupted:
                self.close()
                raise InterruptedError("interrupted on the way back to where the batches were")
            next(leg)
            if time.monotonic() - reported_seconds > _REPORT_SECONDS:
                reported_seconds = time.monotonic()
                logging.getLogger(__name__).info(
                    "going back to where the data was: %d of %d batches passed over", passed + 1, self._taken
                )

    def _fingerprint(self) -> dict[str, Any]:
        """What decides which batch follows which."""
        from mt3.data import tasks

        names = (
            "batch_size",
            "seed",
            "shuffle",
            "num_epochs",
            "max_examples_per_mix",
            "segments_per_chunk",
            "long_targets",
            "shuffle_buffer_size",
            "num_shards",
        )
        return {
            "task": self._provider.name,
            "tasks": [task.name for task in tasks.tasks_of(self._provider)],
            "split": self._split,
            "cached": self._reads_cache,
            "batches_per_leg": self._batches_per_leg,
            **{name: getattr(self, name) for name in names},
        }


# The name under which configurations choose it, beside `stream_batches`.
seqio_batches = SeqioBatches


def load_tensorflow() -> None:
    """Imports TensorFlow without what its native side prints about GPUs that it does not need."""
    if "tensorflow" in sys.modules:
        return
    with _native_stderr_dropped():
        from mt3.data import features

        features.leave_accelerators_alone()


@contextlib.contextmanager
def _native_stderr_dropped() -> Iterator[None]:
    # Native code writes to the descriptor; Python's messages keep their way out.
    sys.stderr.flush()
    kept, python_stderr = os.dup(2), sys.stderr
    try:
        with Path(os.devnull).open("w") as nowhere, open(kept, "w", closefd=False) as sys.stderr:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        sys.stderr = python_stderr
        os.dup2(kept, 2)
        os.close(kept)


def _filled(batch: Batch, rows: int) -> Batch:
    """With zeros for the rows that are missing at the end of a finite pass, and empty ids."""
    missing = rows - len(batch["inputs"])
    if not missing:
        return batch
    return {
        name: np.pad(
            value,
            [(0, missing)] + [(0, 0)] * (value.ndim - 1),
            constant_values=b"" if name == EXAMPLE_IDS else 0,
        )
        for name, value in batch.items()
    }
