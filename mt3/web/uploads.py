"""Uploads: a request's body becomes a file of bounded size, within bounded time."""

from __future__ import annotations

import asyncio
import os
import unicodedata
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import unquote

from starlette.requests import Request

from mt3.web.limits import Limits
from mt3.web.refusals import Refusal

NAME_HEADER = "x-file-name"

_BUFFER_BYTES = 1 << 20  # written at once
_LONGEST_NAME = 200  # bytes as UTF-8: with another suffix, it still is a file name
_UNNAMED = "recording"


async def receive_upload(request: Request, path: Path, limits: Limits) -> None:
    """Writes a request's body to a new file that this user alone can read; it is removed on failure.

    Raises:
      Refusal: it is empty, too large, too slow, or there is no room for it.
      ClientDisconnect: the client went away.
    """
    declared = request.headers.get("content-length", "0")
    if declared.isdecimal() and int(declared) > limits.upload_bytes:
        raise _too_large(limits)
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0) as file:
            async with asyncio.timeout(limits.upload_seconds):
                num_bytes = 0
                async for part in _bounded(request, limits):
                    num_bytes += len(part)
                    await asyncio.to_thread(file.write, part)
        if not num_bytes:
            raise Refusal(400, "the upload is empty; choose a file with audio in it")
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, TimeoutError):
            raise Refusal(408, "the upload took too long; try again, or send a compressed file") from error
        if isinstance(error, OSError):
            raise Refusal(507, f"the server cannot keep the upload: {error.strerror}") from error
        raise


async def _bounded(request: Request, limits: Limits) -> AsyncIterator[bytearray]:
    """The body in parts of a useful size, as long as it keeps to the limits."""
    stream = aiter(request.stream())
    buffer, num_bytes, ended = bytearray(), 0, False
    while not ended:
        async with asyncio.timeout(limits.upload_pause_seconds):
            chunk = await anext(stream, None)
        ended = chunk is None
        buffer += chunk or b""
        num_bytes += len(chunk or b"")
        if num_bytes > limits.upload_bytes:
            raise _too_large(limits)
        if buffer and (ended or len(buffer) >= _BUFFER_BYTES):
            yield buffer
            buffer = bytearray()


def _too_large(limits: Limits) -> Refusal:
    return Refusal(
        413,
        f"the upload is larger than {limits.upload_bytes / 1e6:g} MB; send a shorter recording, or a "
        "compressed one such as FLAC, OGG or MP3",
    )


def shown_name(header: str | None) -> str:
    """The name of a recording, from what a client says (percent-encoded UTF-8): one line, no path.

    Control characters and those that turn the direction of text are left out: a name is what it
    looks like.
    """
    name = unquote(header or "", errors="replace")
    name = name.replace("\\", "/").rsplit("/", 1)[-1]
    name = "".join(character for character in name if not _is_hidden(character))
    name = " ".join(name.split()).encode("utf-8", "replace")[:_LONGEST_NAME].decode("utf-8", "ignore")
    return name.strip() or _UNNAMED


def _is_hidden(character: str) -> bool:
    # Of the format characters, joiners (U+200C, U+200D) are parts of words and of emoji.
    category = unicodedata.category(character)
    return category in ("Cc", "Cs", "Zl", "Zp") or (category == "Cf" and character not in "\u200c\u200d")
