"""Small made-up music that the data tests share."""

import numpy as np
import pytest

from mt3.symbolic.conversions import write_midi
from mt3.symbolic.notes import Notes


def tune(seed, *, transpose=0, programs=(0, 32), drums=True, num_notes=40):
    """A random melody, a bass and drums; equal seeds give the same music."""
    rng = np.random.default_rng(seed)
    melody = 60 + np.cumsum(rng.integers(-4, 5, num_notes)).clip(-12, 20) + transpose
    onset = np.cumsum(rng.choice([0.25, 0.5], num_notes))
    rows = [(t, t + 0.2, int(p), 80, programs[0], False) for t, p in zip(onset, melody, strict=True)]
    rows += [(t, t + 0.4, 40 + transpose, 70, programs[1], False) for t in onset[::2]]
    if drums:
        rows += [(t, t + 0.1, 36, 100, 0, True) for t in onset[::4]]
    return Notes.from_rows(rows).sorted()


@pytest.fixture(scope="session")
def make_tune():
    """The function `tune`."""
    return tune


@pytest.fixture(scope="session")
def midi_folder(tmp_path_factory):
    """A folder of twelve MIDI files of different music."""
    folder = tmp_path_factory.mktemp("midi")
    for seed in range(12):
        write_midi(tune(seed), folder / f"tune{seed:02d}.mid")
    return folder
