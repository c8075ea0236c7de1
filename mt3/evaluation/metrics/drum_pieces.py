"""Drum scores by piece of the kit.

The keys are those of the General MIDI percussion map (MIDI Association, General
MIDI 1 sound set), grouped into the five pieces that drum transcription usually
tells apart (e.g. M. Zehren et al., "ADTOF", ISMIR 2021: bass drum, snare, toms,
hi-hat, cymbals). Keys of one piece may stand for one another: how many toms
there are is the drummer's choice.
"""

from __future__ import annotations

import numpy as np

from mt3.evaluation.metrics.comparison import NO_CLASS, Comparison, Metric, Scores, counts_by_class, total
from mt3.symbolic.notes import Notes

# Piece -> keys. Hand percussion and effects have no part.
DRUM_PIECES: dict[str, tuple[int, ...]] = {
    # Acoustic and electric bass drum.
    "kick": (35, 36),
    # Side stick, acoustic and electric snare.
    "snare": (37, 38, 40),
    # Closed, pedal, open; 22 and 26 are the edge of Roland's kits, with which E-GMD was recorded.
    "hi-hat": (22, 26, 42, 44, 46),
    # Low and high floor, low, low-mid, hi-mid, high.
    "toms": (41, 43, 45, 47, 48, 50),
    # Crash 1, ride 1, Chinese, ride bell, splash, crash 2, ride 2.
    "cymbals": (49, 51, 52, 53, 55, 57, 59),
}


def drum_piece_scores(comparison: Comparison) -> Scores:
    """Onset within 50 ms and piece: F1 of each piece, and of all pieces together.

    Left out where the reference has no hit of the piece; 0 where only the
    estimate has none.
    """
    drums = comparison.drums.select(_by_piece)
    classes = (drums.matchable.reference.pitch, drums.matchable.estimate.pitch)
    counts = counts_by_class(drums.onset_pairs, *classes)
    named = {name: counts[index] for index, name in enumerate(DRUM_PIECES) if index in counts}
    named["all pieces"] = total(counts.values())
    return {f"Drum onset F1 ({name})": count.f1 for name, count in named.items() if count.reference}


def pieces_of(notes: Notes) -> np.ndarray:
    """int [num_notes]: index into `DRUM_PIECES` of the key of each drum, or `NO_CLASS`."""
    pieces = np.full(len(notes), NO_CLASS)
    for index, keys in enumerate(DRUM_PIECES.values()):
        pieces[np.isin(notes.pitch, keys)] = index
    return pieces


def _by_piece(drums: Notes) -> Notes:
    """The drums of the table, with their piece for a pitch."""
    drums = drums.replace(pitch=pieces_of(drums))
    return drums[drums.pitch != NO_CLASS]


DRUMS: dict[str, Metric] = {"drum_pieces": Metric(drum_piece_scores, all_notes=True)}
