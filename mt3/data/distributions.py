"""Exact distributions of a quantity, which add up over recordings and processes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

# Of `Distribution.summary`.
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


@dataclasses.dataclass(frozen=True, eq=False)
class Distribution:
    """How often, or for how long, a quantity has which value.

    Attributes:
      values: float64 [num_values], ascending, each once.
      weights: float64 [num_values], above 0: a number of things, or seconds.
    """

    values: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, values: npt.ArrayLike, weights: npt.ArrayLike = 1.0) -> Distribution:
        """Of values in any order; a scalar weight is that of each."""
        values = np.asarray(values, np.float64)
        weights = np.broadcast_to(np.asarray(weights, np.float64), values.shape)
        unique, inverse = np.unique(values, return_inverse=True)
        totals = np.bincount(inverse.reshape(-1), weights=weights, minlength=len(unique))
        return cls(unique[totals > 0], totals[totals > 0])

    @classmethod
    def merge(cls, parts: Iterable[Distribution]) -> Distribution:
        """Of all that the parts are of."""
        parts = list(parts)
        if not parts:
            return cls.of([])
        return cls.of(
            np.concatenate([part.values for part in parts]), np.concatenate([part.weights for part in parts])
        )

    @property
    def total(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    @property
    def mean(self) -> float:
        """0.0 where there is nothing."""
        return float(self.values @ self.weights) / self.total if len(self.values) else 0.0

    @property
    def minimum(self) -> float:
        return float(self.values[0]) if len(self.values) else 0.0

    @property
    def maximum(self) -> float:
        return float(self.values[-1]) if len(self.values) else 0.0

    def quantile(self, share: float) -> float:
        """The least value that at least this share of the weight does not exceed; 0.0 of nothing."""
        if not len(self.values):
            return 0.0
        cumulative = np.cumsum(self.weights)
        # Sums of seconds are rounded; what is meant to lie on a border must not fall beyond it.
        index = np.searchsorted(cumulative, share * cumulative[-1] * (1 - 1e-12))
        return float(self.values[min(index, len(self.values) - 1)])

    def weight_above(self, bound: float) -> float:
        """Weight of the values that exceed `bound`."""
        return float(self.weights[self.values > bound].sum())

    def summary(self) -> dict[str, float]:
        """Mean, quantiles and extremes, by name."""
        quantiles = {f"quantile_{round(100 * share)}": self.quantile(share) for share in _QUANTILES}
        return {"mean": self.mean, "minimum": self.minimum, **quantiles, "maximum": self.maximum}
