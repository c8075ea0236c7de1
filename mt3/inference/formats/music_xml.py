"""Notes as a score: a MusicXML 4.0 file (score-partwise), on an estimated beat grid.

A part an instrument, named by General MIDI; two staves for keyboards and harps; ties
over barlines and beats, rests, triplets, beams, a key, tempo marks, and drums on a
percussion staff. What the music was made into is said in `mt3.symbolic.score_layout`.

Written as text, a measure at a time, so that a recording of hours takes seconds and
little memory.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mt3.inference.formats.documents import NoteDocument
from mt3.inference.formats.pictures import xml_text
from mt3.symbolic.beats import estimate_beats
from mt3.symbolic.drum_kit import drum
from mt3.symbolic.general_midi import DRUMS_NAME, PROGRAM_NAMES
from mt3.symbolic.keys import Key
from mt3.symbolic.score_layout import TICKS_PER_BEAT, Chord, Part, Score, Staff, lay_out_score

# Ticks -> note type, dots, and whether it is part of a triplet.
_VALUES: dict[int, tuple[str, int, bool]] = {
    3: ("16th", 0, False),
    4: ("eighth", 0, True),
    6: ("eighth", 0, False),
    8: ("quarter", 0, True),
    9: ("eighth", 1, False),
    12: ("quarter", 0, False),
    18: ("quarter", 1, False),
    24: ("half", 0, False),
    36: ("half", 1, False),
    48: ("whole", 0, False),
}
_BEAMS = {"eighth": 1, "16th": 2}
_WHOLE_BEATS = (48, 36, 24, 12)
# Clefs: sign, line, octave change.
_TREBLE, _BASS = ("G", 2, 0), ("F", 4, 0)
_GUITAR_CLEF, _BASS_GUITAR_CLEF = ("G", 2, -1), ("F", 4, -1)
_PERCUSSION_CLEF = ("percussion", 2, 0)
_BASS_CLEF_BELOW = 57  # median pitch
_TEMPO_CHANGE = 0.08  # relative, of a measure, that is marked
_DRUM_CHANNEL = 10  # from 1
_VOICES_PER_STAFF = 4  # numbers left for each, as is the custom


def write_music_xml(document: NoteDocument, path: Path) -> None:
    """Writes the score.

    Raises:
      ValueError: for notes out of MIDI's range or not finite.
    """
    notes = document.notes
    if not (np.isfinite(notes.onset_seconds).all() and np.isfinite(notes.offset_seconds).all()):
        raise ValueError("A score needs finite times; remove the notes whose times are not.")
    grid = estimate_beats(notes, beats_per_measure=document.options.beats_per_measure)
    score = lay_out_score(notes, grid)
    with path.open("w", encoding="utf-8") as file:
        file.write('<?xml version="1.0" encoding="UTF-8"?>\n<score-partwise version="4.0">\n')
        file.write(f"<work><work-title>{xml_text(document.title)}</work-title></work>\n")
        file.write('<identification><encoding><software>mt3</software><supports element="beam" type="yes"/>')
        file.write("</encoding></identification>\n<part-list>\n")
        parts = score.parts or (Part(0, False, (Staff(([],), 60.0),)),)
        for number, part in enumerate(parts):
            file.writelines(_part_head(part, number))
        file.write("</part-list>\n")
        for number, part in enumerate(parts):
            file.write(f'<part id="P{number + 1}">\n')
            file.writelines(_measures(score, part, number))
            file.write("</part>\n")
        file.write("</score-partwise>\n")


def _part_head(part: Part, number: int) -> Iterator[str]:
    """The part's name and instruments; drums are an instrument a key."""
    identifier = f"P{number + 1}"
    name = xml_text(DRUMS_NAME if part.is_drum else PROGRAM_NAMES[part.program])
    channel = _DRUM_CHANNEL if part.is_drum else [one for one in range(1, 17) if one != 10][number % 15]
    sounds = [(f"{identifier}-I1", name, 1 + part.program, "")]
    if part.is_drum:
        sounds = [
            (
                f"{identifier}-I{key}",
                xml_text(drum(key).name),
                1,
                f"<midi-unpitched>{key + 1}</midi-unpitched>",
            )
            for key in _keys(part)
        ]
    yield f'<score-part id="{identifier}"><part-name>{name}</part-name>\n'
    for sound, sound_name, _, _ in sounds:
        yield f'<score-instrument id="{sound}"><instrument-name>{sound_name}</instrument-name>'
        yield "</score-instrument>\n"
    for sound, _, program, unpitched in sounds:
        yield f'<midi-instrument id="{sound}"><midi-channel>{channel}</midi-channel>'
        yield f"<midi-program>{program}</midi-program>{unpitched}</midi-instrument>\n"
    yield "</score-part>\n"


def _keys(part: Part) -> list[int]:
    chords = (chord for staff in part.staves for voice in staff.voices for chord in voice)
    return sorted({pitch for chord in chords for pitch in chord.pitches})


@dataclasses.dataclass
class _Piece:
    """A note, chord or rest of one notatable value within a measure.

    Attributes:
      start: ticks from the start of the measure.
      ticks: a key of `_VALUES`, or a whole measure of rest.
      pitches: none of a rest.
      tied: whether it goes on from what is before it, and goes on after it.
      tuplet: "start" or "stop" of a bracket, or both.
      beams: of each level, MusicXML's word.
    """

    start: int
    ticks: int
    pitches: tuple[int, ...] = ()
    tied: tuple[bool, bool] = (False, False)
    tuplet: tuple[str, ...] = ()
    beams: tuple[str, ...] = ()


def _measures(score: Score, part: Part, number: int) -> Iterator[str]:
    length = score.beats_per_measure * TICKS_PER_BEAT
    # (first number of the voice, staff or 0 where there is one, pieces by measure, whether rests show)
    voices = [
        (
            staff_index * _VOICES_PER_STAFF + voice_index + 1,
            staff_index + 1 if len(part.staves) > 1 else 0,
            _by_measure(voice, length),
            voice_index == 0,
        )
        for staff_index, staff in enumerate(part.staves)
        for voice_index, voice in enumerate(staff.voices)
    ]
    marks = _tempo_marks(score) if number == 0 else {}
    identifier = f"P{number + 1}"
    for measure in range(score.num_measures):
        yield f'<measure number="{measure + 1}">\n'
        if measure == 0:
            yield _attributes(score, part)
        if measure in marks:
            yield _tempo_mark(marks[measure])
        written = 0
        for voice, staff, by_measure, shows_rests in voices:
            pieces = by_measure.get(measure, [])
            if not (pieces or shows_rests):
                continue
            if written:
                yield f"<backup><duration>{length}</duration></backup>\n"
            written += 1
            filled = _with_rests(pieces, length) if shows_rests else pieces
            yield from _voice(_with_groups(filled), voice, staff, length, part.is_drum, identifier, score.key)
        if measure == score.num_measures - 1:
            yield '<barline location="right"><bar-style>light-heavy</bar-style></barline>\n'
        yield "</measure>\n"


def _attributes(score: Score, part: Part) -> str:
    key = Key() if part.is_drum else score.key
    mode = "minor" if key.is_minor else "major"
    staves = f"<staves>{len(part.staves)}</staves>" if len(part.staves) > 1 else ""
    clefs = ""
    for index, staff in enumerate(part.staves):
        sign, line, octaves = _clef(part, staff, index)
        change = f"<clef-octave-change>{octaves}</clef-octave-change>" if octaves else ""
        number = f' number="{index + 1}"' if len(part.staves) > 1 else ""
        clefs += f"<clef{number}><sign>{sign}</sign><line>{line}</line>{change}</clef>"
    return (
        f"<attributes><divisions>{TICKS_PER_BEAT}</divisions><key><fifths>{key.fifths}</fifths>"
        f"<mode>{mode}</mode></key><time><beats>{score.beats_per_measure}</beats>"
        f"<beat-type>4</beat-type></time>{staves}{clefs}</attributes>\n"
    )


def _clef(part: Part, staff: Staff, index: int) -> tuple[str, int, int]:
    if part.is_drum:
        return _PERCUSSION_CLEF
    if len(part.staves) > 1:
        return _BASS if index else _TREBLE
    if 24 <= part.program < 32:
        return _GUITAR_CLEF
    if 32 <= part.program < 40 or part.program == 43:
        return _BASS_GUITAR_CLEF
    return _BASS if staff.median_pitch < _BASS_CLEF_BELOW else _TREBLE


def _tempo_marks(score: Score) -> dict[int, float]:
    """Beats a minute of the measures that are clearly faster or slower than what was marked last."""
    tempo = 60.0 * score.beats_per_measure / np.diff(score.measure_seconds)
    marks: dict[int, float] = {}
    current = 0.0
    for measure, one in enumerate(tempo.tolist()):
        if not current or abs(np.log(one / current)) > _TEMPO_CHANGE:
            marks[measure] = current = one
    return marks


def _tempo_mark(beats_per_minute: float) -> str:
    return (
        '<direction placement="above"><direction-type><metronome><beat-unit>quarter</beat-unit>'
        f"<per-minute>{beats_per_minute:.0f}</per-minute></metronome></direction-type>"
        f'<sound tempo="{beats_per_minute:.2f}"/></direction>\n'
    )


def _by_measure(voice: list[Chord], length: int) -> dict[int, list[_Piece]]:
    """Chords cut at barlines and into notatable values, tied together again."""
    measures: dict[int, list[_Piece]] = {}
    for chord in voice:
        start = chord.start
        while start < chord.end:
            measure, within = divmod(start, length)
            for ticks in _cut(within, min(chord.end - start, length - within)):
                tied = (start > chord.start, start + ticks < chord.end)
                piece = _Piece(start - measure * length, ticks, chord.pitches, tied)
                measures.setdefault(measure, []).append(piece)
                start += ticks
    return measures


def _cut(start: int, ticks: int) -> Iterator[int]:
    """Notatable values that make up `ticks` from a place in a measure, so that beats can be seen."""
    while ticks:
        to_beat = TICKS_PER_BEAT - start % TICKS_PER_BEAT
        if ticks == 18 or (ticks == 12 and to_beat == 6) or (ticks < to_beat and ticks in _VALUES):
            value = ticks
        elif to_beat == TICKS_PER_BEAT and ticks >= TICKS_PER_BEAT:
            value = next(one for one in _WHOLE_BEATS if one <= ticks)
        else:
            value = min(to_beat, ticks)
        yield value
        start, ticks = start + value, ticks - value


def _with_rests(pieces: list[_Piece], length: int) -> list[_Piece]:
    """The pieces with rests in the gaps; a measure without pieces is one rest."""
    if not pieces:
        return [_Piece(0, length)]
    filled, now = [], 0
    for piece in [*pieces, _Piece(length, 0)]:
        for ticks in _cut(now, piece.start - now):
            filled.append(_Piece(now, ticks))
            now += ticks
        filled.append(piece)
        now = piece.start + piece.ticks
    return filled[:-1]


def _with_groups(pieces: list[_Piece]) -> list[_Piece]:
    """Brackets over the triplets of each beat, and beams within each beat."""
    beats: dict[int, list[_Piece]] = {}
    for piece in pieces:
        beats.setdefault(piece.start // TICKS_PER_BEAT, []).append(piece)
    for group in beats.values():
        triplets = [piece for piece in group if piece.ticks in _VALUES and _VALUES[piece.ticks][2]]
        if triplets:
            triplets[0].tuplet += ("start",)
            triplets[-1].tuplet += ("stop",)
        run: list[_Piece] = []
        for piece in [*group, _Piece(0, 0)]:
            if piece.pitches and _VALUES[piece.ticks][0] in _BEAMS:
                run.append(piece)
                continue
            _beam(run)
            run = []
    return pieces


def _beam(run: list[_Piece]) -> None:
    """Beams of notes that stand together."""
    if len(run) < 2:
        return
    levels = [_BEAMS[_VALUES[piece.ticks][0]] for piece in run]
    for index, piece in enumerate(run):
        words = []
        for level in range(1, levels[index] + 1):
            before = index > 0 and levels[index - 1] >= level
            after = index + 1 < len(run) and levels[index + 1] >= level
            hook = "forward hook" if index == 0 else "backward hook"
            words.append("continue" if before and after else "begin" if after else "end" if before else hook)
        piece.beams = tuple(words)


def _voice(
    pieces: list[_Piece], voice: int, staff: int, length: int, is_drum: bool, identifier: str, key: Key
) -> Iterator[str]:
    now = 0
    for piece in pieces:
        if piece.start > now:
            yield f"<forward><duration>{piece.start - now}</duration></forward>\n"
        now = piece.start + piece.ticks
        place = f"<staff>{staff}</staff>" if staff else ""
        if not piece.pitches:
            yield _rest(piece, voice, place, length)
            continue
        places: set[str] = set()
        for index, pitch in enumerate(piece.pitches):
            where, sound, head = _drum_note(pitch, identifier) if is_drum else (_pitch(pitch, key), "", "")
            if where + head not in places:  # two kick drums of one place are one
                yield _note(piece, index, where, sound, head, voice, place)
            places.add(where + head)
    if now < length:
        yield f"<forward><duration>{length - now}</duration></forward>\n"


def _rest(piece: _Piece, voice: int, place: str, length: int) -> str:
    if piece.ticks == length:
        return (
            f'<note><rest measure="yes"/><duration>{length}</duration><voice>{voice}</voice>{place}</note>\n'
        )
    value, modification, notations = _value(piece)
    tuplets = f"<notations>{notations}</notations>" if notations else ""
    return (
        f"<note><rest/><duration>{piece.ticks}</duration><voice>{voice}</voice>"
        f"{value}{modification}{place}{tuplets}</note>\n"
    )


def _note(piece: _Piece, index: int, where: str, sound: str, head: str, voice: int, place: str) -> str:
    """A note; all but the first of a chord say so, and leave brackets and beams to the first."""
    value, modification, tuplets = _value(piece)
    chord = "<chord/>" if index else ""
    ties = ("stop",) * piece.tied[0] + ("start",) * piece.tied[1]
    sounding = "".join(f'<tie type="{one}"/>' for one in ties)
    notations = "".join(f'<tied type="{one}"/>' for one in ties) + ("" if index else tuplets)
    notations = f"<notations>{notations}</notations>" if notations else ""
    beams = "" if index else "".join(f'<beam number="{n}">{b}</beam>' for n, b in enumerate(piece.beams, 1))
    return (
        f"<note>{chord}{where}<duration>{piece.ticks}</duration>{sounding}{sound}<voice>{voice}</voice>"
        f"{value}{modification}{head}{place}{beams}{notations}</note>\n"
    )


def _value(piece: _Piece) -> tuple[str, str, str]:
    """The elements of a value: type and dots, the triplet's modification, and its brackets."""
    kind, dots, is_triplet = _VALUES[piece.ticks]
    modification = (
        "<time-modification><actual-notes>3</actual-notes><normal-notes>2</normal-notes></time-modification>"
    )
    brackets = "".join(f'<tuplet type="{one}"/>' for one in piece.tuplet)
    return f"<type>{kind}</type>" + "<dot/>" * dots, modification if is_triplet else "", brackets


def _pitch(pitch: int, key: Key) -> str:
    step, alteration, octave = key.spell(pitch)
    alter = f"<alter>{alteration}</alter>" if alteration else ""
    return f"<pitch><step>{step}</step>{alter}<octave>{octave}</octave></pitch>"


def _drum_note(key: int, identifier: str) -> tuple[str, str, str]:
    """The elements of a drum's place, sound and shape."""
    one = drum(key)
    head = "" if one.notehead == "normal" else f"<notehead>{one.notehead}</notehead>"
    where = f"<display-step>{one.step}</display-step><display-octave>{one.octave}</display-octave>"
    return f"<unpitched>{where}</unpitched>", f'<instrument id="{identifier}-I{key}"/>', head
