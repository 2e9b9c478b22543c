// The websocket: speaks PROTOCOL.md, and after a loss takes the same stream up again without losing a final.

const CONGESTED_BYTES = 512 * 1024;
const KEEP_SOUND_S = 20; // sound kept to be sent again
const RETRY_MS = [250, 500, 1000, 2000, 4000];
const SOUND = 1, PICTURE = 3;
// After these errors to connect again would end in the same way; after others a new stream begins.
const FOR_GOOD = new Set(["bad_message", "bad_media", "bad_config", "unauthorised", "taken_over"]);

export class Connection {
  #socket = null; #handlers; #session = null; #isReady = false; #isFinishing = false; #numRetries = 0; #retryTimer = null;
  #sounds = []; // { message, end } on the page's clock
  #nextSegment = 0; // of the server's present stream
  #base = { time: 0, segment: 0 }; // where the present stream begins, after others that the server has lost
  #last = { time: 0, segment: -1, finalEnd: 0 };

  constructor(handlers) { this.#handlers = handlers; }

  // So much waits to be sent that pictures should be left out; sound never is.
  get isCongested() { return !this.#isReady || this.#socket.bufferedAmount > CONGESTED_BYTES; }

  open() {
    this.#handlers.onState("connecting", "Connecting …");
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = (this.#socket = new WebSocket(`${scheme}://${location.host}/ws`));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify(this.#config()));
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = () => this.#closed(socket);
  }

  finish() {
    if (this.#isFinishing) return;
    this.#isFinishing = true;
    clearTimeout(this.#retryTimer);
    if (this.#isReady) {
      this.#socket.send(JSON.stringify({ type: "end" }));
      this.#handlers.onState("waiting", "Waiting for the last words …");
    } else {
      this.#socket?.close();
      this.#handlers.onState("idle", "Stopped.");
    }
  }

  sendSound(samples, rate, time) {
    this.#last.time = time;
    const bytes = new ArrayBuffer(13 + samples.byteLength), header = new DataView(bytes);
    header.setUint8(0, SOUND);
    header.setUint32(9, rate, true);
    new Uint8Array(bytes, 13).set(new Uint8Array(samples.buffer, samples.byteOffset, samples.byteLength));
    const sound = { bytes, start: time, end: time + samples.length / rate };
    this.#sounds.push(sound);
    while (this.#sounds[0].end < time - KEEP_SOUND_S) this.#sounds.shift();
    if (this.#isReady) this.#sendTimed(sound.bytes, sound.start);
  }

  async sendPicture(blob, time) {
    this.#last.time = Math.max(this.#last.time, time);
    if (!this.#isReady) return;
    const bytes = new Uint8Array(9 + blob.size);
    bytes[0] = PICTURE;
    bytes.set(new Uint8Array(await blob.arrayBuffer()), 9);
    if (this.#isReady) this.#sendTimed(bytes.buffer, time);
  }

  sendAbsent(sense, time) {
    if (!this.#isReady || time < this.#base.time) return;
    this.#socket.send(JSON.stringify({ type: "absent", sense, time: time - this.#base.time }));
  }

  #config() {
    const config = { type: "config", modality: "av", preview: true, av_offset_ms: this.#handlers.offsetMs };
    if (this.#handlers.token) config.token = this.#handlers.token;
    if (this.#session) config.resume = { session: this.#session, next_segment: this.#nextSegment };
    return config;
  }

  #sendTimed(bytes, time) {
    const streamTime = time - this.#base.time;
    if (streamTime < 0 || this.#socket.readyState !== WebSocket.OPEN) return;
    new DataView(bytes).setFloat64(1, streamTime, true);
    this.#socket.send(bytes);
  }

  #take(event) {
    if (event.type === "ready") this.#ready(event);
    else if (event.type === "partial" || event.type === "final") this.#takeCaption(event);
    else if (event.type === "status") this.#handlers.onStatus(event);
    else if (event.type === "error") this.#refused(event);
    else if (event.type === "done") this.#handlers.onState("idle", "Stopped.");
  }

  #ready(event) {
    this.#session = event.session;
    this.#isReady = true;
    this.#numRetries = 0;
    this.#handlers.onState("listening", event.resumed ? "Connected again." : "Listening …");
    for (const sound of this.#sounds) {
      if (sound.end - this.#base.time > event.received.audio + 1e-6) this.#sendTimed(sound.bytes, sound.start);
    }
  }

  #takeCaption(event) {
    if (event.type === "final") this.#nextSegment = event.segment + 1;
    const { time, segment } = this.#base;
    const shift = (part) => ({ ...part, start: part.start + time, end: part.end + time });
    const caption = { ...shift(event), segment: event.segment + segment, words: event.words.map(shift) };
    if (event.type === "final") Object.assign(this.#last, { segment: caption.segment, finalEnd: caption.end });
    this.#handlers.onCaption(caption);
  }

  #refused(event) {
    if (event.code === "unknown_session") { // the server was started anew: go on with a new stream
      this.#session = null;
      this.#nextSegment = 0;
      const oldest = this.#sounds[0]?.start ?? this.#last.time;
      this.#base = { time: Math.max(oldest, this.#last.finalEnd), segment: this.#last.segment + 1 };
      return;
    }
    this.#isFinishing = FOR_GOOD.has(event.code);
    this.#handlers.onState(event.code === "busy" ? "busy" : "error", `${capital(event.message)}.`);
    if (this.#isFinishing) this.#handlers.onEnd();
  }

  #closed(socket) {
    if (socket !== this.#socket) return;
    this.#isReady = false;
    if (this.#isFinishing) return;
    const wait = RETRY_MS[Math.min(this.#numRetries++, RETRY_MS.length - 1)];
    if (this.#session || this.#numRetries > 1) this.#handlers.onState("lost", "The connection is lost; trying again …");
    this.#retryTimer = setTimeout(() => this.open(), wait);
  }
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
