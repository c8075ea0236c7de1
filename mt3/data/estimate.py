"""What preparing a dataset would take: a few items are made and thrown away, the rest is in proportion."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from typing import Any

from mt3.data.recordings import EncodedAudio
from mt3.data.records import encode_recording
from mt3.data.shards import SAMPLE_RATE
from mt3.data.sources.base import Item, LeftOut, Plan, Source


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Of one split.

    Attributes:
      num_items: that would be made.
      num_sampled: that were made to see what they take.
      num_recordings, audio_seconds, num_bytes: of the records, in proportion.
      core_seconds: of one core, without starting.
      failures: sampled items that could not be made, with the reason.
    """

    num_items: int
    num_sampled: int
    num_recordings: float
    audio_seconds: float
    num_bytes: float
    core_seconds: float
    failures: tuple[str, ...]


def estimate(source: Source, plan: Plan, *, num_samples: int = 3) -> Mapping[str, Estimate]:
    """Split -> what it takes, from `num_samples` items spread over it; writes nothing."""
    return {split: _estimate_split(source, items, num_samples) for split, items in plan.items.items()}


def _estimate_split(source: Source, items: Sequence[Item], num_samples: int) -> Estimate:
    num_sampled = min(num_samples, len(items))
    sampled = [items[(2 * index + 1) * len(items) // (2 * num_sampled)] for index in range(num_sampled)]
    recordings, failures = [], []
    start = time.perf_counter()
    for item in sampled:
        try:
            recordings += [_measure(recording) for recording in source.make(item)]
        except LeftOut:
            continue
        except (ValueError, OSError) as error:
            failures.append(f"{item.id}: {error}")
    core_seconds = time.perf_counter() - start
    scale = len(items) / num_sampled
    return Estimate(
        num_items=len(items),
        num_sampled=num_sampled,
        num_recordings=len(recordings) * scale,
        audio_seconds=sum(seconds for seconds, _ in recordings) * scale,
        num_bytes=sum(num_bytes for _, num_bytes in recordings) * scale,
        core_seconds=core_seconds * scale,
        failures=tuple(failures),
    )


def _measure(recording: Any) -> tuple[float, int]:
    """Seconds of audio and bytes of the record."""
    audio = EncodedAudio.of(recording.audio, SAMPLE_RATE)
    record = encode_recording(dataclasses.replace(recording, audio=audio))
    return audio.num_samples / audio.sample_rate, len(record)
