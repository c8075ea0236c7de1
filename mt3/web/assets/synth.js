// Plain tones for notes, by family of instruments, and drums from noise and falling tones.

import { DRUMS } from "./instruments.js";

const LEVEL = 0.16; // of one note at full velocity
const DEFAULT_VELOCITY = 80; // where none is known
const MAX_VOICES = 160;
const FADE_SECONDS = 0.03; // of voices that are stopped

// By family of General MIDI: strengths of the partials, and seconds of attack, decay (time constant at
// middle C; 0: as loud as it began) and release.
const TIMBRES = [
  { partials: [1, 0.55, 0.3, 0.2, 0.1, 0.06], attack: 0.004, decay: 0.9, release: 0.12 }, // piano
  { partials: [1, 0, 0.12, 0.25, 0, 0.08], attack: 0.002, decay: 0.5, release: 0.3 }, // chromatic percussion
  { partials: [1, 0.7, 0.5, 0.45, 0, 0.25, 0, 0.2], attack: 0.01, decay: 0, release: 0.05 }, // organ
  { partials: [1, 0.7, 0.45, 0.3, 0.2, 0.12], attack: 0.003, decay: 0.5, release: 0.1 }, // guitar
  { partials: [1, 0.6, 0.25, 0.1], attack: 0.006, decay: 0.5, release: 0.08 }, // bass
  { partials: [1, 0.6, 0.45, 0.35, 0.25, 0.18, 0.12], attack: 0.06, decay: 0, release: 0.12 }, // strings
  { partials: [1, 0.5, 0.35, 0.2, 0.12], attack: 0.08, decay: 0, release: 0.2 }, // ensemble
  { partials: [1, 0.9, 0.75, 0.55, 0.4, 0.25, 0.15], attack: 0.03, decay: 0, release: 0.08 }, // brass
  { partials: [1, 0.2, 0.65, 0.15, 0.4, 0.1, 0.2], attack: 0.025, decay: 0, release: 0.08 }, // reed
  { partials: [1, 0.15, 0.06], attack: 0.04, decay: 0, release: 0.1 }, // pipe
  { partials: [1, 0.5, 0.33, 0.25, 0.2, 0.17, 0.14, 0.12], attack: 0.01, decay: 0, release: 0.06 }, // synth lead
  { partials: [1, 0.4, 0.2, 0.1], attack: 0.15, decay: 0, release: 0.4 }, // synth pad
  { partials: [1, 0.3, 0.3, 0.1], attack: 0.1, decay: 0, release: 0.4 }, // synth effects
  { partials: [1, 0.6, 0.5, 0.35, 0.25], attack: 0.004, decay: 0.45, release: 0.1 }, // ethnic
  { partials: [1, 0.1, 0.2, 0.15], attack: 0.002, decay: 0.2, release: 0.1 }, // percussive
  { partials: [1, 0.2, 0.1], attack: 0.05, decay: 0, release: 0.2 }, // sound effects
];

// tone: [Hz at first, Hz at last, seconds], noise: [filter, its Hz, seconds]; seconds are time constants.
const KICK = { tone: [150, 45, 0.12], gain: 1.6 };
const SNARE = { tone: [220, 160, 0.05], noise: ["bandpass", 2500, 0.07], gain: 1.1 };
const CLAP = { noise: ["bandpass", 1500, 0.06], gain: 1.1 };
const STICK = { tone: [900, 700, 0.015], noise: ["highpass", 3000, 0.01], gain: 0.8 };
const HAT = { noise: ["highpass", 8000, 0.025], gain: 0.7 };
const OPEN_HAT = { noise: ["highpass", 7500, 0.16], gain: 0.6 };
const CYMBAL = { noise: ["highpass", 5000, 0.5], gain: 0.6 };
const RIDE = { tone: [3200, 3200, 0.05], noise: ["highpass", 7000, 0.2], gain: 0.4 };
const SHAKER = { noise: ["bandpass", 6000, 0.03], gain: 0.6 };
const BELL = { tone: [1100, 1100, 0.08], gain: 0.6 };
const tom = (hertz) => ({ tone: [hertz, 0.6 * hertz, 0.14], gain: 1.3 });
const DRUM_SOUNDS = {
  35: KICK, 36: KICK, 37: STICK, 38: SNARE, 39: CLAP, 40: SNARE, 41: tom(90), 42: HAT, 43: tom(105), 44: HAT,
  45: tom(125), 46: OPEN_HAT, 47: tom(150), 48: tom(180), 49: CYMBAL, 50: tom(210), 51: RIDE, 52: CYMBAL,
  53: BELL, 54: SHAKER, 55: CYMBAL, 56: BELL, 57: CYMBAL, 59: RIDE, 60: tom(320), 61: tom(250), 62: tom(300),
  63: tom(280), 64: tom(220), 65: tom(300), 66: tom(230), 69: SHAKER, 70: SHAKER, 75: STICK, 76: STICK, 77: STICK,
};

export class Synth {
  #context;
  #output;
  #buses = new Map(); // instrument -> gain, which mutes it
  #waves = new Map(); // family -> its wave
  #noise = null;
  #voices = new Set();

  // context: an AudioContext, or one that renders to memory
  constructor(context, destination) {
    this.#context = context;
    this.#output = new DynamicsCompressorNode(context, { threshold: -18, ratio: 12 }); // so that full chords do not clip
    this.#output.connect(destination);
  }

  mute(instrument, isMuted) {
    this.#bus(instrument).gain.setTargetAtTime(isMuted ? 0 : 1, this.#context.currentTime, FADE_SECONDS / 3);
  }

  // at: seconds of the context; seconds: how long the note is held, which drums do not ask
  play({ instrument, pitch, velocity, at, seconds }) {
    if (this.#voices.size >= MAX_VOICES) return;
    const level = (LEVEL * (velocity || DEFAULT_VELOCITY)) / 127;
    if (instrument === DRUMS) this.#drum(pitch, level, at);
    else this.#tone(instrument, pitch, level, at, seconds);
  }

  stop() {
    const now = this.#context.currentTime;
    for (const { source, gain } of this.#voices) {
      gain.gain.cancelScheduledValues(now);
      gain.gain.setTargetAtTime(0, now, FADE_SECONDS / 3);
      source.stop(now + FADE_SECONDS);
    }
    this.#voices.clear();
  }

  #bus(instrument) {
    if (!this.#buses.has(instrument)) {
      const bus = new GainNode(this.#context);
      bus.connect(this.#output);
      this.#buses.set(instrument, bus);
    }
    return this.#buses.get(instrument);
  }

  #wave(family) {
    if (!this.#waves.has(family)) {
      const imag = [0, ...TIMBRES[family].partials];
      this.#waves.set(family, new PeriodicWave(this.#context, { real: imag.map(() => 0), imag }));
    }
    return this.#waves.get(family);
  }

  #tone(instrument, pitch, level, at, seconds) {
    const family = instrument >> 3;
    const { attack, decay, release } = TIMBRES[family];
    const frequency = 440 * 2 ** ((pitch - 69) / 12);
    const source = new OscillatorNode(this.#context, { frequency, periodicWave: this.#wave(family) });
    const gain = new GainNode(this.#context, { gain: 0 });
    const held = at + Math.max(seconds, attack);
    gain.gain.setValueAtTime(0, at);
    gain.gain.linearRampToValueAtTime(level, at + attack);
    if (decay) gain.gain.setTargetAtTime(0, at + attack, decay * 2 ** ((60 - pitch) / 24)); // low notes ring longer
    gain.gain.setTargetAtTime(0, held, release / 3);
    this.#start(instrument, [source], gain, at, held + 2 * release);
  }

  #drum(key, level, at) {
    const { tone, noise, gain: loudness } = DRUM_SOUNDS[key] ?? STICK;
    const gain = new GainNode(this.#context, { gain: loudness * level });
    if (tone) {
      const [first, last, seconds] = tone;
      const source = new OscillatorNode(this.#context, { frequency: first });
      source.frequency.setValueAtTime(first, at);
      source.frequency.exponentialRampToValueAtTime(last, at + seconds);
      this.#start(DRUMS, [source, this.#fall(at, seconds)], gain, at, at + 6 * seconds);
    }
    if (noise) {
      const [type, frequency, seconds] = noise;
      const source = new AudioBufferSourceNode(this.#context, { buffer: this.#noiseBuffer(), loop: true });
      const filter = new BiquadFilterNode(this.#context, { type, frequency });
      this.#start(DRUMS, [source, filter, this.#fall(at, seconds)], gain, at, at + 6 * seconds);
    }
  }

  #fall(at, seconds) {
    const gain = new GainNode(this.#context);
    gain.gain.setValueAtTime(1, at);
    gain.gain.setTargetAtTime(0, at, seconds);
    return gain;
  }

  // nodes: the source first
  #start(instrument, nodes, gain, at, end) {
    const [source] = nodes;
    [...nodes, gain, this.#bus(instrument)].reduce((from, to) => from.connect(to));
    const voice = { source, gain };
    source.start(at);
    source.stop(end);
    source.addEventListener("ended", () => {
      this.#voices.delete(voice);
      nodes.forEach((node) => node.disconnect());
    });
    this.#voices.add(voice);
  }

  #noiseBuffer() {
    if (!this.#noise) {
      this.#noise = new AudioBuffer({ length: this.#context.sampleRate, sampleRate: this.#context.sampleRate });
      const samples = this.#noise.getChannelData(0);
      for (let index = 0; index < samples.length; index++) samples[index] = 2 * Math.random() - 1;
    }
    return this.#noise;
  }
}
