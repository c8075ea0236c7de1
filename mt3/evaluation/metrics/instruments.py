"""Which instruments a transcription has, as MR-MT3 judges it.

Source: H. H. Tan et al., "MR-MT3: Memory retaining multi-track music
transcription to mitigate instrument leakage", 2024 (arXiv 2403.10024), and its
code, gudgud96/MR-MT3. An instrument leaks where its notes are spread over
several instruments, so that a transcription has more of them than there are.

Instruments are those of a program granularity; plain names are of `midi_class`,
the General MIDI families, which is what the references of the paper tell apart.
Drums are an instrument of their own. (The paper's script looks at program
numbers alone, so that drums there are one with the piano.) An instrument is
there if it has a note, of whatever length.
"""

from __future__ import annotations

import functools

import numpy as np

from mt3.evaluation.metrics.comparison import (
    Comparison,
    Counts,
    Metric,
    Scores,
    counts_by_class,
    instruments_of,
    total,
)
from mt3.symbolic.vocabularies import PROGRAM_GRANULARITIES

_GRANULARITIES = ("midi_class", "full")


def leakage_scores(comparison: Comparison) -> Scores:
    """Number of estimated instruments over number of reference instruments: 1 is right, more is leakage.

    Not a share: it has no upper bound, and 0 means an empty estimate. Means over
    recordings are means of ratios. Left out where the reference is empty.
    """
    scores: Scores = {}
    for granularity in _GRANULARITIES:
        counts = _instrument_counts(comparison, granularity)
        if counts.reference:
            name = f"Instrument leakage ratio{_suffix(granularity)}"
            scores[name] = counts.estimate / counts.reference
    return scores


def detection_scores(comparison: Comparison) -> Scores:
    """Precision, recall and F1 of the set of instruments, whatever they play.

    0 without an estimate; left out where the reference is empty.
    """
    scores: Scores = {}
    for granularity in _GRANULARITIES:
        counts = _instrument_counts(comparison, granularity)
        if counts.reference:
            scores |= counts.scores(f"Instrument detection {{}}{_suffix(granularity)}")
    return scores


def onset_program_scores(comparison: Comparison, granularity: str) -> Scores:
    """Pitch, onset and instrument: MR-MT3's multi-instrument F1.

    As `Onset + offset + program F1`, but offsets are not judged. 0 where a side is empty.
    """
    counts: list[Counts] = []
    for part in (comparison.pitched, comparison.drums):
        instruments = (
            instruments_of(notes, granularity)
            for notes in (part.matchable.reference, part.matchable.estimate)
        )
        counts += counts_by_class(part.onset_pairs, *instruments).values()
    return total(counts).scores(f"Onset + program {{}} ({granularity})")


def _instrument_counts(comparison: Comparison, granularity: str) -> Counts:
    reference, estimate = (
        np.unique(instruments_of(notes, granularity)) for notes in (comparison.reference, comparison.estimate)
    )
    return Counts(len(np.intersect1d(reference, estimate)), len(reference), len(estimate))


def _suffix(granularity: str) -> str:
    return "" if granularity == "midi_class" else f" ({granularity})"


INSTRUMENTS: dict[str, Metric] = {
    "instrument_leakage": Metric(leakage_scores, all_notes=True),
    "instrument_detection": Metric(detection_scores, all_notes=True),
    **{
        f"onset_program_{granularity}": Metric(
            functools.partial(onset_program_scores, granularity=granularity), all_notes=True
        )
        for granularity in PROGRAM_GRANULARITIES
    },
}
