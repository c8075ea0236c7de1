"""Which recordings `mt3 transcribe` is asked for, and where the results of each go.

An argument is a file, a folder (all audio files in it and below), a pattern that
the shell has not expanded, or `-` for names on standard input, a line each.
Results of a file are named as it is; those of a folder or pattern keep its tree.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import glob
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

# Of the files that are looked for in folders; a file that is named may have any.
AUDIO_SUFFIXES = (".wav", ".flac", ".mp3", ".ogg", ".oga", ".opus", ".aif", ".aiff", ".aifc", ".w64", ".rf64")

STANDARD_INPUT = "-"


@dataclasses.dataclass(frozen=True)
class Input:
    """One recording to transcribe.

    Attributes:
      path: of the audio file.
      target: of its results, relative to the output directory, without suffix.
      shown_as: in reports, where that is not the path.
    """

    path: Path
    target: Path
    shown_as: str = ""

    @property
    def name(self) -> str:
        """In reports."""
        return self.shown_as or str(self.path)

    def told(self, error: Exception) -> str:
        """What went wrong, with the name that the recording has in reports."""
        return str(error).replace(str(self.path), self.name)


def find_inputs(
    arguments: Sequence[str], standard_input: BinaryIO | None = None, *, without: Sequence[str] = ()
) -> list[Input]:
    """The recordings that arguments name, each once, in their order; folders by name.

    Args:
      arguments: files, folders, patterns, or `-`.
      standard_input: what `-` reads, to its end.
      without: endings of names that are passed over in folders: what results are named.

    Raises:
      ValueError: nothing is named, or two recordings
        would have their results in one place.
      OSError: a folder cannot be listed.
    """
    given = list(_expanded(arguments, standard_input))
    several = sum(_is_folder(Path(name)) for name, _ in given) > 1
    found: dict[Path, Input] = {}
    for name, is_pattern in given:
        path = Path(name)
        if _is_folder(path):
            inputs = _in_folder(path, several, without)
        elif is_pattern:
            inputs = _of_pattern(name, without)
        else:
            inputs = [Input(path, Path(path.name))]
        for item in inputs:
            found.setdefault(item.path.absolute(), item)
    if not found:
        raise ValueError(
            "no recording is named: give audio files, a folder of them, or names on standard input"
        )
    return _with_targets(list(found.values()))


@contextlib.contextmanager
def audio_of_standard_input(standard_input: BinaryIO) -> Iterator[Input]:
    """The audio itself on standard input, in a file that is there until the end of the context."""
    with tempfile.TemporaryDirectory(prefix="mt3-") as folder:
        path = Path(folder) / "stdin"
        with path.open("wb") as file:
            shutil.copyfileobj(standard_input, file)
        yield Input(path, Path("stdin"), "standard input")


def _expanded(arguments: Iterable[str], standard_input: BinaryIO | None) -> Iterator[tuple[str, bool]]:
    """Names, and whether each is a pattern; those on standard input never are."""
    for argument in arguments:
        if argument != STANDARD_INPUT:
            yield argument, glob.has_magic(argument) and not os.path.lexists(argument)
        elif standard_input is not None:
            lines = (os.fsdecode(line.rstrip(b"\r\n")) for line in standard_input)
            yield from ((line, False) for line in lines if line.strip())


def _in_folder(folder: Path, several: bool, without: Sequence[str]) -> list[Input]:
    paths = []
    for parent, folders, names in os.walk(folder, onerror=_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths += [Path(parent, name) for name in names if _is_audio(name, without)]
    if not paths:  # told when it is to be read, as a pattern that matches nothing
        return [Input(folder, Path(folder.name or "folder"))]
    # Of several folders, each keeps its name: recordings in them may have the same.
    start = Path(folder.resolve().name) if several else Path()
    return [Input(path, start / path.relative_to(folder)) for path in sorted(paths)]


def _of_pattern(pattern: str, without: Sequence[str]) -> list[Input]:
    # Path.glob takes no absolute patterns.
    paths = [Path(name) for name in sorted(glob.glob(pattern, recursive=True))]  # noqa: PTH207
    files = [path for path in paths if path.is_file() and not path.name.endswith(tuple(without))]
    if not files:  # the shell, too, takes it for a name then
        return [Input(Path(pattern), Path(Path(pattern).name))]
    parts = Path(pattern).parts
    depth = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return [Input(path, Path(*path.parts[depth:])) for path in files]


def _is_audio(name: str, without: Sequence[str]) -> bool:
    is_hidden = name.startswith(".")
    return not is_hidden and name.lower().endswith(AUDIO_SUFFIXES) and not name.endswith(tuple(without))


def _is_folder(path: Path) -> bool:
    # Names that are too long raise; what is wrong with them is told when their turn comes.
    with contextlib.suppress(OSError):
        return path.is_dir()
    return False


def _raise(error: OSError) -> None:
    raise error


def _with_targets(inputs: list[Input]) -> list[Input]:
    """Targets without suffix, but where that would make two the same (song.wav and song.mp3).

    Raises:
      ValueError: two are the same all the same.
    """
    shortened = [_without_suffix(item.target) for item in inputs]
    uses = collections.Counter(shortened)
    chosen = [
        dataclasses.replace(item, target=short if uses[short] == 1 else item.target)
        for item, short in zip(inputs, shortened, strict=True)
    ]
    by_target: dict[Path, Input] = {}
    for item in chosen:
        other = by_target.setdefault(item.target, item)
        if other is not item:
            raise ValueError(
                f"{item.target.name} is the name of several files, {other.path} and {item.path}: "
                "transcribe them into different directories, or give a folder that holds them, whose tree "
                "the results keep"
            )
    return chosen


def _without_suffix(target: Path) -> Path:
    # Of ..wav a dot would be left, which is no name of a file.
    return target.with_name(target.stem) if target.stem.strip(".") else target
