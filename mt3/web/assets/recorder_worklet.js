// Runs beside the page: hands on the samples of the microphone, mixed to one channel.

const BLOCK_SAMPLES = 4096;

class Recorder extends AudioWorkletProcessor {
  #block = new Float32Array(BLOCK_SAMPLES);
  #filled = 0;

  process([channels]) {
    const numSamples = channels.length ? channels[0].length : 0;
    for (let index = 0; index < numSamples; index++) {
      let sum = 0;
      for (const channel of channels) sum += channel[index];
      this.#block[this.#filled++] = sum / channels.length;
      if (this.#filled === BLOCK_SAMPLES) {
        this.port.postMessage(this.#block);
        this.#filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("recorder", Recorder);
