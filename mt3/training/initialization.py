"""Where the parameters of a new run come from, if not from a random generator: fine-tuning.

What is not to be trained is the optimizer's matter: `OptimizerConfig.frozen`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax

from mt3.models.checkpoints import CheckpointMismatchError
from mt3.models.formats import open_model
from mt3.models.formats.base import StoredModel
from mt3.models.loading import described, read_finite
from mt3.models.tree_shapes import named_leaves, named_shapes, summarize
from mt3.training.optimizers import check_pattern
from mt3.training.step import Model

Rules = Sequence[tuple[str, str | None]]


@dataclasses.dataclass(frozen=True)
class InitialParameters:
    """The checkpoint that a run starts from, and which of its parameters go where.

    Attributes:
      path: a run's directory or one of its checkpoints, a T5X checkpoint's
        directory, a .safetensors, .npz or PyTorch file.
      rules: pairs of a regular expression for the whole path of a parameter of
        this run, and the path in the checkpoint that it is restored from, in
        which `\\1` stands for what the first group matched; None for an initial
        value of its own. The first rule that matches is taken; a parameter that
        none matches is restored from its own path.

    Raises:
      ValueError: a rule is no pair, or has no regular expression.
    """

    path: str
    rules: Rules = ()

    def __post_init__(self) -> None:
        for rule in self.rules:
            if len(rule) != 2:
                raise ValueError(f"initial parameters have the rule {rule!r}: give (pattern, source or None)")
            check_pattern("a rule of initial parameters", rule[0])
        # Lists come from gin files; tuples can be compared and hashed.
        object.__setattr__(self, "rules", tuple((pattern, source) for pattern, source in self.rules))

    def read(self, model: Model, rng: jax.Array) -> Any:
        """The parameters of a model: float32 arrays, in the tree of its `init`.

        Args:
          model: its `init` says which there are.
          rng: of those that are not restored.

        Raises:
          ValueError: a rule matches nothing.
          CheckpointMismatchError: a source is missing or of another shape.
          CheckpointError: the checkpoint cannot be read, or an array is not finite.
        """
        shapes = jax.eval_shape(model.init, rng)
        wanted = named_shapes(shapes)
        sources = resolve(self.rules, wanted)
        stored = open_model(self.path)
        _check(stored, sources, wanted)
        used = {source for source in sources.values() if source is not None}
        restored = read_finite(stored, {name: stored.arrays[name] for name in sorted(used)})
        fresh = named_leaves(model.init(rng)) if None in sources.values() else {}
        values = [fresh[name] if source is None else restored[source] for name, source in sources.items()]
        return jax.tree.unflatten(jax.tree.structure(shapes), values)


def resolve(rules: Rules, names: Iterable[str]) -> dict[str, str | None]:
    """For each parameter its source, None where it has none.

    Raises:
      ValueError: a rule matches no parameter that the rules before it have left, or
        its source refers to a group that there is not.
    """
    sources: dict[str, str | None] = {}
    unused = dict.fromkeys(rules)
    for name in names:
        sources[name] = name
        for pattern, template in rules:
            if found := re.fullmatch(pattern, name):
                sources[name] = None if template is None else _expand(found, template)
                unused.pop((pattern, template), None)
                break
    if unused:
        pattern, _ = next(iter(unused))
        raise ValueError(
            f"the rule {pattern!r} of initial parameters is the whole path of no parameter that the rules "
            f"before it leave: there are {summarize(list(sources), most=3)}"
        )
    return sources


def _expand(found: re.Match[str], template: str) -> str:
    try:
        return found.expand(template)
    except (re.error, IndexError) as error:
        raise ValueError(f"the source {template!r} of a rule of initial parameters: {error}") from error


def _check(
    stored: StoredModel,
    sources: Mapping[str, str | None],
    wanted: Mapping[str, tuple[tuple[int, ...], str]],
) -> None:
    """Raises a `CheckpointMismatchError` that names each source that is missing or does not fit."""
    there = named_shapes(described(stored.arrays))
    problems = []
    for name, source in sources.items():
        if source is None:
            continue
        label = name if source == name else f"{source} (for {name})"
        if source not in there:
            problems.append(f"{label} is not in it")
        elif there[source] != wanted[name]:
            (shape, dtype), (needed, _) = there[source], wanted[name]
            problems.append(f"{label} is {dtype}{list(shape)} in it, {list(needed)} here")
    if problems:
        raise CheckpointMismatchError(
            f"{stored.path} does not have what this run starts from: {summarize(problems)}. Give rules for "
            "these in InitialParameters.rules: (pattern, source), or (pattern, None) to start them anew"
        )
