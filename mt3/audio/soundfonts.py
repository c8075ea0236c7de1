"""SoundFont files: where the default one is, what a file can play, its dry copy.

Reads only the structure of SoundFont 2 files (RIFF chunks, as in the SoundFont
2.04 specification), so that a missing file, another kind of file or a missing
instrument is reported before any synthesizer is started, in the same words
whichever synthesizer is used.
"""

from __future__ import annotations

import functools
import importlib.util
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np

PERCUSSION_BANK = 128  # where SoundFont files keep drum kits
_PRESET_HEADER = struct.Struct("<20sHHHIII")  # name, program, bank, zone, library, genre, morphology
_GENERATOR_CHUNKS = (b"pgen", b"igen")
_EFFECT_SENDS = (15, 16)  # generator numbers: chorusEffectsSend, reverbEffectsSend


class SoundFontError(ValueError):
    """A SoundFont that cannot be used; the message names the file and the remedy."""


def default_soundfont() -> Path:
    """The small General MIDI SoundFont (TimGM6mb.sf2) that pretty_midi ships.

    Raises:
      SoundFontError: when pretty_midi is not installed or ships no such file.
    """
    # find_spec locates the package without running its imports.
    spec = importlib.util.find_spec("pretty_midi")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "TimGM6mb.sf2"
        if path.is_file():
            return path
    raise SoundFontError("No default SoundFont: install pretty_midi, or name a .sf2 file.")


@functools.cache
def soundfont_presets(path: Path) -> Mapping[tuple[int, int], str]:
    """What a SoundFont can play: (bank, program) -> the preset's name.

    Bank 0 holds the General MIDI instruments, bank 128 the drum kits.

    Raises:
      SoundFontError: when the file is missing or is no SoundFont.
    """
    chunks = _chunks(path)
    offset, size = chunks[b"phdr"]
    with path.open("rb") as file:
        file.seek(offset)
        table = file.read(size - size % _PRESET_HEADER.size)
    rows = list(_PRESET_HEADER.iter_unpack(table))[:-1]  # the last row only ends the list
    return {(bank, program): _text(name) for name, program, bank, *_ in rows}


def is_compressed(path: Path) -> bool:
    """Whether the samples are Ogg Vorbis (SoundFont 3), which not every synthesizer plays."""
    offset, _ = _chunks(path)[b"ifil"]
    with path.open("rb") as file:
        file.seek(offset)
        return int.from_bytes(file.read(2), "little") >= 3


def dry_soundfont_bytes(path: Path) -> bytes:
    """The file's bytes with every instrument's own reverb and chorus send set to zero.

    For a synthesizer whose effects cannot be switched off.
    """
    chunks = _chunks(path)
    content = bytearray(path.read_bytes())
    for tag in _GENERATOR_CHUNKS:
        offset, size = chunks[tag]
        generators = np.frombuffer(content, dtype="<u2", count=size // 2, offset=offset).reshape(-1, 2)
        generators[np.isin(generators[:, 0], _EFFECT_SENDS), 1] = 0
    return bytes(content)


@functools.cache
def _chunks(path: Path) -> Mapping[bytes, tuple[int, int]]:
    """Where each leaf chunk lies: tag -> (offset, size), in bytes."""
    if not path.is_file():
        raise SoundFontError(f"SoundFont {path} does not exist; name a .sf2 file.")
    found: dict[bytes, tuple[int, int]] = {}
    with path.open("rb") as file:
        riff, _, kind = struct.unpack("<4sI4s", file.read(12).ljust(12, b"\0"))
        if (riff, kind) != (b"RIFF", b"sfbk"):
            raise SoundFontError(f"{path} is not a SoundFont; name a SoundFont 2 file (.sf2).")
        while len(header := file.read(8)) == 8:
            tag, size = struct.unpack("<4sI", header)
            if tag == b"LIST":
                file.seek(4, 1)  # step into the list, over its own kind
                continue
            found[tag] = (file.tell(), size)
            file.seek(size + size % 2, 1)  # chunks start at even offsets
        length = file.seek(0, 2)
    missing = [tag.decode() for tag in (b"ifil", b"phdr", *_GENERATOR_CHUNKS) if tag not in found]
    if missing or any(offset + size > length for offset, size in found.values()):
        raise SoundFontError(f"SoundFont {path} is cut short or damaged; fetch it again.")
    return found


def _text(name: bytes) -> str:
    return name.split(b"\0")[0].decode("latin-1").strip()
