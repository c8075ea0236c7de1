"""What TensorBoard can show of an evaluation besides numbers.

Plain values that say nothing of where they are shown; `mt3.training.tensorboard`
writes them.
"""

from __future__ import annotations

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Histogram:
    """How values are spread.

    Attributes:
      values: float [values], finite, one at least.
      edges: float [bins + 1], ascending; together they hold all values.
    """

    values: np.ndarray
    edges: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Image:
    """A picture.

    Attributes:
      pixels: uint8 [height, width, 3], red, green, blue.
    """

    pixels: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Audio:
    """Sound.

    Attributes:
      samples: float [samples], mono, in [-1, 1].
      sample_rate: Hz.
    """

    samples: np.ndarray
    sample_rate: int


Summary = Histogram | Image | Audio
