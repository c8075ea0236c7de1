"""Notes to audio with a SoundFont, behind one small interface.

Two synthesizers can do the work and are measured to sound at the written
pitch: FluidSynth (through pyfluidsynth; needs the system's libfluidsynth; the
faster one) and midirenderer (a wheel, installs anywhere). "auto" takes
FluidSynth where its library loads and the wheel otherwise; the environment
variable MT3_SYNTHESIZER=fluidsynth|midirenderer overrides "auto".

It promises, with either:
  * the same notes give the same samples, bit for bit, whatever was rendered before;
  * no reverberation and no chorus (augmentation adds those, knowing how much);
  * every instrument by its own program, however many play at once;
  * float samples that are never clipped: a loud mix may leave [-1, 1];
  * about one loudness: a gain of 1 is FluidSynth's own default, at which a
    dense piece of eight instruments peaks near 0.25.

Samples of the two differ (interpolation, envelopes), so data rendered with one
is not bit-identical to data rendered with the other.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib
import logging
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from mt3.audio import soundfonts
from mt3.audio.soundfonts import SoundFontError, default_soundfont
from mt3.symbolic.notes import Notes

__all__ = [
    "Performance",
    "SoundFontError",
    "SynthesisError",
    "Synthesizer",
    "available_backends",
    "default_soundfont",
    "make_synthesizer",
    "perform",
    "render_stems",
]

RELEASE_SECONDS = 1.0  # rendered after the last offset where no duration is asked for
UNKNOWN_VELOCITY = 80  # for notes of velocity 0, which MIDI would read as "off"
# Longer than a synthesizer's block, shorter than any playing: the least length of a note, and the least
# time between two strokes of one key (of closer ones only the last is played).
SHORTEST_NOTE_SECONDS = 0.01
ENVIRONMENT_VARIABLE = "MT3_SYNTHESIZER"

# In the order that "auto" tries them: name -> module with check() and Backend(soundfont).
_BACKENDS = {
    "fluidsynth": "mt3.audio.fluidsynth_backend",
    "midirenderer": "mt3.audio.midirenderer_backend",
}


class SynthesisError(ValueError):
    """Notes or a synthesizer that cannot be used; the message says the remedy."""


@dataclasses.dataclass(frozen=True)
class Performance:
    """What a synthesizer is told: one row a played note, ordered by onset.

    Notes last 10 ms or more, and those of one instrument and key never overlap.

    Attributes:
      instruments: (bank, program) of each channel; bank 128 is the drum kit.
      channel: int [notes], index into `instruments`.
      key: int [notes], 0..127.
      velocity: int [notes], 1..127.
      onset_seconds, offset_seconds: float64 [notes].
    """

    instruments: tuple[tuple[int, int], ...]
    channel: np.ndarray
    key: np.ndarray
    velocity: np.ndarray
    onset_seconds: np.ndarray
    offset_seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.key)


class Backend(Protocol):
    """A synthesizer with one SoundFont loaded."""

    def play(self, performance: Performance, num_samples: int, sample_rate: int) -> np.ndarray:
        """float32 [num_samples], mono, at FluidSynth's default gain of 0.2."""
        ...


@dataclasses.dataclass(frozen=True)
class Synthesizer:
    """Renders notes with one SoundFont. Cheap to make, to copy and to pickle.

    The SoundFont itself is loaded at the first `render` and kept for the life
    of the process, shared by all Synthesizers of that file and backend.
    """

    soundfont: Path
    sample_rate: int
    backend: str

    def render(self, notes: Notes, *, duration_seconds: float | None = None, gain: float = 1.0) -> np.ndarray:
        """The sound of `notes`.

        Notes that overlap an earlier one of the same instrument and key cut it
        short, as a keyboard would. Times are met within 2 ms (FluidSynth at 16
        kHz starts notes on a grid of 64 samples).

        Args:
          notes: what to play; onsets before 0 are played at 0, notes from
            `duration_seconds` on are left out; velocity 0 (unknown) is played as 80.
          duration_seconds: length of the result; by default up to the last
            offset and a second more, in which the last notes ring out.
          gain: linear factor.

        Returns:
          float32 [round(duration_seconds * sample_rate)], mono, not clipped.

        Raises:
          SynthesisError: for values outside MIDI's ranges, or an instrument
            that the SoundFont lacks.
        """
        if duration_seconds is None:
            duration_seconds = notes.end_seconds + RELEASE_SECONDS
        if not (np.isfinite(duration_seconds) and duration_seconds >= 0):
            raise SynthesisError(
                f"duration_seconds is {duration_seconds}; it must be finite and not negative."
            )
        performance = perform(notes, duration_seconds)
        self._check_instruments(performance)
        num_samples = round(duration_seconds * self.sample_rate)
        if not len(performance) or not num_samples:
            return np.zeros(num_samples, np.float32)
        samples = _open_backend(self.backend, self.soundfont).play(performance, num_samples, self.sample_rate)
        return samples * np.float32(gain)

    def is_sounding(self, notes: Notes) -> np.ndarray:
        """bool [notes]: whether the SoundFont has a sample for each note's key and velocity.

        The others render as silence and are no labels. Few fonts cover every
        instrument on every key. A program that is missing altogether counts
        as silent here; `render` refuses it.
        """
        coverage = soundfonts.soundfont_coverage(self.soundfont)
        nothing = np.zeros((128, 128), bool)
        bank, program = _banks_and_programs(notes)
        velocity = _played_velocity(notes)
        sounding = np.zeros(len(notes), bool)
        for instrument in set(zip(bank.tolist(), program.tolist(), strict=True)):
            rows = (bank == instrument[0]) & (program == instrument[1])
            sounding[rows] = coverage.get(instrument, nothing)[notes.pitch[rows], velocity[rows]]
        return sounding

    def _check_instruments(self, performance: Performance) -> None:
        missing = set(performance.instruments) - soundfonts.soundfont_presets(self.soundfont).keys()
        if missing:
            bank, program = min(missing)
            what = "drum kit" if bank == soundfonts.PERCUSSION_BANK else f"instrument for program {program}"
            raise SynthesisError(
                f"SoundFont {self.soundfont.name} has no {what}; use a General MIDI SoundFont, "
                "or map the notes to programs that it has."
            )


def make_synthesizer(
    soundfont: Path | str | None = None, sample_rate: int = 16000, backend: str = "auto"
) -> Synthesizer:
    """A synthesizer, checked to be usable.

    Args:
      soundfont: a SoundFont 2 file; by default the General MIDI one of pretty_midi.
      sample_rate: of the rendered audio, 8000 to 96000 Hz.
      backend: "auto", "fluidsynth" or "midirenderer" (see the module's docstring).

    Raises:
      SynthesisError: when the backend is unknown or cannot be loaded, or the
        sample rate is out of range.
      SoundFontError: when the SoundFont is missing or cannot be played.
    """
    if not 8000 <= sample_rate <= 96000:
        raise SynthesisError(f"sample_rate is {sample_rate}; it must lie in 8000..96000 Hz.")
    path = Path(soundfont).resolve() if soundfont is not None else default_soundfont()
    soundfonts.soundfont_presets(path)  # says so now when the file is missing or no SoundFont
    name = _choose_backend(backend)
    if name == "midirenderer" and soundfonts.is_compressed(path):
        raise SoundFontError(
            f"{path} is a compressed SoundFont (SF3), which midirenderer cannot play; "
            "install libfluidsynth, or name an .sf2 file."
        )
    return Synthesizer(soundfont=path, sample_rate=sample_rate, backend=name)


def render_stems(
    tracks: Sequence[tuple[Notes, Path | str | None]],
    *,
    duration_seconds: float | None = None,
    sample_rate: int = 16000,
    backend: str = "auto",
) -> np.ndarray:
    """Several tracks, each with a SoundFont of its own (None: the default one).

    Returns:
      float32 [tracks, samples]; their mix is the sum over the first axis.
    """
    if duration_seconds is None:
        duration_seconds = max((notes.end_seconds for notes, _ in tracks), default=0.0) + RELEASE_SECONDS
    stems = [
        make_synthesizer(soundfont, sample_rate, backend).render(notes, duration_seconds=duration_seconds)
        for notes, soundfont in tracks
    ]
    return np.stack(stems) if stems else np.zeros((0, round(duration_seconds * sample_rate)), np.float32)


def available_backends() -> dict[str, str | None]:
    """Each backend's name -> None where it can be used, else why not and the remedy."""
    return {name: _check_backend(name) for name in _BACKENDS}


def perform(notes: Notes, end_seconds: float) -> Performance:
    """The playable form of `notes` up to `end_seconds`; see `Performance`.

    Raises:
      SynthesisError: for values outside MIDI's ranges.
    """
    _check_values(notes)
    notes = notes[(notes.onset_seconds < end_seconds) & (notes.offset_seconds >= 0)].sorted()
    columns = np.stack(_banks_and_programs(notes), axis=1)
    instruments, channel = np.unique(columns, axis=0, return_inverse=True)
    channel = channel.reshape(-1)
    onset = np.maximum(notes.onset_seconds, 0.0)
    offset = np.maximum(notes.offset_seconds, onset + SHORTEST_NOTE_SECONDS)
    # The next note of the same channel and key ends the one before it.
    order = np.lexsort((onset, notes.pitch, channel))
    same = (np.diff(channel[order]) == 0) & (np.diff(notes.pitch[order]) == 0)
    earlier, later = order[:-1][same], order[1:][same]
    offset[earlier] = np.minimum(offset[earlier], onset[later])
    kept = np.ones(len(notes), bool)
    kept[earlier[onset[later] - onset[earlier] < SHORTEST_NOTE_SECONDS]] = False
    return Performance(
        instruments=tuple((int(bank), int(program)) for bank, program in instruments),
        channel=channel[kept],
        key=notes.pitch[kept],
        velocity=_played_velocity(notes)[kept],
        onset_seconds=onset[kept],
        offset_seconds=offset[kept],
    )


def _banks_and_programs(notes: Notes) -> tuple[np.ndarray, np.ndarray]:
    """int [notes] each; all drums are the first kit."""
    return np.where(notes.is_drum, soundfonts.PERCUSSION_BANK, 0), np.where(notes.is_drum, 0, notes.program)


def _played_velocity(notes: Notes) -> np.ndarray:
    return np.where(notes.velocity == 0, UNKNOWN_VELOCITY, notes.velocity)


def _check_values(notes: Notes) -> None:
    for name in ("pitch", "velocity", "program"):
        column = getattr(notes, name)
        outside = (column < 0) | (column > 127)
        if outside.any():
            raise SynthesisError(f"A note's {name} is {column[outside][0]}; it must lie in 0..127.")
    for name in ("onset_seconds", "offset_seconds"):
        column = getattr(notes, name)
        if not np.isfinite(column).all():
            raise SynthesisError(f"A note's {name} is {column[~np.isfinite(column)][0]}; it must be finite.")


def _choose_backend(name: str) -> str:
    """The name of a backend that works, or a SynthesisError that says what to install."""
    if name == "auto":
        name = os.environ.get(ENVIRONMENT_VARIABLE) or "auto"
    if name not in ("auto", *_BACKENDS):
        raise SynthesisError(f"The synthesizer {name!r} is unknown; choose auto, {', '.join(_BACKENDS)}.")
    reasons = []
    for candidate in _BACKENDS if name == "auto" else [name]:
        reason = _check_backend(candidate)
        if reason is None:
            logging.getLogger(__name__).debug("Rendering with %s.", candidate)
            return candidate
        reasons.append(reason)
    raise SynthesisError(" ".join(reasons))


@functools.cache
def _check_backend(name: str) -> str | None:
    return importlib.import_module(_BACKENDS[name]).check()


@functools.cache
def _open_backend(name: str, soundfont: Path) -> Backend:
    """One loaded SoundFont a file, backend and process."""
    return importlib.import_module(_BACKENDS[name]).Backend(soundfont)
