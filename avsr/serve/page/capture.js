// The camera and the microphone, on one clock: seconds as the sound card counts them, which go on from a given time.

import { PictureRate, SoundClock } from "./clock.js";

const RATE = 16000;
const FRAME_S = 0.04; // 25 pictures a second are as many as the engine uses
const MAX_SIDE = 640;
const QUALITY = 0.9;
// Echo cancelling and the like would tear holes into what the engine is trained to cope with itself.
const SOUND = { channelCount: 1, echoCancellation: false, noiseSuppression: false, autoGainControl: true };
const PICTURES = { width: { ideal: 640 }, height: { ideal: 480 }, frameRate: { ideal: 25 } };
const ABSENT_EVERY_MS = 200;
const MARGIN_S = 0.1; // what is on its way from a device that has just been closed
const STALE_S = 1.5; // a device that is there and delivered nothing for so long is stuck: a busy page may cause less

export class Capture {
  onSound = () => {};
  onPicture = () => {};
  onAbsent = () => {};
  isCongested = () => false;
  numDropped = 0;

  #video; #audioTrack = null; #videoTrack = null; #context = null; #node = null;
  #beginning; // what the clock shows when the first device is open
  #startedAt = null; // when it showed 0, by the page's own clock
  #soundClock = new SoundClock(); #pictureRate = new PictureRate();
  #lastSound = 0; #lastPicture = 0; #nextPicture = 0; #isEncoding = false; #isStopped = false; #generation = 0; #timer;
  #canvas = document.createElement("canvas");

  constructor(video, beginning) {
    this.#video = video;
    this.#beginning = beginning;
    this.#timer = setInterval(() => this.#reportAbsence(), ABSENT_EVERY_MS);
  }

  get time() { return this.#startedAt === null ? this.#beginning : performance.now() / 1000 - this.#startedAt; }
  get hasAudio() { return this.#audioTrack?.readyState === "live"; }
  get hasVideo() { return this.#videoTrack?.readyState === "live"; }
  get hasFewPictures() { return this.hasVideo && this.#pictureRate.isLow; }

  // Opens the devices chosen ("" default, "none", or an id); returns what went wrong, for people.
  async choose({ camera, microphone }) {
    this.#close();
    if (!navigator.mediaDevices) {
      return ["Browsers allow camera and microphone access only to pages from this machine or over HTTPS."];
    }
    const device = (id, settings) => (id ? { ...settings, deviceId: { exact: id } } : settings);
    const wanted = {};
    if (microphone !== "none") wanted.audio = device(microphone, SOUND);
    if (camera !== "none") wanted.video = device(camera, PICTURES);
    const generation = this.#generation;
    const { tracks, problems } = await openTracks(wanted);
    const isOutdated = () => generation !== this.#generation; // stopped, or chosen again, in the meantime
    if (isOutdated()) {
      for (const track of tracks) track.stop();
      return [];
    }
    this.#audioTrack = tracks.find((track) => track.kind === "audio") ?? null;
    this.#videoTrack = tracks.find((track) => track.kind === "video") ?? null;
    this.#startedAt ??= performance.now() / 1000 - this.#beginning;
    this.#lastSound = this.#lastPicture = this.time;
    for (const track of tracks) {
      try {
        await (track.kind === "audio" ? this.#listen(track) : this.#watch(track));
      } catch (error) {
        if (isOutdated()) return [];
        track.stop();
        problems.push(reason(track.kind, error));
      }
    }
    return problems;
  }

  stop() {
    this.#isStopped = true;
    clearInterval(this.#timer);
    this.#close();
  }

  #close() {
    this.#generation++;
    for (const track of [this.#audioTrack, this.#videoTrack]) track?.stop();
    this.#context?.close();
    this.#context = this.#audioTrack = this.#videoTrack = null;
    this.#video.srcObject = null;
    this.#soundClock = new SoundClock();
    this.#pictureRate = new PictureRate();
  }

  async #listen(track) {
    const stream = new MediaStream([track]);
    let source;
    try {
      this.#context = new AudioContext({ sampleRate: RATE });
      source = this.#context.createMediaStreamSource(stream);
    } catch { // a browser that does not resample microphones: the server does
      await this.#context?.close();
      this.#context = new AudioContext();
      source = this.#context.createMediaStreamSource(stream);
    }
    const context = this.#context;
    await context.audioWorklet.addModule("pcm-worklet.js");
    await context.resume();
    if (context !== this.#context) return;
    const latency = track.getSettings().latency ?? 0;
    this.#node = new AudioWorkletNode(context, "pcm", { numberOfOutputs: 0 });
    this.#node.port.onmessage = ({ data }) => {
      if (context !== this.#context) return;
      const { samples, start } = data;
      this.#soundClock.hear(this.time, start + samples.length / context.sampleRate);
      const time = this.#soundClock.streamTime(start) - latency;
      if (time < 0) return;
      this.#lastSound = time + samples.length / context.sampleRate;
      this.onSound(samples, context.sampleRate, time);
    };
    source.connect(this.#node);
  }

  async #watch(track) {
    const generation = this.#generation, video = this.#video;
    video.srcObject = new MediaStream([track]);
    await video.play();
    const next = (callback) => video.requestVideoFrameCallback
      ? video.requestVideoFrameCallback(callback) : setTimeout(() => callback(performance.now(), {}), 1000 * FRAME_S);
    const look = (now, { captureTime, presentedFrames }) => {
      if (generation !== this.#generation) return;
      next(look);
      this.#pictureRate.see(now / 1000, presentedFrames);
      this.#take(this.#soundClock.fromPage((captureTime ?? now) / 1000 - this.#startedAt));
    };
    next(look);
  }

  // Takes the picture that the video shows, unless it comes too soon or there is no room for it.
  #take(time) {
    if (time < Math.max(0, this.#nextPicture - FRAME_S / 4)) return;
    this.#nextPicture = Math.max(this.#nextPicture + FRAME_S, time);
    if (this.#isEncoding || this.isCongested()) {
      this.numDropped++;
      return;
    }
    const { videoWidth, videoHeight } = this.#video;
    const scale = Math.min(1, MAX_SIDE / Math.max(videoWidth, videoHeight));
    if (!videoWidth) return;
    const canvas = this.#canvas;
    canvas.width = Math.round(videoWidth * scale);
    canvas.height = Math.round(videoHeight * scale);
    canvas.getContext("2d", { alpha: false }).drawImage(this.#video, 0, 0, canvas.width, canvas.height);
    this.#isEncoding = true;
    canvas.toBlob((blob) => {
      this.#isEncoding = false;
      if (!blob || this.#isStopped) return;
      this.#lastPicture = time;
      this.onPicture(blob, time);
    }, "image/jpeg", QUALITY);
  }

  #reportAbsence() {
    const now = this.#soundClock.fromPage(this.time);
    const report = (sense, isThere, last) => {
      const until = !isThere ? now - MARGIN_S : now - last > STALE_S ? now - STALE_S / 2 : 0;
      if (until > 0) this.onAbsent(sense, until);
    };
    report("audio", this.hasAudio, this.#lastSound);
    report("video", this.hasVideo, this.#lastPicture);
  }
}

// Opens all that is wanted with one question to the user; where that fails, one by one, to have at least the rest.
async function openTracks(wanted) {
  const kinds = Object.keys(wanted);
  if (kinds.length === 0) return { tracks: [], problems: [] };
  try {
    return { tracks: (await navigator.mediaDevices.getUserMedia(wanted)).getTracks(), problems: [] };
  } catch (error) {
    if (kinds.length === 1) return { tracks: [], problems: [reason(kinds[0], error)] };
    const parts = [];
    for (const kind of kinds) parts.push(await openTracks({ [kind]: wanted[kind] }));
    return { tracks: parts.flatMap((part) => part.tracks), problems: parts.flatMap((part) => part.problems) };
  }
}

function reason(kind, error) {
  const name = kind === "video" ? "camera" : "microphone";
  const reasons = {
    NotAllowedError: "is blocked; allow it in the browser's settings for this page",
    NotFoundError: "was not found",
    NotReadableError: "is in use",
  };
  return `The ${name} ${reasons[error.name] ?? `does not work (${error.message})`}.`;
}
