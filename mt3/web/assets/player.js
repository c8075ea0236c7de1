// Plays the original and the notes of a recording together, each as loud as the balance says.
//
// While the original plays, it is the clock; where there is none, or it has ended, WebAudio's is.
// Notes are handed to the synthesizer a little before they sound.

import { Synth } from "./synth.js";

const TICK_MILLISECONDS = 60;
const AHEAD_SECONDS = 0.25;
const AHEAD_HIDDEN_SECONDS = 1.5; // browsers wake hidden pages once a second
const MAX_DRIFT_SECONDS = 0.04; // between the clocks, before the notes follow the original anew

const audio = new Audio();
let context = null; // made by the first play: browsers allow sound only then
let synth = null;
let gains = null; // {original, notes}
let balance = 0.5; // 0: the original alone, 1: the notes alone
let notes = null;
let mutedInstruments = new Set();
let length = () => 0; // seconds of the recording
let original = "none"; // or "there", or "unplayable"
let position = 0; // seconds, while nothing plays
let zero = 0; // context time at second 0, while something plays
let scheduledTo = 0;
let timer = null;
let request = 0; // of the latest play: a slower one before it is dropped
let changed = () => {};

export const isPlaying = () => timer !== null;
export const originalState = () => original;
export const now = () => (isPlaying() ? Math.max(0, context.currentTime - zero) : position);

export function startPlayer(onChange) {
  changed = onChange;
  audio.addEventListener("error", () => {
    if (original !== "there") return;
    original = "unplayable";
    changed();
  });
}

// file: the original, or null; secondsOf(): how long the recording is as far as is known
export function load(newNotes, file, secondsOf) {
  pause();
  if (audio.src) URL.revokeObjectURL(audio.src);
  [notes, length, position] = [newNotes, secondsOf, 0];
  original = file ? "there" : "none";
  if (file) audio.src = URL.createObjectURL(file);
  else audio.removeAttribute("src");
  audio.load();
  changed();
}

// Other notes of the same recording.
export function setNotes(newNotes) {
  notes = newNotes;
}

export async function play() {
  makeContext();
  const own = ++request;
  await context.resume();
  if (own !== request) return;
  if (position >= length()) position = 0;
  if (hasOriginalAt(position)) {
    audio.currentTime = position;
    await audio.play().catch((error) => {
      if (error.name !== "AbortError") original = "unplayable"; // otherwise, a pause came first
    });
    if (own !== request) return;
  }
  zero = context.currentTime - position;
  scheduledTo = position;
  startSounding(position);
  timer = setInterval(tick, TICK_MILLISECONDS);
  tick();
  changed();
}

export function pause() {
  request++;
  position = Math.min(now(), Math.max(length(), 0));
  clearInterval(timer);
  timer = null;
  audio.pause();
  synth?.stop();
  changed();
}

export const toggle = () => (isPlaying() ? pause() : play());

export async function seek(seconds) {
  const wasPlaying = isPlaying();
  if (wasPlaying) pause();
  position = Math.max(0, Math.min(seconds, length()));
  if (wasPlaying && position < length()) await play();
  else changed();
}

export function setBalance(value) {
  balance = value;
  if (!gains) return;
  for (const [name, level] of Object.entries(levels())) gains[name].gain.setTargetAtTime(level, context.currentTime, 0.02);
}

export function setMuted(instruments) {
  for (const instrument of new Set([...mutedInstruments, ...instruments])) synth?.mute(instrument, instruments.has(instrument));
  mutedInstruments = new Set(instruments);
}

// Both are at full loudness in the middle.
const levels = () => ({ original: Math.min(1, 2 - 2 * balance), notes: Math.min(1, 2 * balance) });
const hasOriginalAt = (seconds) => original === "there" && !(seconds >= audio.duration);

function makeContext() {
  if (context) return;
  context = new AudioContext();
  gains = { original: new GainNode(context), notes: new GainNode(context) };
  for (const [name, gain] of Object.entries(gains)) {
    gain.gain.value = levels()[name];
    gain.connect(context.destination);
  }
  context.createMediaElementSource(audio).connect(gains.original);
  synth = new Synth(context, gains.notes);
  mutedInstruments.forEach((instrument) => synth.mute(instrument, true));
}

function tick() {
  if (original === "there" && !audio.paused && !audio.ended && !audio.seeking) {
    const heard = context.currentTime - audio.currentTime;
    if (Math.abs(heard - zero) > MAX_DRIFT_SECONDS) zero = heard;
  }
  const seconds = now();
  if (seconds >= length()) {
    pause();
    return;
  }
  const until = seconds + (document.hidden ? AHEAD_HIDDEN_SECONDS : AHEAD_SECONDS);
  if (until <= scheduledTo) return;
  const [first, last] = notes.beginning(scheduledTo, until);
  for (let index = first; index < last; index++) sound(index, notes.onset[index]);
  scheduledTo = until;
}

// The notes that began before and still sound.
function startSounding(from) {
  const [first, last] = notes.range(from, from);
  for (let index = first; index < last; index++) {
    if (notes.end[index] > from && notes.key(index) < 128) sound(index, from);
  }
}

function sound(index, from) {
  synth.play({
    instrument: notes.instrument[index],
    pitch: notes.pitch[index],
    velocity: notes.velocity[index],
    at: Math.max(context.currentTime, zero + from),
    seconds: notes.end[index] - from,
  });
}
