"""The trainings of the MT3 paper (Gardner et al., ICLR 2022), which its tables share."""

from __future__ import annotations

from mt3.evaluation.published_results import MT3_DATASETS
from mt3.evaluation.reproduction.plan import Training

_SMALL = "mt3_small.gin"
_MIXTURE_STEPS = 1_000_000
_SINGLE_DATASET_STEPS = 2**19


def on_mixture(granularity: str = "full") -> Training:
    """On all six datasets, telling instruments apart at a granularity."""
    is_usual = granularity == "full"
    return Training(
        "mt3_mixture" if is_usual else f"mt3_mixture_{granularity}",
        (_SMALL,),
        {} if is_usual else {"VocabularyConfig.program_granularity": granularity},
        _MIXTURE_STEPS,
        MT3_DATASETS,
    )


def on_dataset(dataset: str) -> Training:
    """On one dataset alone."""
    return Training(
        f"mt3_{dataset}",
        (_SMALL,),
        {"TASK": f"{dataset}_notes_ties_vb1_train", "DATASETS": dataset},
        _SINGLE_DATASET_STEPS,
        (dataset,),
    )


def without(dataset: str) -> Training:
    """On all of the datasets but one."""
    return Training(
        f"mt3_without_{dataset}",
        (_SMALL, "leave_one_out.gin"),
        {"LEFT_OUT": dataset},
        _MIXTURE_STEPS,
        tuple(other for other in MT3_DATASETS if other != dataset),
    )
