// 16-bit WAV files from blocks of samples.

const HEADER_BYTES = 44;

export const toInt16 = (samples) => Int16Array.from(samples, (value) => Math.round(32767 * Math.max(-1, Math.min(1, value))));

// blocks: Int16Arrays of one channel
export function wavBlob(blocks, sampleRate) {
  const numBytes = blocks.reduce((sum, block) => sum + block.byteLength, 0);
  const header = new DataView(new ArrayBuffer(HEADER_BYTES));
  const text = (offset, word) => [...word].forEach((letter, at) => header.setUint8(offset + at, letter.charCodeAt(0)));
  text(0, "RIFF");
  header.setUint32(4, HEADER_BYTES - 8 + numBytes, true);
  text(8, "WAVEfmt ");
  header.setUint32(16, 16, true);
  header.setUint16(20, 1, true); // integers
  header.setUint16(22, 1, true); // channels
  header.setUint32(24, sampleRate, true);
  header.setUint32(28, 2 * sampleRate, true);
  header.setUint16(32, 2, true);
  header.setUint16(34, 16, true);
  text(36, "data");
  header.setUint32(40, numBytes, true);
  return new Blob([header, ...blocks], { type: "audio/wav" });
}
