"""Names of tasks: MT3's, in parts and put together."""

import pytest

from mt3.data.task_names import TASK_KINDS, TaskName, task_name
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

# As magenta/mt3 names them.
PUBLISHED_DATASETS = (
    "maestrov1",
    "maestrov3",
    "guitarset",
    "urmp",
    "musicnet",
    "musicnet_em",
    "cerberus4",
    "slakh",
)
PUBLISHED_VARIANTS = {
    "notes": Tokenizer(VocabularyConfig(127), ties=False),
    "notes_ties": Tokenizer(VocabularyConfig(127)),
    "notes_ties_vb1": Tokenizer(VocabularyConfig(1)),
    "onsets": Tokenizer(VocabularyConfig(127), ties=False, onsets_only=True),
    "notes_ties_ss50_ms5_vb1": Tokenizer(VocabularyConfig(1, 50, 5)),
}
PUBLISHED_KINDS = {
    "train": ("train", "train"),
    "eval_train": ("train", "eval"),
    "eval_train_full": ("train", "eval"),
    "validation": ("validation", "eval"),
    "validation_full": ("validation", "eval"),
    "test": ("test", "eval"),
}


def test_kinds_are_the_published_ones():
    assert {name: (kind.records_split, kind.split) for name, kind in TASK_KINDS.items()} == PUBLISHED_KINDS
    assert [name for name, kind in TASK_KINDS.items() if kind.is_training] == ["train"]


@pytest.mark.parametrize("variant", PUBLISHED_VARIANTS)
def test_names_are_put_together_and_taken_apart(variant):
    for dataset in (*PUBLISHED_DATASETS, "my_notes_2", "mega", "mega_without_musicnet_em"):
        for kind in PUBLISHED_KINDS:
            name = task_name(dataset, PUBLISHED_VARIANTS[variant], kind)
            assert name == f"{dataset}_{variant}_{kind}"
            assert TaskName.parse(name) == TaskName(dataset, variant, kind)


@pytest.mark.parametrize(
    "name", ["slakh", "slakh_notes", "slakh_chords_train", "_notes_train", "notes_train"]
)
def test_other_names_have_no_parts(name):
    assert TaskName.parse(name) is None
