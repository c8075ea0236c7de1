"""Batches of several processes have one shape and end together."""

import threading

import numpy as np
import pytest

from mt3.data.aligned_batches import AlignedBatches
from mt3.data.batches import as_objects, make_batch


class Meeting:
    """An exchange between threads."""

    def __init__(self, count):
        self._values, self._barrier = [None] * count, threading.Barrier(count)

    def of(self, index):
        def exchange(value):
            self._values[index] = value
            self._barrier.wait(timeout=10)
            values = list(self._values)
            self._barrier.wait(timeout=10)
            return values

        return exchange


class Counted:
    """Batches of given target lengths; the state is how many were asked for."""

    def __init__(self, lengths):
        self._lengths, self.taken = lengths, 0

    def __iter__(self):
        return self

    def __next__(self):
        self.taken += 1
        if self.taken > len(self._lengths):
            raise StopIteration
        length = self._lengths[self.taken - 1]
        example = {"inputs": np.ones((3, 4), np.float32), "targets": np.arange(1, length + 1)}
        batch = make_batch([example, example], input_frames=3, max_target_tokens=length)
        return batch | {"example_ids": as_objects([b"one", b"two"])}

    def get_state(self):
        return {"taken": self.taken}


def aligned(*lengths):
    """Of each process, (batches, states after them); or what it raised."""
    meeting, results = Meeting(len(lengths)), [None] * len(lengths)

    def process(index):
        batches = AlignedBatches(Counted(lengths[index]), meeting.of(index))
        try:
            results[index] = [(batch, batches.get_state()) for batch in batches]
        except ValueError as error:
            results[index] = error
            meeting._barrier.abort()

    threads = [threading.Thread(target=process, args=(index,)) for index in range(len(lengths))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_targets_are_as_long_as_the_longest():
    one, other = aligned([2, 5, 3], [4, 5, 1])
    for batches in (one, other):
        assert [batch["decoder_target_tokens"].shape for batch, _ in batches] == [(2, 4), (2, 5), (2, 3)]
    batch, _ = one[0]
    assert batch["decoder_target_tokens"][0].tolist() == [1, 2, 0, 0]
    assert batch["decoder_input_tokens"][0].tolist() == [0, 1, 0, 0]
    assert batch["decoder_loss_weights"][0].tolist() == [1, 1, 0, 0]
    assert batch["inputs"].shape == (2, 3, 4)


def test_a_part_that_has_ended_goes_on_without_weight():
    one, other = aligned([4], [2, 6, 3])
    assert len(one) == len(other) == 3
    for (batch, state), (other_batch, other_state) in zip(one, other, strict=True):
        assert state == other_state  # The state of any process resumes all.
        for name, value in batch.items():
            assert (value.shape, value.dtype) == (other_batch[name].shape, other_batch[name].dtype)
    assert [batch["decoder_loss_weights"].sum() for batch, _ in one] == [8, 0, 0]
    assert not any(one[1][0]["example_ids"])
    assert list(other[1][0]["example_ids"]) == [b"one", b"two"]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_part_without_examples_is_an_error():
    error, _ = aligned([], [2])
    assert "holds no example: prepare the data in at least as many shards as there are processes" in str(
        error
    )
