"""Uploads to samples, decoded in processes that can be killed; see `mt3.web.reader_process`."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mt3.audio.io import AudioError
from mt3.web.limits import Limits
from mt3.web.reader_process import Request

_POLL_SECONDS = 0.2  # between questions whether the reading is cancelled
_GRACE_SECONDS = 5.0  # more than the process itself has


class ReadingCancelled(Exception):
    """Nobody wants the samples any more."""


class AudioReader:
    """Starts the process and hands it recordings. Thread-safe: several are read at a time."""

    def __init__(self, sample_rate: int, limits: Limits) -> None:
        """Args:
        sample_rate: of the samples that are wanted, Hz.
        limits: of length, and of what the process may take.
        """
        self._sample_rate = sample_rate
        self._limits = limits
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: socket.socket | None = None

    def read(self, upload: Path, samples: Path, name: str, cancelled: Callable[[], bool]) -> float:
        """Decodes a file.

        Args:
          upload: the file.
          samples: the file that float32 mono samples go to; made here, and removed on failure.
          name: what messages call it.
          cancelled: asked now and then.

        Returns:
          Its duration in seconds.

        Raises:
          AudioError: it cannot be used, or takes more than it may.
          ReadingCancelled: `cancelled` said so.
          RuntimeError: the process itself was ended; the next reading starts it anew.
        """
        limits = self._limits
        request = Request(
            upload=str(upload),
            samples=str(samples),
            name=name,
            sample_rate=self._sample_rate,
            audio_seconds=limits.audio_seconds,
            memory_bytes=limits.reader_memory_bytes,
            cpu_seconds=limits.reader_cpu_seconds,
            wall_seconds=limits.reader_seconds,
        )
        samples.touch(0o600, exist_ok=False)
        try:
            return self._read(request, cancelled)
        except BaseException:
            samples.unlink(missing_ok=True)
            raise

    def close(self) -> None:
        """Ends the process; readings that are under way fail."""
        with self._lock:
            self._stop()

    def _read(self, request: Request, cancelled: Callable[[], bool]) -> float:
        with self._connect() as connection:
            connection.sendall(json.dumps(dataclasses.asdict(request)).encode() + b"\n")
            answer = self._last_message(connection, cancelled)
        if "error" in answer:
            raise AudioError(answer["error"])
        if "duration_seconds" not in answer:
            if self._process is None or self._process.poll() is not None:
                raise RuntimeError("the process that reads recordings has ended")
            raise AudioError(
                f"{request.name} could not be read within {request.memory_bytes >> 20} MiB of memory and "
                f"{request.cpu_seconds} s of computing; convert it to WAV or FLAC."
            )
        return answer["duration_seconds"]

    def _connect(self) -> socket.socket:
        """A connection to a fresh child."""
        with self._lock:
            ours, theirs = socket.socketpair()
            with theirs:
                try:
                    self._pass_on(theirs)
                except OSError:  # the process was killed: by hand, or for want of memory
                    self._stop()
                    self._pass_on(theirs)
            return ours

    def _pass_on(self, connection: socket.socket) -> None:
        if self._channel is None:
            self._start()
        assert self._channel is not None
        socket.send_fds(self._channel, [b"r"], [connection.fileno()])

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            # -P: a file of the working directory is not taken for a library. One thread of linear
            # algebra: a process with threads should not fork.
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "mt3.web.reader_process", str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._channel = ours

    def _stop(self) -> None:
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _last_message(self, connection: socket.socket, cancelled: Callable[[], bool]) -> dict[str, Any]:
        """What the child says at the end; nothing where it ends without a word or runs on."""
        deadline = time.monotonic() + self._limits.reader_seconds + _GRACE_SECONDS
        connection.settimeout(_POLL_SECONDS)
        received = b""
        while time.monotonic() < deadline:
            if cancelled():
                raise ReadingCancelled
            try:
                part = connection.recv(1 << 16)
            except TimeoutError:
                continue
            except ConnectionResetError:
                break
            if not part:
                break
            received += part
            *lines, received = received.split(b"\n")
            last = json.loads(lines[-1]) if lines else {}
            if "duration_seconds" in last or "error" in last:
                return last
        return {}
