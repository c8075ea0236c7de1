"""Frame scores on piano rolls of whole pieces, and of which instruments play when.

Two papers' metrics, which differ from the published `Frame F1` (62.5 frames a
second, quiet reference notes left out, short notes lengthened) and from each
other. Here every note counts, however quiet; drums have no part.

The Acoustic-Transformer paper (Kim and Ahn): `Piano roll precision`, `recall`
and `F1`, of cells (pitch, frame) with all instruments in one roll.

Y.-N. Hung, Y.-A. Chen and Y.-H. Yang, "Multitask learning for frame-level
instrument recognition", ICASSP 2019 (arXiv 1811.01143): `Instrument F1` of
cells (instrument, frame), and mir_eval's multipitch accuracy (after G. Poliner
and D. Ellis, 2007), that is

    cells in both / (cells in the reference + in the estimate - in both),

of the pitch roll (`Pitch accuracy`) and of the multitrack pianoroll, cells
(instrument, pitch, frame) (`Pianoroll accuracy`). Frames are those of the
paper's constant-Q transform, 512 samples at 16 kHz, and pitches the piano's 88.
Instruments are the General MIDI families, where the paper has nine of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from mt3.evaluation.metrics.cells import Stretches, count_cells, stretches_of
from mt3.evaluation.metrics.comparison import Comparison, Counts, Metric, Scores, instruments_of
from mt3.symbolic.notes import Notes

# The paper does not say; pretty_midi's `get_piano_roll`, unless told otherwise.
PIANO_ROLL_FRAMES_PER_SECOND = 100.0
# Of Hung, Chen and Yang.
INSTRUMENT_FRAMES_PER_SECOND = 16000 / 512
LOWEST_PITCH, HIGHEST_PITCH = 21, 108
_GRANULARITY = "midi_class"


def piano_roll_scores(comparison: Comparison) -> Scores:
    """Cells (pitch, frame) of one piano roll of all instruments; 0 where a side is empty."""

    def stretches(notes: Notes) -> Stretches:
        return stretches_of(notes, notes.pitch, PIANO_ROLL_FRAMES_PER_SECOND)

    counts = count_cells(stretches(comparison.reference), stretches(comparison.estimate))
    return counts.scores("Piano roll {}")


def instrument_frame_scores(comparison: Comparison) -> Scores:
    """Cells (instrument, frame): precision, recall and F1 of who plays when.

    Over all cells, so that an instrument counts for as long as it plays. 0
    without an estimate; left out where the reference has none of these notes.
    """
    counts = _count(comparison, lambda notes: instruments_of(notes, _GRANULARITY))
    return counts.scores("Instrument {}") if counts.reference else {}


def pitch_accuracy_scores(comparison: Comparison) -> Scores:
    """Cells (pitch, frame): mir_eval's multipitch accuracy.

    0 without an estimate; left out where the reference has none of these notes.
    """
    counts = _count(comparison, lambda notes: notes.pitch)
    return {"Pitch accuracy": _accuracy(counts)} if counts.reference else {}


def pianoroll_accuracy_scores(comparison: Comparison) -> Scores:
    """Cells (instrument, pitch, frame): mir_eval's multipitch accuracy, instruments told apart.

    0 without an estimate; left out where the reference has none of these notes.
    """
    num_pitches = HIGHEST_PITCH + 1
    counts = _count(comparison, lambda notes: instruments_of(notes, _GRANULARITY) * num_pitches + notes.pitch)
    return {"Pianoroll accuracy": _accuracy(counts)} if counts.reference else {}


def _count(comparison: Comparison, row: Callable[[Notes], np.ndarray]) -> Counts:
    """Cells of the pitched notes of a piano's range, in rows that `row` says."""

    def stretches(notes: Notes) -> Stretches:
        notes = notes[(notes.pitch >= LOWEST_PITCH) & (notes.pitch <= HIGHEST_PITCH)]
        return stretches_of(notes, row(notes), INSTRUMENT_FRAMES_PER_SECOND)

    pitched = comparison.pitched
    return count_cells(stretches(pitched.reference), stretches(pitched.estimate))


def _accuracy(counts: Counts) -> float:
    return counts.hits / (counts.reference + counts.estimate - counts.hits)


ROLLS: dict[str, Metric] = {
    "piano_roll": Metric(piano_roll_scores, frozenset({"offset"})),
    "instrument_frames": Metric(instrument_frame_scores, frozenset({"offset"}), all_notes=True),
    "pitch_accuracy": Metric(pitch_accuracy_scores, frozenset({"offset"}), all_notes=True),
    "pianoroll_accuracy": Metric(pianoroll_accuracy_scores, frozenset({"offset"}), all_notes=True),
}
