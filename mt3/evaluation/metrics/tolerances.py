"""Note scores at other tolerances than the usual 50 ms, and under other papers' names.

All are computed from the notes as they are. The published code has one such
sweep; it changes both tolerances at once, and scores notes that its frame
metrics, which come first, have lengthened to 50 ms. `onset_offset_sweep_scores`
is that sweep without the lengthening, under the published names.

Where a side is empty scores are 0, as for the published note metrics.
"""

from __future__ import annotations

import numpy as np

from mt3.evaluation.metrics.comparison import Comparison, Counts, Metric, Scores
from mt3.evaluation.note_matching import Pairs, maximum_matching, offsets_agree
from mt3.symbolic.notes import Notes

# Those of magenta/mt3's `_note_onset_tolerance_sweep`.
TOLERANCES_SECONDS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)

# A long recording has fewer; beyond, SciPy's compiled matching repays its import.
_MANY_CANDIDATES = 200_000
# Beyond, finding the very best matching by onset and offset may take minutes.
_MAX_CANDIDATES = 3_000_000


def onset_sweep_scores(comparison: Comparison) -> Scores:
    """`Onset F1` with onsets within 10 to 500 ms of one another, in place of 50 ms."""
    scores: Scores = {}
    for tolerance in TOLERANCES_SECONDS:
        pairs = comparison.onset_pairs_within(tolerance)
        scores[f"Onset F1 ({_milliseconds(tolerance)})"] = _counts(
            comparison, _matching_size(comparison.matchable, pairs)
        ).f1
    return scores


def offset_sweep_scores(comparison: Comparison) -> Scores:
    """Pitch, onset within 50 ms, and offset within 10 to 500 ms.

    Unlike `Onset + offset F1` the tolerance is the same for short and for long
    notes: 20 % of a long note would outweigh the smaller tolerances.
    """
    scores: Scores = {}
    for tolerance in TOLERANCES_SECONDS:
        pairs = _offsets_within(comparison, comparison.onset_pairs, tolerance, ratio=0.0)
        name = f"Onset + offset F1 (offset {_milliseconds(tolerance)})"
        scores[name] = _counts(comparison, _matching_size(comparison.matchable, pairs)).f1
    return scores


def onset_offset_sweep_scores(comparison: Comparison) -> Scores:
    """Onset and offset tolerance changed together, from 10 to 500 ms, as in magenta/mt3's `metrics.py`.

    The offset may also differ by 20 % of the reference note's length, where that is more.

    Raises:
      ValueError: when too many notes are alike (hundreds of thousands within minutes).
    """
    scores: Scores = {}
    for tolerance in TOLERANCES_SECONDS:
        pairs = _offsets_within(comparison, comparison.onset_pairs_within(tolerance), tolerance)
        if len(pairs) > _MAX_CANDIDATES:
            raise ValueError(
                f"{len(pairs)} pairs of notes have one pitch and agree within {tolerance} s, above the limit "
                f"of {_MAX_CANDIDATES}; remove duplicate notes or leave out the metric onset_offset_sweep."
            )
        counts = _counts(comparison, _matching_size(comparison.matchable, pairs))
        scores |= counts.scores(f"Onset + offset {{}} ({tolerance})")
    return scores


def fno_scores(comparison: Comparison) -> Scores:
    """What leaderboards list as Fno, "note-level F-measure-no-offset".

    It is mir_eval's `F-measure_no_offset`: pitch, and onset within 50 ms. Drums
    have no part. So it is the same number as `Onset F1`, under another name.
    """
    return {"Fno": _counts(comparison, len(comparison.onset_matching)).f1}


def onset_with_drums_scores(comparison: Comparison) -> Scores:
    """`Onset F1` of all notes, drums among them; instruments are not told apart.

    So MR-MT3's code computes what it calls onset F1 (H. H. Tan et al., "MR-MT3",
    2024): a drum may even answer a pitched note of the same number.
    """
    return {"Onset F1 (with drums)": _counts(comparison, len(comparison.onset_matching)).f1}


def _offsets_within(comparison: Comparison, pairs: Pairs, tolerance: float, **options: float) -> Pairs:
    notes = comparison.matchable
    return pairs[
        offsets_agree(notes.reference, notes.estimate, pairs, min_tolerance_seconds=tolerance, **options)
    ]


def _matching_size(notes: Comparison, candidates: Pairs) -> int:
    """`len(maximum_matching(candidates))`, in little time where a wide tolerance makes millions of pairs."""
    if len(candidates) <= _MANY_CANDIDATES:
        return len(maximum_matching(candidates))
    # Takes long to import, and which of the matchings it finds does not matter here.
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import maximum_bipartite_matching

    # In order of time, the first free candidate of each note is nearly always the right choice.
    references, estimates = _by_time(notes.reference), _by_time(notes.estimate)
    places = (references[candidates.reference], estimates[candidates.estimate])
    graph = coo_array((np.ones(len(candidates), bool), places)).tocsr()
    graph.sort_indices()
    return int((maximum_bipartite_matching(graph, perm_type="column") >= 0).sum())


def _by_time(notes: Notes) -> np.ndarray:
    """The place of each note among all, in order of pitch, then time."""
    places = np.empty(len(notes), np.int64)
    places[np.lexsort((notes.offset_seconds, notes.onset_seconds, notes.pitch))] = np.arange(len(notes))
    return places


def _counts(comparison: Comparison, hits: int) -> Counts:
    return Counts(hits, len(comparison.matchable.reference), len(comparison.matchable.estimate))


def _milliseconds(seconds: float) -> str:
    return f"{round(seconds * 1000)} ms"


TOLERANCES: dict[str, Metric] = {
    "onset_sweep": Metric(onset_sweep_scores),
    "offset_sweep": Metric(offset_sweep_scores, frozenset({"offset"})),
    "onset_offset_sweep": Metric(onset_offset_sweep_scores, frozenset({"offset"})),
}

LEADERBOARDS: dict[str, Metric] = {
    "fno": Metric(fno_scores),
    "onset_with_drums": Metric(onset_with_drums_scores, all_notes=True),
}
