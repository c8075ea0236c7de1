"""seqio tasks and mixtures for prepared datasets, under MT3's names.

A dataset in the record format becomes the tasks that `mt3.data.task_names`
names, one set per tokenizer. `train` takes random segments out of chunks (split
"train"), which seqio can cache offline; the others cut whole recordings into
consecutive segments (split "eval"). Importing this module registers nothing: the
`register_*` functions do, and calling them again changes nothing. `find_provider`
makes what is asked for by name: tasks, and the mixtures of `mt3.data.mixtures`.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import seqio
import tensorflow as tf

from mt3.data import mixtures, prepared, preprocessors, seqio_preprocessors
from mt3.data.cache import chunks_cache_name
from mt3.data.features import TranscriptionVocabulary
from mt3.data.manifests import Manifest, prepared_datasets, read_manifest
from mt3.data.mixtures import MIXTURE_TEMPERATURE
from mt3.data.prepared import DataDirectories, MissingDatasetError
from mt3.data.seqio_preprocessors import SegmentCounts, TaskOptions
from mt3.data.sources import preparing_command
from mt3.data.sources.base import SPLITS
from mt3.data.task_names import TASK_KINDS, TaskKind, TaskName, task_name, variant_name
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

# The published settings of piano (ISMIR 2021), multi-instrument (MT3) and onset transcription.
DEFAULT_TOKENIZERS = (
    Tokenizer(VocabularyConfig(num_velocity_bins=127), ties=False),
    Tokenizer(VocabularyConfig(num_velocity_bins=1, program_granularity="full"), ties=True),
    Tokenizer(VocabularyConfig(num_velocity_bins=127), ties=False, onsets_only=True),
)

# Added to a task's seed for mixing; preprocessors use a few from the seed on.
_MIXING_SEED_OFFSET = 1_000_003


class TranscriptionTask(seqio.Task):
    """A seqio task that knows its tokenizer, mixes examples and counts what it makes.

    Attributes:
      kind: what is done with which split of the records.
      tokenizer: what its targets are made with.
      options: how its segments are made.
      counts: of segments so far.
    """

    def __init__(
        self,
        name: str,
        kind: TaskKind,
        manifest: Manifest,
        directory: Path,
        tokenizer: Tokenizer,
        options: TaskOptions,
    ) -> None:
        self.kind = kind
        self.tokenizer = tokenizer
        self.options = options
        self.counts = SegmentCounts(name)
        self._manifest = manifest
        self._directory = directory.absolute()
        targets = seqio.Feature(TranscriptionVocabulary(tokenizer.vocabulary), add_eos=False, dtype=tf.int32)
        super().__init__(
            name,
            source=self._record_source(),
            preprocessors=self._preprocessors(),
            output_features={
                "inputs": seqio.ContinuousFeature(dtype=tf.float32, rank=2),
                "targets": targets,  # which end with EOS already
            },
            shuffle_buffer_size=options.shuffle_buffer_size,
        )

    def is_same_as(self, other: object) -> bool:
        """Whether the other is a task of the same data and settings."""
        return isinstance(other, TranscriptionTask) and all(
            getattr(self, name) == getattr(other, name)
            for name in ("name", "tokenizer", "options", "_manifest", "_directory")
        )

    @property
    def dataset(self) -> str:
        """Name of the dataset."""
        return self._manifest.name

    @property
    def directory(self) -> Path:
        """Where its records are."""
        return self._directory

    @property
    def num_chunks(self) -> int:
        """Chunks of 2000 frames, as preparation counted them: what mixtures weigh it by, cached or not."""
        return self._manifest.num_chunks

    def num_examples_per_epoch(self, input_frames: int) -> float:
        """About how many examples of so many frames one pass over the data gives."""
        if not self.kind.is_training:
            num_frames = self._manifest.seconds * self.tokenizer.frames_per_second
            return num_frames / input_frames + self._manifest.num_recordings
        per_chunk = seqio_preprocessors.segments_per_chunk(self.options, input_frames)
        return self._manifest.num_chunks * per_chunk / ((self.options.max_examples_per_mix + 1) / 2)

    @property
    def cache_dir(self) -> str | None:
        """Where seqio finds its cache: under the task's name, or the one that serves all tokenizers."""
        return super().cache_dir or self._shared_cache_dir()

    def _shared_cache_dir(self) -> str | None:
        if not self.kind.is_training:
            return None
        name = chunks_cache_name(self._manifest.name, self._manifest.split)
        for directory in seqio.get_global_cache_dirs():
            path = str(Path(directory) / name)
            if Path(path, "COMPLETED").exists():
                return path
        return None

    def get_dataset(
        self,
        sequence_length: Mapping[str, int] | None = None,
        split: str = "train",
        use_cached: bool = False,
        shuffle: bool = True,
        shuffle_buffer_size: int | None = None,
        seed: int | None = None,
        shard_info: seqio.ShardInfo | None = None,
        num_epochs: int | None = 1,
        trim_output_features: bool = True,
        try_in_mem_cache: bool = False,
    ) -> tf.data.Dataset:
        """As seqio's, then mixed, which is after shuffling: a recording is not mixed with itself.

        `try_in_mem_cache` is not heeded. seqio keeps in memory what has fewer than
        10,000 examples; of chunks of audio that would be up to 5 GB, and the
        operating system's file cache serves as well.
        """
        dataset = super().get_dataset(
            sequence_length=sequence_length,
            split=split,
            use_cached=use_cached,
            shuffle=shuffle,
            shuffle_buffer_size=shuffle_buffer_size,
            seed=seed,
            shard_info=shard_info,
            num_epochs=num_epochs,
            trim_output_features=trim_output_features,
            try_in_mem_cache=False,
        )
        if not self.kind.is_training or self.options.max_examples_per_mix == 1:
            return dataset
        # Any seeds but those that the preprocessors have used.
        with seqio.map_seed_manager(None if seed is None else seed + _MIXING_SEED_OFFSET):
            return seqio_preprocessors.mix_examples(
                dataset,
                sequence_length,
                tokenizer=self.tokenizer,
                options=self.options,
                counts=self.counts,
            )

    def check_cache(self, split: str) -> None:
        """Compares the cache with what preparation counted.

        Raises:
          MissingDatasetError: when they differ: the cache is of records that were replaced.
        """
        found, expected = self.get_cached_stats(split)["examples"], self.num_input_examples(split)
        if found != expected:
            raise MissingDatasetError(
                f"The cache {self.cache_dir} has {found} examples, the records of {self.name} have "
                f"{expected}: it is of other records; delete it and make it again."
            )

    def _record_source(self) -> seqio.FileDataSource:
        # What seqio's own mixture rates are made of where a task is not cached;
        # where it is, seqio counts the chunks in the cache, which are as many.
        num_examples = self._manifest.num_chunks if self.kind.is_training else self._manifest.num_recordings
        return seqio.FileDataSource(
            read_file_fn=seqio_preprocessors.read_records,
            split_to_filepattern={
                self.kind.split: [str(self._directory / shard.file) for shard in self._manifest.shards]
            },
            num_input_examples={self.kind.split: num_examples},
        )

    def _preprocessors(self) -> list[Callable[..., tf.data.Dataset]]:
        is_training = self.kind.is_training
        cut = (
            seqio_preprocessors.cut_random_segments
            if is_training
            else seqio_preprocessors.cut_consecutive_segments
        )
        return [
            functools.partial(
                seqio_preprocessors.split_records,
                options=self.options,
                chunk_frames=preprocessors.CHUNK_FRAMES if is_training else None,
            ),
            seqio.CacheDatasetPlaceholder(),
            functools.partial(
                cut,
                dataset_name=self.dataset,
                tokenizer=self.tokenizer,
                options=self.options,
                counts=self.counts,
            ),
            seqio_preprocessors.to_task_features,
        ]


def register_dataset(
    dataset: str,
    directory: Path | str,
    *,
    tokenizers: Sequence[Tokenizer] = DEFAULT_TOKENIZERS,
    options: TaskOptions | None = None,
) -> list[str]:
    """Registers the tasks of a prepared dataset, of the splits that are there.

    A task that is registered with the same data and settings stays; one with
    others is replaced, so that a process can register again as it is configured.

    Args:
      dataset: its name.
      directory: where `mt3 prepare` wrote it.
      tokenizers: one set of tasks each. The granularity of programs is no part
        of a task's name, so of tokenizers that differ in it the last one counts.
      options: how segments are made.

    Returns:
      Names of the tasks.

    Raises:
      MissingDatasetError: when no split of the dataset is prepared there.
      ValueError: when a tokenizer counts other frames than the options make.
    """
    options, directory = options or TaskOptions(), Path(directory)
    manifests = {
        split: read_manifest(directory, split, dataset)
        for split in SPLITS
        if dataset in prepared_datasets(directory, split)
    }
    if not manifests:
        raise MissingDatasetError(
            f"No dataset {dataset!r} is prepared in {directory}; "
            f"run `{preparing_command(dataset)} -o {directory}`."
        )
    names = []
    for tokenizer in tokenizers:
        if tokenizer.frames_per_second != options.sample_rate / options.hop_samples:
            raise ValueError(
                f"The tokenizer counts {tokenizer.frames_per_second:g} frames per second, the options make "
                f"{options.sample_rate / options.hop_samples:g}; give both the same."
            )
        for kind_name, kind in TASK_KINDS.items():
            if kind.records_split in manifests:
                name = task_name(dataset, tokenizer, kind_name)
                manifest = manifests[kind.records_split]
                _register(TranscriptionTask(name, kind, manifest, directory, tokenizer, options))
                names.append(name)
    return names


def _register(task: TranscriptionTask) -> None:
    if task.name in seqio.TaskRegistry.names():
        if task.is_same_as(seqio.TaskRegistry.get(task.name)):
            return
        seqio.TaskRegistry.remove(task.name)
    seqio.TaskRegistry.add_provider(task.name, task)


def register_datasets(
    data_dir: DataDirectories,
    datasets: Sequence[str] | None = None,
    *,
    missing_datasets: str = "error",
    tokenizers: Sequence[Tokenizer] = DEFAULT_TOKENIZERS,
    options: TaskOptions | None = None,
) -> list[str]:
    """`register_dataset` for the datasets in directories and in the directories in them.

    Args:
      data_dir: one directory, or several.
      datasets: only these; None for all that are there.
      missing_datasets: see `prepared.choose_datasets`.
      tokenizers, options: see `register_dataset`.

    Raises:
      MissingDatasetError: when there is none, or one that is named is missing.
    """
    return [
        name
        for dataset in prepared.choose_datasets(data_dir, datasets, missing=missing_datasets)
        for name in register_dataset(dataset.name, dataset.directory, tokenizers=tokenizers, options=options)
    ]


def register_mixture(
    name: str, task_names: Sequence[str], *, temperature: float = MIXTURE_TEMPERATURE
) -> seqio.Mixture:
    """Registers a mixture; the rate of a task is n^(1/temperature), n its number of chunks.

    n is what preparation counted in the task's split, cached or not. As with tasks,
    the same again changes nothing, other members or rates replace.

    Raises:
      MissingDatasetError: when a member is not registered.
    """
    # One function a temperature, so that equal mixtures can be told.
    rate = _mixing_rate(temperature)
    tasks = [task for task_name in task_names for task in tasks_of(find_task_or_mixture(task_name))]
    if name in seqio.MixtureRegistry.names():
        registered = seqio.MixtureRegistry.get(name)
        same_tasks = set(registered.tasks) == set(tasks)
        if same_tasks and all(known is rate for known in registered.rate_per_task_name.values()):
            return registered
        seqio.MixtureRegistry.remove(name)
    mixture = seqio.Mixture(name, [(task, rate) for task in tasks])
    seqio.MixtureRegistry.add_provider(name, mixture)
    return mixture


@functools.cache
def _mixing_rate(temperature: float) -> Callable[[TranscriptionTask], float]:
    def rate(task: TranscriptionTask) -> float:
        return task.num_chunks ** (1 / temperature)

    return rate


def find_provider(
    task: str | Sequence[str],
    data_dir: DataDirectories | None = None,
    *,
    mixture_datasets: str | Sequence[str] = "paper",
    missing_datasets: str = "error",
    tokenizers: Sequence[Tokenizer] = DEFAULT_TOKENIZERS,
    options: TaskOptions | None = None,
) -> seqio.Task | seqio.Mixture:
    """A task or mixture by its name, registered here where it is not yet.

    Args:
      task: name of a task or mixture (`mt3.data.mixtures`), or names to be mixed.
      data_dir: of its datasets, which are registered; None where they are already.
      mixture_datasets: the datasets of `mega` mixtures: a name of
        `mixtures.DATASET_GROUPS`, or their names.
      missing_datasets: "error", or "leave_out" to mix those that are prepared.
      tokenizers, options: see `register_dataset`.

    Raises:
      MissingDatasetError: names the datasets that are missing and the commands that prepare them.
      ValueError: for names that do not fit the choices.
    """
    members = mixtures.members_of(task, mixture_datasets)
    datasets = {name: parts.dataset for name in members.task_names if (parts := TaskName.parse(name))}
    wanted = list(dict.fromkeys(datasets.values()))
    if data_dir is not None and wanted:
        try:
            names = register_datasets(
                data_dir, wanted, missing_datasets=missing_datasets, tokenizers=tokenizers, options=options
            )
        except MissingDatasetError as error:
            raise MissingDatasetError(f"{members.name}: {error}") from error
        present = {seqio.TaskRegistry.get(name).dataset for name in names}
    else:
        present = {task.dataset for task in _registered_tasks()}
        if members.is_mixture:
            prepared.leave_out_missing(wanted, present, missing_datasets, "Not registered, nor in a data_dir")
    if not members.is_mixture:
        return find_task_or_mixture(members.name)
    return register_mixture(
        members.name, [name for name in members.task_names if datasets.get(name) in {None, *present}]
    )


def find_task_or_mixture(name: str) -> seqio.Task | seqio.Mixture:
    """A registered task or mixture.

    Raises:
      MissingDatasetError: when there is none; says which splits of its dataset
        there are, or the command that prepares it.
    """
    if name in seqio.TaskRegistry.names():
        return seqio.TaskRegistry.get(name)
    if name in seqio.MixtureRegistry.names():
        return seqio.MixtureRegistry.get(name)
    parts = TaskName.parse(name)
    of_dataset = [task for task in _registered_tasks() if parts and task.dataset == parts.dataset]
    known = ", ".join(sorted({*seqio.TaskRegistry.names(), *seqio.MixtureRegistry.names()})) or "none"
    if parts is None or not of_dataset or parts.kind not in TASK_KINDS:
        raise MissingDatasetError(
            f"There is no task or mixture {name!r}; registered: {known}. Prepare its dataset with "
            f"`{preparing_command(parts.dataset if parts else name)}` and name the directory in data_dir."
        )
    same_tokens = [task for task in of_dataset if variant_name(task.tokenizer) == parts.variant]
    if not same_tokens:
        raise MissingDatasetError(
            f"There is no task or mixture {name!r}; registered: {known}. Its dataset is there for other "
            "tokens: name one of these, or give the model the tokenizer that the name says."
        )
    split = TASK_KINDS[parts.kind].records_split
    splits = sorted({task.kind.records_split for task in same_tokens}, key=SPLITS.index)
    raise MissingDatasetError(
        f"There is no task {name!r}: of {parts.dataset}, split {split!r} is not prepared in "
        f"{same_tokens[0].directory}, only {', '.join(splits)}."
    )


def _registered_tasks() -> list[TranscriptionTask]:
    tasks = map(seqio.TaskRegistry.get, sorted(seqio.TaskRegistry.names()))
    return [task for task in tasks if isinstance(task, TranscriptionTask)]


def tasks_of(provider: seqio.Task | seqio.Mixture) -> list[TranscriptionTask]:
    """The tasks of a mixture, or the task itself."""
    return list(provider.tasks) if isinstance(provider, seqio.Mixture) else [provider]


def shares_of(provider: seqio.Task | seqio.Mixture) -> dict[TranscriptionTask, float]:
    """Which share of the examples comes from each task."""
    if not isinstance(provider, seqio.Mixture):
        return {provider: 1.0}
    rates = {task: provider.get_rate(task) for task in tasks_of(provider)}
    return {task: rate / sum(rates.values()) for task, rate in rates.items()}


def add_cache_directory(cache_dir: Path | str | None) -> None:
    """Lets seqio look for caches there; None changes nothing."""
    if cache_dir is not None:
        seqio.add_global_cache_dirs([str(cache_dir)])
