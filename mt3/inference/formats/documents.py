"""What a file of notes is written from, and what it is read into."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mt3.symbolic.notes import Notes

Metadata = Mapping[str, Any]


class FormatError(ValueError):
    """A file that does not hold notes in the format it should, or a format that cannot be used."""


@dataclasses.dataclass(frozen=True)
class OutputOptions:
    """Choices of what is written; each concerns the formats that it names.

    Attributes:
      title: of `musicxml` and the pictures; None takes the name of the file.
      confidence: write the notes' confidence (`json`, `csv`) where it is known.
      tempo_map: write times as beats of an estimated grid (`midi`), so that a
        sequencer shows bars and beats. What sounds when is the same, to half a tick.
      beats_per_measure: of `musicxml` and tempo maps; None estimates it.
      seconds_per_row: of the pictures; None chooses by the length.
      soundfont: of `rendering` and `comparison`; None is the one that comes with
        the package (`mt3.audio.soundfonts.default_soundfont`).
      sample_rate: of `rendering` and `comparison`, Hz.
    """

    title: str | None = None
    confidence: bool = True
    tempo_map: bool = False
    beats_per_measure: int | None = None
    seconds_per_row: float | None = None
    soundfont: Path | None = None
    sample_rate: int = 44100

    def __post_init__(self) -> None:
        if self.beats_per_measure is not None and not 1 <= self.beats_per_measure <= 32:
            raise ValueError(f"beats_per_measure is {self.beats_per_measure}; it must lie in 1..32.")
        if self.seconds_per_row is not None and not 0 < self.seconds_per_row < float("inf"):
            raise ValueError(f"seconds_per_row is {self.seconds_per_row}; it must be above 0.")
        if not 8000 <= self.sample_rate <= 96000:
            raise ValueError(f"sample_rate is {self.sample_rate}; it must lie in 8000..96000 Hz.")


@dataclasses.dataclass(frozen=True, eq=False)
class NoteDocument:
    """Notes with what belongs to them in a file.

    Attributes:
      notes: in any order.
      confidence: float32 [num_notes] in 0..1; None where it is not known.
      metadata: JSON values about the notes.
      duration_seconds: length of the audio, or None: up to the last offset.
      audio: the file that the notes were heard in, where there is one.
      name: what a title is made of where the options give none.
      options: choices of the writer.

    Raises:
      ValueError: confidences that are not one a note, or not within 0..1.
    """

    notes: Notes
    confidence: np.ndarray | None = None
    metadata: Metadata = dataclasses.field(default_factory=dict)
    duration_seconds: float | None = None
    audio: Path | None = None
    name: str = ""
    options: OutputOptions = OutputOptions()

    def __post_init__(self) -> None:
        if self.confidence is None:
            return
        values = np.asarray(self.confidence, np.float32)
        if values.shape != (len(self.notes),):
            raise ValueError(
                f"confidence has shape {values.shape}; there must be one for each of {len(self.notes)} notes."
            )
        outside = ~((values >= 0) & (values <= 1))
        if outside.any():
            raise ValueError(f"A confidence is {values[outside][0]}; it must lie in 0..1.")
        object.__setattr__(self, "confidence", values)

    @property
    def title(self) -> str:
        return self.name if self.options.title is None else self.options.title

    @property
    def end_seconds(self) -> float:
        """The length of the audio, or the last offset where that is later."""
        return max(self.notes.end_seconds, self.duration_seconds or 0.0)
