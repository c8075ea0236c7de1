"""Agreement between processes; what is true of real ones is in `test_meshes.py`."""

import threading
import time

import jax
import pytest

from mt3.training import multihost
from mt3.training.multihost import Exchange, ExchangeClosed, ProcessFailedError


class Service:
    """The coordination service of `jax.distributed`, for threads that play processes."""

    def __init__(self):
        self.entries = {}
        self.changed = threading.Condition()

    def key_value_set(self, name, value):
        with self.changed:
            if name in self.entries:
                raise jax.errors.JaxRuntimeError("ALREADY_EXISTS")
            self.entries[name] = value
            self.changed.notify_all()

    def key_value_try_get(self, name):
        with self.changed:
            if name not in self.entries:
                raise jax.errors.JaxRuntimeError("NOT_FOUND")
            return self.entries[name]

    def blocking_key_value_get(self, name, milliseconds):
        with self.changed:
            if not self.changed.wait_for(lambda: name in self.entries, milliseconds / 1000):
                raise jax.errors.JaxRuntimeError("DEADLINE_EXCEEDED")
            return self.entries[name]

    def key_value_dir_get(self, prefix):
        with self.changed:
            return [entry for entry in self.entries.items() if entry[0].startswith(prefix)]

    def key_value_delete(self, prefix):
        with self.changed:
            self.entries = {
                name: value for name, value in self.entries.items() if not name.startswith(prefix)
            }


class Processes:
    """Runs a function of the process's index in as many threads, and returns what each gives or raises."""

    def __init__(self, monkeypatch):
        self.service, self._local, self._count = Service(), threading.local(), 1
        monkeypatch.setattr(multihost, "_client", lambda: self.service)
        monkeypatch.setattr(multihost, "_POLL_MILLISECONDS", 10)
        monkeypatch.setattr(jax, "process_count", lambda: self._count)
        monkeypatch.setattr(jax, "process_index", lambda: self._local.index)

    def run(self, count, function):
        self._count, results = count, [None] * count

        def process(index):
            self._local.index = index
            try:
                results[index] = function(index)
            except Exception as error:
                results[index] = error

        threads = [threading.Thread(target=process, args=(index,)) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=20)
        return results


@pytest.fixture
def processes(monkeypatch):
    return Processes(monkeypatch)


def test_every_process_gets_the_values_of_all(processes):
    exchange = {index: Exchange(f"own of {index}") for index in range(3)}
    for each in exchange.values():
        each._prefix = "mt3/same"

    def rounds(index):
        results = []
        for number in range(5):
            time.sleep(0.01 * (index + number) % 0.03)
            results.append(exchange[index]([index, number]))
        return results

    expected = [[[index, number] for index in range(3)] for number in range(5)]
    assert processes.run(3, rounds) == [expected] * 3
    # What has been read by all is gone.
    assert all(name.startswith("mt3/same/4/") for name in processes.service.entries)


def test_exchanges_of_one_name_are_apart():
    first, second = Exchange("twice"), Exchange("twice")
    assert first._prefix != second._prefix


def test_one_process_agrees_with_itself():
    assert Exchange("alone")({"a": 1}) == [{"a": 1}]
    assert multihost.is_primary()
    assert multihost.on_primary(lambda params: params["x"] + 1, {"x": 1}) == 2


def test_a_process_that_fails_is_not_waited_for(processes):
    exchange = [Exchange("a"), Exchange("b")]
    for each in exchange:
        each._prefix = "mt3/c"

    def process(index):
        if index == 1:
            multihost.report_failure(ValueError("a damaged\nfile"))
            raise ValueError("a damaged file")
        return exchange[index](0)

    of_first, of_second = processes.run(2, process)
    assert isinstance(of_first, ProcessFailedError)
    assert str(of_first).startswith("process 1 has failed (ValueError: a damaged file), so this one ends too")
    assert isinstance(of_second, ValueError)


def test_closing_ends_the_wait(processes):
    exchange = Exchange("closed")

    def process(index):
        if index == 1:
            time.sleep(0.05)
            return exchange.close()
        return exchange(0)

    assert isinstance(processes.run(2, process)[0], ExchangeClosed)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((None, 2, 0), "described in part only: give all of --coordinator HOST:PORT"),
        (("host:1234", None, None), "in part only"),
        (("host", 2, 0), "the coordinator is 'host': give HOST:PORT"),
        (("host:1234", 2, 2), "the process index is 2 of 2 processes: count from 0, give at most 1"),
    ],
)
def test_processes_that_are_not_described_well(arguments, message):
    with pytest.raises(ValueError, match=message):
        multihost.initialize(*arguments)
