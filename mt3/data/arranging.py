"""A piece of music becomes a performance: new key, tempo, instruments, dynamics, timing.

Every choice is drawn from the generator that is handed in, within the bounds of
an `ArrangementConfig`. It promises notes that can be played as they are: within
MIDI's ranges, at most one note sounding per instrument and pitch, none shorter
than a synthesizer plays, so that the labels of what is rendered from them are
exact.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from mt3.audio.soundfonts import DEFAULT_SOUNDFONT_OFF_PITCH
from mt3.data.pieces import Piece
from mt3.symbolic.general_midi import FAMILY_SIZE
from mt3.symbolic.note_cleaning import trim_overlaps
from mt3.symbolic.notes import Notes

INSTRUMENTATIONS = ("written", "family", "random")

# Programs that play tunes: all but timpani (47), orchestra hit (55), synthesizer
# effects (96-103), percussion-like ones (112-119), sound effects (120-127), and
# those whose written pitch would be a wrong label with the default SoundFont.
MELODIC_PROGRAMS: tuple[int, ...] = tuple(
    program
    for program in (*range(96), *range(104, 112))
    if program not in (47, 55) and program not in DEFAULT_SOUNDFONT_OFF_PITCH
)

# First and last program, lowest and highest sounding pitch: the usual ranges of the instruments.
_RANGE_TABLE = (
    *((0, 5, 21, 108), (6, 6, 29, 89), (7, 7, 36, 96)),
    *((8, 8, 60, 108), (9, 9, 72, 108), (10, 10, 60, 96), (11, 11, 53, 89)),
    *((12, 12, 45, 96), (13, 13, 65, 108), (14, 14, 60, 77), (15, 15, 48, 86)),
    *((16, 20, 36, 96), (21, 21, 41, 96), (22, 22, 48, 89), (23, 23, 41, 96)),
    *((24, 31, 40, 86), (32, 39, 28, 62)),
    *((40, 40, 55, 100), (41, 41, 48, 88), (42, 42, 36, 81), (43, 43, 28, 62)),
    *((44, 45, 28, 96), (46, 46, 24, 103), (47, 47, 36, 57)),
    *((48, 51, 28, 96), (52, 54, 40, 84), (55, 55, 48, 72)),
    *((56, 56, 54, 86), (57, 57, 40, 72), (58, 58, 28, 60), (59, 59, 54, 86)),
    *((60, 60, 35, 77), (61, 63, 36, 88)),
    *((64, 64, 56, 87), (65, 65, 49, 81), (66, 66, 44, 76), (67, 67, 37, 69)),
    *((68, 68, 58, 91), (69, 69, 52, 81), (70, 70, 34, 75), (71, 71, 50, 91)),
    *((72, 72, 74, 108), (73, 76, 60, 96), (77, 77, 55, 84), (78, 78, 60, 96), (79, 79, 60, 84)),
    *((80, 103, 36, 96),),
    *((104, 104, 48, 77), (105, 105, 48, 84), (106, 106, 50, 79), (107, 107, 55, 84)),
    *((108, 108, 48, 79), (109, 109, 48, 77), (110, 110, 55, 96), (111, 111, 48, 72)),
    *((112, 127, 21, 108),),
)
PROGRAM_RANGES: dict[int, tuple[int, int]] = {
    program: (low, high) for first, last, low, high in _RANGE_TABLE for program in range(first, last + 1)
}

# Shorter notes of one key, or closer strokes of it, a synthesizer does not play.
_SHORTEST_NOTE_SECONDS = 0.01
# Share of a part's notes that may lie outside an instrument's range.
_OUT_OF_RANGE_SHARE = 0.05


@dataclasses.dataclass(frozen=True)
class ArrangementConfig:
    """Bounds of the choices; pairs are (lowest, highest).

    Attributes:
      instrumentation: "written" keeps the programs, "family" draws one from each
        program's General MIDI family, "random" draws from `programs` one that
        can play the part (where none can, the part is moved by octaves).
      programs: to choose from; empty for all melodic ones. With one entry,
        such as (0,), and "random", everything is played on that program.
      one_program: one program for all pitched parts of a recording.
      keep_drums: whether drum parts are played.
      max_parts: most parts; others are left out at random. 0 for all.
      drop_part_probability: of leaving out a part, all but the last one left.
      octave_probability: of moving a part by an octave, up or down.
      double_probability: of doubling a part by a second program (not for "written").
      max_polyphony: most pitched notes sounding at once; inner notes are left
        out first. 0 for no bound.
      pitch_range: of what is played; parts are moved by octaves to lie in it
        and notes that do not are left out.
      transpose_semitones: one draw for all pitched parts.
      tempo_factors: 2.0 is twice as fast; one draw.
      max_seconds: longest recording; longer music is cut to a random excerpt.
      velocities: of a part's loudness, one draw a part.
      velocity_spread: standard deviation from note to note.
      swell_velocity: height of slow swells.
      onset_jitter_seconds: standard deviation of onsets.
      articulation: factor of note lengths, one draw a part.

    Raises:
      ValueError: for values out of range.
    """

    instrumentation: str = "family"
    programs: tuple[int, ...] = ()
    one_program: bool = False
    keep_drums: bool = True
    max_parts: int = 0
    drop_part_probability: float = 0.0
    octave_probability: float = 0.0
    double_probability: float = 0.0
    max_polyphony: int = 0
    pitch_range: tuple[int, int] = (21, 108)
    transpose_semitones: tuple[int, int] = (-3, 3)
    tempo_factors: tuple[float, float] = (0.85, 1.15)
    max_seconds: float = 60.0
    velocities: tuple[int, int] = (50, 110)
    velocity_spread: float = 8.0
    swell_velocity: float = 8.0
    onset_jitter_seconds: float = 0.008
    articulation: tuple[float, float] = (0.85, 1.0)

    def __post_init__(self) -> None:
        if self.instrumentation not in INSTRUMENTATIONS:
            choices = ", ".join(INSTRUMENTATIONS)
            raise ValueError(f"instrumentation is {self.instrumentation!r}; choose one of {choices}.")
        for name in ("pitch_range", "transpose_semitones", "tempo_factors", "velocities", "articulation"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name} is ({low}, {high}); the lowest comes first.")
        for program in self.programs:
            if not 0 <= program <= 127:
                raise ValueError(f"programs holds {program}; General MIDI programs are 0..127.")
        if not (self.tempo_factors[0] > 0 and self.articulation[0] > 0 and self.max_seconds > 0):
            raise ValueError("tempo_factors, articulation and max_seconds must be above 0.")
        if not (self.velocities[0] >= 1 and self.velocities[1] <= 127):
            raise ValueError(f"velocities is {self.velocities}; they must lie in 1..127.")


def arrange(piece: Piece, config: ArrangementConfig, rng: np.random.Generator) -> Notes:
    """A performance of the piece, or of an excerpt, from time 0.

    Returns:
      Sorted notes that can be played as they are; none where the piece has none
      that the bounds allow.
    """
    tempo = rng.uniform(*config.tempo_factors)
    piece = _excerpt(_at_tempo(piece, tempo), config.max_seconds, rng)
    piece = _choose_parts(piece, config, rng)
    piece = _transpose(piece, config, rng)
    piece = _instrument(piece, config, rng)
    piece = _fold(piece, config.pitch_range)
    notes = _perform(piece, config, rng)
    return limit_polyphony(playable(notes), config.max_polyphony)


def playable(notes: Notes) -> Notes:
    """Sorted notes, at most one sounding per instrument and pitch, none too short to be played."""
    least = notes.onset_seconds + _SHORTEST_NOTE_SECONDS
    notes = notes.replace(offset_seconds=np.maximum(notes.offset_seconds, least))
    notes = trim_overlaps(notes.sorted())
    return notes[notes.duration_seconds >= _SHORTEST_NOTE_SECONDS * (1 - 1e-6)].sorted()


def limit_polyphony(notes: Notes, max_polyphony: int) -> Notes:
    """Leaves out pitched notes that would sound beside `max_polyphony` others (0: no bound).

    Of notes that start together the highest stays first, then the lowest.
    """
    if max_polyphony < 1:
        return notes
    pitched = np.flatnonzero(~notes.is_drum)
    order = pitched[np.argsort(notes.onset_seconds[pitched], kind="stable")]
    starts = np.diff(notes.onset_seconds[order], prepend=-np.inf) >= _SHORTEST_NOTE_SECONDS
    kept = notes.is_drum.copy()
    sounding: list[float] = []  # ends
    for together in np.split(order, np.flatnonzero(starts)[1:]):
        by_pitch = together[np.argsort(-notes.pitch[together], kind="stable")].tolist()
        for index in (*by_pitch[:1], *reversed(by_pitch[1:])):
            sounding = [end for end in sounding if end > notes.onset_seconds[index]]
            if len(sounding) < max_polyphony:
                kept[index] = True
                sounding.append(float(notes.offset_seconds[index]))
    return notes[kept]


def _at_tempo(piece: Piece, factor: float) -> Piece:
    notes = piece.notes
    faster = notes.replace(
        onset_seconds=notes.onset_seconds / factor, offset_seconds=notes.offset_seconds / factor
    )
    return dataclasses.replace(piece, notes=faster)


def _excerpt(piece: Piece, max_seconds: float, rng: np.random.Generator) -> Piece:
    """Starts at a random onset, at time 0, and is no longer than `max_seconds`; shorter music stays whole."""
    notes = piece.notes
    if not len(notes):
        return piece
    first = notes.onset_seconds.min()
    latest_start = notes.end_seconds - max_seconds
    starts = np.unique(notes.onset_seconds[notes.onset_seconds <= max(first, latest_start)])
    start = float(rng.choice(starts))
    kept = (notes.onset_seconds >= start) & (notes.onset_seconds < start + max_seconds)
    piece = piece[kept]
    return dataclasses.replace(piece, notes=piece.notes.shift(-start).crop(0.0, max_seconds))


def _choose_parts(piece: Piece, config: ArrangementConfig, rng: np.random.Generator) -> Piece:
    if not config.keep_drums:
        piece = piece[~piece.notes.is_drum]
    parts = rng.permutation(np.unique(piece.part))
    stays = rng.random(len(parts)) >= config.drop_part_probability
    stays[:1] = True
    parts = parts[stays][: config.max_parts or None]
    return piece[np.isin(piece.part, parts)]


def _transpose(piece: Piece, config: ArrangementConfig, rng: np.random.Generator) -> Piece:
    """All pitched parts by one interval, some by an octave more."""
    low, high = config.transpose_semitones
    shift = np.full(len(piece.notes), rng.integers(low, high + 1))
    for part in np.unique(piece.part):
        octave = 12 * int(rng.choice((-1, 1)))
        if rng.random() < config.octave_probability:
            shift[piece.part == part] += octave
    return _shift_pitch(piece, shift)


def _shift_pitch(piece: Piece, semitones: np.ndarray) -> Piece:
    pitch = np.where(piece.notes.is_drum, piece.notes.pitch, piece.notes.pitch + semitones)
    return dataclasses.replace(piece, notes=piece.notes.replace(pitch=pitch))


def _instrument(piece: Piece, config: ArrangementConfig, rng: np.random.Generator) -> Piece:
    """Gives each part its program, and some a second one as a part of its own."""
    if config.instrumentation == "written":
        return piece
    shared: int | None = None
    parts = np.unique(piece.part[~piece.notes.is_drum])
    next_part = int(piece.part.max(initial=0)) + 1
    voices = []
    for part in parts:
        voice = piece[piece.part == part]
        palette = _palette(int(voice.notes.program[0]), config)
        doubles = rng.random() < config.double_probability
        for copy in range(1 + doubles):
            if shared is None or not config.one_program:
                shared = _fitting_program(voice.notes.pitch, palette, rng)
            played = _move_into_range(voice, PROGRAM_RANGES[shared])
            number = part if copy == 0 else next_part + len(voices)
            voices.append(
                dataclasses.replace(
                    played,
                    notes=played.notes.replace(program=shared),
                    part=np.full(len(played.notes), number),
                )
            )
    drums = piece[piece.notes.is_drum]
    return _join([*voices, drums])


def _palette(written: int, config: ArrangementConfig) -> Sequence[int]:
    """The programs that a part may get."""
    allowed = config.programs or MELODIC_PROGRAMS
    if config.instrumentation == "random":
        return allowed
    if written not in MELODIC_PROGRAMS and written not in DEFAULT_SOUNDFONT_OFF_PITCH:
        return [written]
    first = written - written % FAMILY_SIZE
    family = [program for program in range(first, first + FAMILY_SIZE) if program in MELODIC_PROGRAMS]
    # Where the family holds none of the programs to choose from, any of it will do.
    return [program for program in family if program in allowed] or family


def _fitting_program(pitch: np.ndarray, palette: Sequence[int], rng: np.random.Generator) -> int:
    """One whose range holds the part, else the one that needs the smallest move."""
    low, high = np.quantile(pitch, [_OUT_OF_RANGE_SHARE, 1 - _OUT_OF_RANGE_SHARE])
    fitting = [p for p in palette if PROGRAM_RANGES[p][0] <= low and high <= PROGRAM_RANGES[p][1]]
    return int(rng.choice(fitting or palette))


def _move_into_range(piece: Piece, pitch_range: tuple[int, int]) -> Piece:
    """Moved by octaves so that as many notes as possible lie in the range."""
    moves = 12 * np.array([0, 1, -1, 2, -2, 3, -3])
    moved = piece.notes.pitch[None, :] + moves[:, None]
    inside = ((moved >= pitch_range[0]) & (moved <= pitch_range[1])).mean(axis=1)
    # The smallest move that is as good as any, some notes more or less.
    best = moves[int(np.argmax(inside >= inside.max() - _OUT_OF_RANGE_SHARE))]
    return _shift_pitch(piece, np.full(len(piece.notes), best))


def _fold(piece: Piece, pitch_range: tuple[int, int]) -> Piece:
    """Parts moved by octaves into the range; what still lies outside is left out."""
    voices = [
        piece[piece.part == part]
        if piece.notes.is_drum[piece.part == part].any()
        else _move_into_range(piece[piece.part == part], pitch_range)
        for part in np.unique(piece.part)
    ]
    joined = _join(voices)
    pitch = joined.notes.pitch
    return joined[joined.notes.is_drum | ((pitch >= pitch_range[0]) & (pitch <= pitch_range[1]))]


def _join(pieces: Sequence[Piece]) -> Piece:
    if not pieces:
        return Piece("", Notes.empty(), np.zeros(0, np.int32))
    notes = Notes.concatenate([piece.notes for piece in pieces])
    return Piece(pieces[0].id, notes, np.concatenate([piece.part for piece in pieces]), pieces[0].licence)


def _perform(piece: Piece, config: ArrangementConfig, rng: np.random.Generator) -> Notes:
    """Dynamics, articulation and timing."""
    notes = piece.notes
    velocity = notes.velocity.astype(np.float64)
    length = notes.duration_seconds
    for part in np.unique(piece.part):
        mine = piece.part == part
        velocity[mine] += rng.uniform(*config.velocities) - velocity[mine].mean()
        length[mine & ~notes.is_drum] *= rng.uniform(*config.articulation)
    period_seconds, phase = rng.uniform(6.0, 20.0), rng.uniform(0.0, 2 * np.pi)
    velocity += config.swell_velocity * np.sin(2 * np.pi * notes.onset_seconds / period_seconds + phase)
    velocity += rng.normal(0.0, config.velocity_spread, len(notes))
    onset = notes.onset_seconds + rng.normal(0.0, config.onset_jitter_seconds, len(notes))
    onset = np.maximum(onset, 0.0)
    return notes.replace(
        velocity=np.clip(np.rint(velocity), 1, 127).astype(np.int32),
        onset_seconds=onset,
        offset_seconds=onset + length,
    )
