"""Which values fit which annotations, and what a message calls them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from mt3.cli.value_types import fits, in_words
from mt3.models.transformer import TransformerConfig


@pytest.mark.parametrize(
    ("hint", "good", "bad", "words"),
    [
        (int, [0, -3], [1.0, "1", True, None], "a whole number"),
        (float, [0, 0.5], ["0.5", True, None, (1.0,)], "a number"),
        (bool, [True, False], [0, 1, "True"], "True or False"),
        (str, ["", "text"], [1, None, ("a",)], "text"),
        (int | None, [1, None], ["1", 1.5], "a whole number or None"),
        (tuple[float, float], [(1, 2.5), [0, 1]], [(1,), (1, 2, 3), ("1", 2), 1], "(a number, a number)"),
        (tuple[int, ...], [(), (1, 2), [3]], [(1.5,), 1, "12"], "(..., ...), each a whole number"),
        (Sequence[int], [(), [1]], ["12", (None,)], "(..., ...), each a whole number"),
        (str | Sequence[str], ["a", ("a", "b")], [1, (1,)], "text or (..., ...), each text"),
        (Callable[[int], Any], [len, int], [3, "len"], "@NAME of what is to be called"),
        (TransformerConfig, [TransformerConfig()], [TransformerConfig, {}], "@TransformerConfig()"),
    ],
    ids=str,
)
def test_types(hint, good, bad, words):
    assert [value for value in good if not fits(value, hint)] == []
    assert [value for value in bad if fits(value, hint)] == []
    assert in_words(hint) == words


@pytest.mark.parametrize("hint", [Any, Mapping[str, int], "Forward"])
def test_other_annotations_are_taken_on_trust(hint):
    assert fits(object(), hint)
