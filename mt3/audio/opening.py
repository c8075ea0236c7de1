"""Opens audio files with libsndfile, and says what is wrong with those that cannot be used.

Whatever is given, opening ends at once, with a file that has samples at a rate
that can be resampled, or with an `AudioError` of one line that gives the
remedy. What is no ordinary file (a pipe, a device) is refused, as reading it
might never end. Nothing is taken from a file's name: libsndfile would read
anything called .raw, .vox or .gsm as samples.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import stat
import threading
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import soundfile

# soxr takes endless time for steps far below these rates, and hours for a second far above.
MIN_SAMPLE_RATE = 1000
MAX_SAMPLE_RATE = 10_000_000
UNKNOWN_SAMPLES = 2**63 - 1  # libsndfile's word for "until it ends"
CUT_SHORT_REMEDY = "fetch it again, or save what is left: ffmpeg -i FILE out.wav"

_UNRECOGNISED = 1  # libsndfile's error code for a format that it does not know
# Headers written before the length was known (ffmpeg, sox into a pipe) declare about this many bytes or more.
_UNKNOWN_LENGTH_BYTES = 0x7FFF0000
# What libsndfile's log says of a file that ends before its header says, ...
_CUT_SHORT = re.compile(r"\b(?:data|SSND) : (\d+) \(should be (\d+)\)")
# ... and of the 64-bit sizes of an RF64 file, which it does not compare.
_RF64_SIZES = re.compile(r"Length : (\d+)\s+RF64\s.*?Data size : (\d+)", re.DOTALL)


class OpenableFile(Protocol):
    """A file that has no path of its own, such as a member of an archive; `str()` names it."""

    @property
    def size(self) -> int: ...

    def open(self) -> BinaryIO: ...


AudioSource = str | os.PathLike[str] | bytes | OpenableFile


class AudioError(ValueError):
    """Audio that cannot be used; the message names the file and the remedy."""


def source_name(source: AudioSource) -> str:
    """What messages call the source, in one line whatever its name is."""
    return f"audio of {len(source)} bytes" if isinstance(source, bytes) else _printable(str(source))


def open_audio(source: AudioSource) -> soundfile.SoundFile:
    """The opened file; the caller closes it.

    Raises:
      AudioError: it is missing, no ordinary file, empty, not readable, no audio,
        damaged or cut short as far as its header tells, without samples, or at a
        sample rate outside `MIN_SAMPLE_RATE`..`MAX_SAMPLE_RATE`.
    """
    size, handle = _handle(source)
    if size == 0:
        _close(handle)
        raise AudioError(f"{source_name(source)} is an empty file; fetch or export it again.")
    file = _sound_file(handle, source)
    problem = _header_problem(file, source)
    if problem:
        file.close()
        raise AudioError(f"{source_name(source)} {problem}")
    if file.format == "MP3" and not _mp3_states_length(source):
        file.close()
        return _sound_file(_pipe(source), source)
    return file


def damaged(name: str, error: Exception) -> AudioError:
    """The error for a file that libsndfile gave up on."""
    reason = _printable(str(error)).rsplit(": ", 1)[-1].rstrip(".")
    # libsndfile's words for an MP3 file without a frame; it does exist.
    known = "" if "does not exist" in reason else f" ({reason})"
    return AudioError(f"{name} is damaged or cut short{known}; {CUT_SHORT_REMEDY}")


def check_sample_rate(name: str, sample_rate: float) -> None:
    """Raises an AudioError for a rate from which nothing can be resampled."""
    if not MIN_SAMPLE_RATE <= sample_rate <= MAX_SAMPLE_RATE:
        raise AudioError(f"{name} {_rate_problem(sample_rate)}")


def _rate_problem(sample_rate: float) -> str:
    return (
        f"has a sample rate of {sample_rate:.10g} Hz, outside {MIN_SAMPLE_RATE}..{MAX_SAMPLE_RATE}; "
        "give it the rate that it was recorded at."
    )


def _printable(text: str) -> str:
    """The text in one line, with escapes for what a terminal might act on."""
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def _handle(source: AudioSource) -> tuple[int, Any]:
    """Size in bytes, and what libsndfile reads: a descriptor of its own, or a file object."""
    if isinstance(source, bytes):
        return len(source), _Uncomplaining(io.BytesIO(source))
    if not isinstance(source, str | os.PathLike):
        return source.size, _Uncomplaining(source.open())
    name = source_name(source)
    # Without O_NONBLOCK, opening a pipe waits for its writer.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        if Path(source).is_dir():  # some systems cannot open folders
            raise IsADirectoryError
        descriptor = os.open(source, flags)
    except IsADirectoryError:
        raise AudioError(f"{name} is a folder; name the audio files in it.") from None
    except FileNotFoundError:
        raise AudioError(f"{name} does not exist; check the path.") from None
    except PermissionError:
        raise AudioError(f"{name} may not be read; change its permissions.") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise AudioError(f"{name} cannot be opened ({reason}); check the path.") from error
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise AudioError(f"{name} is a pipe or a device; save the audio to a file first.")
    return status.st_size, descriptor


def _close(handle: Any) -> None:
    if isinstance(handle, int):
        os.close(handle)


def _sound_file(handle: Any, source: AudioSource) -> soundfile.SoundFile:
    """What libsndfile makes of a handle, which it owns from here on."""
    try:
        return soundfile.SoundFile(handle, closefd=True)
    except soundfile.LibsndfileError as error:
        name = source_name(source)
        if error.code != _UNRECOGNISED:
            raise damaged(name, error) from error
        is_path = isinstance(source, str | os.PathLike)
        output = f"{_printable(Path(source).stem)}.wav" if is_path else "out.wav"
        raise AudioError(
            f"{name} is no WAV, FLAC, MP3 or OGG file; convert it, for example: ffmpeg -i FILE {output}"
        ) from error


def _header_problem(file: soundfile.SoundFile, source: AudioSource) -> str | None:
    """What is wrong with an opened file, in words to put after its name."""
    if not MIN_SAMPLE_RATE <= file.samplerate <= MAX_SAMPLE_RATE:
        return _rate_problem(file.samplerate)
    log = file.extra_info
    for declared, present in _CUT_SHORT.findall(log):
        if int(present) < int(declared) < _UNKNOWN_LENGTH_BYTES:
            return f"is cut short: {present} of {declared} bytes of samples; {CUT_SHORT_REMEDY}"
    for present, declared in _RF64_SIZES.findall(log):
        if int(present) < int(declared):
            return f"is cut short: a file of {present} bytes for {declared} of samples; {CUT_SHORT_REMEDY}"
    if file.format == "OGG" and not _ogg_ends(source):
        return f"is cut short: its last page is missing; {CUT_SHORT_REMEDY}"
    if file.frames <= 0:
        return "holds no samples; record or export it again."
    return None


def _ogg_ends(source: AudioSource) -> bool:
    """Whether an Ogg file's last page is marked as the last (RFC 3533: bit 2 of its sixth byte)."""
    longest_page = 65307
    with _binary(source) as file:
        file.seek(max(0, file.seek(0, io.SEEK_END) - longest_page))
        tail = file.read(longest_page)
    at = tail.rfind(b"OggS")
    return at >= 0 and len(tail) > at + 5 and bool(tail[at + 5] & 4)


def _mp3_states_length(source: AudioSource) -> bool:
    """Whether the first MPEG frame is a Xing or VBRI header, which counts the frames."""
    with _binary(source) as file:
        head = file.read(10)
        if head[:3] == b"ID3":  # an ID3v2 tag comes first; its size has seven bits a byte
            file.seek(10 + sum(byte << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True)))
        head = file.read(8192)
    return any(tag in head for tag in (b"Xing", b"Info", b"VBRI"))


def _pipe(source: AudioSource) -> int:
    """A pipe with the file's content, so that libsndfile reads to its end.

    Of a file that it can seek in and that states no length, libsndfile
    estimates one from the first frame's bit rate and stops there, which can be
    after a quarter of a file of variable bit rate.
    """
    read_end, write_end = os.pipe()

    def feed() -> None:
        # The reader may stop early.
        with (
            contextlib.suppress(BrokenPipeError),
            os.fdopen(write_end, "wb") as pipe,
            _binary(source) as file,
        ):
            while block := file.read(1 << 16):
                pipe.write(block)

    threading.Thread(target=feed, daemon=True).start()
    return read_end


def _binary(source: AudioSource) -> BinaryIO:
    if isinstance(source, bytes):
        return io.BytesIO(source)
    return Path(source).open("rb") if isinstance(source, str | os.PathLike) else source.open()


class _Uncomplaining:
    """A file that ends where it is damaged, and says by -1 that it cannot go to a place.

    libsndfile reports both; exceptions cannot pass through it.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._is_lost = False

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> None:
        try:
            self._file.seek(offset, whence)
        except (OSError, ValueError):
            self._is_lost = True

    def tell(self) -> int:
        """Where it is, asked for after each seek."""
        is_lost, self._is_lost = self._is_lost, False
        return -1 if is_lost else self._file.tell()

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError:
            return b""
