// The piano roll of the recording that is open: what is in sight, and what keys, buttons and the pointer do.

import { byId, clock } from "./dom.js";
import { DRUMS, drumName, instrumentName, pitchName } from "./instruments.js";
import { hidden } from "./legend.js";
import * as player from "./player.js";
import { draw } from "./roll_drawing.js";
import { RollView, rowsOf } from "./roll_view.js";

const WHOLE_SECONDS = 60; // recordings up to this length are shown whole at first
const FIRST_SECONDS = 30; // in sight at first of longer ones
const STEP_SECONDS = 5; // of the arrow keys
const ZOOM = 1.5;
const STRETCH = 1.3;

const scroll = byId("roll-scroll");
const view = new RollView(scroll, byId("roll-size"));
const scene = { notes: null, shows: (instrument) => !hidden.has(instrument), decodedSeconds: 0, cursor: 0, version: 0 };
let rowsKey = "";
let isStretched = false;
let isFollowing = false; // the end of what is transcribed, until a reader looks elsewhere
let isDrawing = false;

export function startRoll() {
  const actions = {
    "zoom-in": () => view.zoom(ZOOM),
    "zoom-out": () => view.zoom(1 / ZOOM),
    "zoom-whole": () => view.showWhole(),
    flatter: () => stretch(1 / STRETCH),
    taller: () => stretch(STRETCH),
  };
  for (const [id, action] of Object.entries(actions)) byId(id).addEventListener("click", () => byReader(action));
  scroll.addEventListener("scroll", refresh, { passive: true });
  scroll.addEventListener("keydown", onKey);
  scroll.addEventListener("click", (event) => byReader(() => seekTo(place(event).seconds)));
  scroll.addEventListener("pointerdown", () => (isFollowing = false));
  scroll.addEventListener("pointermove", onPointer);
  scroll.addEventListener("wheel", onWheel, { passive: false });
  new ResizeObserver(() => {
    if (!isSeen()) return;
    setRows(isStretched);
    redraw();
  }).observe(scroll);
}

const isSeen = () => scene.notes !== null && view.width > 0;

export function openRoll(notes, seconds) {
  Object.assign(scene, { notes, decodedSeconds: 0 });
  isFollowing = true;
  isStretched = false;
  view.setSeconds(seconds);
  setRows(false);
  view.showSeconds(seconds <= WHOLE_SECONDS ? view.seconds : FIRST_SECONDS);
  scroll.scrollTo(0, 0);
  byId("roll-note").textContent = "";
  redraw();
}

// There are more notes, or more is known of the recording. decodedSeconds: null when all is transcribed.
export function extendRoll(notes, seconds, decodedSeconds) {
  const isLonger = seconds > WHOLE_SECONDS && view.seconds <= WHOLE_SECONDS;
  Object.assign(scene, { notes, decodedSeconds });
  if (Math.max(seconds, 1) !== view.seconds) view.setSeconds(seconds);
  if (isLonger && isFollowing) view.showSeconds(FIRST_SECONDS);
  setRows(isStretched);
  if (isFollowing && decodedSeconds === null) {
    isFollowing = false;
    view.reveal(player.now());
  }
  if (isFollowing && !player.isPlaying() && decodedSeconds > view.to) view.reveal(decodedSeconds);
  redraw();
}

function setRows(keep) {
  const rows = rowsOf(scene.notes);
  const key = [view.height, ...rows.map((row) => row.key)].join();
  if (key === rowsKey && keep) return;
  rowsKey = key;
  view.setRows(rows, keep);
}

function stretch(factor) {
  isStretched = true;
  view.stretch(factor);
}

function byReader(action) {
  isFollowing = false;
  action();
  redraw();
}

const seekTo = (seconds) => seconds >= 0 && player.seek(seconds);

const KEYS = {
  " ": () => player.toggle(),
  ArrowLeft: () => player.seek(player.now() - STEP_SECONDS),
  ArrowRight: () => player.seek(player.now() + STEP_SECONDS),
  Home: () => player.seek(0),
  End: () => player.seek(view.seconds),
  "+": () => view.zoom(ZOOM),
  "=": () => view.zoom(ZOOM),
  "-": () => view.zoom(1 / ZOOM),
  0: () => view.showWhole(),
};
const SEEKING = ["ArrowLeft", "ArrowRight", "Home", "End"];

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || !KEYS[event.key]) return;
  event.preventDefault();
  byReader(KEYS[event.key]);
  if (SEEKING.includes(event.key)) view.reveal(player.now());
}

function onWheel(event) {
  isFollowing = false;
  if (!event.ctrlKey) return; // a pinch, or the wheel with Ctrl
  event.preventDefault();
  byReader(() => view.zoom(Math.exp(-event.deltaY / 200), view.secondsAt(event.clientX - scroll.getBoundingClientRect().left)));
}

function place(event) {
  const box = scroll.getBoundingClientRect();
  const [x, y] = [event.clientX - box.left - scroll.clientLeft, event.clientY - box.top - scroll.clientTop];
  return { seconds: view.secondsAt(x), row: view.rowAt(y) };
}

function onPointer(event) {
  const { notes, shows } = scene;
  const { seconds, row } = place(event);
  const [first, last] = notes.range(seconds, seconds);
  for (let index = last - 1; index >= first; index--) {
    const isThere = notes.end[index] >= seconds && shows(notes.instrument[index]) && view.rowOf[notes.key(index)] === row;
    if (!isThere) continue;
    byId("roll-note").textContent = describe(notes, index);
    return;
  }
}

function describe(notes, index) {
  const instrument = notes.instrument[index];
  return [
    instrument === DRUMS ? drumName(notes.pitch[index]) : pitchName(notes.pitch[index]),
    instrumentName(instrument),
    `${notes.onset[index].toFixed(2)} to ${notes.end[index].toFixed(2)} s`,
    `velocity ${notes.velocity[index]}`,
    `confidence ${Math.round(100 * notes.confidence[index])} %`,
  ].join(" · ");
}

// What is shown has changed.
export function redraw() {
  scene.version++;
  refresh();
}

// Only where it is seen or the cursor has changed.
export function refresh() {
  if (isDrawing || !isSeen()) return;
  isDrawing = true;
  requestAnimationFrame(() => {
    isDrawing = false;
    if (!isSeen()) return;
    scene.cursor = player.now();
    if (player.isPlaying()) view.reveal(scene.cursor);
    byId("position").max = String(view.seconds);
    byId("position").value = String(scene.cursor);
    byId("position").setAttribute("aria-valuetext", clock(scene.cursor));
    byId("time").textContent = `${clock(scene.cursor)} / ${clock(view.seconds)}`;
    scroll.dataset.drawn = draw(byId("roll-canvas"), view, scene);
    if (player.isPlaying()) refresh();
  });
}
