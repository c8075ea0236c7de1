"""A function of each of many tasks, as an Apache Beam pipeline.

By default on this machine: Beam's portable runner with one process a core. Any
other runner takes over with Beam's own flags, such as `--runner FlinkRunner
--flink_master HOST:PORT`. What a task gives is what it writes, so that nothing
large goes through the runner.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import shlex
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import tqdm
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

_POLL_SECONDS = 0.5


def run_everywhere(
    function: Callable[[Any], None],
    tasks: Sequence[Any],
    *,
    workers: int,
    flags: Sequence[str] = (),
    num_done: Callable[[], int],
    description: str,
) -> None:
    """Runs `function` once for each task, in any order.

    Args:
      function: at the top level of a module; its result is not used.
      tasks: its arguments; each can be sent to another process.
      workers: processes, where no flag names a runner.
      flags: Beam's.
      num_done: how many tasks are finished, asked now and then for the progress bar.
      description: of the progress bar.

    Raises:
      ValueError: for flags that Beam does not know.
    """
    check_flags(flags)
    is_local = not any(flag.split("=")[0] == "--runner" for flag in flags)
    options = PipelineOptions([*([f"--direct_num_workers={workers}"] if is_local else ()), *flags])
    with _quiet_beam(), _progress(len(tasks), num_done, description):
        pipeline = beam.Pipeline(_local_runner() if is_local else None, options=options)
        # Without the reshuffle, all tasks would stay in the one bundle that made them.
        bundles = pipeline | beam.Create(list(tasks), reshuffle=False) | beam.Reshuffle()
        _ = bundles | beam.Map(function)
        pipeline.run().wait_until_finish()


def _local_runner() -> FnApiRunner:
    command = f"exec {shlex.quote(sys.executable)} -m mt3.data.beam_worker {os.getpid()}"
    return FnApiRunner(SubprocessSDKEnvironment.from_command_string(command))


def check_flags(flags: Sequence[str]) -> None:
    """Refuses what Beam would pass over in silence.

    Raises:
      ValueError: for flags that none of Beam's options has.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for options in PipelineOptions.__subclasses__():
        with contextlib.suppress(argparse.ArgumentError):  # several declare the same
            options._add_argparse_args(parser)
    try:
        _, unknown = parser.parse_known_args(list(flags))
    except argparse.ArgumentError as error:
        raise ValueError(f"Beam refuses {error}") from error
    if unknown:
        raise ValueError(f"{unknown[0]} is not an option of this command or of Apache Beam; see --help")


@contextlib.contextmanager
def _quiet_beam() -> Iterator[None]:
    """Without Beam's notes on how it goes about its work."""
    logger = logging.getLogger("apache_beam")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


@contextlib.contextmanager
def _progress(total: int, num_done: Callable[[], int], description: str) -> Iterator[None]:
    """A bar that follows `num_done` while the pipeline runs, where stderr is a terminal."""
    ended = threading.Event()
    with tqdm.tqdm(total=total, desc=description, unit="shard", delay=1.0, disable=None) as bar:

        def follow() -> None:
            while not ended.wait(_POLL_SECONDS):
                bar.update(num_done() - bar.n)

        thread = threading.Thread(target=follow, daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            bar.update(num_done() - bar.n)
