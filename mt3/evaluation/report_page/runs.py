"""What is read of a results directory: its results, and the notes they were computed from."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

from mt3.evaluation.results import REFERENCES, TRANSCRIPTIONS, EvaluationResult, file_name, read_results
from mt3.inference.formats import read_notes
from mt3.symbolic.notes import Notes


@dataclasses.dataclass(frozen=True)
class Run:
    """One evaluation: a system on a set of recordings.

    Attributes:
      name: what it is called beside other runs.
      directory: of the results.
      result: what was found.
    """

    name: str
    directory: Path
    result: EvaluationResult

    def notes(self, id: str) -> tuple[Notes, Notes] | None:
        """Reference and estimate of a recording; None where one of them was not kept.

        Raises:
          ValueError: when a file does not hold notes.
          OSError: when one cannot be read.
        """
        paths = [self.directory / folder / f"{file_name(id)}.json" for folder in (REFERENCES, TRANSCRIPTIONS)]
        if not all(path.is_file() for path in paths):
            return None
        reference, estimate = map(read_notes, paths)
        return reference, estimate


def read_runs(directories: Sequence[str | os.PathLike[str]]) -> tuple[Run, ...]:
    """The runs of results directories, under names that tell them apart.

    Raises:
      OSError: when a directory has no results.json.
      ValueError: when one is no such file, or a directory is named twice.
    """
    paths = [Path(directory) for directory in directories]
    paths = [path.parent if path.is_file() else path for path in paths]
    places = [path.resolve() for path in paths]
    twice = [str(path) for path, place in zip(paths, places, strict=True) if places.count(place) > 1]
    if twice:
        raise ValueError(f"{twice[0]} is named {len(twice)} times; name each results directory once.")
    results = [read_results(path) for path in paths]
    return tuple(map(Run, _distinct_names(places), paths, results))


def _distinct_names(places: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as few as tell them apart."""
    for num_parts in range(1, max(len(place.parts) for place in places) + 1):
        names = ["/".join(place.parts[-num_parts:]) for place in places]
        if len(set(names)) == len(names):
            return names
    return [str(place) for place in places]
