"""SoundFont files: where the default one is, what a file can play, its dry copy.

Reads only the structure of SoundFont 2 files (RIFF chunks, as in the SoundFont
2.04 specification), so that a missing file, another kind of file or a missing
instrument is reported before any synthesizer is started, in the same words
whichever synthesizer is used.
"""

from __future__ import annotations

import functools
import importlib.util
import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np

PERCUSSION_BANK = 128  # where SoundFont files keep drum kits
_PRESET_HEADER = struct.Struct("<20sHHHIII")  # name, program, bank, zone, library, genre, morphology
_RECORD_BYTES = {b"phdr": 38, b"pbag": 4, b"pgen": 4, b"inst": 22, b"ibag": 4, b"igen": 4}
_GENERATOR_CHUNKS = (b"pgen", b"igen")
_KEY_RANGE, _VELOCITY_RANGE, _INSTRUMENT, _SAMPLE = 43, 44, 41, 53  # generator numbers
_EFFECT_SENDS = (15, 16)  # generator numbers: chorusEffectsSend, reverbEffectsSend

# Programs of the default SoundFont that do not sound at the written pitch, with both synthesizers, so that
# the written pitch is no label for them: program -> (semitones from written to sounding pitch, what it is).
DEFAULT_SOUNDFONT_OFF_PITCH = {
    31: (24, "guitar harmonics sound two octaves above"),
    55: (-24, "the orchestra hit is a chord of octaves, its lowest two below"),
    78: (-9, "the whistle's sample is mistuned"),
    86: (-5, "lead 7 (fifths) is a chord with the fourth below"),
}


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
    rows = _PRESET_HEADER.iter_unpack(_records(path)[b"phdr"][:-1].tobytes())
    return {(bank, program): _text(name) for name, program, bank, *_ in rows}


@functools.cache
def soundfont_coverage(path: Path) -> Mapping[tuple[int, int], np.ndarray]:
    """Which notes a SoundFont has a sample for: (bank, program) -> bool [128 keys, 128 velocities].

    Elsewhere a preset is silent: TimGM6mb's alto saxophone has no key 64.
    """
    records = _records(path)
    instrument_starts = records[b"inst"][:, 20:22].view("<u2")[:, 0]
    instruments = [
        _union(_zones(records[b"ibag"], records[b"igen"], first, end, _SAMPLE))
        for first, end in itertools.pairwise(instrument_starts.tolist())
    ]
    coverage = {}
    header = records[b"phdr"]
    zone_starts = header[:, 24:26].view("<u2")[:, 0].tolist()
    for (bank, program), (first, end) in zip(
        soundfont_presets(path), itertools.pairwise(zone_starts), strict=True
    ):
        zones = _zones(records[b"pbag"], records[b"pgen"], first, end, _INSTRUMENT)
        coverage[bank, program] = _union((number, area & instruments[number]) for number, area in zones)
    return coverage


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
    missing = {b"ifil", *_RECORD_BYTES} - found.keys()
    if missing or any(offset + size > length for offset, size in found.values()):
        raise SoundFontError(f"SoundFont {path} is cut short or damaged; fetch it again.")
    return found


@functools.cache
def _records(path: Path) -> Mapping[bytes, np.ndarray]:
    """The tables of presets, instruments, zones and generators: uint8 [records, bytes of one]."""
    chunks = _chunks(path)
    tables = {}
    with path.open("rb") as file:
        for tag, width in _RECORD_BYTES.items():
            offset, size = chunks[tag]
            file.seek(offset)
            tables[tag] = np.frombuffer(file.read(size - size % width), np.uint8).reshape(-1, width)
    return tables


def _zones(
    bags: np.ndarray, generators: np.ndarray, first: int, end: int, target: int
) -> Iterator[tuple[int, np.ndarray]]:
    """The zones first..end-1 that lead somewhere: (instrument or sample, bool [128, 128] area).

    A first zone without a target is global: its ranges hold for zones that give none.
    """
    starts = bags[first : end + 1, :2].copy().view("<u2")[:, 0].tolist()
    defaults = {_KEY_RANGE: (0, 127), _VELOCITY_RANGE: (0, 127)}
    for index, (low, high) in enumerate(itertools.pairwise(starts)):
        rows = generators[low:high]
        numbers = rows[:, :2].copy().view("<u2")[:, 0].tolist()
        amounts = {number: (int(row[2]), int(row[3])) for number, row in zip(numbers, rows, strict=True)}
        ranges = defaults | {number: amounts[number] for number in defaults if number in amounts}
        if target not in amounts:
            if index == 0:
                defaults = ranges
            continue
        area = np.zeros((128, 128), bool)
        (key, last_key), (velocity, last_velocity) = ranges[_KEY_RANGE], ranges[_VELOCITY_RANGE]
        area[key : last_key + 1, velocity : last_velocity + 1] = True
        yield amounts[target][0] + 256 * amounts[target][1], area


def _union(zones: Iterable[tuple[int, np.ndarray]]) -> np.ndarray:
    """bool [128, 128]: what any of the zones covers."""
    total = np.zeros((128, 128), bool)
    for _, area in zones:
        total |= area
    return total


def _text(name: bytes) -> str:
    return name.split(b"\0")[0].decode("latin-1").strip()
