"""Records: the one form in which every prepared dataset lies on disk.

A split is a set of TFRecord shards of `tf.train.Example` with the features of
`SCHEMA`, and a manifest, written last (`mt3.data.record_writer`). What is
damaged is reported in one line that names the file.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from mt3.data.manifests import Manifest, read_manifest
from mt3.data.recordings import EncodedAudio, Recording
from mt3.data.tfrecords import RecordError, encode_example, parse_example, read_tfrecord_at
from mt3.symbolic.conversions import from_note_sequence, to_note_sequence

__all__ = [
    "SCHEMA",
    "RecordError",
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
    def directory(self) -> Path:
        """Where the split was prepared."""
        return self._directory

    @property
    def manifest(self) -> Manifest:
        """Of the whole split, also where this is a slice of it."""
        return self._manifest

    @property
    def ids(self) -> list[str]:
        """Of its recordings, without reading any."""
        return [self._manifest.recordings[index].id for index in self._indices]

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
