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


def test_means_of_several_recordings_stand_with_their_intervals():
    result = EvaluationResult(
        tuple(RecordingResult(id, {"Onset F1": value}, 1, 1) for id, value in (("a", 0.25), ("b", 0.75)))
    )
    # Of draws of two, the middle 95 % reach from one recording to the other.
    assert format_table({"system": result, "known": {"Onset F1": 0.5}}, ["Onset F1"]).splitlines()[2] == (
        "Onset F1  0.500 [0.250, 0.750]  0.500"
    )
    assert describe(result).splitlines()[1] == (
        "[low, high]: 95% bootstrap intervals over recordings of the mean"
    )


def test_the_first_of_many_skipped_are_named():
    skipped = tuple(Skipped(f"{number}", "lost") for number in range(25))
    lines = describe(EvaluationResult(RESULT.recordings, skipped)).splitlines()
    assert lines[1] == "skipped 0: lost"
    assert lines[20:] == ["skipped 19: lost", "and 5 more skipped"]
