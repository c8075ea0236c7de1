"""The NumPy preprocessors as seqio takes them: functions from dataset to dataset.

One call of Python serves a whole recording, a chunk with all its segments, or a
handful of mixes, never one segment: that, and shuffling segments rather than
chunks, is what the speed of the input path rests on
(`scripts/benchmarks/input_pipeline.py`).
"""

from __future__ import annotations

import dataclasses
import logging
import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import seqio
import tensorflow as tf

from mt3.data import mixing, preprocessors
from mt3.data.batches import EXAMPLE_ID, PCM16_SCALE, as_objects
from mt3.data.preprocessors import CHUNK_FEATURES, CHUNK_FRAMES, Chunk, SegmentConfig, Segments
from mt3.data.records import parse_recording
from mt3.symbolic.tokenizer import Tokenizer

DEFAULT_SEQUENCE_LENGTH = {"inputs": 256, "targets": 1024}

_TENSOR_TYPES = {bytes: tf.string, int: tf.int64}


@dataclasses.dataclass(frozen=True)
class TaskOptions:
    """How the tasks of a dataset make segments.

    Attributes:
      max_examples_per_mix: most segments that are summed into one; 1 for none.
      segments_per_chunk: random segments taken at a time from a chunk of 2000
        frames; None for as many as fit side by side (8 of 256 frames).
      long_targets: a name of `preprocessors.LONG_TARGET_RULES`, for training.
      shuffle_buffer_size: segments held to shuffle, 130 KB each.
      sample_rate: in Hz.
      hop_samples: samples of a frame.

    Raises:
      ValueError: for a setting out of range.
    """

    max_examples_per_mix: int = 1
    segments_per_chunk: int | None = None
    long_targets: str = "truncate"
    shuffle_buffer_size: int = 1000
    sample_rate: int = 16000
    hop_samples: int = 128

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and value < 1:
                raise ValueError(f"{field.name} is {value}; it must be at least 1.")
        if self.long_targets not in preprocessors.LONG_TARGET_RULES:
            known = ", ".join(preprocessors.LONG_TARGET_RULES)
            raise ValueError(f"long_targets is {self.long_targets!r}; choose one of {known}.")


class SegmentCounts:
    """Running totals of the segments that a task has made in this process.

    `segments`, `too_long` and `dropped` for segments; the same after `mixed_`
    for mixes. The first target that is too long is logged; a task whose segments
    are all dropped fails, as it would wait for ever.
    """

    _NUM_TO_JUDGE = 1000

    def __init__(self, task_name: str) -> None:
        self._task_name = task_name
        self._totals: Counter[str] = Counter()
        self._lock = threading.Lock()

    def add(self, segments: Segments, config: SegmentConfig, prefix: str = "") -> Segments:
        """Counts segments; returns them."""
        with self._lock:
            if segments.num_too_long and not self._totals[prefix + "too_long"]:
                logging.getLogger(__name__).warning(
                    "%s: the first %s with more than %d target tokens; rule: %s. counts() says how many.",
                    self._task_name,
                    "mix" if prefix else "segment",
                    config.max_target_tokens,
                    config.long_targets,
                )
            self._totals[prefix + "segments"] += len(segments.inputs) + segments.num_dropped
            self._totals[prefix + "too_long"] += segments.num_too_long
            self._totals[prefix + "dropped"] += segments.num_dropped
            num_made, num_dropped = self._totals[prefix + "segments"], self._totals[prefix + "dropped"]
        if num_made >= self._NUM_TO_JUDGE and num_made == num_dropped:
            raise ValueError(
                f"All of {num_made} segments have more than {config.max_target_tokens} target tokens; "
                'allow more, shorten segments, or set long_targets to "truncate".'
            )
        return segments

    def totals(self) -> dict[str, int]:
        with self._lock:
            return dict(self._totals)


def read_records(files: Any) -> tf.data.Dataset:
    """Serialized records of TFRecord files, each a feature `record`."""
    return tf.data.TFRecordDataset(files).map(lambda record: {"record": record})


def split_records(
    dataset: tf.data.Dataset, *, options: TaskOptions, chunk_frames: int | None
) -> tf.data.Dataset:
    """From serialized records to chunks, which hold no tokens: what the cache keeps."""

    def split(record: bytes) -> list[np.ndarray]:
        chunks = preprocessors.split_recording(
            parse_recording(record),
            sample_rate=options.sample_rate,
            hop_samples=options.hop_samples,
            chunk_frames=chunk_frames,
        )
        rows = [
            preprocessors.encode_chunk(chunk, options.sample_rate, options.hop_samples) for chunk in chunks
        ]
        return [
            as_objects([row[name] for row in rows])
            if kind is bytes
            else np.array([row[name] for row in rows], np.int64)
            for name, kind in CHUNK_FEATURES.items()
        ]

    def to_chunks(example: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        dtypes = [_TENSOR_TYPES[kind] for kind in CHUNK_FEATURES.values()]
        columns = tf.numpy_function(split, [example["record"]], dtypes)
        for column in columns:
            column.set_shape([None])
        return dict(zip(CHUNK_FEATURES, columns, strict=True))

    return dataset.map(to_chunks, num_parallel_calls=tf.data.AUTOTUNE).unbatch()


def _segment_config(
    sequence_length: Mapping[str, int] | None, tokenizer: Tokenizer, options: TaskOptions
) -> SegmentConfig:
    lengths = {**DEFAULT_SEQUENCE_LENGTH, **(sequence_length or {})}
    return SegmentConfig(
        tokenizer=tokenizer,
        segment_frames=lengths["inputs"],
        max_target_tokens=lengths["targets"],
        hop_samples=options.hop_samples,
        long_targets=options.long_targets,
    )


def _to_chunk(dataset: str, options: TaskOptions, *features: Any) -> Chunk:
    """A chunk whose id has the name of the dataset before that of the recording."""
    named = dict(zip(CHUNK_FEATURES, features, strict=True))
    chunk = preprocessors.decode_chunk(named, options.sample_rate, options.hop_samples)
    return dataclasses.replace(chunk, id=f"{dataset}/{chunk.id}")


def segments_per_chunk(options: TaskOptions, segment_frames: int) -> int:
    """Random segments that are taken at a time from a full chunk."""
    return options.segments_per_chunk or max(1, round(CHUNK_FRAMES / segment_frames))


def cut_random_segments(
    dataset: tf.data.Dataset,
    sequence_length: Mapping[str, int] | None = None,
    *,
    dataset_name: str,
    tokenizer: Tokenizer,
    options: TaskOptions,
    counts: SegmentCounts,
) -> tf.data.Dataset:
    """From chunks to random segments, several of each chunk at once."""
    config = _segment_config(sequence_length, tokenizer, options)

    per_chunk = segments_per_chunk(options, config.segment_frames)

    def cut(seed: np.ndarray, *features: Any) -> tuple[np.ndarray, ...]:
        chunk = _to_chunk(dataset_name, options, *features)
        # As many per frame from the short chunk at a recording's end as from others.
        share = len(chunk.samples) / (CHUNK_FRAMES * options.hop_samples)
        num_segments = max(1, round(per_chunk * share))
        segments = preprocessors.sample_segments(chunk, num_segments, np.random.default_rng(seed), config)
        counts.add(segments, config)
        return segments.inputs, segments.targets, as_objects(segments.ids)

    @seqio.map_over_dataset(num_seeds=1)
    def to_segments(chunk: Mapping[str, tf.Tensor], seed: Any) -> dict[str, tf.Tensor]:
        features = [chunk[name] for name in CHUNK_FEATURES]
        columns = tf.numpy_function(cut, [tf.stack(seed), *features], [tf.int16, tf.int32, tf.string])
        return _stacked(*columns, config)

    return to_segments(dataset).unbatch()


def _stacked(
    inputs: tf.Tensor, targets: tf.Tensor, ids: tf.Tensor, config: SegmentConfig
) -> dict[str, tf.Tensor]:
    inputs.set_shape([None, config.segment_frames, config.hop_samples])
    targets.set_shape([None, config.max_target_tokens])
    ids.set_shape([None])
    return {"inputs": inputs, "targets": targets, EXAMPLE_ID: ids}


def cut_consecutive_segments(
    dataset: tf.data.Dataset,
    sequence_length: Mapping[str, int] | None = None,
    *,
    dataset_name: str,
    tokenizer: Tokenizer,
    options: TaskOptions,
    counts: SegmentCounts,
) -> tf.data.Dataset:
    """From whole recordings to all their segments in order, with the recording's `id` and `start_frame`."""
    config = _segment_config(sequence_length, tokenizer, options)

    def cut(*features: Any) -> tuple[np.ndarray, ...]:
        chunk = _to_chunk(dataset_name, options, *features)
        segments = counts.add(preprocessors.consecutive_segments(chunk, config), config)
        return segments.inputs, segments.targets, as_objects(segments.ids), segments.start_frames

    def to_segments(chunk: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        *columns, start_frames = tf.numpy_function(
            cut, [chunk[name] for name in CHUNK_FEATURES], [tf.int16, tf.int32, tf.string, tf.int64]
        )
        start_frames.set_shape([None])
        ids = tf.repeat(chunk["id"], tf.size(start_frames))
        return {**_stacked(*columns, config), "id": ids, "start_frame": start_frames}

    return dataset.map(to_segments, num_parallel_calls=tf.data.AUTOTUNE).unbatch()


def to_task_features(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """From 16-bit samples to audio in [-1, 1), and targets without their padding."""

    def convert(segment: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        num_tokens = tf.math.count_nonzero(segment["targets"])
        return {
            **segment,
            "inputs": tf.cast(segment["inputs"], tf.float32) / PCM16_SCALE,
            "targets": segment["targets"][:num_tokens],
        }

    return dataset.map(convert, num_parallel_calls=tf.data.AUTOTUNE)


def mix_examples(
    dataset: tf.data.Dataset,
    sequence_length: Mapping[str, int] | None = None,
    *,
    tokenizer: Tokenizer,
    options: TaskOptions,
    counts: SegmentCounts,
) -> tf.data.Dataset:
    """From task features to those of mixes of 1..max_examples_per_mix neighbours.

    The dataset must be shuffled before: what is neighbouring in a chunk is not to be mixed.
    """
    config = _segment_config(sequence_length, tokenizer, options)
    max_examples = options.max_examples_per_mix

    def mix(
        seed: np.ndarray, inputs: np.ndarray, targets: np.ndarray, ids: np.ndarray
    ) -> tuple[np.ndarray, ...]:
        rng = np.random.default_rng(seed)
        mixes = mixing.mix_segments(inputs, targets, ids, max_examples, rng, config)
        counts.add(mixes, config, prefix="mixed_")
        return mixes.inputs, mixes.targets, as_objects(mixes.ids)

    @seqio.map_over_dataset(num_seeds=1)
    def to_mixes(examples: Mapping[str, tf.Tensor], seed: Any) -> dict[str, tf.Tensor]:
        features = [examples[name] for name in ("inputs", "targets", EXAMPLE_ID)]
        columns = tf.numpy_function(mix, [tf.stack(seed), *features], [tf.float32, tf.int32, tf.string])
        return _stacked(*columns, config)

    def without_padding(mix: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {**mix, "targets": mix["targets"][: tf.math.count_nonzero(mix["targets"])]}

    shapes = {
        "inputs": [config.segment_frames, config.hop_samples],
        "targets": [config.max_target_tokens],
        EXAMPLE_ID: [],
    }
    dataset = dataset.padded_batch(mixing.batch_size(max_examples), shapes)
    return to_mixes(dataset).unbatch().map(without_padding, num_parallel_calls=tf.data.AUTOTUNE)
