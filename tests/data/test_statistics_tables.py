"""Tables of statistics: the right figures in the right cells, and a text that fits."""

import numpy as np
import pytest

from mt3.data.distributions import Distribution
from mt3.data.statistics import MT3_TOKENIZER, DatasetStatistics, Statistics
from mt3.data.statistics_tables import statistics_tables, statistics_text


def made_up(num_recordings, seconds, programs, tokens):
    lengths = Distribution.of(np.full(num_recordings, seconds / num_recordings))
    whole = Distribution.of([1, 2, 3, 10])
    return Statistics(
        num_recordings=num_recordings,
        seconds=seconds,
        num_notes=sum(programs.values()),
        programs=programs,
        program_recordings=dict.fromkeys(programs, num_recordings),
        recording_seconds=lengths,
        instruments=whole,
        polyphony=whole,
        notes_per_second=whole,
        note_seconds=Distribution.of([0.125, 0.25]),
        pitch=whole,
        velocity=whole,
        tokens=Distribution.of(tokens),
    )


@pytest.fixture
def statistics():
    splits = {
        "train": made_up(2, 7200.0, {"0": 12000, "40": 3000, "drums": 5000}, [100, 300, 1100, 100]),
        "test": made_up(1, 3600.0, {"0": 2000}, [50]),
    }
    return DatasetStatistics("made-up", splits, MT3_TOKENIZER, 256, 1024)


def test_cells(statistics):
    recordings, quantities, tokens, programs = statistics_tables(statistics)
    assert recordings.title == "Recordings of made-up"
    assert recordings.rows == (
        ("train", "2", "2.00", "20,000", "5,000", "2.78", "3"),
        ("test", "1", "1.00", "2,000", "0", "0.56", "1"),
        ("all", "3", "3.00", "22,000", "5,000", "2.04", "3"),
    )
    assert ("Notes sounding at a time", "train", "4.00", "1", "2", "10", "10", "10") in quantities.rows
    assert ("", "all", "0.188", "0.125", "0.125", "0.250", "0.250", "0.250") in quantities.rows
    assert tokens.title == "Tokens of a segment (256 frames, 2.048 s)"
    assert tokens.columns[-2:] == ("Above 1,024", "Share")
    assert tokens.rows[0] == ("train", "4", "400.0", "100", "1,100", "1,100", "1,100", "1", "25.000 %")
    assert tokens.rows[2][-2:] == ("1", "20.000 %")
    assert programs.columns == ("Instrument", "Program", "train", "test", "all", "Share", "Recordings")
    assert programs.rows == (
        ("Acoustic Grand Piano", "0", "12,000", "2,000", "14,000", "63.64 %", "3"),
        ("Violin", "40", "3,000", "0", "3,000", "13.64 %", "2"),
        ("Drums", "", "5,000", "0", "5,000", "22.73 %", "2"),
    )


def test_one_split_is_not_summed_up(statistics):
    one = DatasetStatistics("made-up", {"test": statistics.splits["test"]}, MT3_TOKENIZER, 256, 1024)
    for table in statistics_tables(one):
        assert not any("all" in row for row in (*table.rows, table.columns))


def test_all_rows_are_as_long_as_the_header(statistics):
    for table in statistics_tables(statistics):
        assert {len(row) for row in table.rows} == {len(table.columns)}


def test_the_text_holds_every_cell_and_fits(statistics):
    text = statistics_text(statistics, width=100)
    assert max(map(len, text.splitlines())) <= 100
    for table in statistics_tables(statistics):
        assert table.title in text
        for row in table.rows:
            line = [cell for cell in row if cell]
            assert any(all(cell in printed for cell in line) for printed in text.splitlines()), row


def test_nothing_has_statistics_too():
    nothing = DatasetStatistics("none", {"test": Statistics.merge([])}, MT3_TOKENIZER, 256, 1024)
    recordings, _, tokens, programs = statistics_tables(nothing)
    assert recordings.rows == (("test", "0", "0.00", "0", "0", "0.00", "0"),)
    assert tokens.rows[0][-1] == "0.000 %"
    assert programs.rows == ()
    assert "none" in statistics_text(nothing)
