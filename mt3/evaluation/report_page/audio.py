"""The sound of a few recordings, small enough to be part of a page.

Original, rendered reference and rendered estimates, as Ogg Opus: about 4 KB a
second each at the default bit rate, without a shift in time. What does not fit
into the limits is left out and named.
"""

from __future__ import annotations

import base64
import dataclasses
import io
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from mt3.audio.synthesis import RELEASE_SECONDS, Synthesizer, make_synthesizer
from mt3.symbolic.notes import Notes

MEDIA_TYPE = "audio/ogg; codecs=opus"

# A recording's id and a sample rate -> mono float32 [samples], or None where there is no audio.
OriginalAudio = Callable[[str, int], np.ndarray | None]

_BLOCK_SAMPLES = 1 << 16
# Of a mono stream, at libsndfile's compression levels 0 and 1.
_BITS_PER_SECOND = (256_000, 6_000)
# Rendered audio is made this loud.
_PEAK = 0.8
_SAMPLE_RATES = (8000, 12000, 16000, 24000, 48000)


@dataclasses.dataclass(frozen=True)
class AudioOptions:
    """How much sound a page has.

    Attributes:
      max_recordings: that can be heard.
      max_megabytes: of all sound, as it is in the page (10^6 bytes).
      sample_rate: Hz, one that Opus knows.
      kilobits_per_second: of each stream.
      soundfont: to render with; None for the default.

    Raises:
      ValueError: for a setting out of range.
    """

    max_recordings: int = 6
    max_megabytes: float = 40.0
    sample_rate: int = 16000
    kilobits_per_second: float = 32.0
    soundfont: Path | None = None

    def __post_init__(self) -> None:
        if self.max_recordings < 0:
            raise ValueError(f"max_recordings is {self.max_recordings}; it must be at least 0 (no audio).")
        if not self.max_megabytes >= 0:
            raise ValueError(f"max_megabytes is {self.max_megabytes}; it must be at least 0 (no audio).")
        if self.sample_rate not in _SAMPLE_RATES:
            raise ValueError(f"sample_rate is {self.sample_rate}; Opus has {_SAMPLE_RATES} Hz.")
        highest, lowest = (bits / 1000 for bits in _BITS_PER_SECOND)
        if not lowest <= self.kilobits_per_second <= highest:
            raise ValueError(
                f"kilobits_per_second is {self.kilobits_per_second}; choose {lowest:g} to {highest:g}."
            )


@dataclasses.dataclass(frozen=True)
class Piece:
    """A recording that shall be heard.

    Attributes:
      id: the recording's.
      reference: the true notes.
      estimates: of each run that has any, run number -> notes.
    """

    id: str
    reference: Notes
    estimates: dict[int, Notes]


@dataclasses.dataclass(frozen=True)
class Clip:
    """One stream of sound.

    Attributes:
      id: the recording's.
      source: "original", "reference" or "estimate".
      run: whose estimate; 0 for others.
      content: base64 of a file of `MEDIA_TYPE`.
    """

    id: str
    source: str
    run: int
    content: str


@dataclasses.dataclass(frozen=True)
class Sound:
    """All sound of a page.

    Attributes:
      clips: in the order of the pieces.
      left_out: what has no sound and why, a sentence each.
    """

    clips: tuple[Clip, ...] = ()
    left_out: tuple[str, ...] = ()


def make_sound(
    pieces: Sequence[Piece], options: AudioOptions, original: OriginalAudio = lambda id, rate: None
) -> Sound:
    """Renders and encodes what of the pieces fits into `options`.

    Args:
      pieces: the more important first.
      options: the limits.
      original: gives recordings' own audio.

    Raises:
      SynthesisError, SoundFontError: no synthesizer can be used, or not this SoundFont.
    """
    if not (options.max_recordings and options.max_megabytes and pieces):
        return Sound()
    synthesizer = make_synthesizer(options.soundfont, options.sample_rate)
    budget = int(options.max_megabytes * 1_000_000)
    clips: list[Clip] = []
    left_out: list[str] = []
    for piece in pieces[: options.max_recordings]:
        expected = _expected_bytes(piece, options)
        if expected > budget:
            left_out.append(
                f"{piece.id}: about {expected / 1e6:.1f} MB of audio, more than the "
                f"{budget / 1e6:.1f} MB that are left of {options.max_megabytes:g} MB."
            )
            continue
        try:
            made = list(_clips(piece, options, synthesizer, original))
        except (ValueError, OSError) as error:
            left_out.append(f"{piece.id}: {error}")
            continue
        budget -= sum(len(clip.content) for clip in made)
        clips += made
    return Sound(tuple(clips), tuple(left_out))


def encode_opus(samples: np.ndarray, sample_rate: int, kilobits_per_second: float) -> bytes:
    """An Ogg Opus file of mono float [samples]; beyond [-1, 1] is clipped."""
    highest, lowest = _BITS_PER_SECOND
    level = (highest - kilobits_per_second * 1000) / (highest - lowest)
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", sample_rate, 1, "OPUS", format="OGG", compression_level=level
    ) as file:
        # libsndfile's encoders overflow the stack on long blocks.
        for start in range(0, len(samples), _BLOCK_SAMPLES):
            file.write(np.clip(samples[start : start + _BLOCK_SAMPLES], -1, 1))
    return buffer.getvalue()


def _clips(
    piece: Piece, options: AudioOptions, synthesizer: Synthesizer, original: OriginalAudio
) -> Iterator[Clip]:
    rate = options.sample_rate

    def clip(source: str, samples: np.ndarray, run: int = 0) -> Clip:
        content = encode_opus(samples, rate, options.kilobits_per_second)
        return Clip(piece.id, source, run, base64.b64encode(content).decode("ascii"))

    own = original(piece.id, rate)
    if own is not None:
        yield clip("original", own)
    yield clip("reference", _render(piece.reference, synthesizer))
    for run, estimate in piece.estimates.items():
        yield clip("estimate", _render(estimate, synthesizer), run)


def _render(notes: Notes, synthesizer: Synthesizer) -> np.ndarray:
    samples = synthesizer.render(notes)
    peak = np.abs(samples).max(initial=0.0)
    return samples * np.float32(_PEAK / peak) if peak > 0 else samples


def _expected_bytes(piece: Piece, options: AudioOptions) -> int:
    """Of all clips in base64, had the original the reference's length."""
    ends = [notes.end_seconds + RELEASE_SECONDS for notes in (piece.reference, *piece.estimates.values())]
    seconds = sum(ends) + ends[0]
    return int(seconds * options.kilobits_per_second * 1000 / 8 * 4 / 3)
