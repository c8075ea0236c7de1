"""Batches from another thread: in order, with their states, no more than wanted, errors in their place."""

import threading
import time

import jax
import numpy as np
import pytest

from mt3.training.partitioning import Partitioner, make_mesh
from mt3.training.prefetch import Prefetch


def fetch_all(batches, most):
    with Prefetch(batches, Partitioner(make_mesh()), most) as prefetch:
        fetched = []
        while (one := prefetch.next()) is not None:
            fetched.append(one)
    return fetched


def test_batches_come_in_order_with_the_state_after_each(make_batches):
    expected, batches = make_batches(), make_batches()
    fetched = fetch_all(batches, 7)
    assert [one.data_state for one in fetched] == [{"position": n} for n in range(1, 8)]
    for one in fetched:
        batch = next(expected)
        assert one.batch.keys() == batch.keys()
        assert all(isinstance(array, jax.Array) for array in one.batch.values())
        for name, array in batch.items():
            np.testing.assert_array_equal(one.batch[name], array)
        assert (one.num_examples, one.example_ids) == (4, ())
    assert batches.position == 7


def test_the_end_comes_after_the_last_batch(make_batches):
    assert len(fetch_all(make_batches(length=3), 7)) == 3


def test_text_stays_here():
    batch = {"inputs": np.zeros((3, 1)), "example_ids": np.array([b"caf\xc3\xa9", 0, b""], object)}
    [fetched] = fetch_all(iter([batch]), 1)
    assert fetched.batch.keys() == {"inputs"}
    # Rows that only fill up a batch have no id.
    assert fetched.example_ids == ("café",)


def test_errors_come_in_their_place(make_batches):
    def broken():
        yield from make_batches(length=2)
        raise OSError("no such shard")

    with Prefetch(broken(), Partitioner(make_mesh()), 9) as prefetch:
        assert prefetch.next() is not None
        assert prefetch.next() is not None
        with pytest.raises(OSError, match="no such shard"):
            prefetch.next()


def test_few_are_fetched_ahead(make_batches):
    batches = make_batches()
    with Prefetch(batches, Partitioner(make_mesh()), 100) as prefetch:
        prefetch.next()
        time.sleep(0.1)
        assert batches.position <= 4  # One taken, two waiting, one that finds no room.


class Stalling:
    """Gives one batch, and then waits until it is told what to do."""

    def __init__(self, batches):
        self.go_on, self.interrupted = threading.Event(), threading.Event()
        self._batches, self._given = batches, False

    def __iter__(self):
        return self

    def __next__(self):
        if self._given:
            while not self.go_on.wait(0.01):
                if self.interrupted.is_set():
                    raise InterruptedError
        self._given = True
        return next(self._batches)

    def interrupt(self):
        self.interrupted.set()


def test_only_the_wait_of_idle_devices_counts(make_batches):
    stalling = Stalling(make_batches())
    asked = []

    def devices_are_busy():
        """For the first ten looks; soon afterwards the batch comes."""
        asked.append(time.perf_counter())
        if len(asked) == 20:
            stalling.go_on.set()
        return len(asked) <= 10

    with Prefetch(stalling, Partitioner(make_mesh()), 2) as prefetch:
        prefetch.next()
        prefetch.idle_seconds = 0.0
        start_seconds = time.perf_counter()
        assert prefetch.next(devices_are_busy) is not None
        end_seconds = time.perf_counter()
    assert asked[-1] - asked[10] <= prefetch.idle_seconds <= end_seconds - asked[10]
    assert asked[10] - start_seconds > 0


def test_a_wait_can_be_given_up(make_batches):
    stalling = Stalling(make_batches())
    with Prefetch(stalling, Partitioner(make_mesh()), 2) as prefetch:
        prefetch.next()
        assert prefetch.next(is_given_up=lambda: True) is None
    assert stalling.interrupted.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "prefetch"]
