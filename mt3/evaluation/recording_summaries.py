"""What is seen and heard of an evaluation: histograms of F1, and a few recordings as pictures and sound.

The same kinds of things as the published code's summaries.py and metrics.py show:
a histogram over recordings of each score, the audio, the audio of the notes as a
SoundFont plays them, and piano rolls of all notes and of onsets. What cannot be
made of a recording (audio that cannot be read again, notes that no synthesizer
plays) is named in one line and left out.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mt3.audio.io import AudioError
from mt3.audio.spectrograms import SpectrogramConfig, log_mel_numpy, split_frames
from mt3.audio.synthesis import RELEASE_SECONDS, SoundFontError, SynthesisError, make_synthesizer
from mt3.evaluation.piano_rolls import piano_roll_image, pixels_per_second
from mt3.evaluation.results import EvaluationResult
from mt3.evaluation.summaries import Audio, Histogram, Image, Summary
from mt3.symbolic.notes import Notes

if TYPE_CHECKING:
    from mt3.evaluation.evaluator import Recording

_LOG = logging.getLogger(__name__)

_BIN_EDGES = np.linspace(0.0, 1.0, 21)
_SPECTROGRAM_HEIGHT = 256
# What is quieter than the loudest point by more than this looks like silence.
_DYNAMIC_RANGE_NEPERS = 80 / (20 / math.log(10))


@dataclasses.dataclass(frozen=True)
class SummaryConfig:
    """How much is shown of the recordings of an evaluation.

    Attributes:
      num_recordings: how many, the first that are scored; 0 for none.
      num_seconds: from the start of each. A second of estimate is 32 kB of audio at 16 kHz.
      soundfont: a file that notes are played with; the default one where None.

    Raises:
      ValueError: a number is out of range.
    """

    num_recordings: int = 3
    num_seconds: float = 20.0
    soundfont: str | None = None

    def __post_init__(self) -> None:
        if self.num_recordings < 0:
            raise ValueError(f"SummaryConfig.num_recordings is {self.num_recordings}; give 0 or more.")
        if not 0 < self.num_seconds < math.inf:
            raise ValueError(
                f"SummaryConfig.num_seconds is {self.num_seconds}; give more than 0, "
                "or num_recordings = 0 to show none."
            )


def f1_histograms(result: EvaluationResult) -> dict[str, Summary]:
    """`NAME (hist)` of each F1 score -> how it is spread over the recordings that have it."""
    values: dict[str, list[float]] = {}
    for recording in result.recordings:
        for name, value in recording.scores.items():
            if re.search(r"\bF1\b", name) and math.isfinite(value):
                values.setdefault(name, []).append(value)
    return {f"{name} (hist)": Histogram(np.array(column), _BIN_EDGES) for name, column in values.items()}


class RecordingSummaries:
    """Makes pictures and sound of the first few recordings of evaluations that follow one another.

    The recordings are those that are observed first, ever after. What does not
    change from one evaluation to the next is made once: the original audio, its
    spectrogram, and the sound of the reference.
    """

    def __init__(
        self, config: SummaryConfig, spectrogram: SpectrogramConfig, segment_seconds: float | None = None
    ) -> None:
        """Args:
        config: how much.
        spectrogram: the picture of the audio, and the sample rate of all sound.
        segment_seconds: the piano rolls have a line every so often; none where None.
        """
        self._config = config
        self._spectrogram = spectrogram
        self._segment_seconds = segment_seconds
        self._shown_seconds: dict[str, float] = {}  # of each recording that is shown
        self._reported: set[str] = set()
        self._made: dict[str, Summary] = {}

    def observe(self, recording: Recording, estimate: Notes) -> None:
        """Of a recording that has been transcribed; does nothing if it is not one of the few."""
        if recording.id in self._shown_seconds:
            made = {}
        elif len(self._shown_seconds) < self._config.num_recordings:
            made = self._constant(recording, estimate)
        else:
            return
        seconds = self._shown_seconds[recording.id]
        for name, onsets_only in (("piano_roll", False), ("onset_piano_roll", True)):
            pixels = piano_roll_image(
                recording.notes,
                estimate,
                seconds,
                onsets_only=onsets_only,
                border_seconds=self._segment_seconds,
            )
            made[name] = Image(pixels)
        made |= self._played("estimate", recording.id, estimate, seconds)
        self._made |= {f"{recording.id}/{name}": summary for name, summary in made.items()}

    def take(self) -> dict[str, Summary]:
        """`ID/NAME` -> what has been made since the last time."""
        made, self._made = self._made, {}
        return made

    def _constant(self, recording: Recording, estimate: Notes) -> dict[str, Summary]:
        """What is made once; also finds out how many seconds there are to show."""
        made: dict[str, Summary] = {}
        rate = self._spectrogram.sample_rate
        seconds = max(recording.notes.end_seconds, estimate.end_seconds) + RELEASE_SECONDS
        with self._reporting(recording.id, "the original audio"):
            samples = recording.load_audio(rate)[: round(self._config.num_seconds * rate)]
            seconds = len(samples) / rate
            if len(samples):
                made["original"] = Audio(_within_range(samples), rate)
                made["spectrogram"] = Image(spectrogram_image(samples, self._spectrogram))
        seconds = min(seconds, self._config.num_seconds) if seconds > 0 else self._config.num_seconds
        self._shown_seconds[recording.id] = seconds
        return made | self._played("reference", recording.id, recording.notes, seconds)

    def _played(self, name: str, id: str, notes: Notes, seconds: float) -> dict[str, Summary]:
        """{name: the sound of the notes}, or nothing where they cannot be played."""
        rate = self._spectrogram.sample_rate
        with self._reporting(id, f"the sound of the {name}"):
            synthesizer = make_synthesizer(self._config.soundfont, rate)
            return {name: Audio(_within_range(synthesizer.render(notes, duration_seconds=seconds)), rate)}
        return {}

    @contextlib.contextmanager
    def _reporting(self, id: str, what: str) -> Iterator[None]:
        """Names once what cannot be shown, and goes on without it."""
        try:
            yield
        except (AudioError, SoundFontError, SynthesisError, OSError) as error:
            message = f"TensorBoard does not get {what} of {id}: {error}"
            if message not in self._reported:
                _LOG.warning("%s", message)
            self._reported.add(message)


def spectrogram_image(samples: np.ndarray, config: SpectrogramConfig) -> np.ndarray:
    """A log-mel spectrogram in greys, black where it is loudest; as wide as a piano roll of that length.

    Args:
      samples: float [samples], one at least.
      config: the features; high filters are put together where they are more than 256.

    Returns:
      uint8 [height, width, 3].
    """
    log_mel = log_mel_numpy(split_frames(samples, config.hop_samples), config)
    bins = -(-config.num_mel_bins // _SPECTROGRAM_HEIGHT)
    together = np.maximum.reduceat(log_mel, np.arange(0, config.num_mel_bins, bins), axis=1)
    num_seconds = len(samples) / config.sample_rate
    per_second = pixels_per_second(num_seconds)
    columns = np.arange(math.ceil(num_seconds * per_second)) / per_second * config.frames_per_second
    picture = together[np.minimum(columns.astype(np.int64), len(together) - 1)].T[::-1]
    quietness = np.clip((picture.max() - picture) / _DYNAMIC_RANGE_NEPERS, 0, 1)
    return np.repeat(np.round(255 * quietness).astype(np.uint8)[..., None], 3, axis=2)


def _within_range(samples: np.ndarray) -> np.ndarray:
    """Made quieter as a whole where it would be clipped."""
    return samples / max(1.0, float(np.abs(samples).max(initial=0.0)))
