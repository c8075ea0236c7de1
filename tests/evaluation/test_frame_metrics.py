"""Frame counts against piano rolls that pretty_midi draws, and hand-worked cases."""

import numpy as np
import pretty_midi

from mt3.evaluation.frame_metrics import count_frames, note_frames
from mt3.symbolic.notes import Notes


def roll(notes, num_frames):
    """pretty_midi's piano roll of notes lengthened to 50 ms, drums fixed to it."""
    instrument = pretty_midi.Instrument(0)
    for row in range(len(notes)):
        onset, offset = float(notes.onset_seconds[row]), float(notes.offset_seconds[row])
        if notes.is_drum[row] or offset - onset < 0.05:
            offset = onset + 0.05
        instrument.notes.append(
            pretty_midi.Note(int(notes.velocity[row]), int(notes.pitch[row]), onset, offset)
        )
    drawn = instrument.get_piano_roll(fs=62.5)  # pyright: ignore[reportArgumentType]
    return np.pad(drawn, ((0, 0), (0, num_frames - drawn.shape[1])))


def test_counts_are_those_of_piano_rolls(piece):
    for seed in range(100):
        reference, estimate = piece(seed)
        num_frames = int(62.5 * max(reference.end_seconds, estimate.end_seconds)) + 10
        true, guessed = roll(reference, num_frames) > 30, roll(estimate, num_frames) > 0
        expected = ((true & guessed).sum(), true.sum(), guessed.sum())
        assert count_frames(reference, estimate) == expected, seed


def test_frames_by_hand():
    # 16 ms a frame: 0.1 s is frame 6.25, 0.2 s is 12.5, 0.12 s is 7.5, 0.26 s is 16.25.
    reference = Notes.from_rows([(0.1, 0.2, 60, 100, 0, False)])
    estimate = Notes.from_rows([(0.12, 0.26, 60, 100, 0, False)])
    assert count_frames(reference, estimate) == (5, 6, 9)


def test_short_notes_and_drums_last_50_ms():
    notes = Notes.from_rows([(0.0, 0.001, 60, 100, 0, False), (0.0, 5.0, 36, 100, 0, True)])
    start, end = note_frames(notes)
    assert start.tolist() == [0, 0]
    assert end.tolist() == [3, 3]


def test_quiet_reference_frames_are_silent_unless_they_add_up():
    quiet = (0.0, 0.16, 60, 30, 0, False)
    one, two = Notes.from_rows([quiet]), Notes.from_rows([quiet, quiet])
    assert count_frames(one, one) == (0, 0, 10)
    assert count_frames(two, one) == (10, 10, 10)


def test_unknown_velocities_sound():
    notes = Notes.from_rows([(0.0, 0.16, 60, 0, 0, False)])
    assert count_frames(notes, notes) == (10, 10, 10)


def test_negative_times_shift_nothing():
    reference = Notes.from_rows([(-1.0, -0.84, 60, 100, 0, False)])
    estimate = Notes.from_rows([(-0.92, -0.84, 60, 100, 0, False)])
    assert count_frames(reference, estimate) == (5, 10, 5)


def test_no_notes():
    one = Notes.from_rows([(0.0, 0.16, 60, 100, 0, False)])
    assert count_frames(Notes.empty(), Notes.empty()) == (0, 0, 0)
    assert count_frames(one, Notes.empty()) == (0, 10, 0)
    assert count_frames(Notes.empty(), one) == (0, 0, 10)
