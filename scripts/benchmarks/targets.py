"""Lengths of targets as music makes them, for the benchmarks."""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from music import random_notes

from mt3.symbolic.conversions import read_midi
from mt3.symbolic.notes import Notes
from mt3.symbolic.tokenizer import Tokenizer
from mt3.symbolic.vocabularies import VocabularyConfig

FRAMES = 256
TOKENIZER = Tokenizer(VocabularyConfig(num_velocity_bins=1, program_granularity="full"))


def target_lengths(midi: Path | None, mix: int, number: int = 4000) -> Iterable[int]:
    """Tokens of examples that are merged from `mix` segments, each of another piece.

    Args:
      midi: a folder or a zip of MIDI files; random notes if None.
      mix: segments an example.
      number: of examples.
    """
    pieces = [segments for notes in pieces_of(midi) if (segments := tokenized(notes))]
    rng = np.random.default_rng(0)
    for _ in range(number):
        chosen = [pieces[index] for index in rng.integers(0, len(pieces), mix)]
        yield len(TOKENIZER.merge([segments[rng.integers(len(segments))] for segments in chosen]))


def tokenized(notes: Notes) -> list[np.ndarray]:
    """Targets of all whole segments."""
    num_segments = int(notes.end_seconds * TOKENIZER.frames_per_second / FRAMES)
    starts = np.arange(num_segments) * FRAMES
    return TOKENIZER.encode_segments(TOKENIZER.prepare(notes), starts, FRAMES) if num_segments else []


def pieces_of(midi: Path | None) -> Iterable[Notes]:
    """The notes of MIDI files, or made-up ones."""
    if midi is None:
        rng = np.random.default_rng(0)
        return [random_notes(rng, 60.0, rng.lognormal(np.log(12), 0.4)) for _ in range(100)]
    if midi.is_dir():
        contents = (path.read_bytes() for path in sorted(midi.rglob("*.mid")))
    else:
        archive = zipfile.ZipFile(midi)
        names = sorted(name for name in archive.namelist() if name.lower().endswith(".mid"))
        contents = (archive.read(name) for name in names)
    return (read_midi(content) for content in contents)
