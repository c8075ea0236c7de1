"""How fast a run is: examples, tokens and operations a second, and the wait for input.

Promises: rates are of wall-clock time, with everything that training does in it
but evaluation; the first update of a sitting, which compiles, does not count.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

# Dense products of bfloat16 (float16 where there is none) with float32 sums, in operations a second,
# of what JAX calls a device: a chip, or half of one (TPU v2 and v3). As vendors are known to state them,
# without sparsity; not compared with their sheets, which whoever publishes a figure should do.
# The first name that a device's kind contains counts.
PEAK_FLOPS_PER_SECOND: Mapping[str, float] = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100 NVL": 835e12,
    "H100": 989e12,
    "A100": 312e12,
    "A10G": 70e12,
    "A10": 125e12,
    "A40": 149.7e12,
    "L40S": 362e12,
    "L40": 181e12,
    "L4": 121e12,
    "V100": 125e12,
    "T4": 65e12,
    "RTX 4090": 165.2e12,
    "RTX 3090": 71e12,
    "TPU v6": 918e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v4": 275e12,
    "TPU v3": 61.5e12,
    "TPU v2": 22.5e12,
}


@runtime_checkable
class CountsFlops(Protocol):
    """A model that knows how much work a batch is."""

    def training_flops(self, batch: Mapping[str, Any], /) -> float:
        """Floating-point operations of an update with a batch of arrays of these shapes."""
        ...


def peak_flops_per_second(device_kind: str) -> float | None:
    """Of a device that JAX calls so; None where it is not known."""
    return next((peak for name, peak in PEAK_FLOPS_PER_SECOND.items() if name in device_kind), None)


class Clock:
    """Seconds of training: from its making on, without those in which it is paused."""

    def __init__(self, now: Callable[[], float] = time.perf_counter) -> None:
        self._now = now
        self._start_seconds = now()
        self._paused_seconds = 0.0

    def seconds(self) -> float:
        """So far."""
        return self._now() - self._start_seconds - self._paused_seconds

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """What is done in here is not training."""
        start_seconds = self._now()
        try:
            yield
        finally:
            self._paused_seconds += self._now() - start_seconds


class Throughput:
    """Sums over updates, and their rates."""

    def __init__(self, peak_flops_per_second: float | None = None) -> None:
        """`peak_flops_per_second`: of all devices together, None where it is not known."""
        self._peak = peak_flops_per_second
        self._since_seconds: float | None = None
        self._idle_since_seconds = 0.0
        self._sums: dict[str, float] = {}

    def restart(self, seconds: float, idle_seconds: float) -> None:
        """Forgets what was before; the clock shows `seconds`, the devices were idle for `idle_seconds`."""
        self._since_seconds, self._idle_since_seconds, self._sums = seconds, idle_seconds, {}

    def add(self, **amounts: float) -> None:
        """Of one update: `steps`, `examples`, `tokens`, `flops`."""
        for name, amount in amounts.items():
            self._sums[name] = self._sums.get(name, 0.0) + amount

    def rates(self, seconds: float, idle_seconds: float) -> dict[str, float]:
        """Since the last `restart`; nothing where no time has passed.

        Returns:
          `steps_per_second`, `examples_per_second`, `tokens_per_second` (target tokens,
          padding not counted); `input_wait_share`, the part of the time in which the
          devices had nothing to do because the next batch was not there; `mfu`, the
          part of the devices' peak that the model's operations take, if both are known.
        """
        if self._since_seconds is None or seconds <= self._since_seconds or not self._sums.get("steps"):
            return {}
        passed = seconds - self._since_seconds
        rates = {
            f"{name}_per_second": self._sums.get(name, 0.0) / passed
            for name in ("steps", "examples", "tokens")
        }
        rates["input_wait_share"] = (idle_seconds - self._idle_since_seconds) / passed
        if self._peak and self._sums.get("flops"):
            rates["mfu"] = self._sums["flops"] / passed / self._peak
        return rates
