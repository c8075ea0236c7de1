"""The key of notes, and how its pitches are spelled.

The key is the one whose profile correlates best with how long each pitch class sounds
(C. Krumhansl, "Cognitive Foundations of Musical Pitch", 1990, table 2.1). Pitches are
spelled as those names that lie nearest to the key on the line of fifths.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from mt3.symbolic.notes import Notes

_MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])
_STEPS = "FCGDAEB"  # in order of fifths
_STEP_CLASSES = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}
_MINOR_FIFTHS = 3  # a minor key has the signature of the major key that many fifths down
_LONGEST_SECONDS = 4.0  # that a note counts for


@dataclasses.dataclass(frozen=True)
class Key:
    """A key.

    Attributes:
      fifths: sharps of the signature; flats where negative; -6..6.
      is_minor: its mode.
    """

    fifths: int = 0
    is_minor: bool = False

    def spell(self, pitch: int) -> tuple[str, int, int]:
        """(step, alteration, octave) of a MIDI pitch; 60 is ("C", 0, 4)."""
        tonic = self.fifths + (_MINOR_FIFTHS if self.is_minor else 0)  # C is 0
        lowest = tonic - 5  # from the lowered second to the raised fourth
        fifths = lowest + (pitch * 7 - lowest) % 12
        step = _STEPS[(fifths + 1) % 7]
        alteration = (fifths + 1) // 7
        return step, alteration, (pitch - alteration - _STEP_CLASSES[step]) // 12 - 1


def estimate_key(notes: Notes) -> Key:
    """The key that fits all pitched notes best; C major where there are none."""
    pitched = notes[~notes.is_drum]
    length = np.clip(pitched.duration_seconds, 0.0, _LONGEST_SECONDS)
    sounding = np.bincount(pitched.pitch % 12, length, minlength=12)
    if np.ptp(sounding) == 0:
        return Key()
    # The length of `sounding` divides all correlations alike, and is left out.
    fits = {
        (tonic, is_minor): float(np.roll(profile, tonic) @ sounding)
        for is_minor, profile in ((False, _standardized(_MAJOR)), (True, _standardized(_MINOR)))
        for tonic in range(12)
    }
    tonic, is_minor = max(fits, key=lambda one: fits[one])
    fifths = tonic * 7 - (_MINOR_FIFTHS if is_minor else 0)
    return Key((fifths + 5) % 12 - 5, is_minor)


def _standardized(profile: np.ndarray) -> np.ndarray:
    return (profile - profile.mean()) / profile.std()
