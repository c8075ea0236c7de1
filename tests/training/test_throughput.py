"""Rates by hand, and the names by which JAX calls devices."""

import pytest

from mt3.training.throughput import Clock, Throughput, peak_flops_per_second


def test_rates_of_what_was_added_since_the_restart():
    throughput = Throughput(peak_flops_per_second=1000.0)
    throughput.add(steps=1, examples=99)
    assert throughput.rates(5.0, 1.0) == {}  # Not started yet.
    throughput.restart(10.0, 3.0)
    assert throughput.rates(12.0, 3.0) == {}
    for _ in range(2):
        throughput.add(steps=1, examples=8, flops=500.0)
    throughput.add(tokens=60)
    assert throughput.rates(14.0, 4.0) == {
        "steps_per_second": 0.5,
        "examples_per_second": 4.0,
        "tokens_per_second": 15.0,
        "input_wait_share": 0.25,
        "mfu": 0.25,
    }
    assert throughput.rates(10.0, 3.0) == {}  # No time has passed.


def test_a_paused_clock_stands_still():
    times = iter([0.0, 5.0, 5.0, 105.0, 106.0])
    clock = Clock(lambda: next(times))
    assert clock.seconds() == 5.0
    with clock.paused():
        pass
    assert clock.seconds() == 6.0


@pytest.mark.parametrize(
    ("kind", "peak"),
    [
        ("NVIDIA H100 80GB HBM3", 989e12),
        ("NVIDIA H100 PCIe", 756e12),
        ("NVIDIA GH200 480GB", 989e12),
        ("NVIDIA A100-SXM4-40GB", 312e12),
        ("NVIDIA A10", 125e12),
        ("NVIDIA L40S", 362e12),
        ("NVIDIA L4", 121e12),
        ("Tesla V100-SXM2-16GB", 125e12),
        ("TPU v5 lite", 197e12),
        ("TPU v5p", 459e12),
        ("TPU v6 lite", 918e12),
        ("TPU v3", 61.5e12),
        ("cpu", None),
    ],
)
def test_devices_by_name(kind, peak):
    assert peak_flops_per_second(kind) == peak
