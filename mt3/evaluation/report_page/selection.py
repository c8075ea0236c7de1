"""Which recordings of a report can be heard: bad and good ones, evenly between."""

from __future__ import annotations

from collections.abc import Sequence

from mt3.evaluation.report_page.audio import Piece
from mt3.evaluation.report_page.comparing import ComparedRun
from mt3.evaluation.report_page.runs import Run

# By which recordings are ranked: the first of these that a recording has.
_RANKING_METRICS = ("Onset + offset + program F1 (midi_class)", "Onset + offset F1", "Onset F1")


def choose_pieces(runs: Sequence[Run], comparisons: Sequence[ComparedRun]) -> list[Piece]:
    """All recordings with notes, in the order in which they get sound while there is room.

    The worst, the best, the median and so on, by the score of the first run that has the recording.
    """
    ranks: dict[str, float] = {}
    for run in runs:
        for recording in run.result.recordings:
            scores = [recording.scores[name] for name in _RANKING_METRICS if name in recording.scores]
            ranks.setdefault(recording.id, scores[0] if scores else 0.0)
    ids = dict.fromkeys(id for comparison in comparisons for id in comparison.errors)
    pieces = []
    for id in _spread(sorted(ids, key=lambda id: ranks[id])):
        found = {
            run: comparison.errors[id]
            for run, comparison in enumerate(comparisons)
            if id in comparison.errors
        }
        reference = next(iter(found.values())).reference
        pieces.append(Piece(id, reference, {run: errors.estimate for run, errors in found.items()}))
    return pieces


def _spread(ranked: Sequence[str]) -> list[str]:
    """First, last, middle, then the middles of the gaps: any number from the front is spread evenly."""
    order: list[int] = [0, len(ranked) - 1] if ranked else []
    gaps = [(0, len(ranked) - 1)]
    for first, last in gaps:
        middle = (first + last) // 2
        if last - first > 1:
            order.append(middle)
            gaps += [(first, middle), (middle, last)]
    return [ranked[index] for index in dict.fromkeys(order)]
