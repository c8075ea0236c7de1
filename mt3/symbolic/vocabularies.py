"""What the tokens of a model are: MT3's events, special ids and their sizes.

Target ids ("vocabulary ids") are event ids moved up by the special ids: 0 pads,
1 ends a target, 2 is never produced. Ids of the extra (sentinel) tokens that T5
vocabularies carry follow the events; they only matter for the embedding's size.
"""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import numpy.typing as npt

from mt3.symbolic.event_codec import Codec, EventRange

PAD_ID = 0
EOS_ID = 1
UNK_ID = 2
NUM_SPECIAL_IDS = 3
NUM_EXTRA_IDS = 100

NUM_PITCHES = 128
NUM_PROGRAMS = 128
MAX_VELOCITY = 127
# Stands for a velocity that is unknown.
DEFAULT_VELOCITY = 100

# Embedding tables are padded to whole tiles of an accelerator's matrix unit.
_EMBEDDING_TILE = 128


@dataclasses.dataclass(frozen=True, eq=False)
class ProgramGranularity:
    """How finely a model tells instruments apart.

    Attributes:
      program_map: int32 [128], the program that stands for each General MIDI program.
      has_program_events: whether programs appear among the tokens at all.
    """

    program_map: np.ndarray
    has_program_events: bool

    def __post_init__(self) -> None:
        self.program_map.flags.writeable = False


PROGRAM_GRANULARITIES: dict[str, ProgramGranularity] = {
    # One instrument; drums stay apart, by their own events.
    "flat": ProgramGranularity(np.zeros(NUM_PROGRAMS, np.int32), has_program_events=False),
    # The first program of each of the 16 General MIDI families of 8.
    "midi_class": ProgramGranularity(
        np.arange(NUM_PROGRAMS, dtype=np.int32) // 8 * 8, has_program_events=True
    ),
    "full": ProgramGranularity(np.arange(NUM_PROGRAMS, dtype=np.int32), has_program_events=True),
}


@dataclasses.dataclass(frozen=True)
class VocabularyConfig:
    """Settings of a vocabulary.

    Attributes:
      num_velocity_bins: levels of loudness, 1 (onset or not) to 127 (all of MIDI's).
      steps_per_second: resolution of time.
      max_shift_seconds: the longest time shift that one event expresses.
      program_granularity: a key of `PROGRAM_GRANULARITIES`.

    Raises:
      ValueError: for a setting out of range.
    """

    num_velocity_bins: int = 127
    steps_per_second: int = 100
    max_shift_seconds: int = 10
    program_granularity: str = "flat"

    def __post_init__(self) -> None:
        if not 1 <= self.num_velocity_bins <= MAX_VELOCITY:
            raise ValueError(f"num_velocity_bins is {self.num_velocity_bins}; choose 1..{MAX_VELOCITY}.")
        for name in ("steps_per_second", "max_shift_seconds"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be at least 1.")
        if self.program_granularity not in PROGRAM_GRANULARITIES:
            raise ValueError(
                f"program_granularity is {self.program_granularity!r}; "
                f"choose one of {', '.join(PROGRAM_GRANULARITIES)}."
            )

    @property
    def max_shift_steps(self) -> int:
        """The largest value of a shift event."""
        return self.steps_per_second * self.max_shift_seconds

    @property
    def granularity(self) -> ProgramGranularity:
        """The entry of `PROGRAM_GRANULARITIES` that `program_granularity` names."""
        return PROGRAM_GRANULARITIES[self.program_granularity]


@functools.cache
def build_codec(config: VocabularyConfig) -> Codec:
    """The events of a vocabulary, numbered as MT3's published checkpoints number them."""
    return Codec(
        (
            EventRange("shift", 0, config.max_shift_steps),
            EventRange("pitch", 0, NUM_PITCHES - 1),
            # Bin 0 ends a note.
            EventRange("velocity", 0, config.num_velocity_bins),
            # Ends the list of the notes that sound on from the segment before.
            EventRange("tie", 0, 0),
            EventRange("program", 0, NUM_PROGRAMS - 1),
            EventRange("drum", 0, NUM_PITCHES - 1),
        )
    )


def vocabulary_size(config: VocabularyConfig) -> int:
    """Number of ids in use: special, events, extra."""
    return NUM_SPECIAL_IDS + build_codec(config).num_classes + NUM_EXTRA_IDS


def num_embeddings(config: VocabularyConfig) -> int:
    """Rows of a model's embedding table: the vocabulary, rounded up to a multiple of 128."""
    return -(-vocabulary_size(config) // _EMBEDDING_TILE) * _EMBEDDING_TILE


def velocity_to_bin(velocity: npt.ArrayLike, num_velocity_bins: int) -> np.ndarray:
    """Bins 1..num_velocity_bins of MIDI velocities 1..127; 0 stays 0."""
    return -(-num_velocity_bins * np.asarray(velocity) // MAX_VELOCITY)


def bin_to_velocity(velocity_bin: npt.ArrayLike, num_velocity_bins: int) -> np.ndarray:
    """The loudest MIDI velocity of each bin; 0 stays 0."""
    return MAX_VELOCITY * np.asarray(velocity_bin) // num_velocity_bins


def map_programs(program: npt.ArrayLike, granularity: str) -> np.ndarray:
    """The programs that stand for `program` at a granularity, int32.

    Raises:
      ValueError: for an unknown granularity or a program outside 0..127.
    """
    if granularity not in PROGRAM_GRANULARITIES:
        raise ValueError(f"Granularity {granularity!r} is none of {', '.join(PROGRAM_GRANULARITIES)}.")
    program = np.asarray(program)
    outside = (program < 0) | (program >= NUM_PROGRAMS)
    if outside.any():
        raise ValueError(f"Program {program[outside].flat[0]} is outside 0..{NUM_PROGRAMS - 1}.")
    return PROGRAM_GRANULARITIES[granularity].program_map[program]
