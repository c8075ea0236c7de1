"""Roll metrics: dense rolls scored by mir_eval and scikit-learn, and cases worked by hand."""

import warnings

import mir_eval
import numpy as np
import pytest
import sklearn.metrics as sklearn_metrics

from mt3.evaluation.metrics import Comparison, Counts, score
from mt3.evaluation.metrics.rolls import piano_roll_scores
from mt3.symbolic.notes import Notes

RATE = 31.25
METRICS = ["instrument_frames", "pitch_accuracy", "pianoroll_accuracy"]
NUM_SECONDS = 12


def dense_roll(notes, rate):
    """bool [16 families, 128 pitches, frames] of the pitched notes, drawn note by note."""
    # Onsets may lie a little before 0.
    num_before = int(rate)
    roll = np.zeros((16, 128, num_before + int(NUM_SECONDS * rate)), bool)
    for row in range(len(notes)):
        if not notes.is_drum[row]:
            start = int(np.floor(notes.onset_seconds[row] * rate))
            end = max(int(np.floor(notes.offset_seconds[row] * rate)), start + 1)
            roll[notes.program[row] // 8, notes.pitch[row], num_before + start : num_before + end] = True
    return roll


def frequencies(roll):
    """The pitches of each frame of a roll [pitches, frames] in Hz, as mir_eval has them."""
    return [mir_eval.util.midi_to_hz(np.flatnonzero(frame)) for frame in roll.T]


def accuracy(true, guessed):
    """mir_eval's multipitch accuracy of two rolls [pitches, frames]."""
    times = np.arange(true.shape[1]) / RATE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return mir_eval.multipitch.metrics(times, frequencies(true), times, frequencies(guessed))[2]


def test_accuracies_are_those_of_mir_eval(small_pieces):
    for seed, sides in enumerate(small_pieces):
        # mir_eval takes a while for each frame.
        reference, estimate = (notes.crop(0.0, 2.5) for notes in sides)
        scores = score(reference, estimate, metrics=METRICS)
        true, guessed = dense_roll(reference, RATE), dense_roll(estimate, RATE)
        if not true.any():
            assert scores == {}
            continue
        # Frames in which nothing sounds count for nothing.
        sounding = (true | guessed).any(axis=(0, 1))
        true, guessed = true[..., sounding], guessed[..., sounding]
        assert scores["Pitch accuracy"] == pytest.approx(accuracy(true.any(axis=0), guessed.any(axis=0))), (
            seed
        )
        # One instrument's roll after another's.
        families = np.flatnonzero((true | guessed).any(axis=(1, 2)))
        rows = [np.concatenate(list(roll[families]), axis=1) for roll in (true, guessed)]
        assert scores["Pianoroll accuracy"] == pytest.approx(accuracy(*rows)), seed


def test_f1_is_that_of_scikit_learn(small_pieces):
    for name, metric, rate, axis in (
        ("Instrument {}", "instrument_frames", RATE, 1),
        ("Piano roll {}", "piano_roll", 100, 0),
    ):
        rolls = [[dense_roll(notes, rate).any(axis=axis) for notes in sides] for sides in small_pieces]
        for seed, counts in enumerate(by_scikit_learn(rolls)):
            scores = score(*small_pieces[seed], metrics=[metric])
            left_out = metric == "instrument_frames" and not counts.reference
            assert scores == ({} if left_out else pytest.approx(counts.scores(name))), seed


def by_scikit_learn(rolls):
    """Counts of each pair of rolls, which are made classes of one call."""
    classes = []
    for piece, (true, guessed) in enumerate(rolls):
        # What is silent on both sides counts for nothing; there is much of it.
        sounding = true | guessed
        classes.append(2 * piece + np.stack([true[sounding], guessed[sounding]]))
    table = sklearn_metrics.confusion_matrix(
        *np.concatenate(classes, axis=1), labels=np.arange(2 * len(rolls))
    )
    for row in range(0, 2 * len(rolls), 2):
        own = table[row : row + 2, row : row + 2]
        yield Counts(int(own[1, 1]), int(own[1].sum()), int(own[:, 1].sum()))


def test_rolls_by_hand():
    # At 31.25 frames a second: 0.32 s are 10 frames, 0.64 s are 20.
    reference = Notes.from_rows(
        [
            (0.0, 0.64, 60, 1, 0, False),  # frames 0..19 of the piano, however quiet
            (0.0, 0.32, 64, 100, 0, False),  # frames 0..9 of the piano, another pitch
            (0.32, 0.64, 60, 100, 24, False),  # frames 10..19 of the guitar, a pitch that sounds already
            (0.0, 9.0, 36, 100, 0, True),
        ]
    )
    estimate = Notes.from_rows(
        [
            (0.0, 0.32, 60, 100, 1, False),  # half of the piano's note
            (0.32, 0.64, 60, 100, 26, False),  # the guitar's
            (0.32, 0.64, 40, 100, 33, False),  # a bass, frames 10..19, that is not there
        ]
    )
    scores = score(reference, estimate, metrics=["instrument_frames", "pitch_accuracy", "pianoroll_accuracy"])
    assert scores == pytest.approx(
        {
            # Piano 20 and guitar 10 frames; the estimate has 10 + 10 of them, and 10 of the bass.
            "Instrument precision": 20 / 30,
            "Instrument recall": 20 / 30,
            "Instrument F1": 2 / 3,
            # Pitch 60 in 20 frames in both, 64 in 10 of the reference, 40 in 10 of the estimate.
            "Pitch accuracy": 20 / 40,
            # 10 of the piano's 20 + 10 cells, 10 of the guitar's 10, 10 that are the bass's.
            "Pianoroll accuracy": 20 / (40 + 30 - 20),
        }
    )
    # 64 and 32 frames a hundredth of a second long; pitch 64 is missing, pitch 40 is extra.
    scores = score(reference, estimate, metrics=["piano_roll"])
    assert scores == pytest.approx(
        {"Piano roll precision": 64 / 96, "Piano roll recall": 64 / 96, "Piano roll F1": 2 / 3}
    )


def test_only_a_pianos_pitches_count_for_hung():
    low = Notes.from_rows([(0.0, 1.0, 20, 100, 0, False), (0.0, 1.0, 109, 100, 0, False)])
    assert score(low, low, metrics=METRICS) == {}
    assert score(low, low, metrics=["piano_roll"])["Piano roll F1"] == 1.0


def test_empty_sides():
    notes = Notes.from_rows([(0.0, 1.0, 60, 100, 0, False)])
    assert set(score(notes, Notes.empty(), metrics=["rolls"]).values()) == {0.0}
    assert score(Notes.empty(), notes, metrics=METRICS) == {}
    assert set(piano_roll_scores(Comparison(Notes.empty(), Notes.empty())).values()) == {0.0}


def test_long_music_takes_no_room():
    # 30 years in one note, and a pitch that MIDI does not have.
    notes = Notes.from_rows([(0.0, 1e9, 60, 100, 0, False), (0.0, 1e9, 128, 100, 0, False)])
    assert score(notes, notes[:1], metrics=["rolls"]) == pytest.approx(
        {
            "Piano roll precision": 1.0,
            "Piano roll recall": 1 / 2,
            "Piano roll F1": 2 / 3,
            "Instrument precision": 1.0,
            "Instrument recall": 1.0,
            "Instrument F1": 1.0,
            "Pitch accuracy": 1.0,
            "Pianoroll accuracy": 1.0,
        }
    )
