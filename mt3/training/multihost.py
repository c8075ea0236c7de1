"""Several processes that train one model: they find each other, agree, and speak with one voice.

Arrays go between the devices of all processes by JAX itself. What is here goes
between the processes: small values, over the service by which `jax.distributed`
brought them together. It takes a few milliseconds of the host's time and none of
the devices', which are at work on an update meanwhile; a collective operation
would wait for that update. In a run of one process, all of this does nothing.
"""

from __future__ import annotations

import atexit
import collections
import contextlib
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
from jax.experimental import multihost_utils

# How long a wait for another process goes on before it looks whether it is still wanted.
_POLL_MILLISECONDS = 1000
# Where a process that fails says so.
_FAILED = "mt3/failed"

_exchanges: collections.Counter[str] = collections.Counter()


class ExchangeClosed(Exception):
    """An exchange was closed while it waited for other processes."""


class ProcessFailedError(OSError):
    """Another process of the run has failed; the message says which and why."""


def initialize(
    coordinator: str | None = None, num_processes: int | None = None, process_index: int | None = None
) -> None:
    """Joins the other processes of a run; to be called before JAX is used for anything else.

    What is left out is found out from the cluster: SLURM, Open MPI, Kubernetes and
    TPU VMs say it. Under SLURM and Open MPI, each process gets the GPU of its local index.

    Args:
      coordinator: HOST:PORT at which the first process listens.
      num_processes: of the run.
      process_index: of this one, from 0.

    Raises:
      ValueError: something is missing, and no cluster says it; or it is out of range.
      OSError: the coordinator cannot be reached.
    """
    given = (coordinator, num_processes, process_index)
    remedy = "give all of --coordinator HOST:PORT, --num-processes N and --process-index I"
    if None in given and given != (None, None, None):
        raise ValueError(f"the processes of a run are described in part only: {remedy}")
    if coordinator is not None and not coordinator.rpartition(":")[2].isdecimal():
        raise ValueError(f"the coordinator is {coordinator!r}: give HOST:PORT")
    if num_processes is not None and not 0 <= (process_index or 0) < num_processes:
        raise ValueError(
            f"the process index is {process_index} of {num_processes} processes: count from 0, give "
            f"at most {num_processes - 1}"
        )
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    with contextlib.suppress(AttributeError):
        # SIGTERM is for the loop, which saves and stops; JAX's own service would catch it before.
        jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, num_processes, process_index)
    except ValueError as error:
        raise ValueError(f"no cluster says which processes the run has ({error}): {remedy}") from error
    except RuntimeError as error:
        raise OSError(f"cannot join the processes of the run at {coordinator}: {error}") from error


@contextlib.contextmanager
def joined(
    coordinator: str | None = None, num_processes: int | None = None, process_index: int | None = None
) -> Iterator[None]:
    """`initialize`, and leave the others at the end: together, or at once when this process has failed."""
    initialize(coordinator, num_processes, process_index)
    try:
        yield
    except BaseException as error:
        report_failure(error)
        # Last to be registered, first to be called: JAX would wait minutes for the others to end too.
        atexit.register(_leave)
        raise
    jax.distributed.shutdown()


def report_failure(error: BaseException) -> None:
    """Tells the other processes, who would wait for this one for ever, that it is going to end."""
    if jax.process_count() > 1:
        text = " ".join(f"{type(error).__name__}: {error}".split())[:500]
        with contextlib.suppress(jax.errors.JaxRuntimeError):  # Somebody has failed already.
            _client().key_value_set(_FAILED, f"process {jax.process_index()} has failed ({text})")


def is_primary() -> bool:
    """Whether this is the process that prints, and writes what one process writes for all."""
    return jax.process_index() == 0


class Exchange:
    """Rounds in which every process gives a value and gets those of all.

    All processes make the same exchanges, in the same order, and the same rounds of each.
    """

    def __init__(self, name: str) -> None:
        self._prefix = f"mt3/{name}/{_exchanges[name]}"
        self._round = 0
        self._closed = threading.Event()
        _exchanges[name] += 1

    def __call__(self, value: Any) -> list[Any]:
        """The values of all processes, by their index; comes back when all have given theirs.

        Args:
          value: what JSON can hold.

        Raises:
          ExchangeClosed: another thread has closed it.
          ProcessFailedError: another process will not come.
        """
        if jax.process_count() == 1:
            return [value]
        client, here = _client(), f"{self._prefix}/{self._round}"
        client.key_value_set(f"{here}/given/{jax.process_index()}", json.dumps(value))
        if is_primary():
            self._collect(here)
        values = json.loads(self._wait_for(f"{here}/all"))
        self._round += 1
        return values

    def close(self) -> None:
        """Ends the wait for a round that other processes will not come to."""
        self._closed.set()

    def _collect(self, here: str) -> None:
        names = [f"{here}/given/{index}" for index in range(jax.process_count())]
        while missing := set(names) - (given := dict(_client().key_value_dir_get(f"{here}/given/"))).keys():
            self._wait_for(min(missing))
        _client().key_value_set(f"{here}/all", json.dumps([json.loads(given[name]) for name in names]))
        if self._round:
            # Whoever has come to this round has read the results of the last one.
            _client().key_value_delete(f"{self._prefix}/{self._round - 1}/")

    def _wait_for(self, name: str) -> str:
        while not self._closed.is_set():
            try:
                return _client().blocking_key_value_get(name, _POLL_MILLISECONDS)
            except jax.errors.JaxRuntimeError as error:
                if "DEADLINE_EXCEEDED" not in str(error):
                    raise
            _raise_of_failure()
        raise ExchangeClosed(name)


def on_primary(function: Callable[[Any], Any], params: Any) -> Any:
    """What a function of parameters gives on the first device of the first process, for all processes.

    Args:
      function: of the parameters, whole and on one device; gives what JSON can hold.
      params: arrays on a mesh.
    """
    if jax.process_count() > 1:
        params = multihost_utils.process_allgather(params, tiled=True)
    result = function(jax.device_put(params, jax.local_devices()[0])) if is_primary() else None
    return Exchange("results")(result)[0]


def _raise_of_failure() -> None:
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # There is no such entry.
        failure = _client().key_value_try_get(_FAILED)
        raise ProcessFailedError(f"{failure}, so this one ends too: start the run again when that is mended")


def _leave() -> None:
    if is_primary():
        time.sleep(3 * _POLL_MILLISECONDS / 1000)  # The service ends with it; let the others ask why.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _client() -> Any:
    # Not public, but the only way to the service; Orbax takes it too.
    from jax._src import distributed

    return distributed.global_state.client
