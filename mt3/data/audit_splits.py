"""The checks of splits in `mt3 data check`: files, manifests, counts, and recordings that are there twice."""

from __future__ import annotations

import dataclasses
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from mt3.data.audit_recordings import Problem, RecordingDigest
from mt3.data.manifests import Manifest, ShardInfo
from mt3.data.records import Recordings
from mt3.data.tfrecords import RecordError, record_offsets

# By which onsets of the same labels may differ.
_SAME_SECONDS = 0.02
_SUM_TOLERANCE = 0.001


@dataclasses.dataclass(frozen=True, eq=False)
class AuditedSplit:
    """What the checks of splits look at.

    Attributes:
      recordings: of the split.
      digests: in the same order, without those of missing shards.
      shard_problems: found in its files.
      published: recordings that the published split has, where known.
    """

    recordings: Recordings
    digests: Sequence[RecordingDigest]
    shard_problems: Sequence[Problem] = ()
    published: int | None = None

    @property
    def manifest(self) -> Manifest:
        """Of the split."""
        return self.recordings.manifest


def shards(split: AuditedSplit) -> Iterator[Problem]:
    """What `shard_problems` found."""
    yield from split.shard_problems


def totals(split: AuditedSplit) -> Iterator[Problem]:
    """Sums in the manifest that are not those of its rows."""
    manifest, rows = split.manifest, split.manifest.recordings
    in_shard = Counter(row.shard for row in rows)
    sums = [
        ("num_recordings", manifest.num_recordings, len(rows)),
        *(
            (name, getattr(manifest, name), sum(getattr(row, name) for row in rows))
            for name in ("seconds", "num_notes", "num_chunks")
        ),
        *(
            (f"num_recordings of {shard.file}", shard.num_recordings, in_shard[index])
            for index, shard in enumerate(manifest.shards)
        ),
    ]
    for name, stated, found in sums:
        if abs(found - stated) > _SUM_TOLERANCE:
            yield Problem(f"the manifest states {name} {stated}, its rows add up to {found}")
    for row in rows:
        if not 0 <= row.shard < len(manifest.shards):
            yield Problem(f"it is listed in shard {row.shard} of {len(manifest.shards)}", recording=row.id)


def programs(split: AuditedSplit) -> Iterator[Problem]:
    """Notes of each program, counted anew; where something cannot be read, that is found elsewhere."""
    if len(split.digests) < len(split.manifest.recordings) or not all(d.is_readable for d in split.digests):
        return
    found: Counter[str] = Counter()
    for digest in split.digests:
        found.update(digest.programs)
    for program in sorted({*found, *split.manifest.programs}):
        stated = split.manifest.programs.get(program, 0)
        if stated != found[program]:
            yield Problem(
                f"program {program}: the manifest counts {stated} notes, the records hold {found[program]}"
            )


def repeated_ids(split: AuditedSplit) -> Iterator[Problem]:
    """Records that cannot be told apart."""
    for name, number in Counter(row.id for row in split.manifest.recordings).items():
        if number > 1:
            yield Problem(f"{number} recordings have this id", number, recording=name)


def published_count(split: AuditedSplit) -> Iterator[Problem]:
    """Too few recordings, as of an incomplete download, or too many."""
    found, skipped = split.manifest.num_recordings, len(split.manifest.skipped)
    if split.published is not None and found != split.published:
        yield Problem(
            f"{found} recordings, the published dataset has {split.published}"
            + (f" (left out or skipped: {skipped}, see the manifest)" if skipped else ""),
            abs(found - split.published),
        )


def duplicates(splits: Sequence[AuditedSplit]) -> Iterator[Problem]:
    """Recordings of a split that are in an earlier one, too."""
    earlier: dict[tuple[str, str], list[tuple[AuditedSplit, RecordingDigest]]] = {}
    for split in splits:
        for digest in split.digests:
            same: dict[str, list[str]] = {}
            for kind, key in _keys(digest):
                for other_split, other in earlier.get((kind, key), []):
                    if kind != "labels" or _same_labels(split, digest, other_split, other):
                        same.setdefault(f"{other_split.manifest.split}/{other.id}", []).append(kind)
            for other_name, kinds in same.items():
                yield Problem(
                    f"it is {other_name}, too: the same {' and '.join(kinds)}",
                    len(kinds),
                    recording=digest.id,
                    split=split.manifest.split,
                )
        for digest in split.digests:
            for keys in _keys(digest):
                earlier.setdefault(keys, []).append((split, digest))


def _keys(digest: RecordingDigest) -> list[tuple[str, str]]:
    """By what a recording may be known again; equal pitches may be the same labels."""
    keys = [("id", digest.id), ("audio", digest.audio), ("labels", digest.pitches)]
    return [(kind, key) for kind, key in keys if key]


def _same_labels(
    split: AuditedSplit, digest: RecordingDigest, other_split: AuditedSplit, other: RecordingDigest
) -> bool:
    """Whether two recordings of equal pitches have equal onsets, too, wherever they start."""
    onsets = []
    for notes in (split.recordings[digest.index].notes, other_split.recordings[other.index].notes):
        order = np.lexsort((notes.onset_seconds, notes.pitch, notes.is_drum))
        onsets.append(notes.onset_seconds[order] - notes.onset_seconds.min())
    return bool(np.all(np.abs(onsets[0] - onsets[1]) <= _SAME_SECONDS))


def shard_problems(path: Path, shard: ShardInfo) -> Iterator[Problem]:
    """What is wrong with a shard file; it is read once, a block at a time."""
    remedy = "delete the split's manifest and prepare it again"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        num_records = sum(1 for _ in record_offsets(path))
    except FileNotFoundError:
        yield Problem(
            f"{path.name} is missing; its {shard.num_recordings} recordings are not audited; {remedy}"
        )
    except OSError as error:
        yield Problem(f"{path.name} cannot be read ({error.strerror}); {remedy}")
    except RecordError as error:
        yield Problem(str(error))
    else:
        if size != shard.num_bytes:
            yield Problem(f"{path.name} has {size} bytes, the manifest says {shard.num_bytes}; {remedy}")
        elif digest != shard.sha256:
            yield Problem(f"{path.name} has another checksum than the manifest says; {remedy}")
        if num_records != shard.num_recordings:
            yield Problem(
                f"{path.name} has {num_records} records, the manifest says {shard.num_recordings}; {remedy}"
            )
