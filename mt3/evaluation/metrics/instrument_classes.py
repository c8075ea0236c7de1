"""Scores by instrument class, as YourMT3 reports them.

Source: S. Chang et al., "YourMT3+: Multi-instrument music transcription with
enhanced transformer architectures and cross-dataset stem augmentation", MLSP
2024 (arXiv 2407.04822), and its code, mimbres/YourMT3 (`config/vocabulary.py`,
`utils/metrics.py`).

A note matches only notes of its class. As there, the score of a class that the
reference does not have is left out, and means over recordings are over those
that have it; extra notes of such a class count in `Multi-instrument F1` alone.
"""

from __future__ import annotations

import numpy as np

from mt3.evaluation.metrics.comparison import (
    DRUMS_INSTRUMENT,
    NO_CLASS,
    Comparison,
    Counts,
    Metric,
    Scores,
    counts_by_class,
    total,
)
from mt3.symbolic.notes import Notes
from mt3.symbolic.vocabularies import NUM_PROGRAMS

# Name -> programs, 0-based. YourMT3 writes singing as programs 100 and 101; in
# General MIDI these are sound effects. Programs in no class have no part.
INSTRUMENT_CLASSES: dict[str, tuple[int, ...]] = {
    "Piano": tuple(range(0, 8)),
    "Chromatic percussion": tuple(range(8, 16)),
    "Organ": tuple(range(16, 24)),
    "Guitar": tuple(range(24, 32)),
    "Bass": tuple(range(32, 40)),
    # General MIDI's strings and ensembles.
    "Strings": tuple(range(40, 56)),
    "Brass": tuple(range(56, 64)),
    "Reed": tuple(range(64, 72)),
    "Pipe": tuple(range(72, 80)),
    "Synth lead": tuple(range(80, 88)),
    "Synth pad": tuple(range(88, 96)),
    "Singing": (100, 101),
}

# Drum keys that YourMT3 takes for the same on Slakh; other keys have no part.
_DRUM_KEYS: tuple[tuple[int, ...], ...] = (
    *((36, 35), (37, 2), (38, 40), (42, 44, 22), (46, 26), (49, 57)),
    *((key,) for key in (41, 43, 45, 47, 48, 50, 51, 52, 53, 55, 56, 58, 59)),
)


def class_onset_scores(comparison: Comparison) -> Scores:
    """`Onset F1` of each class of `INSTRUMENT_CLASSES`, and of drums, key by key.

    Left out where the reference has no note of the class; 0 where only the estimate has none.
    """
    pitched, drums = comparison.pitched, comparison.drums
    counts = counts_by_class(pitched.onset_pairs, *_classes(pitched))
    named = {name: counts[index] for index, name in enumerate(INSTRUMENT_CLASSES) if index in counts}
    kit = drums.matchable
    named["Drums"] = Counts(len(drums.onset_matching), len(kit.reference), len(kit.estimate))
    return {f"Onset F1 ({name})": count.f1 for name, count in named.items() if count.reference}


def multi_instrument_scores(comparison: Comparison) -> Scores:
    """`Multi-instrument F1`: pitch, onset, offset and class; drums by key and onset.

    Unlike `Onset + offset + program F1 (midi_class)` it takes strings and
    ensembles for one, keys that are one drum too, and leaves out programs and
    keys outside their tables. 0 without an estimate (where YourMT3's code leaves
    the recording out); left out where the reference is empty.
    """
    pitched = comparison.pitched
    drums = comparison.drums.select(_drums_by_key)
    kit = [
        np.full(len(notes), DRUMS_INSTRUMENT)
        for notes in (drums.matchable.reference, drums.matchable.estimate)
    ]
    counts = total(
        (
            *counts_by_class(pitched.onset_offset_pairs, *_classes(pitched)).values(),
            *counts_by_class(drums.onset_pairs, *kit).values(),
        )
    )
    return {"Multi-instrument F1": counts.f1} if counts.reference else {}


def _classes(comparison: Comparison) -> tuple[np.ndarray, np.ndarray]:
    """The class of the notes of either side that last, index into `INSTRUMENT_CLASSES`."""
    table = np.full(NUM_PROGRAMS, NO_CLASS)
    for index, programs in enumerate(INSTRUMENT_CLASSES.values()):
        table[list(programs)] = index
    notes = comparison.matchable
    return table[notes.reference.program], table[notes.estimate.program]


def _drums_by_key(notes: Notes) -> Notes:
    """The drums of `_DRUM_KEYS`, each with the first of its keys."""
    first = {key: keys[0] for keys in _DRUM_KEYS for key in keys}
    notes = notes[np.isin(notes.pitch, list(first))]
    return notes.replace(pitch=[first[key] for key in notes.pitch.tolist()])


CLASSES: dict[str, Metric] = {
    "class_onset": Metric(class_onset_scores, all_notes=True),
    "multi_instrument": Metric(multi_instrument_scores, frozenset({"offset"}), all_notes=True),
}
