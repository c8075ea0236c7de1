"""Table 2 of the MT3 paper: each dataset alone, and the mixture of all."""

from __future__ import annotations

from mt3.evaluation.published_results import MIXTURE, PublishedScore
from mt3.evaluation.reproduction.plan import Table, Training
from mt3.evaluation.reproduction.tables.mt3_trainings import on_dataset, on_mixture


def _training_of(score: PublishedScore) -> Training:
    return on_mixture() if score.system == MIXTURE else on_dataset(score.dataset)


TABLE = Table("table2", "MT3 trained on one dataset, and on the mixture of six", _training_of)
