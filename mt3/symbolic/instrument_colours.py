"""The colour of each instrument, the same in every picture of notes."""

from __future__ import annotations

import colorsys

from mt3.symbolic.general_midi import FAMILY_SIZE

DRUMS_COLOUR = (0.25, 0.25, 0.25)

# Hue (degrees), lightness and saturation of the first program of each family, in
# General MIDI's order. What often plays together lies far apart.
_FAMILY_COLOURS = (
    (216, 0.45, 0.75),  # piano
    (188, 0.38, 0.80),  # chromatic percussion
    (264, 0.55, 0.55),  # organ
    (32, 0.50, 0.95),  # guitar
    (354, 0.44, 0.72),  # bass
    (136, 0.34, 0.60),  # strings
    (88, 0.42, 0.62),  # ensemble
    (52, 0.44, 0.95),  # brass
    (318, 0.52, 0.62),  # reed
    (200, 0.64, 0.85),  # pipe
    (290, 0.36, 0.62),  # synth lead
    (164, 0.52, 0.55),  # synth pad
    (236, 0.70, 0.65),  # synth effects
    (20, 0.30, 0.60),  # ethnic
    (66, 0.28, 0.65),  # percussive
    (340, 0.76, 0.70),  # sound effects
)
# What the other programs of a family add to hue and lightness.
_PROGRAM_SHIFTS = (
    (0, 0.0),
    (5, 0.16),
    (-5, -0.13),
    (3, 0.28),
    (-7, 0.08),
    (7, -0.07),
    (-3, 0.22),
    (4, -0.19),
)


def instrument_colour(program: int, is_drum: bool = False) -> tuple[float, float, float]:
    """Red, green, blue in [0, 1]: a hue for each family, shades of it for its programs.

    The same in every picture; each of the 128 programs has its own.
    """
    if is_drum:
        return DRUMS_COLOUR
    hue, lightness, saturation = _FAMILY_COLOURS[program // FAMILY_SIZE]
    hue_shift, lightness_shift = _PROGRAM_SHIFTS[program % FAMILY_SIZE]
    lightness = min(max(lightness + lightness_shift, 0.16), 0.82)
    return colorsys.hls_to_rgb((hue + hue_shift) % 360 / 360, lightness, saturation)
