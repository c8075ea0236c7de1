"""Lists of instruments as people write them: "piano, bass, drums, violin, 33".

Names are those of General MIDI, of its families, and everyday words; a word may stand for
several programs. Case, hyphens and plurals do not matter.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import re

from mt3.symbolic.general_midi import FAMILIES, FAMILY_SIZE, PROGRAM_NAMES
from mt3.symbolic.vocabularies import NUM_PROGRAMS, map_programs

_DRUMS = "drums"
_NEAREST = 3  # names that an error offers

# Everyday words -> programs (0-based), where they are no names of General MIDI. What
# sounds alike and is labelled now one way, now the other, is given together.
_ALIASES: dict[str, tuple[int, ...]] = {
    "acoustic piano": (0, 1, 3),
    "grand piano": (0, 1, 2),
    "electric piano": (4, 5),
    "rhodes": (4,),
    "clavinet": (7,),
    "keyboard": (*range(8), *range(16, 21)),
    "mallets": (11, 12, 13),
    "vibes": (11,),
    "bells": (9, 14),
    "hammond": (16, 17, 18),
    "pipe organ": (19,),
    "acoustic guitar": (24, 25),
    "nylon guitar": (24,),
    "classical guitar": (24,),
    "steel guitar": (25,),
    "electric guitar": (26, 27, 28, 29, 30, 31),
    "clean guitar": (26, 27, 28),
    "distorted guitar": (29, 30),
    "double bass": (32, 43),
    "upright bass": (32, 43),
    "electric bass": (33, 34, 35, 36, 37),
    "bass guitar": (33, 34, 35, 36, 37),
    "synth bass": (38, 39),
    "violoncello": (42,),
    "strings": (*range(40, 46), *range(48, 52)),
    "solo strings": (40, 41, 42, 43),
    "string ensemble": (48, 49, 50, 51),
    "synth strings": (50, 51),
    "harp": (46,),
    "choir": (52, 53, 54),
    "voice": (52, 53, 54),
    "vocals": (52, 53, 54),
    "singer": (52, 53, 54),
    "singing": (52, 53, 54),
    "horn": (60,),
    "synth brass": (62, 63),
    "sax": (64, 65, 66, 67),
    "saxophone": (64, 65, 66, 67),
    "soprano saxophone": (64,),
    "alto saxophone": (65,),
    "tenor saxophone": (66,),
    "baritone saxophone": (67,),
    "cor anglais": (69,),
    "woodwind": (*range(64, 72), *range(72, 76)),
    "panpipes": (75,),
    "synth": (38, 39, 50, 51, 54, 62, 63, *range(80, 104)),
    "synthesizer": (38, 39, 50, 51, 54, 62, 63, *range(80, 104)),
    "lead": tuple(range(80, 88)),
    "pad": tuple(range(88, 96)),
    "effects": tuple(range(96, 104)),
    "steel pan": (114,),
    "pitched percussion": (*range(8, 16), 47),
}
_DRUM_WORDS = (_DRUMS, "drum kit", "drum set", "percussion")


@dataclasses.dataclass(frozen=True)
class Instruments:
    """The only instruments that there are.

    Attributes:
      programs: General MIDI programs 0..127, increasing.
      drums: whether there are drums, too.

    Raises:
      ValueError: for a program out of range, programs that do not increase, or no instrument at all.
    """

    programs: tuple[int, ...]
    drums: bool

    def __post_init__(self) -> None:
        outside = [program for program in self.programs if not 0 <= program < NUM_PROGRAMS]
        if outside:
            raise ValueError(f"Program {outside[0]} is outside 0..{NUM_PROGRAMS - 1}.")
        if list(self.programs) != sorted(set(self.programs)):
            raise ValueError(f"Programs must increase, got {self.programs}.")
        if not self.programs and not self.drums:
            raise ValueError("A list of instruments must name at least one.")


def parse_instruments(text: str) -> Instruments:
    """A list of names and program numbers (0-based), separated by commas.

    Raises:
      ValueError: for an unknown name, with the nearest ones, a number outside 0..127, or an empty list.
    """
    programs: set[int] = set()
    drums = False
    words = [word.strip() for word in text.split(",") if word.strip()]
    if not words:
        raise ValueError(f"{text!r} names no instrument; give some, such as piano,bass,drums.")
    for word in words:
        named = _programs(word)
        drums |= named is None
        programs.update(named or ())
    return Instruments(tuple(sorted(programs)), drums)


def map_instruments(instruments: Instruments, granularity: str) -> Instruments:
    """The same as a model of a granularity (see `vocabularies.PROGRAM_GRANULARITIES`) names them.

    A coarse model cannot keep apart what it gives one program: `violin` allows all strings
    at "midi_class", and any pitched instrument all of them at "flat".
    """
    programs = map_programs(list(instruments.programs), granularity).tolist() if instruments.programs else []
    return Instruments(tuple(sorted(set(programs))), instruments.drums)


def _programs(word: str) -> tuple[int, ...] | None:
    """The programs that a word stands for, None for drums."""
    if re.fullmatch(r"[+-]?\d+", word):
        program = int(word)
        if not 0 <= program < NUM_PROGRAMS:
            raise ValueError(f"Program {program} is outside 0..{NUM_PROGRAMS - 1}; programs count from 0.")
        return (program,)
    table = _table()
    key = _simplified(word)
    if key not in table:
        near = difflib.get_close_matches(key, table, _NEAREST, cutoff=0.5)
        names = ", ".join(_original_names()[name] for name in near) or "piano, strings, drums"
        raise ValueError(f"No instrument is called {word!r}; try {names}, or a program's number 0..127.")
    return table[key]


@functools.cache
def _table() -> dict[str, tuple[int, ...] | None]:
    """Simplified name -> programs; where a name is several things, the most common meaning holds."""
    families = {
        name: tuple(range(index * FAMILY_SIZE, (index + 1) * FAMILY_SIZE))
        for index, name in enumerate(FAMILIES)
    }
    names: dict[str, tuple[int, ...] | None] = {name: (index,) for index, name in enumerate(PROGRAM_NAMES)}
    names |= families
    names |= _ALIASES
    names |= dict.fromkeys(_DRUM_WORDS)
    return {_simplified(name): programs for name, programs in names.items()}


@functools.cache
def _original_names() -> dict[str, str]:
    names = (*PROGRAM_NAMES, *FAMILIES, *_ALIASES, *_DRUM_WORDS)
    return {_simplified(name): name.lower() for name in names}


def _simplified(name: str) -> str:
    """Lower case words without punctuation or plural, one space between them."""
    words = re.sub(r"[^a-z0-9]+", " ", name.lower()).split()
    return " ".join(_singular(word) for word in words)


def _singular(word: str) -> str:
    if word.endswith("xes"):
        return word[:-2]
    return word[:-1] if len(word) > 3 and re.search("[^su]s$", word) else word
