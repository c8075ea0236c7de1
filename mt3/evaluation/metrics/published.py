"""The scores of the published MT3 code, on which all later papers build.

Without reference notes, without estimated notes or without both, precision,
recall and F1 are 0, and count in means, as published.
"""

from __future__ import annotations

import functools

from mt3.evaluation.frame_metrics import count_frames
from mt3.evaluation.metrics.comparison import Comparison, Counts, Metric, Scores
from mt3.evaluation.note_matching import Pairs, maximum_matching, velocities_agree
from mt3.symbolic.vocabularies import PROGRAM_GRANULARITIES, map_programs


def _note_counts(comparison: Comparison, hits: int) -> Counts:
    return Counts(hits, len(comparison.matchable.reference), len(comparison.matchable.estimate))


def onset_scores(comparison: Comparison) -> Scores:
    """Notes with the right pitch and an onset within 50 ms (mir_eval.transcription without offsets)."""
    return _note_counts(comparison, len(comparison.onset_matching)).scores("Onset {}")


def onset_offset_scores(comparison: Comparison) -> Scores:
    """And an offset within 50 ms or 20 % of the note's length (mir_eval.transcription)."""
    return _note_counts(comparison, len(comparison.onset_offset_matching)).scores("Onset + offset {}")


def onset_velocity_scores(comparison: Comparison) -> Scores:
    """Pitch, onset and, after a linear rescaling, velocity (mir_eval.transcription_velocity)."""
    return _velocity_counts(comparison, comparison.onset_matching).scores("Onset + velocity {}")


def onset_offset_velocity_scores(comparison: Comparison) -> Scores:
    """Pitch, onset, offset and velocity (mir_eval.transcription_velocity)."""
    counts = _velocity_counts(comparison, comparison.onset_offset_matching)
    return counts.scores("Onset + offset + velocity {}")


def _velocity_counts(comparison: Comparison, matching: Pairs) -> Counts:
    notes = comparison.matchable
    hits = velocities_agree(notes.reference, notes.estimate, matching)
    return _note_counts(comparison, int(hits.sum()))


def frame_scores(comparison: Comparison) -> Scores:
    """Cells of the piano roll, see `frame_metrics`; quiet reference notes count as silent."""
    both, reference, estimate = count_frames(comparison.reference, comparison.estimate)
    return Counts(both, reference, estimate).scores("Frame {}", ("Precision", "Recall", "F1"))


def program_scores(comparison: Comparison, granularity: str) -> Scores:
    """Pitch, onset, offset and instrument (J. Gardner et al., "MT3", ICLR 2022).

    A note matches only notes of its own instrument, told apart at a granularity
    of `PROGRAM_GRANULARITIES`. Drums match drums, by onset only.
    """
    pitched, drums = comparison.pitched, comparison.drums
    reference, estimate = (
        map_programs(notes.program, granularity)
        for notes in (pitched.matchable.reference, pitched.matchable.estimate)
    )
    pairs = pitched.onset_offset_pairs
    matching = maximum_matching(pairs[reference[pairs.reference] == estimate[pairs.estimate]])
    pitched_counts = _note_counts(pitched, len(matching))
    drum_counts = _note_counts(drums, len(drums.onset_matching))
    return {
        **(pitched_counts + drum_counts).scores(f"Onset + offset + program {{}} ({granularity})"),
        **drum_counts.scores(f"Drum onset {{}} ({granularity})"),
        **pitched_counts.scores(f"Nondrum onset + offset + program {{}} ({granularity})"),
    }


PUBLISHED: dict[str, Metric] = {
    "onset": Metric(onset_scores),
    "onset_offset": Metric(onset_offset_scores, frozenset({"offset"})),
    "onset_velocity": Metric(onset_velocity_scores, frozenset({"velocity"})),
    "onset_offset_velocity": Metric(onset_offset_velocity_scores, frozenset({"offset", "velocity"})),
    "frame": Metric(frame_scores),
    # The published set has these for onsets-only models too, although they judge offsets.
    **{
        f"program_{granularity}": Metric(
            functools.partial(program_scores, granularity=granularity), all_notes=True
        )
        for granularity in PROGRAM_GRANULARITIES
    },
}
