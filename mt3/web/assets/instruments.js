// What instruments are called and which colour they have: as mt3/symbolic says, which the tests compare.
//
// An instrument is a General MIDI program, 0 to 127, or DRUMS.

import { isDark } from "./theme.js";

export const DRUMS = 128;

// One line a family.
const PROGRAMS = table(`
Acoustic Grand Piano|Bright Acoustic Piano|Electric Grand Piano|Honky-tonk Piano|Electric Piano 1|Electric Piano 2|Harpsichord|Clavi
Celesta|Glockenspiel|Music Box|Vibraphone|Marimba|Xylophone|Tubular Bells|Dulcimer
Drawbar Organ|Percussive Organ|Rock Organ|Church Organ|Reed Organ|Accordion|Harmonica|Tango Accordion
Acoustic Guitar (nylon)|Acoustic Guitar (steel)|Electric Guitar (jazz)|Electric Guitar (clean)|Electric Guitar (muted)|Overdriven Guitar|Distortion Guitar|Guitar Harmonics
Acoustic Bass|Electric Bass (finger)|Electric Bass (pick)|Fretless Bass|Slap Bass 1|Slap Bass 2|Synth Bass 1|Synth Bass 2
Violin|Viola|Cello|Contrabass|Tremolo Strings|Pizzicato Strings|Orchestral Harp|Timpani
String Ensemble 1|String Ensemble 2|Synth Strings 1|Synth Strings 2|Choir Aahs|Voice Oohs|Synth Voice|Orchestra Hit
Trumpet|Trombone|Tuba|Muted Trumpet|French Horn|Brass Section|Synth Brass 1|Synth Brass 2
Soprano Sax|Alto Sax|Tenor Sax|Baritone Sax|Oboe|English Horn|Bassoon|Clarinet
Piccolo|Flute|Recorder|Pan Flute|Blown Bottle|Shakuhachi|Whistle|Ocarina
Lead 1 (square)|Lead 2 (sawtooth)|Lead 3 (calliope)|Lead 4 (chiff)|Lead 5 (charang)|Lead 6 (voice)|Lead 7 (fifths)|Lead 8 (bass + lead)
Pad 1 (new age)|Pad 2 (warm)|Pad 3 (polysynth)|Pad 4 (choir)|Pad 5 (bowed)|Pad 6 (metallic)|Pad 7 (halo)|Pad 8 (sweep)
FX 1 (rain)|FX 2 (soundtrack)|FX 3 (crystal)|FX 4 (atmosphere)|FX 5 (brightness)|FX 6 (goblins)|FX 7 (echoes)|FX 8 (sci-fi)
Sitar|Banjo|Shamisen|Koto|Kalimba|Bagpipe|Fiddle|Shanai
Tinkle Bell|Agogo|Steel Drums|Woodblock|Taiko Drum|Melodic Tom|Synth Drum|Reverse Cymbal
Guitar Fret Noise|Breath Noise|Seashore|Bird Tweet|Telephone Ring|Helicopter|Applause|Gunshot
`);

const FIRST_DRUM = 35;
const DRUM_NAMES = table(`
Acoustic Bass Drum|Bass Drum 1|Side Stick|Acoustic Snare|Hand Clap|Electric Snare
Low Floor Tom|Closed Hi-Hat|High Floor Tom|Pedal Hi-Hat|Low Tom|Open Hi-Hat
Low-Mid Tom|Hi-Mid Tom|Crash Cymbal 1|High Tom|Ride Cymbal 1|Chinese Cymbal
Ride Bell|Tambourine|Splash Cymbal|Cowbell|Crash Cymbal 2|Vibraslap
Ride Cymbal 2|Hi Bongo|Low Bongo|Mute Hi Conga|Open Hi Conga|Low Conga
High Timbale|Low Timbale|High Agogo|Low Agogo|Cabasa|Maracas
Short Whistle|Long Whistle|Short Guiro|Long Guiro|Claves|Hi Wood Block
Low Wood Block|Mute Cuica|Open Cuica|Mute Triangle|Open Triangle
`);

const PITCH_NAMES = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];

// Hue in degrees, lightness and saturation of the first program of each family.
const FAMILY_COLOURS = [
  [216, 0.45, 0.75], [188, 0.38, 0.8], [264, 0.55, 0.55], [32, 0.5, 0.95],
  [354, 0.44, 0.72], [136, 0.34, 0.6], [88, 0.42, 0.62], [52, 0.44, 0.95],
  [318, 0.52, 0.62], [200, 0.64, 0.85], [290, 0.36, 0.62], [164, 0.52, 0.55],
  [236, 0.7, 0.65], [20, 0.3, 0.6], [66, 0.28, 0.65], [340, 0.76, 0.7],
];
// What the other programs of a family add to hue and lightness.
const PROGRAM_SHIFTS = [[0, 0.0], [5, 0.16], [-5, -0.13], [3, 0.28], [-7, 0.08], [7, -0.07], [-3, 0.22], [4, -0.19]];
const LIGHTNESSES = [0.16, 0.82];
const DRUMS_LIGHTNESS = 0.25;

function table(text) {
  return text.trim().replaceAll("\n", "|").split("|");
}

export const instrumentName = (instrument) => (instrument === DRUMS ? "Drums" : PROGRAMS[instrument]);
export const pitchName = (pitch) => `${PITCH_NAMES[pitch % 12]}${Math.floor(pitch / 12) - 1}`;
export const drumName = (key) => DRUM_NAMES[key - FIRST_DRUM] ?? `Percussion ${key}`;

export function instrumentColour(instrument) {
  if (instrument === DRUMS) return colour(0, 0, DRUMS_LIGHTNESS);
  const [hue, lightness, saturation] = FAMILY_COLOURS[instrument >> 3];
  const [hueShift, lightnessShift] = PROGRAM_SHIFTS[instrument & 7];
  const [least, most] = LIGHTNESSES;
  return colour(hue + hueShift, saturation, Math.max(least, Math.min(most, lightness + lightnessShift)));
}

// On dark paper, all are lighter.
const colour = (hue, saturation, lightness) =>
  `hsl(${hue} ${100 * saturation}% ${100 * (isDark() ? 0.42 + 0.55 * lightness : lightness)}%)`;
