"""The transcriber that does not listen, on hand-worked pieces."""

import numpy as np
import pytest

from mt3.evaluation import baselines
from mt3.evaluation.evaluator import evaluate
from mt3.symbolic.notes import Notes


def chord(onset, pitches, length=0.4, velocity=80):
    return [(onset, onset + length, pitch, velocity, 0, False) for pitch in pitches]


def test_fit_by_hand():
    first = Notes.from_rows(chord(0.0, [60, 64]) + chord(0.5, [60, 67]) + chord(1.0, [60, 64]))
    second = Notes.from_rows(chord(7.0, [60]) + chord(7.02, [64], velocity=100) + chord(8.0, [55, 60]))
    baseline = baselines.fit([first, second])
    # 10 notes in 5 chords; 60 five times, 64 thrice; intervals 0.5, 0.5, 1.0.
    assert baseline.chord == ((60, 0, False), (64, 0, False))
    assert baseline.interval_seconds == 0.5
    assert baseline.note_seconds == pytest.approx(0.4)
    assert baseline.velocity == 80


def test_the_order_of_training_pieces_does_not_matter():
    pieces = [Notes.from_rows(chord(float(t), [60 + t])) for t in range(5)]
    assert baselines.fit(pieces) == baselines.fit(pieces[::-1])


def test_the_chord_is_repeated_to_the_end():
    notes = baselines.Baseline(((36, 0, True), (60, 4, False)), 0.5, 0.4, 90).transcribe(1.2)
    assert notes == Notes.from_rows(
        [
            (onset, end, pitch, 90, program, is_drum)
            for onset, end in ((0.0, 0.4), (0.5, 0.9), (1.0, 1.2))
            for pitch, program, is_drum in ((36, 0, True), (60, 4, False))
        ]
    )


def test_no_audio_no_notes():
    baseline = baselines.fit([Notes.from_rows(chord(0.0, [60]))])
    assert len(baseline.transcribe(0.0)) == 0
    assert len(baseline.transcribe(2.5)) == 3


def test_training_notes_are_needed():
    with pytest.raises(ValueError, match="2 training pieces have no notes"):
        baselines.fit([Notes.empty(), Notes.empty()])


def test_it_can_be_evaluated():
    piece = Notes.from_rows([row for beat in range(4) for row in chord(0.5 * beat, [60, 64])])

    class Recording:
        id = "piece"
        notes = piece

        def load_audio(self, sample_rate):
            return np.zeros(2 * sample_rate, np.float32)

    result = evaluate([Recording()], baselines.fit([piece]).transcriber(8000), sample_rate=8000)
    assert result.scores["Onset F1"] == 1.0
