// The websocket: speaks PROTOCOL.md, and after a loss takes the same stream up again without losing a final.

const CONGESTED_BYTES = 512 * 1024;
const KEEP_SOUND_S = 20; // sound kept to be sent again
const RETRY_MS = [250, 500, 1000, 2000, 4000];
const SOUND = 1, PICTURE = 3;
const WAITING = "Waiting for the last captions …";
const LOST = "Connection lost; reconnecting …";
// A page that was opened by a name of its own is refused without a word; see is_trusted in app.py.
const NEVER_THERE = /^(localhost|[0-9.]+|\[.*\])$/.test(location.hostname)
  ? "The server does not respond; retrying …"
  : `The server does not respond, or was started without --allow-origin ${location.origin}; retrying …`;
// After these errors to connect again would end in the same way; after others a new stream begins.
const FOR_GOOD = new Set(["bad_message", "bad_media", "bad_config", "unauthorised", "taken_over"]);

// The token in the page's address, "#token=…"; a plus in it is a plus, not a space as in forms.
export function tokenOf(hash) {
  return new URLSearchParams(hash.slice(1).replaceAll("+", "%2B")).get("token");
}

export class Connection {
  #socket = null; #handlers; #session = null; #isReady = false; #numRetries = 0; #retryTimer = null;
  #isRefused = false; // by the present socket's server, which said why
  #isFinishing = false; #isOver = false; // nothing more will be sent; nothing more will come
  #sounds = []; // { message, end } on the page's clock
  #partial = null; // the newest caption, where it is no final
  #nextSegment = 0; // of the server's present stream
  #base; // { time, segment } at which the present stream begins, after others that ended or that the server has lost
  #last;

  constructor(handlers, base) {
    this.#handlers = handlers;
    this.#base = base;
    this.#last = { time: base.time, segment: base.segment - 1, finalEnd: base.time };
  }

  // So much waits to be sent that pictures should be left out; sound never is.
  get isCongested() { return !this.#isReady || this.#socket.bufferedAmount > CONGESTED_BYTES; }

  open() {
    if (this.#numRetries === 0) this.#handlers.onState("connecting", "Connecting …");
    this.#isRefused = false;
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = (this.#socket = new WebSocket(`${scheme}://${location.host}/ws`));
    socket.binaryType = "arraybuffer";
    socket.onopen = () => socket.send(JSON.stringify(this.#config()));
    socket.onmessage = ({ data }) => this.#take(JSON.parse(data));
    socket.onclose = () => this.#closed(socket);
  }

  finish() {
    if (this.#isFinishing || this.#isOver) return;
    this.#isFinishing = true;
    if (this.#isReady) this.#sendEnd();
    else if (this.#session) this.#handlers.onState("waiting", WAITING); // for the connection, too
    else this.#end("Stopped.");
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

  #sendEnd() {
    this.#socket.send(JSON.stringify({ type: "end" }));
    this.#handlers.onState("waiting", WAITING);
  }

  #end(text) {
    this.#isOver = true;
    clearTimeout(this.#retryTimer);
    this.#socket?.close();
    this.#handlers.onState("idle", text);
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
    else if (event.type === "done") this.#end("Stopped.");
  }

  #ready(event) {
    this.#session = event.session;
    this.#isReady = true;
    this.#numRetries = 0;
    this.#handlers.onState("listening", event.resumed ? "Reconnected." : "Listening …");
    for (const sound of this.#sounds) {
      if (sound.end - this.#base.time > event.received.audio + 1e-6) this.#sendTimed(sound.bytes, sound.start);
    }
    if (this.#isFinishing) this.#sendEnd();
  }

  #takeCaption(event) {
    if (event.type === "final") this.#nextSegment = event.segment + 1;
    const { time, segment } = this.#base;
    const shift = (part) => ({ ...part, start: part.start + time, end: part.end + time });
    const caption = { ...shift(event), segment: event.segment + segment, words: event.words.map(shift) };
    if (event.type === "final") Object.assign(this.#last, { segment: caption.segment, finalEnd: caption.end });
    this.#partial = event.type === "partial" ? caption : null;
    this.#handlers.onCaption(caption);
  }

  #refused(event) {
    if (event.code === "unknown_session") { // the server was started anew: go on with a new stream
      this.#session = null;
      this.#nextSegment = 0;
      if (this.#partial) this.#handlers.onCaption({ ...this.#partial, text: "", stable_chars: 0, words: [] });
      this.#partial = null;
      const oldest = this.#sounds[0]?.start ?? this.#last.time;
      this.#base = { time: Math.max(oldest, this.#last.finalEnd), segment: this.#last.segment + 1 };
      return;
    }
    this.#isRefused = true;
    this.#isOver = FOR_GOOD.has(event.code);
    this.#handlers.onState(event.code === "busy" ? "busy" : "error", `${capital(event.message)}.`);
    if (this.#isOver) this.#handlers.onEnd();
  }

  #closed(socket) {
    if (socket !== this.#socket) return;
    this.#isReady = false;
    if (this.#isOver) return;
    if (this.#isFinishing && this.#numRetries >= RETRY_MS.length) {
      this.#end("Stopped. The connection was lost before the last captions arrived.");
      return;
    }
    const wait = RETRY_MS[Math.min(this.#numRetries++, RETRY_MS.length - 1)];
    if (!this.#isRefused && !this.#isFinishing) this.#handlers.onState("lost", this.#session ? LOST : NEVER_THERE);
    this.#retryTimer = setTimeout(() => this.open(), wait);
  }
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);
