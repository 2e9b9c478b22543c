const WINDOW = 500; // blocks of sound (20 s) over which the two clocks are compared

// Compares the sound card's clock with the page's. A block of sound can arrive late, never early: so the least delay
// seen within a while tells how the clocks stand, and pictures follow the sound card however far it drifts.
export class SoundClock {
  #delays = []; #offset = null; #lead = null;

  hear(pageTime, contextTime) {
    this.#delays.push(pageTime - contextTime);
    if (this.#delays.length > WINDOW) this.#delays.shift();
    this.#offset = Math.min(...this.#delays);
    this.#lead ??= this.#offset; // stream time began with the page's, and goes on with the sound card's
  }

  streamTime(contextTime) { return contextTime + (this.#lead ?? 0); }

  fromPage(pageTime) { return this.#offset === null ? pageTime : pageTime - this.#offset + this.#lead; }
}
