"""Which recordings can be heard first."""

from pathlib import Path

import pytest

from mt3.evaluation.note_errors import find_note_errors
from mt3.evaluation.report_page.comparing import ComparedRun
from mt3.evaluation.report_page.runs import Run
from mt3.evaluation.report_page.selection import choose_pieces
from mt3.evaluation.results import EvaluationResult, RecordingResult
from mt3.symbolic.notes import Notes

NOTHING = find_note_errors(Notes.empty(), Notes.empty())


def run_of(scores):
    recordings = tuple(RecordingResult(id, {"Onset F1": value}, 0, 0) for id, value in scores.items())
    return Run("run", Path("run"), EvaluationResult(recordings))


@pytest.mark.parametrize(
    ("ids", "expected"),
    [("", ""), ("a", "a"), ("ab", "ab"), ("abc", "acb"), ("abcde", "aecbd"), ("abcdefg", "agdbecf")],
)
def test_worst_best_median_and_so_on(ids, expected):
    scores = {id: place / 10 for place, id in enumerate(ids)}
    pieces = choose_pieces([run_of(scores)], [ComparedRun(dict.fromkeys(reversed(ids), NOTHING), {})])
    assert "".join(piece.id for piece in pieces) == expected


def test_only_what_has_notes_and_the_estimates_of_all_runs():
    runs = [run_of({"a": 0.5, "b": 0.1}), run_of({"a": 0.2, "c": 0.3})]
    comparisons = [ComparedRun({"a": NOTHING}, {"b": "lost"}), ComparedRun({"a": NOTHING, "c": NOTHING}, {})]
    pieces = choose_pieces(runs, comparisons)
    assert [(piece.id, list(piece.estimates)) for piece in pieces] == [("c", [1]), ("a", [0, 1])]
