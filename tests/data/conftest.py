"""Small made-up music that the data tests share."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from mt3.data.record_writer import RecordWriter
from mt3.data.recordings import EncodedAudio, Recording
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


@dataclasses.dataclass(frozen=True)
class PreparedDataset:
    """A small dataset in the record format whose audio tells where it is from.

    All samples of frame f of the n-th recording of a split are (5000 n + f + 1) / 32768.
    """

    directory: Path
    recordings: dict[str, list[Recording]]

    @staticmethod
    def locate(inputs):
        """(recording number, first frame, number of frames) of segments [..., frames, hop_samples]."""
        values = np.rint(np.asarray(inputs)[..., 0] * 32768).astype(int)
        number, frame = divmod(values[..., 0] - 1, 5000)
        return number, frame, (values > 0).sum(axis=-1)


@pytest.fixture(scope="session")
def prepared_dataset(tmp_path_factory):
    """Dataset "synth": five recordings to train, two to validate, 10 to 38 s."""
    directory = tmp_path_factory.mktemp("prepared")
    recordings = {}
    for split, lengths in (("train", (2500, 1300, 4625, 2000, 3000)), ("validation", (1300, 2048))):
        with RecordWriter(directory, "synth", split, num_shards=2) as writer:
            recordings[split] = [
                _located_recording(split, number, num_frames) for number, num_frames in enumerate(lengths)
            ]
            for recording in recordings[split]:
                writer.write(recording)
    return PreparedDataset(directory, recordings)


def _located_recording(split, number, num_frames):
    rng = np.random.default_rng(number)
    num_notes = num_frames // 10
    # In time with the grid, so that what is decoded can be compared.
    onset_seconds = rng.integers(0, num_frames * 8 // 10 - 50, num_notes) / 100
    notes = Notes(
        onset_seconds,
        onset_seconds + rng.integers(1, 50, num_notes) / 100,
        rng.integers(30, 90, num_notes),
        rng.integers(1, 128, num_notes),
        rng.choice([0, 32, 40], num_notes),
        np.zeros(num_notes, bool),
    )
    samples = np.repeat(5000 * number + np.arange(num_frames) + 1, 128) / 32768
    audio = EncodedAudio.encode(samples.astype(np.float32), 16000)
    return Recording(f"{split}{number}", notes, audio, dataset="synth", split=split)
