"""What stands where in a score, on beats that are known."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt3.symbolic.beats import BeatGrid
from mt3.symbolic.drum_kit import drum
from mt3.symbolic.notes import Notes
from mt3.symbolic.score_layout import lay_out_score

GRID = BeatGrid(0.5 * np.arange(41))  # 120 a minute, from 0 s on


def notes_of(*rows, program=0, is_drum=False):
    """(onset in beats, beats, pitch) each."""
    return Notes.from_rows(
        [(0.5 * on, 0.5 * (on + length), pitch, 80, program, is_drum) for on, length, pitch in rows]
    )


def voices_of(notes, grid=GRID):
    (part,) = lay_out_score(notes, grid).parts
    return [
        [[(one.start, one.end, one.pitches) for one in voice] for voice in staff.voices]
        for staff in part.staves
    ]


def test_chords_share_a_place():
    notes = notes_of((0, 1, 72), (0.03, 0.95, 76), (1, 2, 74))
    assert voices_of(notes) == [[[(0, 12, (72, 76)), (12, 36, (74,))]]]


def test_sixteenths_and_triplets_are_told_apart():
    notes = notes_of((0, 0.25, 72), (0.25, 0.5, 74), (0.75, 0.25, 72), (1, 1 / 3, 72), (4 / 3, 1 / 3, 74))
    notes = Notes.concatenate([notes, notes_of((5 / 3, 1 / 3, 76), (2, 1, 72))])
    jitter = np.random.default_rng(0).normal(0, 0.008, len(notes))
    notes = notes.replace(onset_seconds=np.maximum(notes.onset_seconds + jitter, 0))
    (((voice,),)) = voices_of(notes)
    assert [start for start, _, _ in voice] == [0, 3, 9, 12, 16, 20, 24]
    assert [end for _, end, _ in voice] == [3, 9, 12, 16, 20, 24, 36]


def test_small_gaps_and_overlaps_close():
    assert voices_of(notes_of((0, 0.8, 72), (1, 1.1, 74), (2, 2, 76))) == [
        [[(0, 12, (72,)), (12, 24, (74,)), (24, 48, (76,))]]
    ]


def test_what_sounds_on_is_a_voice_of_its_own():
    notes = notes_of((0, 4, 60), (0, 1, 72), (1, 1, 74), (2, 1, 76), (3, 1, 77), program=48)
    upper, lower = voices_of(notes)[0]
    assert [one[2] for one in upper] == [(72,), (74,), (76,), (77,)]
    assert lower == [(0, 48, (60,))]


def test_keyboards_have_two_staves_where_they_need_them():
    wide = ((0, 1, 40), (0, 1, 76))
    assert voices_of(notes_of(*wide)) == [[[(0, 12, (76,))]], [[(0, 12, (40,))]]]
    assert len(voices_of(notes_of(*wide, program=40))) == 1
    assert len(voices_of(notes_of((0, 1, 58), (1, 1, 76)))) == 1


def test_the_first_measure_has_the_first_note():
    grid = BeatGrid(0.5 * np.arange(41), 3, 1)  # a pickup of one beat
    score = lay_out_score(notes_of((0, 1, 72), (1, 1, 74)), grid)
    assert score.parts[0].staves[0].voices[0][0].start == 24
    np.testing.assert_allclose(score.measure_seconds, [-1.0, 0.5, 2.0])
    late = lay_out_score(notes_of((9, 1, 72)), GRID)
    assert late.parts[0].staves[0].voices[0][0].start == 12
    np.testing.assert_allclose(late.measure_seconds, [4.0, 6.0])


def test_drums_are_written_to_the_next_stroke_or_beat():
    notes = notes_of((0, 0.1, 36), (0, 0.1, 42), (0.5, 0.1, 42), (2, 3, 49), is_drum=True)
    assert voices_of(notes) == [[[(0, 6, (36, 42)), (6, 12, (42,)), (24, 36, (49,))]]]


def test_values_beyond_midi_are_refused():
    with pytest.raises(ValueError, match=r"pitch 128 is outside MIDI's 0\.\.127"):
        lay_out_score(notes_of((0, 1, 128)), GRID)


_rows = st.tuples(
    st.floats(-2, 30),
    st.floats(0, 6),
    st.integers(30, 90),
    st.just(80),
    st.sampled_from([0, 40]),
    st.booleans(),
)


@settings(deadline=None, max_examples=60)
@given(rows=st.lists(_rows.map(lambda row: (row[0], row[0] + row[1], *row[2:])), max_size=40))
def test_voices_never_overlap_and_no_pitch_is_lost(rows):
    notes = Notes.from_rows(rows)
    score = lay_out_score(notes, BeatGrid(0.5 * np.arange(41), 3, 2))
    written = set()
    for part in score.parts:
        for staff in part.staves:
            assert len(staff.voices) <= 2
            for voice in staff.voices:
                for one, after in zip(voice, [*voice[1:], None], strict=True):
                    assert one.start >= 0
                    assert one.start < one.end
                    assert after is None or one.end <= after.start
                    written |= {(part.program, part.is_drum, pitch) for pitch in one.pitches}
    programs = np.where(notes.is_drum, 0, notes.program).tolist()
    assert written == set(zip(programs, notes.is_drum.tolist(), notes.pitch.tolist(), strict=True))


def test_drums_have_names_and_places():
    assert (drum(36).name, drum(36).step, drum(36).octave) == ("Bass Drum 1", "F", 4)
    assert (drum(38).step, drum(38).octave, drum(42).notehead) == ("C", 5, "x")
    assert drum(5).name == "Percussion 5"
