"""Table 5 of the MT3 paper: datasets that were left out of training."""

from __future__ import annotations

from mt3.evaluation.published_results import PublishedScore
from mt3.evaluation.reproduction.plan import Table, Training
from mt3.evaluation.reproduction.tables.mt3_trainings import without


def _training_of(score: PublishedScore) -> Training:
    return without(score.dataset)


TABLE = Table(
    "table5",
    "MT3 trained on five datasets, scored on the sixth",
    _training_of,
    remark="one dataset is left out of each training, Slakh and Cerberus4 too",
)
