"""NumPy archives: one member a parameter, named by its path. The model's spec is the zip's comment.

Read with NumPy's own parser of array headers and never with pickle; an array
of objects is refused by its type.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from pathlib import Path

import numpy as np

from mt3.files import atomic_path
from mt3.models.checkpoints import CheckpointError
from mt3.models.formats.base import Format, StoredArray, StoredModel, as_float32
from mt3.models.formats.pytorch_names import published_names

_SUFFIX = ".npy"
_DAMAGE = (OSError, ValueError, EOFError, NotImplementedError, RuntimeError, zipfile.BadZipFile, zlib.error)
_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def _recognizes(path: Path) -> bool:
    return path.suffix == ".npz"


def _open(path: Path) -> StoredModel:
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            comment = archive.comment
    except _DAMAGE as error:
        raise CheckpointError(
            f"{path} is no NumPy archive, or cut short ({error}): fetch it again"
        ) from error
    surplus = [name for name in names if not name.endswith(_SUFFIX)]
    if surplus:
        raise CheckpointError(
            f"{path} holds {surplus[0]!r}, which is no array: give an archive of arrays alone"
        )
    arrays = {name.removesuffix(_SUFFIX): _stored(path, name) for name in names}
    metadata = _metadata(comment)
    return StoredModel(path, published_names(arrays, path), metadata.get("spec"), metadata.get("step"))


def _stored(path: Path, member: str) -> StoredArray:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(member) as file:
            version = np.lib.format.read_magic(file)
            if version not in _HEADER_READERS:
                raise ValueError(f"version {version} of the array format")
            shape, _, dtype = _HEADER_READERS[version](file)
    except _DAMAGE as error:
        raise _damaged(path, member, error) from error

    def read() -> np.ndarray:
        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as file:
                return np.lib.format.read_array(file, allow_pickle=False)
        except _DAMAGE as error:
            raise _damaged(path, member, error) from error

    return StoredArray(tuple(shape), "object" if dtype.hasobject else str(dtype), read)


def _damaged(path: Path, member: str, error: Exception) -> CheckpointError:
    reason = " ".join(str(error).split()) or type(error).__name__
    return CheckpointError(
        f"{path}: {member.removesuffix(_SUFFIX)} is damaged or cut short ({reason}): fetch the file again"
    )


def _metadata(comment: bytes) -> dict:
    """What `_write` has put there; another program's comment says nothing."""
    try:
        values = json.loads(comment)
    except ValueError:
        return {}
    return values if isinstance(values, dict) and {"spec", "step"} == set(values) else {}


def _write(path: Path, model: StoredModel) -> None:
    with atomic_path(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
        for name in sorted(model.arrays):
            with archive.open(name + _SUFFIX, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, as_float32(model.arrays[name].read()), allow_pickle=False)
        spec = None if model.spec is None else dict(model.spec)
        archive.comment = json.dumps({"spec": spec, "step": model.step}).encode()


FORMAT = Format(_recognizes, _open, _write)
