"""Arranging: what stays, what changes, and that the result can be played."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mt3.data.arranging import (
    MELODIC_PROGRAMS,
    PROGRAM_RANGES,
    ArrangementConfig,
    arrange,
    limit_polyphony,
    playable,
)
from mt3.data.pieces import Piece
from mt3.symbolic.general_midi import FAMILIES
from mt3.symbolic.notes import Notes

# Nothing is left to chance: the piece as written.
PLAIN = ArrangementConfig(
    instrumentation="written",
    transpose_semitones=(0, 0),
    tempo_factors=(1.0, 1.0),
    max_seconds=1000.0,
    velocities=(80, 80),
    velocity_spread=0.0,
    swell_velocity=0.0,
    onset_jitter_seconds=0.0,
    articulation=(1.0, 1.0),
)


def with_(**changes):
    return ArrangementConfig(**{**vars(PLAIN), **changes})


def rng(seed=0):
    return np.random.default_rng(seed)


def piece_of(rows, parts=None):
    notes = Notes.from_rows(rows)
    return Piece.from_notes("x", notes) if parts is None else Piece("x", notes, np.array(parts))


@pytest.fixture
def piece(make_tune):
    return Piece.from_notes("tune", make_tune(5, programs=(40, 33)))


def test_the_plain_arrangement_is_the_piece_from_time_0(piece):
    arranged = arrange(piece, PLAIN, rng())
    start = piece.notes.onset_seconds.min()
    np.testing.assert_array_equal(arranged.pitch, piece.notes.pitch)
    np.testing.assert_array_equal(arranged.program, piece.notes.program)
    np.testing.assert_array_equal(arranged.is_drum, piece.notes.is_drum)
    np.testing.assert_allclose(arranged.onset_seconds, piece.notes.onset_seconds - start)


def test_transposition_is_one_interval_and_leaves_drums(piece):
    arranged = arrange(piece, with_(transpose_semitones=(4, 4)), rng())
    moved = arranged.pitch - piece.notes.pitch
    assert set(moved[~arranged.is_drum].tolist()) == {4}
    assert set(moved[arranged.is_drum].tolist()) == {0}


def test_tempo_scales_onsets(piece):
    slow, fast = (arrange(piece, with_(tempo_factors=(f, f)), rng()) for f in (1.0, 2.0))
    np.testing.assert_allclose(fast.onset_seconds, slow.onset_seconds / 2)


def test_one_program_for_everything(piece):
    config = with_(instrumentation="random", programs=(0,), keep_drums=False)
    assert arrange(piece, config, rng()).instruments == [(0, False)]


def test_one_program_per_recording(piece):
    config = with_(instrumentation="random", one_program=True, keep_drums=False)
    chosen = {tuple(arrange(piece, config, rng(seed)).instruments) for seed in range(8)}
    assert all(len(instruments) == 1 for instruments in chosen)
    assert len(chosen) > 2


def test_family_keeps_the_family(piece):
    seen = set()
    for seed in range(30):
        for program, is_drum in arrange(piece, with_(instrumentation="family"), rng(seed)).instruments:
            if not is_drum:
                seen.add(program)
    # The violin's and the bass's families, without timpani.
    assert seen <= set(range(40, 47)) | set(range(32, 40))
    assert len(seen) > 6


def test_family_of_what_plays_no_tunes_stays():
    timpani = piece_of([(0.0, 1.0, 40, 80, 47, False)])
    config = with_(instrumentation="family")
    assert {arrange(timpani, config, rng(seed)).instruments[0][0] for seed in range(5)} == {47}


def test_random_programs_are_of_the_list_and_in_their_range(make_tune):
    piece = Piece.from_notes("x", make_tune(2, drums=False))
    config = with_(instrumentation="random", programs=(32, 33, 40, 73))
    for seed in range(10):
        arranged = arrange(piece, config, rng(seed))
        assert {program for program, _ in arranged.instruments} <= {32, 33, 40, 73}
        for program, _ in arranged.instruments:
            low, high = PROGRAM_RANGES[program]
            pitch = arranged.pitch[arranged.program == program]
            assert np.mean((pitch >= low) & (pitch <= high)) >= 0.85


def test_excerpt_starts_at_an_onset_and_is_short_enough(piece):
    for seed in range(5):
        arranged = arrange(piece, with_(max_seconds=4.0), rng(seed))
        assert arranged.onset_seconds.min() == 0
        assert arranged.end_seconds <= 4.0
    starts = {
        tuple(arrange(piece, with_(max_seconds=4.0), rng(seed)).pitch[:6].tolist()) for seed in range(9)
    }
    assert len(starts) > 4


def test_number_of_parts_and_drums(piece):
    assert len(arrange(piece, with_(keep_drums=False), rng()).instruments) == 2
    assert {len(arrange(piece, with_(max_parts=1), rng(seed)).instruments) for seed in range(5)} == {1}
    left = [
        len(arrange(piece, with_(drop_part_probability=0.9), rng(seed)).instruments) for seed in range(20)
    ]
    assert min(left) == 1
    assert max(left) > 1


def test_octaves_and_doubling(piece):
    low = arrange(piece, with_(octave_probability=1.0), rng())
    moved = np.unique((low.pitch - piece.notes.pitch)[~piece.notes.is_drum])
    assert set(moved.tolist()) <= {-12, 12}
    config = with_(instrumentation="random", double_probability=1.0, keep_drums=False)
    doubled = arrange(piece, config, rng(1))
    assert len(doubled.instruments) == 4
    assert len(doubled) == 2 * int((~piece.notes.is_drum).sum())


def test_notes_outside_the_pitch_range_are_moved_or_left_out():
    rows = [(i, i + 0.5, pitch, 80, 0, False) for i, pitch in enumerate([20, 24, 26])]
    moved = arrange(piece_of(rows), with_(pitch_range=(30, 60)), rng())
    assert moved.pitch.tolist() == [32, 36, 38]
    wide = [(i, i + 0.5, pitch, 80, 0, False) for i, pitch in enumerate([20, 40, 41, 42, 100])]
    assert arrange(piece_of(wide), with_(pitch_range=(36, 48)), rng()).pitch.tolist() == [40, 41, 42]


def test_dynamics_keep_the_written_accents():
    rows = [(i * 0.5, i * 0.5 + 0.4, 60 + i, 60 + 20 * (i % 2), 0, False) for i in range(8)]
    arranged = arrange(piece_of(rows), with_(velocities=(90, 90)), rng())
    assert arranged.velocity.tolist() == [80, 100] * 4


def test_articulation_shortens_pitched_notes_only(piece):
    arranged = arrange(piece, with_(articulation=(0.5, 0.5)), rng())
    ratio = arranged.duration_seconds / piece.notes.duration_seconds
    np.testing.assert_allclose(ratio[~arranged.is_drum], 0.5)
    np.testing.assert_allclose(ratio[arranged.is_drum], 1.0)


def test_unison_of_two_parts_on_one_program_is_one_note():
    rows = [(0.0, 1.0, 60, 80, 40, False), (0.0, 2.0, 60, 80, 41, False), (0.5, 1.5, 64, 80, 41, False)]
    arranged = arrange(piece_of(rows), with_(instrumentation="random", programs=(0,)), rng())
    assert arranged.pitch.tolist() == [60, 64]
    assert arranged.offset_seconds.tolist() == [2.0, 1.5]


def test_nothing_to_play():
    assert len(arrange(piece_of([]), ArrangementConfig(), rng())) == 0
    drums = piece_of([(0.0, 1.0, 36, 80, 0, True)])
    assert len(arrange(drums, with_(keep_drums=False), rng())) == 0


NOTE = st.tuples(
    st.floats(0, 3),
    st.floats(0.001, 2),
    st.integers(50, 54),
    st.integers(1, 127),
    st.integers(0, 2),
    st.booleans(),
)


@settings(deadline=None, max_examples=100)
@given(st.lists(NOTE, max_size=30))
def test_playable_notes_never_collide(rows):
    notes = playable(Notes.from_rows([(a, a + d, p, v, g, drum) for a, d, p, v, g, drum in rows]))
    assert notes == notes.sorted()
    assert len(notes) == 0 or notes.duration_seconds.min() >= 0.00999
    key = (notes.pitch * 128 + notes.program) * 2 + notes.is_drum
    for value in np.unique(key):
        one = notes[key == value]
        assert (one.onset_seconds[1:] >= one.offset_seconds[:-1]).all()
    assert playable(notes) == notes


@settings(deadline=None, max_examples=100)
@given(st.lists(NOTE, max_size=30), st.integers(1, 4))
def test_polyphony_is_bounded_and_as_high_as_allowed(rows, bound):
    notes = playable(Notes.from_rows([(a, a + d, p, v, g, drum) for a, d, p, v, g, drum in rows]))
    limited = limit_polyphony(notes, bound)
    pitched = limited[~limited.is_drum]
    for onset in pitched.onset_seconds:
        assert np.sum((pitched.onset_seconds <= onset) & (pitched.offset_seconds > onset)) <= bound
    assert limited.is_drum.sum() == notes.is_drum.sum()
    assert len(limit_polyphony(notes, 100)) == len(notes)


def test_polyphony_keeps_the_outer_voices():
    chord = Notes.from_rows([(0.0, 1.0, pitch, 80, 0, False) for pitch in (48, 55, 64, 72)])
    assert limit_polyphony(chord, 2).pitch.tolist() == [48, 72]
    assert limit_polyphony(chord, 3).pitch.tolist() == [48, 55, 72]
    assert limit_polyphony(chord, 0) == chord


def test_the_same_seed_gives_the_same_arrangement(piece):
    config = ArrangementConfig(instrumentation="random", octave_probability=0.5, double_probability=0.5)
    assert arrange(piece, config, rng(3)) == arrange(piece, config, rng(3))
    assert arrange(piece, config, rng(3)) != arrange(piece, config, rng(4))


def test_tables_cover_general_midi():
    assert sorted(PROGRAM_RANGES) == list(range(128))
    assert all(0 <= low < high <= 127 for low, high in PROGRAM_RANGES.values())
    assert len(FAMILIES) == 16
    assert len(MELODIC_PROGRAMS) == 99
    # Off pitch in the default SoundFont (tests/audio/test_synthesis.py measures it).
    assert not {31, 55, 78, 86} & set(MELODIC_PROGRAMS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"instrumentation": "loud"}, "choose one of written, family, random"),
        ({"pitch_range": (60, 50)}, "pitch_range is"),
        ({"programs": (128,)}, "programs holds 128"),
        ({"tempo_factors": (0.0, 1.0)}, "must be above 0"),
        ({"velocities": (0, 100)}, "must lie in"),
    ],
)
def test_values_out_of_range_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        ArrangementConfig(**changes)
