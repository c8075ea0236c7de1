"""How much the server takes on: of one upload, of one client, and in all."""

from __future__ import annotations

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Limits:
    """Bounds of the server. Disk in use is at most `jobs` times the larger of an upload and its samples.

    Attributes:
      upload_bytes: of one recording as it is uploaded.
      audio_seconds: of one recording once it is decoded.
      jobs: uploads and recordings that are not done yet, of all clients.
      jobs_per_client: the same, of one address.
      job_seconds: that the transcription of one recording may take.
      kept_minutes: that results can be fetched after a recording is done.
      kept_jobs: recordings whose results are kept; the oldest go first.
      upload_seconds: that one upload may take.
      upload_pause_seconds: that an upload may pause.
      readers: uploads that are decoded at a time, each in a process of its own.
      reader_memory_bytes: address space of such a process.
      reader_cpu_seconds: that it may compute.
      reader_seconds: that it may take in all.
    """

    upload_bytes: int = 200_000_000
    audio_seconds: float = 1800.0
    jobs: int = 64
    jobs_per_client: int = 16
    job_seconds: float = 3600.0
    kept_minutes: float = 60.0
    kept_jobs: int = 256
    upload_seconds: float = 900.0
    upload_pause_seconds: float = 30.0
    readers: int = 2
    reader_memory_bytes: int = 1 << 30
    reader_cpu_seconds: int = 120
    reader_seconds: int = 300

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if not value > 0:
                raise ValueError(f"{name} is {value}: give more than 0")

    def public(self) -> dict[str, Any]:
        """What a client should know before it uploads."""
        return {name: getattr(self, name) for name in _PUBLIC}


_PUBLIC = ("upload_bytes", "audio_seconds", "jobs", "jobs_per_client", "job_seconds", "kept_minutes")
