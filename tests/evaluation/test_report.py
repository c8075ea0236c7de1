"""Tables of scores as text."""

import io

from rich.console import Console

from mt3.evaluation.report import describe, format_table, rich_table
from mt3.evaluation.results import EvaluationResult, RecordingResult, Skipped

RESULT = EvaluationResult(
    (RecordingResult("a", {"Onset F1": 0.5, "Frame F1": 0.25}, 3, 4, invalid_events=2, dropped_events=1),),
    (Skipped("b", "b.wav is empty."),),
)


def test_a_plain_table():
    assert format_table({"trained": RESULT, "baseline": {"Onset F1": 0.1234}}, ["Onset F1", "Frame F1"]) == (
        "Metric    trained  baseline\n"
        "--------  -------  --------\n"
        "Onset F1    0.500     0.123\n"
        "Frame F1    0.250         -"
    )


def test_all_metrics_and_a_title():
    table = format_table({"trained": RESULT}, None, title="Test split", decimals=1)
    assert table.splitlines()[0] == "Test split"
    assert [line.split()[-1] for line in table.splitlines()[3:]] == ["0.5", "0.2"]


def test_a_rich_table_has_the_same_cells():
    console = Console(file=io.StringIO(), width=100)
    console.print(rich_table({"trained": RESULT, "untrained": {}}, ["Onset F1"], title="Scores"))
    text = console.file.getvalue()
    assert "Scores" in text
    (row,) = (line for line in text.splitlines() if "Onset F1" in line)
    assert row.replace("│", " ").split() == ["Onset", "F1", "0.500", "-"]


def test_what_was_not_scored_is_said():
    assert describe(RESULT) == (
        "recordings scored: 1, skipped: 1; events invalid: 2, dropped: 1\nskipped b: b.wav is empty."
    )
