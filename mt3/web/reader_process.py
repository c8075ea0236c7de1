"""The process that decodes uploads: `python -m mt3.web.reader_process DESCRIPTOR`.

It imports what decoding needs once, and forks for each recording: a child costs
milliseconds, reads one file under limits of memory, computing and time, and can
take nothing with it when a damaged file crashes it or makes it run on. The
process is single-threaded, so that forking it is safe.

On the socket of the descriptor comes a byte with a descriptor of a connection
for each recording; on the connection a line of JSON with the fields of
`Request`, and back go lines of JSON:

    {"decoded_seconds": 10.0}        as it goes on
    {"duration_seconds": 12.5}       at the end, the samples being in the file
    {"error": "one line"}            where the recording cannot be used

Where the child is killed, the connection ends without either of the last two.
A child whose connection is closed ends; so does this process with its socket.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
import signal
import socket
import sys
from pathlib import PurePath

from mt3.audio.io import AudioError, stream_audio

_BLOCK_SECONDS = 10.0
_OPEN_FILES = 64


@dataclasses.dataclass(frozen=True)
class Request:
    """One recording to decode.

    Attributes:
      upload: the file.
      samples: an empty file, for float32 mono samples in the machine's byte order.
      name: what messages call the file.
      sample_rate: of the samples, Hz.
      audio_seconds: most that is decoded.
      memory_bytes: address space that may be used.
      cpu_seconds, wall_seconds: that it may take.
    """

    upload: str
    samples: str
    name: str
    sample_rate: int
    audio_seconds: float
    memory_bytes: int
    cpu_seconds: int
    wall_seconds: int


def main(descriptor: int) -> None:
    """Forks for each connection until the socket ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the children
    os.umask(0o077)
    channel = socket.socket(fileno=descriptor)
    while True:
        mark, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
        if not mark:
            return
        if not os.fork():
            channel.close()
            _serve(socket.socket(fileno=descriptors[0]))
            os._exit(0)
        os.close(descriptors[0])


def _serve(connection: socket.socket) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # nobody wants it any more
        request = Request(**json.loads(connection.makefile("rb").readline()))
        _limit(request)
        _send(connection, _answer(request, connection))


def _limit(request: Request) -> None:
    """Kills this process where it takes more than it may."""
    # Decoders complain of what is reported in one line anyway.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(request.wall_seconds)
    file_bytes = int((request.audio_seconds + 2 * _BLOCK_SECONDS) * request.sample_rate) * 4
    for kind, value in (
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CPU, request.cpu_seconds),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_AS, request.memory_bytes),
    ):
        # macOS refuses limits of address space; where a lower one is in force, it stays.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(kind, (value, value))


def _answer(request: Request, connection: socket.socket) -> dict[str, object]:
    try:
        return {"duration_seconds": _decode(request, connection)}
    except AudioError as error:
        return {"error": _named(str(error), request)}
    except MemoryError:
        megabytes = request.memory_bytes >> 20
        return {
            "error": f"{request.name} takes more than {megabytes} MiB of memory to read; convert it to FLAC"
        }
    except BrokenPipeError:
        raise
    except OSError as error:
        return {"error": f"{request.name} could not be read: {error.strerror or error}"}


def _named(message: str, request: Request) -> str:
    """A message about the upload, with the name that its client knows in place of the file's."""
    upload, name = PurePath(request.upload), PurePath(request.name)
    return message.replace(str(upload), str(name)).replace(upload.stem, name.stem)


def _decode(request: Request, connection: socket.socket) -> float:
    """Writes the samples; returns their duration in seconds."""
    num_samples = 0
    # Not made here: where the reading is cancelled, the file is removed and stays so.
    with os.fdopen(os.open(request.samples, os.O_WRONLY), "wb") as file:
        for block in stream_audio(request.upload, request.sample_rate, _BLOCK_SECONDS):
            num_samples += len(block)
            seconds = num_samples / request.sample_rate
            if seconds > request.audio_seconds:
                minutes = request.audio_seconds / 60
                raise AudioError(f"{request.name} is longer than {minutes:.3g} minutes; cut it into parts.")
            file.write(block.tobytes())
            _send(connection, {"decoded_seconds": seconds})
    if not num_samples:
        raise AudioError(f"{request.name} holds no samples; record or export it again.")
    return num_samples / request.sample_rate


def _send(connection: socket.socket, message: dict[str, object]) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


if __name__ == "__main__":
    main(int(sys.argv[1]))
