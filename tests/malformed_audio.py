"""Inputs that are no good recordings: more than 200 files, the same at every call.

A file's name says what may come of it: `NNN-refused-...` must be refused, `NNN-read-...` is odd but
must be read, `NNN-either-...` may be either (damage that can miss what matters). All are small. Most
come from a quarter of a second of a 440 Hz sine in every container that is read.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

SAMPLE_RATE = 16000
NUM_SAMPLES = 4000
_FUZZED_HEADERS = 8
_HEADER_BYTES = 64
# Where files are cut: bytes kept, and shares of the whole.
_KEPT_BYTES = (1, 4, 12, 20, 43, 44, 45, 100)
_KEPT_SHARES = (0.25, 0.5, 0.9)

# What the name says after the number, suffix, content.
_Case = tuple[str, str, bytes]


def write_malformed(directory: Path) -> list[Path]:
    """Writes all of them into a new folder; files in order of their numbers, then what is no file."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, (what, suffix, content) in enumerate(_cases()):
        path = directory / f"{number:03d}-{what}.{suffix}"
        path.write_bytes(content)
        paths.append(path)
    return [*paths, *_no_ordinary_files(directory, len(paths))]


def wav(
    samples: bytes,
    *,
    encoding: int = 1,
    channels: int = 1,
    sample_rate: int = SAMPLE_RATE,
    bits: int = 16,
    magic: bytes = b"RIFF",
    declared_bytes: int | None = None,
    before: bytes = b"",
    after: bytes = b"",
) -> bytes:
    """A WAV file put together by hand; `declared_bytes` is what its header says of the samples' size."""
    frame_bytes = channels * bits // 8
    layout = (
        encoding,
        channels,
        sample_rate,
        sample_rate * frame_bytes & 0xFFFFFFFF,
        frame_bytes & 0xFFFF,
        bits,
    )
    declared = len(samples) if declared_bytes is None else declared_bytes
    body = b"WAVE" + before + b"fmt " + struct.pack("<IHHIIHH", 16, *layout)
    body += b"data" + struct.pack("<I", declared) + samples + after
    riff_bytes = len(body) if declared_bytes is None else min(declared + 36, 0xFFFFFFFF)
    return magic + struct.pack("<I", riff_bytes) + body


def _cases() -> Iterator[_Case]:
    containers = _containers()
    for suffix, content in containers.items():
        yield from _fuzzed(suffix, content)
        yield from _cut_short(suffix, content)
    yield from _no_audio(containers)
    yield from _odd_wav_headers()
    yield from _odd_wav_samples()
    yield from _odd_chunks()
    yield from _odd_compressed(containers)


def _sine(num_samples: int = NUM_SAMPLES) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * 440 * np.arange(num_samples) / SAMPLE_RATE)


def _pcm(num_samples: int = NUM_SAMPLES, channels: int = 1) -> bytes:
    samples = np.rint(_sine(num_samples) * 32767).astype("<i2")
    return np.repeat(samples, channels).tobytes()


def _floats(**changed: float) -> bytes:
    samples = _sine().astype("<f4")
    for value in changed.values():
        samples[NUM_SAMPLES // 2] = value
    return samples.tobytes()


def _containers() -> dict[str, bytes]:
    """Suffix -> a good file."""

    def encoded(container: str, subtype: str | None = None) -> bytes:
        file = io.BytesIO()
        soundfile.write(file, _sine(), SAMPLE_RATE, format=container, subtype=subtype)
        return file.getvalue()

    return {
        "wav": wav(_pcm()),
        "flac": encoded("FLAC"),
        "mp3": encoded("MP3"),
        "aiff": encoded("AIFF", "PCM_16"),
        "ogg": _with_serial(encoded("OGG", "VORBIS"), 1),
        "opus": _with_serial(encoded("OGG", "OPUS"), 1),
    }


def _with_serial(content: bytes, serial: int) -> bytes:
    """An Ogg file whose stream has this serial number, which encoders draw by chance (RFC 3533)."""
    pages = b""
    while content:
        num_lacing = content[26]
        length = 27 + num_lacing + sum(content[27 : 27 + num_lacing])
        page = content[:14] + struct.pack("<I", serial) + content[18:22] + bytes(4) + content[26:length]
        pages += page[:22] + struct.pack("<I", _ogg_checksum(page)) + page[26:]
        content = content[length:]
    return pages


def _ogg_checksum(page: bytes) -> int:
    """CRC-32 of polynomial 0x04c11db7, neither reflected nor inverted."""
    register = 0
    for byte in page:
        register ^= byte << 24
        for _ in range(8):
            register = (register << 1) ^ (0x04C11DB7 if register & 0x80000000 else 0)
        register &= 0xFFFFFFFF
    return register


def _fuzzed(suffix: str, content: bytes) -> Iterator[_Case]:
    """Some bytes of the header replaced by others; half of the files keep the container's mark."""
    for seed in range(_FUZZED_HEADERS):
        random = np.random.default_rng([seed, zlib.crc32(suffix.encode())])
        first = 4 if seed % 2 else 0
        damaged = bytearray(content)
        for at in random.integers(first, _HEADER_BYTES, size=2 + 3 * seed):
            damaged[at] = random.integers(256)
        yield f"either-fuzzed-header-{seed}", suffix, bytes(damaged)


def _cut_short(suffix: str, content: bytes) -> Iterator[_Case]:
    for kept in (*_KEPT_BYTES, *(round(share * len(content)) for share in _KEPT_SHARES), len(content) - 1):
        # Of MP3 and AIFF files, what is missing at the end may be padding.
        verdict = "either" if kept == len(content) - 1 and suffix in ("mp3", "aiff") else "refused"
        yield f"{verdict}-cut-after-{kept}-bytes", suffix, content[:kept]


def _no_audio(containers: dict[str, bytes]) -> Iterator[_Case]:
    random = np.random.default_rng(0).bytes(5000)
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + b"IHDR" + random[:2000]
    pages = {
        "empty": b"",
        "one-byte": b"R",
        "newline": b"\n",
        "text": b"These are words, not music.\n" * 40,
        "html": b"<!doctype html><html><title>404 Not Found</title></html>",
        "png": png,
        "jpeg": b"\xff\xd8\xff\xe0\0\x10JFIF\0" + random[:2000],
        "zip": b"PK\x03\x04" + random[:2000],
        "midi": b"MThd\0\0\0\x06\0\0\0\x01\x01\xe0MTrk\0\0\0\x04\0\xff\x2f\0",
        "mp4": b"\0\0\0\x18ftypmp42\0\0\0\0isommp42" + random[:2000],
        "webm": b"\x1a\x45\xdf\xa3" + random[:2000],
        "zeros": bytes(5000),
        "ones": b"\xff" * 5000,
        "random": random,
        "git-lfs-pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 4000\n",
    }
    for what, content in pages.items():
        yield f"refused-{what}", "wav", content
    for suffix in ("flac", "mp3", "ogg", "aiff", "raw", "vox", "gsm", "au"):
        yield "refused-text", suffix, pages["text"]
        yield "refused-zeros", suffix, pages["zeros"]
    for suffix, content in containers.items():
        yield f"read-{suffix}-under-another-name", "flac" if suffix == "wav" else "wav", content
    yield "read-wav-named-raw", "raw", containers["wav"]
    # Names are shown, too.
    yield "refused-<b onclick=alert(1)>&amp;'quotes\"", "wav", pages["text"]
    yield "refused-line\nbreak\x1b[31m", "wav", pages["text"]
    yield "refused-" + "long" * 50, "wav", pages["text"]


def _odd_wav_headers() -> Iterator[_Case]:
    pcm = _pcm()
    for rate in (0, 1, 7, 999, 20_000_000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF):
        yield f"refused-{rate}-hz", "wav", wav(pcm, sample_rate=rate)
    for rate in (1000, 4001, 44100, 768_000, 1_000_000, 10_000_000):
        yield f"read-{rate}-hz", "wav", wav(pcm * (1 if rate < 10**6 else 4), sample_rate=rate)
    for channels in (0, 1025, 65535):
        yield f"refused-{channels}-channels", "wav", wav(pcm, channels=channels)
    for channels in (2, 64, 255):
        yield f"read-{channels}-channels", "wav", wav(_pcm(600, channels), channels=channels)
    for bits in (0, 1, 7, 20, 48, 65535):
        yield f"either-{bits}-bits", "wav", wav(pcm, bits=bits)
    for encoding in (0, 2, 6, 17, 0x55, 0xFFFE, 0xFFFF):
        yield f"either-encoding-{encoding}", "wav", wav(pcm, encoding=encoding)
    for declared in (8001, 1 << 20, 1 << 30, 0x7FFEFFFF):
        yield f"refused-{declared}-bytes-declared", "wav", wav(pcm, declared_bytes=declared)
    for declared in (0x7FFFF000, 0xFFFFFFFF):  # as programs write that do not know the length yet
        yield f"read-{declared}-bytes-declared", "wav", wav(pcm, declared_bytes=declared)
    yield "either-0-bytes-declared", "wav", wav(pcm, declared_bytes=0)
    yield "either-7-bytes-declared", "wav", wav(pcm, declared_bytes=7)


def _odd_wav_samples() -> Iterator[_Case]:
    for value in (np.nan, np.inf, -np.inf):
        yield f"refused-{value}", "wav", wav(_floats(bad=value), encoding=3, bits=32)
    yield "refused-all-nan", "wav", wav(b"\xff" * 16000, encoding=3, bits=32)
    yield "refused-nan-in-64-bits", "wav", wav(np.full(500, np.nan, "<f8").tobytes(), encoding=3, bits=64)
    yield "read-denormal", "wav", wav(np.full(4000, 1e-42, "<f4").tobytes(), encoding=3, bits=32)
    yield "read-silence", "wav", wav(bytes(8000))
    yield "either-enormous", "wav", wav(np.full(4000, 3e38, "<f4").tobytes(), encoding=3, bits=32)
    yield "either-beyond-float32", "wav", wav(np.full(500, 1e300, "<f8").tobytes(), encoding=3, bits=64)
    yield "read-full-scale-square", "wav", wav(b"\x00\x80\xff\x7f" * 2000)
    yield "read-10-ms", "wav", wav(_pcm(160))
    yield "read-one-sample", "wav", wav(_pcm(1))
    yield "read-two-samples", "wav", wav(_pcm(2))
    yield "refused-no-samples", "wav", wav(b"")
    yield "refused-less-than-a-sample-at-16-khz", "wav", wav(_pcm(2), sample_rate=192_000)
    yield "either-half-a-sample", "wav", wav(b"\0")
    yield "either-odd-number-of-bytes", "wav", wav(_pcm() + b"\0")


def _odd_chunks() -> Iterator[_Case]:
    pcm = _pcm()
    good = wav(pcm)
    yield "read-junk-after-the-samples", "wav", wav(pcm, after=b"JUNK" + struct.pack("<I", 100) + bytes(100))
    yield "either-nested-file-after-the-samples", "wav", wav(pcm, after=good)
    yield "either-junk-of-absurd-size", "wav", wav(pcm, after=b"JUNK\xff\xff\xff\xff")
    yield "either-random-after-the-file", "wav", good + np.random.default_rng(1).bytes(3000)
    yield "read-list-before-the-samples", "wav", wav(pcm, before=b"LIST" + struct.pack("<I", 4) + b"INFO")
    for name in (b"LIST", b"bext", b"cue ", b"smpl", b"PEAK", b"fact", b"id3 ", b"cart", b"\0\0\0\0"):
        what = name.decode().strip(" \0").lower() or "unnamed"
        for size in (0x7FFFFFFF, 0xFFFFFFFF):
            chunk = name + struct.pack("<I", size) + bytes(16)
            yield f"either-{what}-of-{size}-bytes", "wav", wav(pcm, before=chunk)
    deep = b""
    for _ in range(200):
        deep = b"LIST" + struct.pack("<I", len(deep) + 4) + b"adtl" + deep
    yield "either-nested-lists", "wav", wav(pcm, before=deep)
    yield "either-no-format", "wav", b"RIFF" + struct.pack("<I", 4 + 8 + len(pcm)) + b"WAVEdata" + good[40:]
    yield "either-two-formats", "wav", good[:36] + good[12:36] + good[36:]
    yield "either-samples-before-the-format", "wav", good[:12] + good[36:] + good[12:36]
    for verdict, declared in (("read", len(pcm)), ("refused", 1 << 40), ("either", 2**63)):
        sizes = struct.pack("<IQQQI", 28, len(good), declared, len(pcm) // 2, 0)
        content = wav(pcm, magic=b"RF64", declared_bytes=0xFFFFFFFF, before=b"ds64" + sizes)
        yield f"{verdict}-rf64-of-{declared}-bytes", "wav", content
    yield "refused-rf64-without-sizes", "wav", wav(pcm, magic=b"RF64", declared_bytes=0xFFFFFFFF)
    yield "either-big-endian-mark", "wav", b"RIFX" + good[4:]


def _odd_compressed(containers: dict[str, bytes]) -> Iterator[_Case]:
    random = np.random.default_rng(2).bytes(2000)
    flac, mp3, ogg = containers["flac"], containers["mp3"], containers["ogg"]
    # STREAMINFO starts at byte 8: its bytes 13 to 17 count the samples, in 36 bits (RFC 9639).
    many = bytearray(flac)
    many[21] |= 0x0F
    many[22:26] = b"\xff\xff\xff\xff"
    yield "refused-68-thousand-million-samples-declared", "flac", bytes(many)
    yield (
        "either-unknown-number-of-samples",
        "flac",
        flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:],
    )
    yield "either-metadata-of-absurd-size", "flac", flac[:42] + b"\x04\xff\xff\xff" + flac[46:]
    yield "refused-header-alone", "flac", flac[:42]
    for size in (0, 1 << 10, (1 << 28) - 1):
        sizes = bytes(size >> shift & 0x7F for shift in (21, 14, 7, 0))
        yield f"either-id3-tag-of-{size}-bytes", "mp3", b"ID3\x03\0\0" + sizes + mp3
        yield f"either-id3-tag-of-{size}-bytes", "wav", b"ID3\x03\0\0" + sizes + containers["wav"]
        yield f"either-id3-tag-of-{size}-bytes", "flac", b"ID3\x03\0\0" + sizes + flac
    yield "either-id3-tag-with-high-bits", "mp3", b"ID3\x04\0\0\xff\xff\xff\xff" + mp3
    yield "refused-id3-tag-alone", "mp3", b"ID3\x03\0\0\0\0\x07\x76" + bytes(1014)
    yield "either-random-before", "mp3", random + mp3
    yield "either-frames-without-length", "mp3", mp3[mp3.index(mp3[:2], 100) :]
    yield "either-frame-headers-alone", "mp3", mp3[:4] * 500
    yield "either-random-in-the-middle", "mp3", mp3[: len(mp3) // 2] + random + mp3[len(mp3) // 2 :]
    for suffix in ("flac", "ogg", "opus"):
        content = containers[suffix]
        middle = len(content) // 2
        damaged = content[:middle] + random[:50] + content[middle + 50 :]
        yield "either-damaged-in-the-middle", suffix, damaged
        yield "either-twice", suffix, content * 2
    yield "refused-first-page-alone", "ogg", ogg[:58]
    yield "refused-pages-without-samples", "ogg", _with_serial(ogg, 2)[:58] + ogg[58:200]
    yield "either-another-serial-halfway", "ogg", ogg[:58] + _with_serial(ogg, 2)[58:]


def _no_ordinary_files(directory: Path, first_number: int) -> Iterator[Path]:
    """A folder, links that lead nowhere, a file that may not be read, and one that is not there."""
    names = iter(f"{number:03d}-refused" for number in range(first_number, first_number + 9))
    folder = directory / f"{next(names)}-folder.wav"
    folder.mkdir()
    yield folder
    dangling = directory / f"{next(names)}-dangling-link.wav"
    dangling.symlink_to("nothing")
    yield dangling
    loop = directory / f"{next(names)}-link-to-itself.wav"
    loop.symlink_to(loop.name)
    yield loop
    forbidden = directory / f"{next(names)}-forbidden.wav"
    forbidden.write_bytes(b"not for you")  # for a superuser, who may read it, no audio either
    forbidden.chmod(0)
    yield forbidden
    yield directory / f"{next(names)}-missing.wav"
