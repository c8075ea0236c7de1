"""Statistics of a dataset as tables: plain rows of text, and a text to print."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Mapping

from mt3.data.distributions import Distribution
from mt3.data.statistics import QUANTITIES, DatasetStatistics, Statistics, instrument_name


@dataclasses.dataclass(frozen=True)
class Table:
    """A table to be printed.

    Attributes:
      title: what it is about.
      columns: their names.
      rows: cells, as many as columns; a row of empty cells separates groups.
      num_text_columns: the first so many hold words, the others numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    num_text_columns: int = 1


def statistics_tables(statistics: DatasetStatistics) -> list[Table]:
    """What `statistics_text` prints."""
    parts = statistics.parts()
    return [
        _recordings_table(statistics.name, parts),
        _quantities_table(parts),
        _tokens_table(statistics, parts),
        _programs_table(parts),
    ]


def _recordings_table(name: str, parts: Mapping[str, Statistics]) -> Table:
    rows = [
        (
            split,
            f"{part.num_recordings:,}",
            f"{part.hours:,.2f}",
            f"{part.num_notes:,}",
            f"{part.num_drum_notes:,}",
            f"{part.num_notes / part.seconds if part.seconds else 0:.2f}",
            f"{len(part.programs)}",
        )
        for split, part in parts.items()
    ]
    columns = ("Split", "Recordings", "Hours", "Notes", "Of drums", "Notes a second", "Instruments")
    return Table(f"Recordings of {name}", columns, tuple(rows))


def _quantities_table(parts: Mapping[str, Statistics]) -> Table:
    rows: list[tuple[str, ...]] = []
    for field, (title, decimals) in QUANTITIES.items():
        if field == "tokens":
            continue
        if rows:
            rows.append(("",) * 8)
        for index, (split, part) in enumerate(parts.items()):
            one: Distribution = getattr(part, field)
            quantiles = (one.minimum, *map(one.quantile, (0.5, 0.95, 0.99)), one.maximum)
            mean = f"{one.mean:,.{max(2, decimals)}f}"
            rows.append(
                ("" if index else title, split, mean, *(f"{value:,.{decimals}f}" for value in quantiles))
            )
    columns = ("Quantity", "Split", "Mean", "Least", "Median", "95 %", "99 %", "Most")
    return Table("Distributions", columns, tuple(rows), num_text_columns=2)


def _tokens_table(statistics: DatasetStatistics, parts: Mapping[str, Statistics]) -> Table:
    bound = statistics.max_target_tokens
    rows = []
    for split, part in parts.items():
        tokens = part.tokens
        too_long = tokens.weight_above(bound)
        rows.append(
            (
                split,
                f"{tokens.total:,.0f}",
                f"{tokens.mean:,.1f}",
                *(f"{value:,.0f}" for value in map(tokens.quantile, (0.5, 0.95, 0.99))),
                f"{tokens.maximum:,.0f}",
                f"{too_long:,.0f}",
                f"{100 * too_long / tokens.total if tokens.total else 0:.3f} %",
            )
        )
    segment_seconds = statistics.segment_frames / statistics.tokenizer.frames_per_second
    title = f"Tokens of a segment ({statistics.segment_frames} frames, {segment_seconds:g} s)"
    columns = ("Split", "Segments", "Mean", "Median", "95 %", "99 %", "Most", f"Above {bound:,}", "Share")
    return Table(title, columns, tuple(rows))


def _programs_table(parts: Mapping[str, Statistics]) -> Table:
    whole = list(parts.values())[-1]
    rows = [
        (
            instrument_name(key),
            key if key != "drums" else "",
            *(f"{part.programs.get(key, 0):,}" for part in parts.values()),
            f"{100 * num_notes / whole.num_notes:.2f} %",
            f"{whole.program_recordings[key]:,}",
        )
        for key, num_notes in whole.programs.items()
    ]
    columns = ("Instrument", "Program", *parts, "Share", "Recordings")
    return Table("Notes of each instrument", columns, tuple(rows))


def statistics_text(statistics: DatasetStatistics, width: int = 110) -> str:
    """The tables as text of at most so many columns."""
    from rich import box
    from rich.console import Console
    from rich.table import Table as RichTable

    console = Console(file=io.StringIO(), width=width, record=False, color_system=None)
    for table in statistics_tables(statistics):
        printed = RichTable(title=table.title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
        for index, column in enumerate(table.columns):
            justify = "left" if index < table.num_text_columns else "right"
            printed.add_column(column, justify=justify, no_wrap=True)
        for row in table.rows:
            printed.add_row(*row)
        console.print(printed)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
