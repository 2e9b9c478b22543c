// Collects 40 ms of the microphone at a time, as s16, with the context time of its first sample.

const BLOCK_S = 0.04;

class Pcm extends AudioWorkletProcessor {
  constructor() {
    super();
    this.block = new Int16Array(Math.round(BLOCK_S * sampleRate));
    this.filled = 0;
    this.start = 0;
  }

  process([input]) {
    const samples = input[0];
    if (!samples) return true; // nothing is connected: time goes on without sound
    for (let i = 0; i < samples.length; i++) {
      if (this.filled === 0) this.start = (currentFrame + i) / sampleRate;
      let sum = 0;
      for (const channel of input) sum += channel[i];
      const value = Math.max(-1, Math.min(1, sum / input.length));
      this.block[this.filled++] = Math.round(value * 32767);
      if (this.filled === this.block.length) {
        this.port.postMessage({ samples: this.block, start: this.start }, [this.block.buffer]);
        this.block = new Int16Array(Math.round(BLOCK_S * sampleRate));
        this.filled = 0;
      }
    }
    return true;
  }
}

registerProcessor("pcm", Pcm);
