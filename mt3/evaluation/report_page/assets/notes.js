// Notes of a recording and run as columns; how they are packed is said in packing.py.
"use strict";

const notes = (() => {
  const DRUMS = 128; // the program of drums
  const MILLISECONDS = 1000;

  // -> [reference, estimate], each {count, onset, end (seconds), pitch, program, velocity, kind, latestEnd}
  function unpack(buffer) {
    const view = new DataView(buffer);
    const counts = [view.getUint32(0, true), view.getUint32(4, true)];
    let offset = 8;
    return counts.map((count) => {
      const side = { count, onset: new Float64Array(count), end: new Float64Array(count), latestEnd: new Float64Array(count) };
      let onset = 0;
      let latest = -Infinity;
      for (let index = 0; index < count; index++) {
        onset += view.getInt32(offset + 4 * index, true);
        side.onset[index] = onset / MILLISECONDS;
        side.end[index] = (onset + view.getUint32(offset + 4 * (count + index), true)) / MILLISECONDS;
        latest = Math.max(latest, side.end[index]);
        side.latestEnd[index] = latest;
      }
      offset += 8 * count;
      for (const name of ["pitch", "program", "velocity", "kind"]) {
        side[name] = new Uint8Array(buffer, offset, count);
        offset += count;
      }
      return side;
    });
  }

  // [first, last): all notes that sound in [from, to) are among these.
  function range(side, from, to) {
    return [firstAbove(side.latestEnd, from), firstAbove(side.onset, to)];
  }

  // Index of the first of ascending values that is greater.
  function firstAbove(values, bound) {
    let low = 0;
    let high = values.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (values[middle] > bound) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  const isDrum = (side, index) => side.program[index] === DRUMS;
  // 0 to 15 for the families of General MIDI, 16 for drums.
  const family = (side, index) => side.program[index] >> 3;

  const NAMES = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];
  const pitchName = (pitch) => `${NAMES[pitch % 12]}${Math.floor(pitch / 12) - 1}`;

  return { unpack, range, firstAbove, isDrum, family, pitchName, DRUMS };
})();
