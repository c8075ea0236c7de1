"""Records: the one form in which every prepared dataset lies on disk.

A split is a set of TFRecord shards of `tf.train.Example` with the features of
`SCHEMA`, and a manifest, written last. It promises: a split is either complete
or has no manifest; equal recordings and seed give byte-identical shards and
manifest; what is damaged is reported in one line that names the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self, overload

import mt3
from mt3.data.manifests import (
    Manifest,
    RecordingInfo,
    ShardInfo,
    SkippedItem,
    count_programs,
    manifest_path,
    read_manifest,
    shard_name,
    write_manifest,
)
from mt3.data.preprocessors import num_chunks
from mt3.data.recordings import EncodedAudio, Recording
from mt3.data.tfrecords import RecordError, encode_example, frame_record, parse_example, read_tfrecord_at
from mt3.symbolic.conversions import from_note_sequence, to_note_sequence

__all__ = [
    "SCHEMA",
    "RecordError",
    "RecordWriter",
    "Recordings",
    "encode_recording",
    "parse_recording",
    "read_recordings",
]

# Feature -> kind, as in tf.train.Example. All hold one value.
SCHEMA: dict[str, type] = {
    "id": bytes,
    "dataset": bytes,
    "split": bytes,
    "licence": bytes,
    "audio": bytes,  # a FLAC file or little-endian 16-bit samples
    "audio_format": bytes,  # "flac" or "pcm16"
    "sample_rate": int,
    "num_samples": int,
    "sequence": bytes,  # a serialized NoteSequence, sustain already applied
    "extra": bytes,  # the dataset's own fields, one JSON object
}


def encode_recording(recording: Recording) -> bytes:
    """A recording with `EncodedAudio` as a serialized tf.train.Example."""
    audio = recording.audio
    if not isinstance(audio, EncodedAudio):
        raise TypeError(f"{recording.id}: audio is {type(audio).__name__}; make it EncodedAudio to write it.")
    extra = json.dumps(recording.extra, ensure_ascii=False, sort_keys=True)
    sequence = to_note_sequence(recording.notes, id=recording.id)
    features: dict[str, bytes | str | int] = {
        "id": recording.id,
        "dataset": recording.dataset,
        "split": recording.split,
        "licence": recording.licence,
        "audio": audio.data,
        "audio_format": audio.format,
        "sample_rate": audio.sample_rate,
        "num_samples": audio.num_samples,
        "sequence": sequence.SerializeToString(deterministic=True),
        "extra": extra,
    }
    return encode_example(features)


def parse_recording(data: bytes) -> Recording:
    """The inverse of `encode_recording`; the audio stays encoded.

    Raises:
      RecordError: when a feature of `SCHEMA` is missing or of another kind.
    """
    features = parse_example(data)
    for name, kind in SCHEMA.items():
        if not (len(values := features.get(name, [])) == 1 and isinstance(values[0], kind)):
            raise RecordError(
                f"A record lacks feature {name!r} ({kind.__name__}); it was not written by mt3."
            )
    value = {name: features[name][0] for name in SCHEMA}
    text = {
        name: value[name].decode() for name in ("id", "dataset", "split", "licence", "audio_format", "extra")
    }
    return Recording(
        id=text["id"],
        notes=from_note_sequence(value["sequence"]),
        audio=EncodedAudio(value["audio"], text["audio_format"], value["sample_rate"], value["num_samples"]),
        dataset=text["dataset"],
        split=text["split"],
        licence=text["licence"],
        extra=json.loads(text["extra"]),
    )


class Recordings(Sequence[Recording]):
    """The recordings of a prepared split, in the order of writing; each is read when it is asked for.

    Memory holds no more than what the caller keeps. Checksums are verified.
    """

    def __init__(self, directory: Path, manifest: Manifest, indices: range) -> None:
        self._directory, self._manifest, self._indices = directory, manifest, indices

    @property
    def manifest(self) -> Manifest:
        """Of the whole split, also where this is a slice of it."""
        return self._manifest

    def __len__(self) -> int:
        return len(self._indices)

    @overload
    def __getitem__(self, index: int) -> Recording: ...

    @overload
    def __getitem__(self, index: slice) -> Recordings: ...

    def __getitem__(self, index: int | slice) -> Recording | Recordings:
        """One recording, or the recordings of a slice.

        Raises:
          RecordError: when the shard is missing, truncated or damaged.
        """
        if isinstance(index, slice):
            return Recordings(self._directory, self._manifest, self._indices[index])
        info = self._manifest.recordings[self._indices[index]]
        path = self._directory / self._manifest.shards[info.shard].file
        try:
            return parse_recording(read_tfrecord_at(path, info.offset))
        except ValueError as error:
            message = str(error)
            raise RecordError(message if str(path) in message else f"{path}: {info.id}: {message}") from error


def read_recordings(directory: Path | str, split: str, *, name: str | None = None) -> Recordings:
    """The recordings of a prepared split.

    Args:
      directory: where the dataset was prepared.
      split: train, validation or test.
      name: of the dataset; may be left out where the directory holds one.

    Raises:
      RecordError: when the split is not prepared.
    """
    manifest = read_manifest(directory, split, name)
    return Recordings(Path(directory), manifest, range(len(manifest.recordings)))


class RecordWriter:
    """Writes the shards and the manifest of one split.

    A context manager: leaving it normally puts the shards in place and then the
    manifest; leaving it by an error removes what was written. Recordings go to
    the shards in turn.
    """

    def __init__(
        self,
        directory: Path | str,
        name: str,
        split: str,
        *,
        num_shards: int = 1,
        seed: int = 0,
        config: Mapping[str, Any] | None = None,
    ) -> None:
        """See `Manifest` for the arguments; `directory` is made where it does not exist."""
        if num_shards < 1:
            raise ValueError(f"num_shards is {num_shards}; it must be at least 1.")
        self._directory = Path(directory)
        self._name, self._split, self._seed, self._config = name, split, seed, dict(config or {})
        self._directory.mkdir(parents=True, exist_ok=True)
        self._paths = [
            self._directory / shard_name(name, split, index, num_shards) for index in range(num_shards)
        ]
        for left_behind in self._directory.glob(f".{name}-{split}.tfrecord-*.tmp"):
            left_behind.unlink()  # by a run that was killed
        self._temporary = [path.with_name(f".{path.name}.tmp") for path in self._paths]
        self._files = [path.open("wb") for path in self._temporary]
        self._hashes = [hashlib.sha256() for _ in self._paths]
        self._recordings: list[RecordingInfo] = []
        self._skipped: list[SkippedItem] = []
        self._programs: Counter[str] = Counter()
        self._licences: set[str] = set()

    def write(self, recording: Recording) -> None:
        """Adds a recording; audio that is not encoded yet is encoded as FLAC at 16 kHz."""
        audio = recording.audio
        if not isinstance(audio, EncodedAudio):
            audio = EncodedAudio.encode(recording.load_audio(16000), 16000)
            recording = dataclasses.replace(recording, audio=audio)
        seconds = audio.num_samples / audio.sample_rate
        shard = len(self._recordings) % len(self._files)
        framed = frame_record(encode_recording(recording))
        self._recordings.append(
            RecordingInfo(
                id=recording.id,
                seconds=seconds,
                num_notes=len(recording.notes),
                num_chunks=num_chunks(round(seconds * 16000)),
                shard=shard,
                offset=self._files[shard].tell(),
            )
        )
        self._files[shard].write(framed)
        self._hashes[shard].update(framed)
        self._programs.update(count_programs(recording.notes))
        self._licences.add(recording.licence)

    def skip(self, item: str, reason: str) -> None:
        """Lists an input that gave no recording."""
        self._skipped.append(SkippedItem(item, reason))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with contextlib.ExitStack() as stack:
                for file in self._files:
                    stack.callback(file.close)
            if kind is None:
                self._finish()
        finally:
            for path in self._temporary:
                path.unlink(missing_ok=True)

    def _finish(self) -> None:
        # From here until the new manifest is there, the split counts as not prepared.
        manifest_path(self._directory, self._name, self._split).unlink(missing_ok=True)
        sizes = [path.stat().st_size for path in self._temporary]
        for stale in self._directory.glob(f"{self._name}-{self._split}.tfrecord-?????-of-?????"):
            stale.unlink()
        for temporary, path in zip(self._temporary, self._paths, strict=True):
            temporary.replace(path)
        write_manifest(self._directory, self._manifest(sizes))

    def _manifest(self, sizes: list[int]) -> Manifest:
        in_shard = Counter(info.shard for info in self._recordings)
        shards = tuple(
            ShardInfo(path.name, in_shard[index], size, digest.hexdigest())
            for index, (path, size, digest) in enumerate(zip(self._paths, sizes, self._hashes, strict=True))
        )
        programs = sorted(self._programs.items(), key=lambda item: (len(item[0]), item[0]))
        return Manifest(
            name=self._name,
            split=self._split,
            num_recordings=len(self._recordings),
            seconds=sum(info.seconds for info in self._recordings),
            num_notes=sum(info.num_notes for info in self._recordings),
            num_chunks=sum(info.num_chunks for info in self._recordings),
            programs=dict(programs),
            licences=tuple(sorted(self._licences)),
            shards=shards,
            recordings=tuple(self._recordings),
            skipped=tuple(self._skipped),
            seed=self._seed,
            code_version=mt3.__version__,
            config=self._config,
        )
