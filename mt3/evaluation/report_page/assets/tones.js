// Plain tones for recordings whose sound is not in the page: notes to a WAV file.
"use strict";

const tones = (() => {
  const SAMPLE_RATE = 16000;
  const PERIOD = 2048;
  const HARMONICS = [1, 0.5, 0.25, 0.12];
  const RELEASE_SECONDS = 0.04;
  const PEAK = 0.8;

  const wave = Float32Array.from({ length: PERIOD }, (_, position) =>
    HARMONICS.reduce((sum, gain, order) => sum + gain * Math.sin((2 * Math.PI * (order + 1) * position) / PERIOD), 0));

  function render(side, shows) {
    const seconds = side.count ? side.latestEnd[side.count - 1] + 0.5 : 0.5;
    const samples = new Float32Array(Math.ceil(seconds * SAMPLE_RATE));
    for (let index = 0; index < side.count; index++) {
      if (shows(side, index)) addNote(samples, side, index);
    }
    let peak = 0;
    for (const value of samples) peak = Math.max(peak, Math.abs(value));
    return wav(samples, peak > 0 ? PEAK / peak : 0);
  }

  function addNote(samples, side, index) {
    const drum = notes.isDrum(side, index);
    const start = Math.max(0, Math.round(side.onset[index] * SAMPLE_RATE));
    const length = drum ? 0.06 : side.end[index] - side.onset[index] + RELEASE_SECONDS;
    const end = Math.min(samples.length, start + Math.round(length * SAMPLE_RATE));
    const gain = (side.velocity[index] || 80) / 127;
    const decay = Math.exp(-1 / (SAMPLE_RATE * (drum ? 0.015 : 0.6)));
    const release = RELEASE_SECONDS * SAMPLE_RATE;
    const step = (PERIOD * 440 * 2 ** ((side.pitch[index] - 69) / 12)) / SAMPLE_RATE;
    let level = gain;
    let phase = 0;
    for (let position = start; position < end; position++) {
      const tone = drum ? Math.random() * 2 - 1 : wave[phase & (PERIOD - 1)];
      samples[position] += tone * level * Math.min(1, (end - position) / release);
      level *= decay;
      phase += step;
    }
  }

  function wav(samples, gain) {
    const view = new DataView(new ArrayBuffer(44 + 2 * samples.length));
    const text = (offset, word) => [...word].forEach((letter, at) => view.setUint8(offset + at, letter.charCodeAt(0)));
    text(0, "RIFF");
    view.setUint32(4, 36 + 2 * samples.length, true);
    text(8, "WAVEfmt ");
    view.setUint32(16, 16, true);
    view.setUint16(20, 1, true); // integers
    view.setUint16(22, 1, true); // channels
    view.setUint32(24, SAMPLE_RATE, true);
    view.setUint32(28, 2 * SAMPLE_RATE, true);
    view.setUint16(32, 2, true);
    view.setUint16(34, 16, true);
    text(36, "data");
    view.setUint32(40, 2 * samples.length, true);
    for (let index = 0; index < samples.length; index++) {
      view.setInt16(44 + 2 * index, Math.round(32767 * gain * samples[index]), true);
    }
    return new Blob([view], { type: "audio/wav" });
  }

  return { render };
})();
