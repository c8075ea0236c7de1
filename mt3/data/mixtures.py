"""MT3's mixtures: their names, and the datasets that they are of.

`mega_notes_ties_vb1_train` and `mega_notes_ties_vb1_eval` are of all datasets of
a group (for any tokens that tasks have, so `mega_notes_train` too), and
`mega_without_slakh_notes_ties_vb1_train` of all but one. A name becomes a
mixture when it is asked for (`mt3.data.tasks.find_provider`). Plain Python,
without TensorFlow.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from mt3.data.task_names import TaskName

# Rates of a mixture are n^(1 / temperature).
MIXTURE_TEMPERATURE = 10 / 3

# Which datasets are mixed, under a name for configurations.
DATASET_GROUPS: dict[str, tuple[str, ...]] = {
    # Gardner et al., ICLR 2022.
    "paper": ("maestrov3", "cerberus4", "guitarset", "musicnet", "slakh", "urmp"),
    # The code as published after it: MusicNet with realigned labels.
    "later_code": ("maestrov3", "cerberus4", "guitarset", "musicnet_em", "slakh", "urmp"),
}

# Last part of a mixture's name -> that of its tasks'.
MIXTURE_KINDS = {"train": "train", "eval": "validation"}

_ALL = "mega"
_ALL_BUT = "mega_without_"


@dataclasses.dataclass(frozen=True)
class Members:
    """What a name stands for.

    Attributes:
      name: of the task or mixture.
      task_names: its tasks.
      is_mixture: whether they are mixed; one task may be a mixture too.
    """

    name: str
    task_names: tuple[str, ...]
    is_mixture: bool


def mixture_datasets(group: str | Sequence[str] = "paper", left_out: str | None = None) -> tuple[str, ...]:
    """The datasets of a group, or those given.

    Args:
      group: a name of `DATASET_GROUPS`, or names of datasets.
      left_out: one of them that is left out.

    Raises:
      ValueError: for a group that is unknown, or when `left_out` is not in it.
    """
    if isinstance(group, str) and group not in DATASET_GROUPS:
        raise ValueError(
            f"There is no group of datasets {group!r}; choose one of {', '.join(DATASET_GROUPS)}, "
            "or list datasets."
        )
    datasets = DATASET_GROUPS[group] if isinstance(group, str) else tuple(group)
    if left_out is not None and left_out not in datasets:
        raise ValueError(
            f"{left_out!r} cannot be left out: the datasets of the mixture are {', '.join(datasets)}."
        )
    return tuple(dataset for dataset in datasets if dataset != left_out)


def mixture_name(left_out: str | None = None, variant: str = "notes_ties_vb1", kind: str = "train") -> str:
    """The name of the mixture of all datasets, or of all but one.

    Args:
      left_out: the dataset that is not in it; None for none.
      variant: of the tokens, as in the names of tasks.
      kind: "train" or "eval".
    """
    return str(TaskName(_ALL if left_out is None else _ALL_BUT + left_out, variant, kind))


def members_of(task: str | Sequence[str], group: str | Sequence[str] = "paper") -> Members:
    """The tasks that the name of a task or mixture, or several names, stand for.

    Args:
      task: the name, or names, which then are a mixture.
      group: the datasets of `mega` mixtures, as for `mixture_datasets`.

    Raises:
      ValueError: when a mixture leaves out a dataset that it would not have, or
        when no name is given.
    """
    if isinstance(task, str):
        task_names = _mixture_task_names(task, group)
        return Members(task, task_names or (task,), is_mixture=task_names is not None)
    names = [name for one in task for name in members_of(one, group).task_names]
    if not names:
        raise ValueError("task is an empty list; name at least one task or mixture.")
    return Members("+".join(task), tuple(dict.fromkeys(names)), is_mixture=True)


def _mixture_task_names(name: str, group: str | Sequence[str]) -> tuple[str, ...] | None:
    """None where the name is no mixture's."""
    parts = TaskName.parse(name)
    if parts is None or parts.kind not in MIXTURE_KINDS:
        return None
    if parts.dataset != _ALL and not parts.dataset.startswith(_ALL_BUT):
        return None
    left_out = None if parts.dataset == _ALL else parts.dataset.removeprefix(_ALL_BUT)
    kind = MIXTURE_KINDS[parts.kind]
    return tuple(str(TaskName(dataset, parts.variant, kind)) for dataset in mixture_datasets(group, left_out))
