// Draws the visible part of the piano roll, and nothing else.

import { clock } from "./dom.js";
import { instrumentColour } from "./instruments.js";
import { GUTTER, RULER } from "./roll_view.js";

const BLACK_KEYS = [1, 3, 6, 8, 10];
const STEPS_SECONDS = [0.05, 0.1, 0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];
const MIN_STEP_PIXELS = 70;
const MIN_NOTE_PIXELS = 2;
const MIN_LABEL_PIXELS = 11;
const FONT = "11px system-ui, sans-serif";
const CERTAINTIES = 4; // shades by confidence
const LEAST_OPACITY = 0.35;

// All but the cursor, as it was drawn last: while only the cursor moves, it is copied.
const layer = document.createElement("canvas");
let layerKey = "";
let numDrawn = 0;

// scene: {notes, shows(instrument), decodedSeconds (null: all), cursor (seconds), version (tells contents apart)}
// -> how many notes are in the picture
export function draw(canvas, view, scene) {
  const ratio = devicePixelRatio;
  const isNew = [canvas, layer].map((one) => fitTo(one, view, ratio)).includes(true);
  const colours = readColours();
  const key = [scene.version, view.top, view.x(0), view.pixelsPerSecond, view.rowHeight].join();
  if (isNew || key !== layerKey) {
    layerKey = key;
    const context = layer.getContext("2d");
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    drawLayer(context, view, scene, colours);
  }
  const context = canvas.getContext("2d");
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.drawImage(layer, 0, 0);
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  drawCursor(context, view, scene, colours);
  return numDrawn;
}

function fitTo(canvas, view, ratio) {
  const [wide, high] = [Math.round(view.width * ratio), Math.round(view.height * ratio)];
  if (canvas.width === wide && canvas.height === high) return false;
  canvas.width = wide;
  canvas.height = high;
  canvas.style.width = `${view.width}px`;
  canvas.style.height = `${view.height}px`;
  return true;
}

function readColours() {
  const style = getComputedStyle(document.documentElement);
  const names = ["card", "faint", "line", "soft", "focus"];
  return Object.fromEntries(names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]));
}

function drawLayer(context, view, scene, colours) {
  context.fillStyle = colours.card;
  context.fillRect(0, 0, view.width, view.height);
  drawRows(context, view, colours);
  drawSeconds(context, view, colours);
  drawUndecoded(context, view, scene, colours);
  numDrawn = drawNotes(context, view, scene);
  drawGutter(context, view, colours);
  drawRuler(context, view, colours);
}

function drawRows(context, view, colours) {
  view.rows.forEach((row, index) => {
    const top = view.rowTop(index);
    if (top > view.height || top + view.rowHeight < RULER) return;
    if (row.isDrum ? index % 2 === 0 : BLACK_KEYS.includes(row.pitch % 12)) {
      context.fillStyle = colours.faint;
      context.fillRect(GUTTER, top, view.width, view.rowHeight);
    }
    if (row.pitch % 12 === 0 || row.key < 0) {
      context.fillStyle = colours.line;
      context.fillRect(GUTTER, Math.round(top + view.rowHeight), view.width, 1);
    }
  });
}

const stepOf = (view) => STEPS_SECONDS.find((step) => step * view.pixelsPerSecond >= MIN_STEP_PIXELS) ?? STEPS_SECONDS.at(-1);

function eachStep(view, act) {
  const step = stepOf(view);
  for (let mark = Math.ceil(view.from / step); mark * step <= view.to; mark++) act(mark * step, step);
}

function drawSeconds(context, view, colours) {
  context.fillStyle = colours.line;
  eachStep(view, (seconds) => context.fillRect(Math.round(view.x(seconds)), RULER, 1, view.height));
}

// What the model has not heard yet is veiled.
function drawUndecoded(context, view, { decodedSeconds }, colours) {
  if (decodedSeconds === null) return;
  const left = Math.max(GUTTER, view.x(decodedSeconds));
  context.globalAlpha = 0.5;
  context.fillStyle = colours.line;
  context.fillRect(left, RULER, Math.max(0, view.width - left), view.height);
  context.globalAlpha = 1;
}

function drawNotes(context, view, { notes, shows }) {
  const boxes = new Map(); // instrument * CERTAINTIES + certainty -> x, y, width, height of one note after another
  const from = view.secondsAt(GUTTER - MIN_NOTE_PIXELS);
  const [first, last] = notes.range(from, view.to);
  const snapped = (value) => Math.round(value * devicePixelRatio) / devicePixelRatio; // whole pixels are filled faster
  const height = snapped(Math.max(MIN_NOTE_PIXELS, view.rowHeight - (view.rowHeight > 5 ? 1 : 0)));
  let count = 0;
  for (let index = first; index < last; index++) {
    const instrument = notes.instrument[index];
    if (notes.end[index] < from || !shows(instrument)) continue;
    const top = snapped(view.rowTop(view.rowOf[notes.key(index)]));
    if (top + height < RULER || top > view.height) continue;
    const left = snapped(view.x(notes.onset[index]));
    const width = Math.max(MIN_NOTE_PIXELS, snapped(view.x(notes.end[index]) - 0.5) - left);
    const certainty = Math.min(CERTAINTIES - 1, Math.floor(notes.confidence[index] * CERTAINTIES));
    const style = instrument * CERTAINTIES + certainty;
    if (!boxes.has(style)) boxes.set(style, []);
    boxes.get(style).push(left, top, width, height);
    count++;
  }
  for (const [style, own] of boxes) {
    context.fillStyle = instrumentColour(Math.floor(style / CERTAINTIES));
    context.globalAlpha = LEAST_OPACITY + ((1 - LEAST_OPACITY) * (style % CERTAINTIES)) / (CERTAINTIES - 1);
    for (let at = 0; at < own.length; at += 4) context.fillRect(own[at], own[at + 1], own[at + 2], own[at + 3]);
  }
  context.globalAlpha = 1;
  return count;
}

function drawGutter(context, view, colours) {
  context.font = FONT;
  context.textBaseline = "middle";
  context.textAlign = "right";
  context.fillStyle = colours.card;
  context.fillRect(0, 0, GUTTER, view.height);
  context.fillStyle = colours.line;
  context.fillRect(GUTTER - 1, 0, 1, view.height);
  context.fillStyle = colours.soft;
  let free = -Infinity; // labels do not overlap
  view.rows.forEach((row, index) => {
    const middle = view.rowTop(index) + view.rowHeight / 2;
    const isWanted = row.isDrum || row.pitch % 12 === 0 || view.rowHeight > MIN_LABEL_PIXELS;
    if (!isWanted || middle < free || middle < RULER || middle > view.height) return;
    context.fillText(row.label, GUTTER - 6, middle, GUTTER - 10);
    free = middle + MIN_LABEL_PIXELS;
  });
}

function drawRuler(context, view, colours) {
  context.fillStyle = colours.card;
  context.fillRect(0, 0, view.width, RULER);
  context.fillStyle = colours.line;
  context.fillRect(0, RULER - 1, view.width, 1);
  context.fillStyle = colours.soft;
  context.textAlign = "left";
  eachStep(view, (seconds, step) => context.fillText(mark(seconds, step), view.x(seconds) + 3, RULER / 2));
}

const mark = (seconds, step) => clock(seconds + 1e-6) + (step < 1 ? (seconds % 1).toFixed(step === 0.5 || step === 0.1 ? 1 : 2).slice(1) : "");

function drawCursor(context, view, { cursor }, colours) {
  const x = Math.round(view.x(cursor));
  if (x < GUTTER) return;
  context.fillStyle = colours.focus;
  context.fillRect(x - 3, RULER - 7, 6, 6);
  context.fillRect(x - 1, RULER, 2, view.height);
}
