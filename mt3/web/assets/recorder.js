// Records the microphone as a WAV file: what MediaRecorder writes (WebM), the server does not read.

import { byId, clock, say } from "./dom.js";
import { toInt16, wavBlob } from "./wav.js";

// What makes speech clearer spoils music.
const MICROPHONE = { echoCancellation: false, noiseSuppression: false, autoGainControl: false };
const REASONS = {
  NotAllowedError: "This page was not allowed to use the microphone.",
  NotFoundError: "No microphone was found.",
  NotReadableError: "The microphone is used by another program.",
};

let running = null; // {context, stream, blocks, numSamples}
let maxSeconds = Infinity;
let keep = () => {};

// onRecorded(File) is called with each recording; those of `limit` seconds end by themselves.
export function startRecorder(onRecorded, limit) {
  keep = onRecorded;
  maxSeconds = limit ?? Infinity;
  byId("record").addEventListener("click", () => (running ? finish(true) : begin()));
  byId("record-discard").addEventListener("click", () => finish(false));
  if (navigator.mediaDevices?.getUserMedia && window.AudioWorkletNode) return;
  byId("record").disabled = true;
  byId("record").title = "Browsers record only on pages of this machine (127.0.0.1) or over HTTPS";
}

async function begin() {
  byId("record").disabled = true; // while the browser asks for permission
  say("message", "");
  let stream = null;
  try {
    stream = await navigator.mediaDevices.getUserMedia({ audio: MICROPHONE });
    const context = new AudioContext();
    await context.audioWorklet.addModule("/assets/recorder_worklet.js");
    const worklet = new AudioWorkletNode(context, "recorder", { numberOfOutputs: 0 });
    running = { context, stream, blocks: [], numSamples: 0 };
    worklet.port.onmessage = ({ data }) => add(data);
    context.createMediaStreamSource(stream).connect(worklet);
    stream.getAudioTracks()[0].addEventListener("ended", () => finish(true)); // unplugged
  } catch (error) {
    stream?.getTracks().forEach((track) => track.stop());
    say("message", REASONS[error.name] ?? `Recording is not possible: ${error.message}`);
  }
  byId("record").disabled = false;
  show();
}

function add(samples) {
  if (!running) return;
  running.blocks.push(toInt16(samples));
  running.numSamples += samples.length;
  byId("record-level").value = samples.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
  show();
  if (running.numSamples >= maxSeconds * running.context.sampleRate) finish(true);
}

function finish(isKept) {
  if (!running) return;
  const { context, stream, blocks } = running;
  running = null;
  stream.getTracks().forEach((track) => track.stop());
  context.close();
  show();
  if (!isKept) return;
  if (!blocks.length) {
    say("message", "Nothing was recorded.");
    return;
  }
  const now = new Date();
  const two = (number) => String(number).padStart(2, "0");
  const day = `${now.getFullYear()}-${two(now.getMonth() + 1)}-${two(now.getDate())}`;
  const name = `Recording ${day} ${two(now.getHours())}.${two(now.getMinutes())}.${two(now.getSeconds())}.wav`;
  keep(new File([wavBlob(blocks, context.sampleRate)], name, { type: "audio/wav" }));
}

function show() {
  byId("record").textContent = running ? "Stop and transcribe" : "Record";
  byId("record").setAttribute("aria-pressed", String(running !== null));
  byId("recording").hidden = !running;
  byId("record-time").textContent = running ? clock(running.numSamples / running.context.sampleRate) : "";
}
