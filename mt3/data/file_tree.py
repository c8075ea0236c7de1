"""The files of a published dataset, wherever they lie: in folders, zip or tar archives.

`open_tree` lists what a folder, an archive, or a folder of archives holds, as one
tree of names. A file in a folder is a `Path`; a file in an archive is an
`ArchiveMember`, which opens, reads and can be sent to other processes just as
well. Nothing is extracted: zip files are read by range, and a compressed tar is
passed through once, to note where in it decompression can start, after which
any member costs the decompression of a few megabytes.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import hashlib
import io
import json
import tarfile
import threading
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

import tqdm

from mt3 import files

# Suffixes of archives -> how they are read.
ARCHIVE_KINDS: dict[str, str] = {".zip": "zip", ".tar": "tar", ".tar.gz": "targz", ".tgz": "targz"}

# Where decompression can start in a compressed tar: so many uncompressed bytes apart.
_SEEK_SPACING_BYTES = 4 << 20


class FileTreeError(ValueError):
    """Input that is not there or an archive that cannot be read; the message says the remedy."""


@dataclasses.dataclass(frozen=True)
class ArchiveMember:
    """A file in an archive.

    Attributes:
      archive: path of the archive.
      member: name in it.
      size: in bytes, uncompressed.
      offset: where it starts in the (uncompressed) tar; 0 in a zip.
      index: path of the seek points of a compressed tar; empty for other archives.
    """

    archive: str
    member: str
    size: int
    offset: int = 0
    index: str = ""

    def __str__(self) -> str:
        return f"{self.archive}!{self.member}"

    @property
    def name(self) -> str:
        return PurePosixPath(self.member).name

    @property
    def stem(self) -> str:
        return PurePosixPath(self.member).stem

    @property
    def suffix(self) -> str:
        return PurePosixPath(self.member).suffix

    def open(self, mode: str = "rb") -> BinaryIO:
        """A seekable binary file, to be read from any one thread."""
        if mode != "rb":
            raise ValueError(f"{self} can only be read; mode is {mode!r}.")
        return io.BufferedReader(_Member(self), 1 << 16)

    def read_bytes(self) -> bytes:
        """The whole content.

        Raises:
          OSError: when the archive is damaged there.
        """
        with self.open() as file:
            return file.read()


# A file of a dataset. Both kinds have `name`, `stem`, `suffix`, `open("rb")` and `read_bytes()`.
FileRef = Path | ArchiveMember


def size_of(file: FileRef) -> int:
    """Bytes of a file."""
    return file.size if isinstance(file, ArchiveMember) else file.stat().st_size


@dataclasses.dataclass(frozen=True)
class FileTree:
    """Files by name: paths relative to the input, with `/`, in order of names."""

    files: Mapping[str, FileRef]

    def find(self, pattern: str) -> dict[str, FileRef]:
        """Files whose last parts match `pattern`, part by part, e.g. `stems/S*.flac`; sorted by name.

        Names are compared without regard to case; `*` does not match `/`.
        """
        wanted = pattern.lower().split("/")
        return {name: file for name, file in self.files.items() if _matches(name, wanted)}

    def find_one(self, pattern: str, what: str) -> tuple[str, FileRef]:
        """The one file that matches.

        Raises:
          FileTreeError: when there is none, or several; `what` names it for people.
        """
        found = self.find(pattern)
        if len(found) != 1:
            listed = (
                f"{len(found)} files match it: {', '.join(list(found)[:3])}" if found else "there is none"
            )
            raise FileTreeError(f"The input must hold {what} ({pattern}); {listed}.")
        return next(iter(found.items()))

    def sibling(self, name: str, relative: str) -> FileRef | None:
        """The file at `relative` to the folder of the file `name`; None where there is none."""
        return self.files.get(str(PurePosixPath(name).parent / relative))


def _matches(name: str, wanted: Sequence[str]) -> bool:
    parts = name.lower().split("/")[-len(wanted) :]
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def open_tree(inputs: Iterable[Path | str], *, index_dir: Path | str | None = None) -> FileTree:
    """Lists all files of folders and archives.

    The members of an archive that lies in a folder are listed below the archive's
    name without its suffix: `audio_mono-mic.zip` gives `audio_mono-mic/...`.
    Hidden files and what macOS adds to archives are left out.

    Args:
      inputs: folders, archives or single files.
      index_dir: where the seek points of compressed tars are kept; by default
        in the user's cache directory. Workers on other machines must see it.

    Raises:
      FileTreeError: for an input that is not there or a damaged archive.
    """
    index_dir = Path(index_dir) if index_dir else files.cache_directory() / "archives"
    found: dict[str, FileRef] = {}
    for given in map(Path, inputs):
        if not given.exists():
            raise FileTreeError(f"{given} does not exist; name the folder or archive of the download.")
        top = [given] if given.is_file() else sorted(path for path in given.rglob("*") if path.is_file())
        for path in top:
            name = path.name if given.is_file() else path.relative_to(given).as_posix()
            for member, file in _expand(path, name, index_dir):
                if not _is_hidden(member):
                    found[member] = file
    return FileTree(dict(sorted(found.items())))


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _expand(path: Path, name: str, index_dir: Path) -> Iterator[tuple[str, FileRef]]:
    """The file itself, or what it holds if it is an archive."""
    suffix = next((suffix for suffix in ARCHIVE_KINDS if name.lower().endswith(suffix)), None)
    if suffix is None:
        yield name, path
        return
    prefix = name[: -len(suffix)]
    try:
        for member in _LISTERS[ARCHIVE_KINDS[suffix]](path, index_dir):
            yield f"{prefix}/{PurePosixPath(member.member)}", member
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError) as error:
        reason = str(error) or type(error).__name__
        raise FileTreeError(f"{path} is damaged or cut short ({reason}); fetch it again.") from error


def _list_zip(path: Path, index_dir: Path) -> Iterator[ArchiveMember]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                yield ArchiveMember(str(path), info.filename, info.file_size)


def _list_tar(path: Path, index_dir: Path) -> Iterator[ArchiveMember]:
    with tarfile.open(path, "r:") as archive:
        yield from _tar_members(path, archive, "")


def _list_compressed_tar(path: Path, index_dir: Path) -> Iterator[ArchiveMember]:
    """The members. The first pass notes them and where decompression can start, for the next time."""
    stat = path.stat()
    key = hashlib.sha256(f"{path.resolve()}\n{stat.st_size}\n{stat.st_mtime_ns}".encode()).hexdigest()[:32]
    index, listing = index_dir / f"{key}.gzidx", index_dir / f"{key}.json"
    if not (index.exists() and listing.exists()):
        index_dir.mkdir(parents=True, exist_ok=True)
        members = _index_compressed_tar(path, index)
        files.write_text(listing, json.dumps([dataclasses.astuple(member) for member in members]))
    yield from (ArchiveMember(*row) for row in json.loads(listing.read_text()))


def _index_compressed_tar(path: Path, index: Path) -> list[ArchiveMember]:
    import indexed_gzip

    members = []
    with (
        path.open("rb") as compressed,
        indexed_gzip.IndexedGzipFile(fileobj=compressed, spacing=_SEEK_SPACING_BYTES) as content,
        tqdm.tqdm(
            total=path.stat().st_size,
            unit="B",
            unit_scale=True,
            desc=f"Listing {path.name}",
            delay=1.0,
            disable=None,
        ) as bar,
        tarfile.open(fileobj=content, mode="r:") as archive,
    ):
        for member in _tar_members(path, archive, str(index)):
            members.append(member)
            bar.update(max(0, compressed.tell() - bar.n))
        content.build_full_index()
        with files.atomic_path(index) as temporary:
            content.export_index(str(temporary))
    return members


def _tar_members(path: Path, archive: tarfile.TarFile, index: str) -> Iterator[ArchiveMember]:
    for info in archive:
        if info.isfile():
            yield ArchiveMember(str(path), info.name, info.size, info.offset_data, index)


_LISTERS = {"zip": _list_zip, "tar": _list_tar, "targz": _list_compressed_tar}


class _Container:
    """An opened zip or compressed tar, shared by the threads of a process."""

    def __init__(self, path: str, index: str) -> None:
        self.lock = threading.Lock()
        self.zip: zipfile.ZipFile | None = None
        self.stream: Any = None
        if index:
            import indexed_gzip

            known = {"index_file": index} if Path(index).exists() else {}
            self.stream = indexed_gzip.IndexedGzipFile(path, spacing=_SEEK_SPACING_BYTES, **known)
        else:
            self.zip = zipfile.ZipFile(path)


@functools.lru_cache(maxsize=16)
def _open_container(path: str, index: str) -> _Container:
    # Kept open: opening a large zip file reads its whole table of contents.
    return _Container(path, index)


class _Member(io.RawIOBase):
    """A member as a seekable file.

    Seeking only notes the position. Going back in a compressed zip member means
    decompressing it from its start, so that is done only where something is read.
    """

    def __init__(self, member: ArchiveMember) -> None:
        self._member = member
        self._position = 0
        self._container: _Container | None = None
        self._own: Any = None  # this member's file in a zip, or the tar that it lies in
        if member.index or member.archive.lower().endswith(".zip"):
            self._container = _open_container(member.archive, member.index)
        else:
            self._own = Path(member.archive).open("rb")  # noqa: SIM115  (closed with this)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._member.size}[whence]
        self._position = max(0, start + offset)
        return self._position

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), max(0, self._member.size - self._position))
        if not wanted:
            return 0
        try:
            content = self._read(wanted)
        except (zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
            raise OSError(f"{self._member} is damaged ({error or type(error).__name__})") from error
        if not content:
            raise OSError(f"{self._member} is cut short at byte {self._position}")
        buffer[: len(content)] = content
        self._position += len(content)
        return len(content)

    def _read(self, wanted: int) -> bytes:
        container = self._container
        if container is None:
            self._own.seek(self._member.offset + self._position)
            return self._own.read(wanted)
        if container.zip is None:
            with container.lock:
                container.stream.seek(self._member.offset + self._position)
                return container.stream.read(wanted)
        if self._own is None:
            self._own = container.zip.open(self._member.member)
        if self._own.tell() != self._position:
            self._own.seek(self._position)
        return self._own.read(wanted)

    def close(self) -> None:
        if self._own is not None:
            self._own.close()
            self._own = None
        super().close()
