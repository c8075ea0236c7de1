"""Where prepared datasets lie: in data directories, and in the directories in them.

Training, caching and evaluation find datasets by this one rule. What is missing
is named with the command that prepares it, unless it may be left out.
"""

from __future__ import annotations

import dataclasses
import itertools
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

from mt3.data.manifests import prepared_datasets
from mt3.data.sources import preparing_command
from mt3.data.sources.base import SPLITS

# One directory or several, each with datasets directly in it or in directories of it.
DataDirectories = str | Path | Sequence[str | Path]

# What is done about datasets that are not there.
MISSING_RULES = ("error", "leave_out")


class MissingDatasetError(ValueError):
    """A prepared dataset, or a task or cache of one, that is not there; one line with the remedy."""


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """Where a dataset lies.

    Attributes:
      name: of the dataset.
      directory: of its manifests and shards.
      splits: those that are finished, in the order of `SPLITS`.
    """

    name: str
    directory: Path
    splits: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.name} in {self.directory} ({', '.join(self.splits)})"


def directories_of(data_dir: DataDirectories) -> tuple[Path, ...]:
    """One or several directories as a tuple."""
    return (Path(data_dir),) if isinstance(data_dir, str | Path) else tuple(map(Path, data_dir))


def find_datasets(data_dir: DataDirectories) -> list[PreparedDataset]:
    """All prepared datasets, by name; one that is in several directories is there as often."""
    places: dict[Path, Path] = {}  # a directory may be named twice, also in two ways
    for directory in directories_of(data_dir):
        for place in (directory, *sorted(path for path in directory.glob("*") if path.is_dir())):
            places.setdefault(place.resolve(), place)
    found: dict[tuple[str, Path], list[str]] = {}
    for place, split in itertools.product(places.values(), SPLITS):
        for name in prepared_datasets(place, split):
            found.setdefault((name, place), []).append(split)
    return [PreparedDataset(name, place, tuple(splits)) for (name, place), splits in sorted(found.items())]


def choose_datasets(
    data_dir: DataDirectories,
    names: str | Sequence[str] | None = None,
    *,
    split: str | None = None,
    missing: str = "error",
) -> list[PreparedDataset]:
    """The datasets that are asked for.

    Args:
      data_dir: where to look.
      names: of datasets; None for all that are there (and have the split).
      split: that they must have; None for any.
      missing: of `MISSING_RULES`: whether a named dataset that is not prepared,
        or has no such split, is an error, or is left out with a warning.

    Returns:
      In the order of `names`, else by name.

    Raises:
      MissingDatasetError: when none is there, or a named one is not.
      ValueError: when a dataset is in several directories, or for an unknown rule.
    """
    found = find_datasets(data_dir)
    if names is None:
        chosen = [dataset for dataset in found if split is None or split in dataset.splits]
        if not chosen:
            raise MissingDatasetError(_nothing_prepared(data_dir, split))
        names = list(dict.fromkeys(dataset.name for dataset in chosen))
    names = [names] if isinstance(names, str) else list(names)
    prepared = {dataset.name: dataset for dataset in found}
    usable = leave_out_missing(names, prepared, missing, _where(data_dir), directories_of(data_dir)[0])
    chosen = [_only(name, [dataset for dataset in found if dataset.name == name]) for name in usable]
    if split is None:
        return chosen
    without = [dataset for dataset in chosen if split not in dataset.splits]
    if without and (missing == "error" or len(without) == len(chosen)):
        raise MissingDatasetError(
            f"{without[0].name} has no split {split!r}: prepared in {without[0].directory} "
            f"{'is' if len(without[0].splits) == 1 else 'are'} {', '.join(without[0].splits)}."
        )
    for dataset in without:
        logging.getLogger(__name__).warning("%s has no split %r; left out.", dataset, split)
    return [dataset for dataset in chosen if split in dataset.splits]


def leave_out_missing(
    names: Sequence[str], present: Iterable[str], missing: str, where: str, output_dir: Path | None = None
) -> list[str]:
    """Those of `names` that are `present`; about the others, what `missing` says.

    Args:
      names: of datasets that are wanted.
      present: datasets that are there.
      missing: of `MISSING_RULES`.
      where: what they were looked for in, and what is wrong, for the message.
      output_dir: that the commands shall name.

    Raises:
      MissingDatasetError: names all missing datasets and the commands that prepare them.
      ValueError: for an unknown rule.
    """
    if missing not in MISSING_RULES:
        raise ValueError(f"missing_datasets is {missing!r}; choose one of {', '.join(MISSING_RULES)}.")
    present = set(present)
    absent = [name for name in names if name not in present]
    if not absent:
        return list(names)
    message = f"{where}: {', '.join(absent)}"
    if missing == "leave_out" and len(absent) < len(names):
        logging.getLogger(__name__).warning("%s; left out.", message)
        return [name for name in names if name in present]
    options = [f" -o {output_dir / name}" if output_dir else "" for name in absent]
    commands = [f"`{preparing_command(name)}{option}`" for name, option in zip(absent, options, strict=True)]
    remedy = "; or set missing_datasets to 'leave_out'" if len(absent) < len(names) else ""
    raise MissingDatasetError(f"{message}; run {', '.join(commands)}{remedy}.")


def _only(name: str, places: Sequence[PreparedDataset]) -> PreparedDataset:
    if len(places) > 1:
        directories = ", ".join(str(place.directory) for place in places)
        raise ValueError(f"The dataset {name!r} is prepared more than once: name one of {directories}.")
    return places[0]


def _where(data_dir: DataDirectories) -> str:
    directories = directories_of(data_dir)
    if not any(directory.is_dir() for directory in directories):
        return f"{_listed(directories)} {'does' if len(directories) == 1 else 'do'} not exist; wanted"
    return f"Not prepared in {_listed(directories)}"


def _nothing_prepared(data_dir: DataDirectories, split: str | None) -> str:
    directories = directories_of(data_dir)
    plural = len(directories) > 1
    if any(directory.is_dir() for directory in directories):
        what = f"{'hold' if plural else 'holds'} no prepared dataset"
        what += f" with split {split!r}" if split else ""
    else:
        what = f"{'do' if plural else 'does'} not exist"
    return f"{_listed(directories)} {what}; run `mt3 prepare NAME -o {directories[0]}`, e.g. with synth."


def _listed(directories: Sequence[Path]) -> str:
    return ", ".join(map(str, directories))
