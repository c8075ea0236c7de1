"""Reads the model of a run from its directory: spec and parameters, without any training code.

    RUN/best.json           {"step": STEP, ...} of the best checkpoint that is kept, where there is one
    RUN/checkpoints/STEP/   one checkpoint (Orbax), of items among which
        params              the model's parameters
        spec                JSON: the `ModelSpec`

Training writes more beside these; see `mt3.training.run_files`. Promises: what
is read fits the spec, or the error names the parameters that differ; every
error is one line. Orbax is imported only when something is read.
"""

from __future__ import annotations

import contextlib
import gc
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import jax

from mt3.models.model import ModelSpec, TranscriptionModel
from mt3.models.tree_shapes import shape_differences, summarize

CHECKPOINTS_FOLDER = "checkpoints"
BEST_FILE = "best.json"
PARAMS_ITEM = "params"
SPEC_ITEM = "spec"

_OTHERS = "a T5X checkpoint's directory, or a .safetensors, .npz or .pth file"

# What Orbax and TensorStore raise about files that are missing or not what they should be.
_DAMAGE = (OSError, ValueError, KeyError, TypeError)
_ABANDONED_READS_SECONDS = 0.2

_T = TypeVar("_T")


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written or read; the message is one line with the remedy."""


class CheckpointMismatchError(CheckpointError, ValueError):
    """A checkpoint is of another shape than what shall be filled from it."""


def find_checkpoint(path: str | Path) -> Path:
    """The directory of one checkpoint.

    Args:
      path: that directory itself (RUN/checkpoints/STEP), or the run's (RUN),
        whose best checkpoint is taken if kept, else the latest.

    Raises:
      CheckpointError: there is none.
    """
    path = Path(path).absolute()
    if not path.is_dir():
        what = "is a file" if path.exists() else "does not exist"
        raise CheckpointError(f"{path} {what}: give a run's directory or its checkpoints/STEP, {_OTHERS}")
    if (path / PARAMS_ITEM).is_dir():
        return path
    run_dir = path.parent if path.name == CHECKPOINTS_FOLDER else path
    folder = run_dir / CHECKPOINTS_FOLDER
    steps = checkpoint_steps(run_dir)
    if not steps:
        raise CheckpointError(
            f"{path} holds no checkpoint: give a run's directory with {CHECKPOINTS_FOLDER}/STEP in it, "
            f"{_OTHERS}; or train until the first checkpoint is written"
        )
    best = _best_step(run_dir / BEST_FILE)
    return folder / str(best if best in steps else max(steps))


def checkpoint_steps(run_dir: str | Path) -> set[int]:
    """The steps of the whole checkpoints of a run; none where there is no such directory."""
    folder = Path(run_dir) / CHECKPOINTS_FOLDER
    # A checkpoint still being written, or cut short, has a longer name than its step.
    return {int(entry.name) for entry in folder.glob("*") if entry.name.isdecimal() and entry.is_dir()}


def read_spec(path: str | Path) -> ModelSpec:
    """The `ModelSpec` of a checkpoint; see `find_checkpoint` for the path.

    Raises:
      CheckpointError: there is no checkpoint, or its spec cannot be read.
    """
    step_dir = find_checkpoint(path)

    def restore(checkpointer: Any, ocp: Any) -> Any:
        wanted = ocp.args.Composite(**{SPEC_ITEM: ocp.args.JsonRestore()})
        return checkpointer.restore(step_dir, args=wanted)[SPEC_ITEM]

    values = _read(step_dir, restore)
    if not values:
        raise CheckpointError(f"{step_dir} says nothing of its model ({SPEC_ITEM} is empty): train it again")
    try:
        return ModelSpec.from_dict(values)
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{step_dir} is of a model that this version does not know: {error}. "
            "Use the version that wrote it"
        ) from error


def read_params(path: str | Path, spec: ModelSpec | None = None) -> dict[str, Any]:
    """The parameters of a checkpoint, on the default device, as `TranscriptionModel` takes them.

    Args:
      path: see `find_checkpoint`.
      spec: the model that they shall fit; the checkpoint's own by default.

    Raises:
      CheckpointMismatchError: they are of another shape; says which differ in what.
      CheckpointError: there is no checkpoint, or it cannot be read.
    """
    step_dir = find_checkpoint(path)
    wanted = TranscriptionModel(read_spec(step_dir) if spec is None else spec).abstract_params()
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    targets = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), wanted)

    def restore(checkpointer: Any, ocp: Any) -> Any:
        stored = checkpointer.metadata(step_dir).item_metadata[PARAMS_ITEM]
        _check_fits(step_dir, getattr(stored, "tree", stored), wanted)
        filled = ocp.args.Composite(**{PARAMS_ITEM: ocp.args.StandardRestore(targets)})
        return checkpointer.restore(step_dir, args=filled)[PARAMS_ITEM]

    return _read(step_dir, restore)


def read_item(path: str | Path, item: str) -> dict[str, Any]:
    """The arrays of any item of a checkpoint, as nested dictionaries and lists of JAX arrays.

    Args:
      path: see `find_checkpoint`.
      item: its name; training describes its own.

    Raises:
      CheckpointError: there is no checkpoint, or it cannot be read.
    """
    step_dir = find_checkpoint(path)
    if not (step_dir / item).is_dir():
        raise CheckpointError(f"{step_dir} has no {item}: only its parameters can be used")
    device = jax.sharding.SingleDeviceSharding(jax.devices()[0])

    def restore(checkpointer: Any, ocp: Any) -> Any:
        stored = checkpointer.metadata(step_dir).item_metadata[item]
        targets = jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=device), getattr(stored, "tree", stored)
        )
        wanted = ocp.args.Composite(**{item: ocp.args.StandardRestore(targets)})
        return checkpointer.restore(step_dir, args=wanted)[item]

    return _read(step_dir, restore, item)


def _best_step(path: Path) -> int | None:
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["step"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({error}): remove it to use the latest checkpoint"
        ) from error


def _read(step_dir: Path, read: Callable[[Any, Any], _T], arrays_item: str = PARAMS_ITEM) -> _T:
    """`read(checkpointer, orbax)`, where whatever Orbax raises about the files becomes one line."""
    import orbax.checkpoint as ocp

    handler = ocp.CompositeCheckpointHandler(
        **{arrays_item: ocp.StandardCheckpointHandler(), SPEC_ITEM: ocp.JsonCheckpointHandler()}
    )
    with _no_stray_reports():
        try:
            with ocp.Checkpointer(handler) as checkpointer:
                return read(checkpointer, ocp)
        except CheckpointError:
            raise
        except Exception as error:
            # A damaged array reaches us as a bare Exception around TensorStore's.
            if type(error) is not Exception and not isinstance(error, _DAMAGE):
                raise
            cause = error if error.__cause__ is None else error.__cause__
            reason = " ".join(str(cause).split())[:300] or type(cause).__name__
        # The other arrays' reads, abandoned by the failed one, end and are collected here.
        time.sleep(_ABANDONED_READS_SECONDS)
        gc.collect()
    raise CheckpointError(
        f"cannot read the checkpoint {step_dir}: {reason}. If it is damaged, use another one of the run"
    )


@contextlib.contextmanager
def _no_stray_reports() -> Iterator[None]:
    """Keeps a failed read, which is raised, from being printed again for every other array.

    Orbax raises the first failure, closes its event loop and drops the other
    reads; each then fails to call back, and Python prints a traceback of it.
    """

    def is_stray(error: BaseException | None) -> bool:
        return isinstance(error, GeneratorExit) or str(error) == "Event loop is closed"

    def report(unraisable: Any) -> None:
        error = unraisable.exc_value
        if not is_stray(error) and not is_stray(getattr(error, "__cause__", None)):
            report_before(unraisable)

    report_before, sys.unraisablehook = sys.unraisablehook, report
    try:
        yield
    finally:
        sys.unraisablehook = report_before


def _check_fits(step_dir: Path, stored: Any, wanted: Any) -> None:
    differences = shape_differences(stored, wanted)
    if differences:
        raise CheckpointMismatchError(
            f"the checkpoint {step_dir} is of another model: {summarize(differences)}. "
            "Give the configuration that it was trained with"
        )
