"""A training on this machine: where it is kept, and the commands that make it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path

from mt3.evaluation.reproduction.plan import Table, Training
from mt3.evaluation.reproduction.scales import SCALES, Scale, toy_prepare_arguments
from mt3.files import write_text
from mt3.models.checkpoints import CHECKPOINTS_FOLDER
from mt3.models.model import ARCHITECTURES

_SPLIT = "test"
_SETTINGS_FILE = "settings.json"
_LOCK_FILE = "lock"
# How a run is computed, which may change from one sitting to the next.
_MAY_CHANGE = ("TrainingRun.mesh=", "TrainingRun.compute=", "MeshConfig.", "ComputeConfig.")


@dataclasses.dataclass(frozen=True)
class Settings:
    """What all trainings of a call have in common.

    Attributes:
      work_dir: of all runs.
      data_dirs: of prepared datasets.
      cache_dir: of caches of datasets, or None.
      scale: how large runs are made.
      bindings: further NAME=VALUE for gin, of trainings alone.
    """

    work_dir: Path
    data_dirs: tuple[Path, ...] = (Path("data"),)
    cache_dir: Path | None = None
    scale: Scale = SCALES["paper"]
    bindings: tuple[str, ...] = ()

    @property
    def data_binding(self) -> str:
        """NAME=VALUE that says where datasets are."""
        directories = tuple(map(str, self.data_dirs))
        return f"DATA_DIR={(directories[0] if len(directories) == 1 else directories)!r}"

    @property
    def toy_music(self) -> Path:
        """Where a scale that makes up its data keeps the music."""
        return self.work_dir / "music"


@dataclasses.dataclass(frozen=True)
class Job:
    """One training and the evaluations that a table wants of it.

    Attributes:
      training: what is trained.
      datasets: that it is scored on.
      settings: of the call.
    """

    training: Training
    datasets: tuple[str, ...]
    settings: Settings

    @property
    def directory(self) -> Path:
        return self.settings.work_dir / self.training.name

    @property
    def run_dir(self) -> Path:
        """As `mt3 train` has it."""
        return self.directory / "run"

    @property
    def num_steps(self) -> int:
        """Updates in all, at the call's scale."""
        return self.settings.scale.num_steps or self.training.num_steps

    @property
    def checkpoint(self) -> Path:
        """The last one, which is scored."""
        return self.run_dir / CHECKPOINTS_FOLDER / str(self.num_steps)

    @property
    def needed_datasets(self) -> tuple[str, ...]:
        """That it learns from or is scored on."""
        return tuple(dict.fromkeys((*self.training.datasets, *self.datasets)))

    @property
    def is_possible(self) -> bool:
        """Whether its architecture is there."""
        return self.training.architecture in ARCHITECTURES

    def results_dir(self, dataset: str) -> Path:
        """As `mt3 eval` has it."""
        return self.directory / "results" / dataset

    def prepare_arguments(self, dataset: str) -> list[str]:
        """Of the `mt3` command that makes up a dataset; for scales that do."""
        return toy_prepare_arguments(dataset, self.settings.toy_music, self.settings.data_dirs[0] / dataset)

    def train_arguments(self) -> list[str]:
        """Of the `mt3` command that trains, or goes on with training."""
        files = [f"--gin_file={file}" for file in self._gin_files]
        bindings = [*self._bindings, self.settings.data_binding]
        if self.settings.cache_dir is not None:
            bindings.append(f"CACHE_DIR={str(self.settings.cache_dir)!r}")
        return ["train", *files, f"--run-dir={self.run_dir}", *(f"--gin.{one}" for one in bindings)]

    def eval_arguments(self, dataset: str, *, restart: bool = False) -> list[str]:
        """Of the `mt3` command that scores the trained model on a dataset.

        Args:
          restart: results of another model are in the way.
        """
        return [
            "eval",
            f"--checkpoint={self.checkpoint}",
            f"--task={dataset}_{self.training.tokens}_{_SPLIT}",
            *(f"--data-dir={directory}" for directory in self.settings.data_dirs),
            "--metrics=all",
            f"--output={self.results_dir(dataset)}",
            *(["--restart"] if restart else []),
        ]

    @property
    def _gin_files(self) -> tuple[str, ...]:
        return (*self.training.gin_files, *self.settings.scale.gin_files)

    @property
    def _bindings(self) -> list[str]:
        """Of gin, but for where the data lie."""
        own = (f"{name}={value!r}" for name, value in self.training.bindings.items())
        return [*own, f"TrainingRun.num_steps={self.num_steps}", *self.settings.bindings]

    @property
    def identity(self) -> dict[str, list[str]]:
        """What a directory must have been started with for this job to go on with it."""
        bindings = [one for one in self._bindings if not one.startswith(_MAY_CHANGE)]
        return {"gin_files": list(self._gin_files), "bindings": bindings}

    def write_identity(self) -> None:
        """Notes it, for `states.read_state`."""
        self.directory.mkdir(parents=True, exist_ok=True)
        write_text(self.directory / _SETTINGS_FILE, json.dumps(self.identity, indent=1) + "\n")

    def read_identity(self) -> dict[str, list[str]] | None:
        """What `write_identity` wrote; None where the job was not started from here."""
        try:
            return json.loads((self.directory / _SETTINGS_FILE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise ValueError(f"{self.directory / _SETTINGS_FILE} is damaged ({error})") from error

    @contextlib.contextmanager
    def lock(self) -> Iterator[int | None]:
        """Keeps other calls from the same job; gives a descriptor that holds it, or None where one has it.

        A process that inherits the descriptor holds the lock for as long as it lives.
        """
        import fcntl

        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / _LOCK_FILE).open("w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield None
            else:
                yield file.fileno()

    def is_locked(self) -> bool:
        """Whether some process works on it."""
        if not (self.directory / _LOCK_FILE).exists():
            return False
        with self.lock() as held:
            return held is None


def make_jobs(table: Table, settings: Settings) -> list[Job]:
    """The trainings of a table, in its order."""
    return [Job(training, datasets, settings) for training, datasets in table.trainings]
