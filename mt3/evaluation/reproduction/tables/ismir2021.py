"""The piano model of Hawthorne et al., ISMIR 2021, on MAESTRO v3."""

from __future__ import annotations

from mt3.evaluation.published_results import PublishedScore
from mt3.evaluation.reproduction.plan import Table, Training

_TRAINING = Training("piano", ("piano.gin",), {}, 400_000, ("maestrov3",), tokens="notes")


def _training_of(score: PublishedScore) -> Training:
    return _TRAINING


TABLE = Table("ismir2021", "Sequence-to-sequence piano transcription on MAESTRO v3", _training_of)
