"""Table 3 of the MT3 paper: models that tell instruments apart more or less finely."""

from __future__ import annotations

from mt3.evaluation.published_results import PROGRAM, PublishedScore
from mt3.evaluation.reproduction.plan import Table, Training
from mt3.evaluation.reproduction.tables.mt3_trainings import on_mixture
from mt3.symbolic.vocabularies import PROGRAM_GRANULARITIES

_BY_METRIC = {PROGRAM.format(granularity): on_mixture(granularity) for granularity in PROGRAM_GRANULARITIES}


def _training_of(score: PublishedScore) -> Training:
    return _BY_METRIC[score.metric]


TABLE = Table(
    "table3",
    "MT3 trained on the mixture, with instruments told apart at three granularities",
    _training_of,
    remark="a training for each granularity; that of full is also table2's mixture",
)
