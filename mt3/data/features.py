"""seqio's view of the tokens, and from task features to the features of a batch.

`TranscriptionVocabulary` gives seqio the ids of `mt3.symbolic.vocabularies`;
`TranscriptionFeatureConverter` pads and shifts, example by example, into what
`mt3.data.batches` lays out; `numpy_batches` opens a registered task or mixture
and hands out its batches.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Generator, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from mt3.audio.spectrograms import SpectrogramConfig, log_mel_numpy
from mt3.data.batches import EXAMPLE_ID, EXAMPLE_IDS
from mt3.data.tfrecords import RecordError, read_tfrecord
from mt3.symbolic.vocabularies import (
    EOS_ID,
    NUM_EXTRA_IDS,
    NUM_SPECIAL_IDS,
    PAD_ID,
    UNK_ID,
    VocabularyConfig,
    build_codec,
)

# What ids that are no events decode to; an event id is never negative.
DECODED_EOS = -1
DECODED_INVALID = -2


# More than the pipeline has stages that could wait for one another. TensorFlow's own
# pool has one thread where there is one core, and then waits for itself for ever.
_POOL_THREADS = 32


class InputPipelineError(ValueError):
    """An input pipeline that cannot go on; one line that says which and why."""


class TranscriptionVocabulary(seqio.Vocabulary):
    """The ids of targets. Encodes event ids, not text; what it decodes are event ids."""

    def __init__(self, config: VocabularyConfig) -> None:
        super().__init__(extra_ids=NUM_EXTRA_IDS)
        self._config = config
        self._num_events = build_codec(config).num_classes

    @property
    def config(self) -> VocabularyConfig:
        return self._config

    @property
    def pad_id(self) -> int:
        return PAD_ID

    @property
    def eos_id(self) -> int:
        return EOS_ID

    @property
    def unk_id(self) -> int:
        return UNK_ID

    @property
    def _base_vocab_size(self) -> int:
        return NUM_SPECIAL_IDS + self._num_events

    def _encode(self, s: Iterable[int]) -> list[int]:
        ids = np.asarray(list(s), np.int64)
        outside = (ids < 0) | (ids >= self._num_events)
        if outside.any():
            raise ValueError(f"Event id {ids[outside][0]} is outside 0..{self._num_events - 1}.")
        return (ids + NUM_SPECIAL_IDS).tolist()

    def _decode(self, ids: Iterable[int]) -> list[int]:
        return self._decode_array(np.asarray(list(ids), np.int64)).tolist()

    def _decode_array(self, ids: np.ndarray) -> np.ndarray:
        events = ids - NUM_SPECIAL_IDS
        events = np.where((events < 0) | (events >= self._num_events), DECODED_INVALID, events)
        return np.where(ids == EOS_ID, DECODED_EOS, events)

    def _encode_tf(self, s: tf.Tensor) -> tf.Tensor:
        with tf.control_dependencies(
            [tf.debugging.assert_non_negative(s), tf.debugging.assert_less(s, self._num_events)]
        ):
            return s + NUM_SPECIAL_IDS

    def _decode_tf(self, ids: tf.Tensor) -> tf.Tensor:
        events = ids - NUM_SPECIAL_IDS
        events = tf.where((events < 0) | (events >= self._num_events), DECODED_INVALID, events)
        return tf.where(ids == EOS_ID, DECODED_EOS, events)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TranscriptionVocabulary) and self._config == other._config

    def __hash__(self) -> int:
        return hash(self._config)

    def __str__(self) -> str:
        return f"TranscriptionVocabulary({self._config})"


class TranscriptionFeatureConverter(seqio.FeatureConverter):
    """From `inputs` (audio frames) and `targets` to the features of a batch.

    Targets longer than their feature length never arrive here: the tasks apply
    a long-target rule. Nothing is packed: a segment is one row.
    """

    TASK_FEATURES = {  # noqa: RUF012  (as seqio declares it)
        "inputs": seqio.FeatureConverter.FeatureSpec(dtype=tf.float32, rank=2),
        "targets": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
    }
    MODEL_FEATURES = {  # noqa: RUF012
        "inputs": seqio.FeatureConverter.FeatureSpec(dtype=tf.float32, rank=2),
        "decoder_input_tokens": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
        "decoder_target_tokens": seqio.FeatureConverter.FeatureSpec(dtype=tf.int32),
        "decoder_loss_weights": seqio.FeatureConverter.FeatureSpec(dtype=tf.float32),
    }
    PACKING_FEATURE_DTYPES = None

    def __init__(
        self, spectrogram: SpectrogramConfig | None = None, *, with_example_ids: bool = False
    ) -> None:
        """Args:
        spectrogram: if given, `inputs` become log-mel here, on the host.
        with_example_ids: whether examples keep their `example_id`, as `example_ids` of a batch.
        """
        # The tasks bound lengths already; checking each example again costs a third of the speed.
        super().__init__(pack=False, apply_length_check=False)
        self._spectrogram = spectrogram
        if with_example_ids:
            ids = seqio.FeatureConverter.FeatureSpec(dtype=tf.string, rank=0)
            self.MODEL_FEATURES = {**self.MODEL_FEATURES, EXAMPLE_IDS: ids}

    def _convert_features(
        self, ds: tf.data.Dataset, task_feature_lengths: Mapping[str, int]
    ) -> tf.data.Dataset:
        ds = self._pack_or_pad(ds, task_feature_lengths)
        return ds.map(self._convert_example, num_parallel_calls=tf.data.AUTOTUNE)

    def _convert_example(self, example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        targets = example["targets"]
        features = {
            "inputs": self._input_features(example["inputs"]),
            "decoder_input_tokens": seqio.utils.make_autoregressive_inputs(targets),
            "decoder_target_tokens": targets,
            "decoder_loss_weights": seqio.non_padding_position(targets, tf.float32, PAD_ID),
        }
        return features | ({EXAMPLE_IDS: example[EXAMPLE_ID]} if EXAMPLE_IDS in self.MODEL_FEATURES else {})

    def _input_features(self, frames: tf.Tensor) -> tf.Tensor:
        config = self._spectrogram
        if config is None:
            return frames
        features = tf.numpy_function(lambda frames: log_mel_numpy(frames, config), [frames], tf.float32)
        features.set_shape([frames.shape[0], config.num_mel_bins])
        return features

    def get_model_feature_lengths(self, task_feature_lengths: Mapping[str, int]) -> dict[str, int]:
        return {
            name: task_feature_lengths["inputs" if name == "inputs" else "targets"]
            for name in self.MODEL_FEATURES
        }


def numpy_batches(
    provider: seqio.Task | seqio.Mixture,
    *,
    split: str,
    batch_size: int,
    input_frames: int,
    max_target_tokens: int,
    seed: int,
    shuffle: bool = True,
    num_epochs: int | None = None,
    use_cached: bool = False,
    shard: tuple[int, int] | None = None,
    spectrogram: SpectrogramConfig | None = None,
) -> Generator[dict[str, np.ndarray], None, None]:
    """The batches of a task or mixture, deterministic for a seed.

    Args:
      provider: of `mt3.data.tasks`.
      split: one of its splits.
      batch_size: rows; the last batch of a finite pass may have fewer.
      input_frames: frames of a segment.
      max_target_tokens: tokens of a target.
      seed: of the order and all random cuts.
      shuffle: whether files and segments are shuffled.
      num_epochs: passes over the data; None for no end.
      use_cached: read seqio's offline cache, not the records.
      shard: (index, number): which part of the data, where several hosts share it.
      spectrogram: if given, `inputs` are log-mel, computed here.

    Yields:
      Batches as `mt3.data.batches` describes them.

    Raises:
      InputPipelineError: when data is damaged or does not fit the task.
    """
    leave_accelerators_alone()
    settings = {
        "split": split,
        "use_cached": use_cached,
        "shuffle": shuffle,
        "num_epochs": num_epochs,
        "shard_info": None if shard is None else seqio.ShardInfo(*shard),
        "seed": seed,
    }
    lengths = {"inputs": input_frames, "targets": max_target_tokens}
    converter = TranscriptionFeatureConverter(spectrogram, with_example_ids=True)
    dataset = _converted(provider, lengths, converter, settings)
    dataset = dataset.batch(batch_size, drop_remainder=num_epochs is None)
    yield from numpy_examples(dataset.prefetch(tf.data.AUTOTUNE), provider, split, use_cached)


# No function of the pipeline has branches or loops over tensors, which AutoGraph would have to find: it
# takes seconds a task to look for them.
@tf.autograph.experimental.do_not_convert
def _converted(
    provider: seqio.Task | seqio.Mixture,
    lengths: Mapping[str, int],
    converter: TranscriptionFeatureConverter,
    settings: Mapping[str, Any],
) -> tf.data.Dataset:
    """What `seqio.get_dataset` gives, with the examples' ids, which a mixture would drop."""
    kept = {"passthrough_features": [EXAMPLE_ID]} if isinstance(provider, seqio.Mixture) else {}
    return converter(provider.get_dataset(lengths, **settings, **kept), lengths)


def numpy_examples(
    dataset: tf.data.Dataset, provider: seqio.Task | seqio.Mixture, split: str, use_cached: bool
) -> Generator[dict[str, Any], None, None]:
    """The elements of a dataset that was made of a task or mixture, in a fixed order.

    Raises:
      InputPipelineError: when data is damaged or does not fit the task.
    """
    # Held here: when the interpreter ends before this generator, `tf` is gone.
    failure, data_loss = tf.errors.OpError, tf.errors.DataLossError
    try:
        yield from dataset.with_options(_dataset_options()).as_numpy_iterator()
    except failure as error:
        damage = _damage(_files(provider, split, use_cached)) if isinstance(error, data_loss) else None
        raise InputPipelineError(f"{provider.name} ({split}): {damage or _reason(error)}") from error


def leave_accelerators_alone() -> None:
    """Keeps TensorFlow off the devices that the model trains on."""
    # TensorFlow would reserve the memory that the model needs. Too late where
    # the caller has used TensorFlow already; then it is the caller's choice.
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices([], "GPU")


def _dataset_options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    options.threading.private_threadpool_size = _POOL_THREADS
    return options


def _files(provider: seqio.Task | seqio.Mixture, split: str, use_cached: bool) -> list[str]:
    """What a task or mixture reads."""
    tasks = provider.tasks if isinstance(provider, seqio.Mixture) else [provider]
    if use_cached:
        prefixes = [seqio.get_cached_tfrecord_prefix(task.cache_dir, split) for task in tasks]
        return [file for prefix in prefixes for file in sorted(tf.io.gfile.glob(f"{prefix}-*"))]
    return [file for task in tasks if split in task.splits for file in task.source.list_shards(split)]


def _damage(files: Iterable[str]) -> str | None:
    """What is wrong with the first damaged file, in one line; TensorFlow does not say which it is."""
    for file in files:
        try:
            for _ in read_tfrecord(Path(file)):
                pass
        except RecordError as error:
            return str(error)
    return None


def _reason(error: tf.errors.OpError) -> str:
    """The line of an error that says what is wrong: of a Python function, its exception's."""
    lines = [line.strip() for line in str(error.message).splitlines() if line.strip()]
    raised = [line for line in lines if re.match(r"[\w.]*Error: ", line)]
    line = raised[0] if raised else (lines[0] if lines else type(error).__name__)
    return re.sub(r"^\{\{.*?\}\} *| *\[Op:.*$", "", line)
