// The notes of one recording as columns that grow: ordered by onset, whatever the order in which they come.

import { DRUMS } from "./instruments.js";

const FIRST_CAPACITY = 1024;
const COLUMNS = {
  onset: Float64Array, // seconds
  end: Float64Array, // seconds
  latestEnd: Float64Array, // of the notes up to this one
  pitch: Uint8Array,
  velocity: Uint8Array,
  instrument: Uint8Array,
  confidence: Float32Array, // 0 to 1
};

export class Notes {
  count = 0;
  lowest = Infinity; // pitch of what is not a drum
  highest = -Infinity;
  drums = new Set(); // keys that occur
  perInstrument = new Map(); // instrument -> number of notes

  constructor() {
    for (const [name, Type] of Object.entries(COLUMNS)) this[name] = new Type(FIRST_CAPACITY);
  }

  // rows: [onset, offset, pitch, velocity, program, is_drum, confidence] of each, as the server sends them.
  add(rows) {
    const added = [...rows].sort((a, b) => a[0] - b[0]);
    this.#reserve(this.count + added.length);
    let from = this.count - 1;
    let to = this.count + added.length - 1;
    this.count += added.length;
    for (let next = added.length - 1; next >= 0; to--) {
      if (from >= 0 && this.onset[from] > added[next][0]) this.#move(from--, to);
      else this.#write(added[next--], to);
    }
    for (let index = to + 1; index < this.count; index++) {
      this.latestEnd[index] = Math.max(this.end[index], index ? this.latestEnd[index - 1] : 0);
    }
  }

  // [first, last): all notes that sound in [from, to) are among these.
  range(from, to) {
    return [this.#firstAtLeast(this.latestEnd, from), this.#firstAtLeast(this.onset, to)];
  }

  // [first, last): the notes that begin in [from, to).
  beginning(from, to) {
    return [this.#firstAtLeast(this.onset, from), this.#firstAtLeast(this.onset, to)];
  }

  get seconds() {
    return this.count ? this.latestEnd[this.count - 1] : 0;
  }

  // The row of the piano roll that a note lies in; those of drums are 128 more than their keys.
  key(index) {
    return this.pitch[index] + (this.instrument[index] === DRUMS ? 128 : 0);
  }

  #firstAtLeast(column, bound) {
    let low = 0;
    let high = this.count;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (column[middle] >= bound) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #reserve(count) {
    if (count <= this.onset.length) return;
    const capacity = Math.max(count, 2 * this.onset.length);
    for (const [name, Type] of Object.entries(COLUMNS)) {
      const larger = new Type(capacity);
      larger.set(this[name]);
      this[name] = larger;
    }
  }

  #move(from, to) {
    for (const name of Object.keys(COLUMNS)) this[name][to] = this[name][from];
  }

  #write([onset, offset, pitch, velocity, program, isDrum, confidence], index) {
    const instrument = isDrum ? DRUMS : program;
    if (isDrum) this.drums.add(pitch);
    else [this.lowest, this.highest] = [Math.min(this.lowest, pitch), Math.max(this.highest, pitch)];
    this.perInstrument.set(instrument, (this.perInstrument.get(instrument) ?? 0) + 1);
    this.onset[index] = onset;
    this.end[index] = offset;
    this.pitch[index] = pitch;
    this.velocity[index] = velocity;
    this.instrument[index] = instrument;
    this.confidence[index] = confidence ?? 1;
  }
}
