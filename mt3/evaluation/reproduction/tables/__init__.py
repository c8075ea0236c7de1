"""The published tables that can be run again: a file and a row of `TABLES` each."""

from __future__ import annotations

from mt3.evaluation.reproduction.plan import Table
from mt3.evaluation.reproduction.tables import (
    acoustic_transformer,
    ismir2021,
    mt3_table2,
    mt3_table3,
    mt3_table5,
)

TABLES: dict[str, Table] = {
    table.name: table
    for table in (
        mt3_table2.TABLE,
        mt3_table3.TABLE,
        mt3_table5.TABLE,
        ismir2021.TABLE,
        acoustic_transformer.TABLE,
    )
}


def find_table(name: str) -> Table:
    """The row of `TABLES` of that name.

    Raises:
      ValueError: there is none.
    """
    if name not in TABLES:
        raise ValueError(f"the table {name!r} is unknown: choose one of {', '.join(TABLES)}")
    return TABLES[name]
