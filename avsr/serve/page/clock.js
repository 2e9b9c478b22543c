const WINDOW = 500; // blocks of sound (20 s) over which the two clocks are compared
const FEW_PICTURES_HZ = 12, RATE_SPAN_S = 5, BREAK_S = 1; // as for `avsr live`; a test compares them

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

// Whether a camera takes too few pictures a second to read lips well. It is asked at times of the page, with the number
// of pictures so far, those that the page missed included; a window that was hidden for a while was not asked at all.
export class PictureRate {
  isLow = false;
  #first; #newestTime = -Infinity;

  see(time, number) {
    if (!(time - this.#newestTime < BREAK_S)) this.#first = { time, number };
    this.#newestTime = time;
    const span = time - this.#first.time;
    if (span < RATE_SPAN_S) return;
    this.isLow = (number - this.#first.number) / span < FEW_PICTURES_HZ;
    this.#first = { time, number };
  }
}
