"""MT3's names of tasks: which dataset, in which tokens, for what.

`{dataset}_{notes|onsets}[_ties][_ssN][_msN][_vbN]_{kind}`, e.g.
`maestrov3_notes_ties_vb1_train`. The names of mixtures have the same form
(`mt3.data.mixtures`). Plain Python, without TensorFlow.
"""

from __future__ import annotations

import dataclasses
import re

from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig


@dataclasses.dataclass(frozen=True)
class TaskKind:
    """What the last part of a task's name stands for.

    Attributes:
      records_split: split of the records.
      split: split of the task, as seqio users ask for it.
      is_training: random segments of chunks, not consecutive ones of recordings.
    """

    records_split: str
    split: str
    is_training: bool


_EVAL_TRAIN = TaskKind("train", "eval", is_training=False)
_VALIDATION = TaskKind("validation", "eval", is_training=False)

# The published `eval_train` and `validation` of large datasets are a few of their
# shards, `_full` all of them; here both are all.
TASK_KINDS: dict[str, TaskKind] = {
    "train": TaskKind("train", "train", is_training=True),
    "eval_train": _EVAL_TRAIN,
    "eval_train_full": _EVAL_TRAIN,
    "validation": _VALIDATION,
    "validation_full": _VALIDATION,
    "test": TaskKind("test", "eval", is_training=False),
}

# "eval" is of mixtures alone. Longer ones first, as some are ends of others.
_KINDS = "|".join(sorted({*TASK_KINDS, "eval"}, key=len, reverse=True))
_VARIANT = r"(?:notes|onsets)(?:_ties)?(?:_(?:ss|ms|vb)\d+)*"
_NAME = re.compile(rf"(?P<dataset>\w.*?)_(?P<variant>{_VARIANT})_(?P<kind>{_KINDS})")


@dataclasses.dataclass(frozen=True)
class TaskName:
    """The parts of a name.

    Attributes:
      dataset: a dataset, or a mixture of them.
      variant: what the tokens are, e.g. "notes_ties_vb1".
      kind: a name of `TASK_KINDS`, or "eval".
    """

    dataset: str
    variant: str
    kind: str

    def __str__(self) -> str:
        return f"{self.dataset}_{self.variant}_{self.kind}"

    @classmethod
    def parse(cls, name: str) -> TaskName | None:
        """The parts of a name; None where it has another form."""
        found = _NAME.fullmatch(name)
        return cls(**found.groupdict()) if found else None


def variant_name(tokenizer: Tokenizer) -> str:
    """What a tokenizer is called in names; settings that are not the default abbreviated."""
    vocabulary, default = tokenizer.vocabulary, VocabularyConfig()
    abbreviations = {
        "ss": (vocabulary.steps_per_second, default.steps_per_second),
        "ms": (vocabulary.max_shift_seconds, default.max_shift_seconds),
        "vb": (vocabulary.num_velocity_bins, default.num_velocity_bins),
    }
    parts = [
        "onsets" if tokenizer.onsets_only else "notes",
        *(["ties"] if tokenizer.ties else []),
        *(f"{short}{value}" for short, (value, usual) in abbreviations.items() if value != usual),
    ]
    return "_".join(parts)


def task_name(dataset: str, tokenizer: Tokenizer, kind: str) -> str:
    """MT3's name of a task."""
    return str(TaskName(dataset, variant_name(tokenizer), kind))
