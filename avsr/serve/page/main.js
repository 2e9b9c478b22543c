// The page: buttons, states and meters. Capture, connection, captions and files live in modules of their own.

import { Capture } from "./capture.js";
import { CaptionView } from "./captions.js";
import { Connection, tokenOf } from "./connection.js";
import { FORMATS } from "./formats.js";

const QUIET_DB = -50;
const STEADY_MS = 1000; // a face that flickers is not worth a screen reader's words
const $ = (id) => document.getElementById(id);
const view = new CaptionView($("captions"), $("finals"), $("settled"), $("open"));
let live = null; // { capture, connection } while running
let latest = null; // the newest capture, whose clock goes on when it is stopped: all streams make one transcript
let numSegments = 0;
let numSaved = 0; // finals in the last file
let pending = { text: "", since: 0 }; // what the state will say if it lasts
let isStarting = false; // a button that is disabled would lose the keyboard's focus

$("controls").addEventListener("submit", (event) => {
  event.preventDefault();
  if (live) stop();
  else if (!isStarting) {
    isStarting = true;
    start().finally(() => { isStarting = false; });
  }
});
for (const button of document.querySelectorAll("[data-format]")) {
  button.addEventListener("click", () => download(button.dataset.format));
}
for (const id of ["camera", "microphone"]) {
  $(id).addEventListener("change", openDevices);
}
$("size").value = parseFloat(getComputedStyle(document.documentElement).getPropertyValue("--size")); // less on phones
keepSetting("size", (value) => document.documentElement.style.setProperty("--size", `${value}rem`));
keepSetting("offset", () => {});
keepSetting("theme", (value) => { document.documentElement.dataset.theme = value; });
addEventListener("beforeunload", (event) => { // the browser asks before it leaves
  if (view.transcript.length > numSaved) event.preventDefault();
});
navigator.mediaDevices?.addEventListener("devicechange", () => {
  listDevices();
  const { camera, microphone } = chosen();
  if (!live) return;
  if ((camera !== "none" && !live.capture.hasVideo) || (microphone !== "none" && !live.capture.hasAudio)) openDevices();
});
listDevices();

async function start() {
  show("connecting", "Requesting access to the camera and microphone …");
  const beginning = latest?.time ?? 0;
  const capture = new Capture($("preview"), beginning);
  const problems = await capture.choose(chosen());
  $("notice").textContent = problems.join(" ");
  if (!capture.hasAudio && !capture.hasVideo) {
    capture.stop();
    show("error", "Nothing to caption: no camera or microphone is available.");
    return;
  }
  listDevices(); // their names are told only now
  const connection = new Connection({
    token: tokenOf(location.hash),
    offsetMs: $("offset").value ? Number($("offset").value) : "auto",
    onCaption: (caption) => {
      if (caption.text) numSegments = Math.max(numSegments, caption.segment + 1); // a stream that ends may still need it
      view.take(caption);
      showFigures(caption);
    },
    onStatus: (status) => showStatus(status, capture),
    onState: (state, text) => { if (!live || live.connection === connection) show(state, text); },
    onEnd: () => stop(),
  }, { time: beginning, segment: numSegments });
  capture.onSound = (samples, rate, time) => { connection.sendSound(samples, rate, time); showLevel(samples); };
  capture.onPicture = (blob, time) => connection.sendPicture(blob, time);
  capture.onAbsent = (sense, time) => connection.sendAbsent(sense, time);
  capture.isCongested = () => connection.isCongested;
  live = { capture, connection };
  latest = capture;
  connection.open();
  $("start").textContent = "Stop";
}

async function openDevices() {
  if (live) $("notice").textContent = (await live.capture.choose(chosen())).join(" ");
}

function stop() {
  if (!live) return;
  const { capture, connection } = live;
  live = null;
  capture.stop();
  connection.finish();
  $("start").textContent = "Start";
  $("lips").hidden = $("few-pictures").hidden = true;
}

function chosen() {
  return { camera: $("camera").value, microphone: $("microphone").value };
}

function show(state, text) {
  if ($("state").textContent === text) return; // said once is enough for a screen reader
  $("state").dataset.state = state;
  $("state").textContent = text;
}

function showIfSteady(state, text) {
  const now = performance.now();
  if (text !== pending.text) pending = { text, since: now };
  else if (now - pending.since >= STEADY_MS) show(state, text);
}

function showStatus(status, capture) {
  if (live?.capture !== capture) return;
  const noSound = !capture.hasAudio ? "no microphone" : status.heard ? "" : "no sound";
  const noLips = !capture.hasVideo ? "no camera" : status.face ? "" : "no face in view";
  if (noSound && noLips) showIfSteady("waiting", `Waiting: ${noSound}, ${noLips}.`);
  else if (noLips) showIfSteady("listening", `Listening: ${noLips}.`);
  else if (noSound) showIfSteady("listening", `Reading lips: ${noSound}.`);
  else showIfSteady("listening", "Listening and reading lips.");
  $("few-pictures").hidden = !capture.hasFewPictures;
  $("lips").hidden = !status.lips;
  if (status.lips) $("lips").src = `data:image/jpeg;base64,${status.lips}`;
  if (status.audio_weight !== null) {
    $("trust").value = status.audio_weight;
    $("trust").setAttribute("aria-valuetext", `${Math.round(100 * status.audio_weight)} % audio`);
  }
  Object.assign($("figures").dataset, {
    pictures: capture.numDropped + status.dropped.pictures,
    sound: status.dropped.audio_s,
  });
}

function showFigures(caption) {
  const { pictures = 0, sound = 0 } = $("figures").dataset, offset = caption.av.offset_ms;
  const figures = [
    caption.latency_ms === null ? "" : `caption latency ${Math.round(caption.latency_ms)} ms`,
    offset ? `video shifted by ${Math.round(-offset)} ms` : "",
    Number(pictures) ? `${pictures} video frames dropped` : "",
    sound >= 0.05 ? `${Number(sound).toFixed(1)} s of audio dropped` : "",
  ];
  $("figures").textContent = figures.filter(Boolean).join("\n");
}

function showLevel(samples) {
  let energy = 1e-10;
  for (const sample of samples) energy += (sample / 32768) ** 2;
  const level = 10 * Math.log10(energy / samples.length);
  $("level").value = level;
  $("level").setAttribute("aria-valuetext", level < QUIET_DB ? "quiet" : "sound");
}

async function listDevices() {
  const devices = (await navigator.mediaDevices?.enumerateDevices()) ?? [];
  for (const [id, kind] of [["camera", "videoinput"], ["microphone", "audioinput"]]) {
    const select = $(id), value = select.value;
    const found = devices.filter((device) => device.kind === kind && device.deviceId && device.deviceId !== "default");
    const options = found.map((device, index) => new Option(device.label || `${id} ${index + 1}`, device.deviceId));
    select.replaceChildren(new Option("default", ""), ...options, new Option("none", "none"));
    select.value = [...select.options].some((option) => option.value === value) ? value : "";
  }
}

function download(format) {
  const { type, write } = FORMATS[format];
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([write(view.transcript)], { type }));
  link.download = `captions-${new Date().toISOString().slice(0, 16).replace(/[:T]/g, "-")}.${format}`;
  link.click();
  URL.revokeObjectURL(link.href);
  numSaved = view.transcript.length;
}

// With site data blocked, even asking for localStorage throws: choices then hold for this page only.
function recall(id) {
  try { return localStorage.getItem(id); } catch { return null; }
}

function remember(id, value) {
  try { localStorage.setItem(id, value); } catch { /* not kept */ }
}

function keepSetting(id, apply) {
  const control = $(id), stored = recall(id);
  if (stored !== null) { control.value = stored; apply(stored); }
  control.addEventListener("input", () => { remember(id, control.value); apply(control.value); });
}
