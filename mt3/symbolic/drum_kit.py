"""The drums of General MIDI: their names, and where a score shows them.

Keys and names: the General MIDI 1 percussion map of the MIDI Association. Lines of the
staff as the drummers' societies recommend them (N. Weinberg, "Guide to Standardized
Drumset Notation", 1998): kick in the lowest space, snare in the third, cymbals above.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Drum:
    """A percussion instrument.

    Attributes:
      name: General MIDI's.
      step, octave: where its note stands on a staff with treble lines.
      notehead: MusicXML's name of its shape.
    """

    name: str
    step: str
    octave: int
    notehead: str = "normal"


_TABLE = """
35 Acoustic Bass Drum|F4|normal
36 Bass Drum 1|F4|normal
37 Side Stick|C5|x
38 Acoustic Snare|C5|normal
39 Hand Clap|C5|diamond
40 Electric Snare|C5|normal
41 Low Floor Tom|G4|normal
42 Closed Hi-Hat|G5|x
43 High Floor Tom|A4|normal
44 Pedal Hi-Hat|D4|x
45 Low Tom|B4|normal
46 Open Hi-Hat|G5|circle-x
47 Low-Mid Tom|D5|normal
48 Hi-Mid Tom|D5|normal
49 Crash Cymbal 1|A5|x
50 High Tom|E5|normal
51 Ride Cymbal 1|F5|x
52 Chinese Cymbal|B5|x
53 Ride Bell|F5|diamond
54 Tambourine|E5|triangle
55 Splash Cymbal|B5|x
56 Cowbell|E5|triangle
57 Crash Cymbal 2|A5|x
58 Vibraslap|E5|x
59 Ride Cymbal 2|F5|x
60 Hi Bongo|E5|normal
61 Low Bongo|D5|normal
62 Mute Hi Conga|E5|x
63 Open Hi Conga|E5|normal
64 Low Conga|D5|normal
65 High Timbale|E5|normal
66 Low Timbale|D5|normal
67 High Agogo|E5|triangle
68 Low Agogo|D5|triangle
69 Cabasa|E5|x
70 Maracas|E5|x
71 Short Whistle|G5|diamond
72 Long Whistle|G5|diamond
73 Short Guiro|E5|x
74 Long Guiro|E5|x
75 Claves|E5|x
76 Hi Wood Block|E5|triangle
77 Low Wood Block|D5|triangle
78 Mute Cuica|D5|x
79 Open Cuica|D5|normal
80 Mute Triangle|A5|triangle
81 Open Triangle|A5|triangle
"""


def _parsed(table: str) -> dict[int, Drum]:
    drums = {}
    for line in table.strip().splitlines():
        key, _, rest = line.partition(" ")
        name, place, notehead = rest.split("|")
        drums[int(key)] = Drum(name, place[0], int(place[1:]), notehead)
    return drums


_DRUMS = _parsed(_TABLE)


def drum(key: int) -> Drum:
    """The drum of a key; keys beyond General MIDI's have a place and their number for a name."""
    return _DRUMS.get(key) or Drum(f"Percussion {key}", "E", 5, "x")
