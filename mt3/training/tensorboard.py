"""Writes metrics and summaries where TensorBoard reads them.

tensorboardX makes the entries. Its own writer is not used: it writes in a thread,
which a full disk ends, after which the run would wait for it for ever. Here an
entry is in the file when the call returns, or the call fails and leaves the file
as it was.
"""

from __future__ import annotations

import os
import re
import socket
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mt3.evaluation.summaries import Audio, Histogram, Image, Summary
from mt3.record_framing import frame_record
from mt3.training.hooks import MetricsWriter, Run
from mt3.training.run_files import TENSORBOARD_FOLDER


class TensorBoardWriter(MetricsWriter):
    """Writes published metrics as scalars, and what evaluations show, to RUN/tensorboard."""

    def __init__(self, run_dir: str | Path) -> None:
        self._folder = Path(run_dir) / TENSORBOARD_FOLDER
        self._file: EventFile | None = None

    def on_start(self, run: Run) -> None:
        with self._reporting(self._folder):
            # TensorBoard hides what an earlier sitting wrote from the purge step on.
            self._file = EventFile(self._folder, run.start_step + 1 if run.start_step else None)

    def on_metrics(self, run: Run, values: Mapping[str, float]) -> None:
        self._write(run, values)

    def on_summaries(self, run: Run, summaries: Mapping[str, Summary]) -> None:
        self._write(run, summaries)

    def _write(self, run: Run, values: Mapping[str, float | Summary]) -> None:
        if self._file is not None:
            with self._reporting(self._folder):
                self._file.write(values, run.step)


class EventFile:
    """A file of TensorBoard's in a folder: records, each a tensorflow.Event.

    A record is framed as in TFRecord files: length, checksum, payload, checksum.
    """

    def __init__(self, folder: Path, purge_step: int | None = None) -> None:
        """Makes the folder and the file.

        Args:
          folder: that TensorBoard is pointed at, or one within.
          purge_step: what other files of the folder say of this step and later ones is hidden.

        Raises:
          OSError: it cannot be written.
        """
        from tensorboardX.proto import event_pb2  # Heavy, and needed by runs only.

        events: Any = event_pb2  # its classes are made at run time
        folder.mkdir(parents=True, exist_ok=True)
        # Read in the order of names: the time comes first.
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._path = folder / name
        records = [events.Event(wall_time=time.time(), file_version="brain.Event:2")]
        if purge_step is not None:
            start = events.SessionLog(status=events.SessionLog.START)
            records.append(events.Event(wall_time=time.time(), step=purge_step, session_log=start))
        self._append(b"".join(frame_record(record.SerializeToString()) for record in records))

    def write(self, values: Mapping[str, float | Summary], step: int) -> None:
        """Adds values under their names, in which TensorBoard's characters replace others.

        Raises:
          OSError: they cannot be written, and are not.
        """
        from tensorboardX.proto import event_pb2

        events: Any = event_pb2
        for name, value in values.items():
            summary = _summary(re.sub(r"[^-/\w.]", "_", name), value)
            event = events.Event(wall_time=time.time(), step=step, summary=summary)
            self._append(frame_record(event.SerializeToString()))

    def _append(self, data: bytes) -> None:
        with self._path.open("ab", buffering=0) as file:
            end = file.tell()
            try:
                written = 0
                while written < len(data):
                    written += file.write(data[written:]) or 0
            except OSError:
                file.truncate(end)  # Half a record would make all later ones unreadable.
                raise


def _summary(tag: str, value: float | Summary) -> Any:
    """A tensorflow.Summary of one value."""
    from tensorboardX import summary

    if isinstance(value, Histogram):
        return summary.histogram(tag, value.values, value.edges)
    if isinstance(value, Image):
        return summary.image(tag, value.pixels, dataformats="HWC")
    if isinstance(value, Audio):
        return summary.audio(tag, value.samples, value.sample_rate)
    return summary.scalar(tag, value)
