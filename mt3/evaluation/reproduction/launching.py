"""Runs what is left of a job, each command a process of this interpreter.

What a command prints goes to a log file in the job's directory. A command that
fails ends its job, not the others. Where this process is told to stop, the
command is too, and is waited for: training saves what it has, and goes on from
there when it is called again.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mt3.evaluation.reproduction.scales import write_toy_music
from mt3.evaluation.reproduction.states import State

_ERROR = "mt3: error: "
_MODULE = "mt3.cli.main"


@dataclasses.dataclass(frozen=True)
class Failure:
    """A job that could not be brought to its end.

    Attributes:
      training: its name.
      reason: one line.
    """

    training: str
    reason: str


def command_line(arguments: Sequence[str]) -> str:
    """An `mt3` command, to be pasted into a shell."""
    return " ".join(["mt3", *map(_quoted, arguments)])


def _quoted(argument: str) -> str:
    name, equals, value = argument.partition("=")
    # As the documentation writes gin's texts; shlex would close and open quotes around each quote.
    if "'" in value and not re.search(r'["$`\\!]', value):
        return f'{name}{equals}"{value}"'
    return shlex.quote(argument)


def launch(state: State, say: Callable[[str], None] = lambda line: None) -> Failure | None:
    """Does what is left of a job, one command after the other.

    Data that are missing are made up first where the scale does so.

    Args:
      state: of the job.
      say: is told of each command before it starts.

    Returns:
      Why it came to no end, or None.
    """
    job = state.job
    if state.needs:
        return Failure(job.training.name, state.needs)
    with job.lock() as lock:
        if lock is None:
            return Failure(job.training.name, "another process works on it")
        job.write_identity()
        if state.missing_data:
            write_toy_music(job.settings.toy_music)
        for arguments in [*map(job.prepare_arguments, state.missing_data), *state.commands()]:
            log = job.directory / f"{arguments[0]}.log"
            say(f"{command_line(arguments)} (log: {log})")
            if reason := _run(arguments, log, lock):
                return Failure(job.training.name, f"mt3 {arguments[0]}: {reason} (log: {log})")
    return None


def _run(arguments: Sequence[str], log: Path, lock: int) -> str:
    """Why a command failed, in a line; "" if it did not."""
    command = [sys.executable, "-m", _MODULE, *arguments]
    with log.open("a", encoding="utf-8") as file:
        file.write(f"$ {command_line(arguments)}\n")
        file.flush()
        # A session of its own: a Ctrl-C reaches it once, from here. It holds the lock when this process dies.
        with subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            pass_fds=(lock,),
        ) as process:
            try:
                code = process.wait()
            except BaseException:
                process.terminate()
                process.wait()
                raise
    return "" if code == 0 else f"exit code {code}: {_last_words(log)}"


def _last_words(log: Path) -> str:
    """The command's own error message, else the last line that it printed."""
    lines = [line.strip() for line in log.read_text(encoding="utf-8", errors="replace").splitlines()]
    spoken = [line for line in lines if line]
    errors = [line.removeprefix(_ERROR) for line in spoken if line.startswith(_ERROR)]
    return errors[-1] if errors and spoken[-1].startswith(_ERROR) else spoken[-1]
