// Where things are in the piano roll: seconds and rows to pixels of the visible part, and back.

import { drumName, pitchName } from "./instruments.js";

export const GUTTER = 92; // names of pitches and drums
export const RULER = 22; // seconds
const MAX_PIXELS_PER_SECOND = 1200;
const MAX_WIDTH = 15e6; // browsers lay out no more
const ROW_HEIGHTS = [3, 24];
const FIRST_PITCHES = [48, 83]; // shown before there are notes

const clamp = (value, low, high) => Math.max(Math.min(value, Math.max(low, high)), low);

export class RollView {
  seconds = 1;
  rows = []; // {key, label, pitch or drum} from above
  rowOf = new Int16Array(256).fill(-1); // key -> row
  pixelsPerSecond = 60;
  rowHeight = 6;
  #scroll;
  #size;

  constructor(scroll, size) {
    this.#scroll = scroll;
    this.#size = size;
  }

  get width() { return this.#scroll.clientWidth; }
  get height() { return this.#scroll.clientHeight; }
  get from() { return this.secondsAt(GUTTER); }
  get to() { return this.secondsAt(this.width); }
  get top() { return this.#scroll.scrollTop; }
  x(seconds) { return GUTTER + seconds * this.pixelsPerSecond - this.#scroll.scrollLeft; }
  secondsAt(x) { return (x - GUTTER + this.#scroll.scrollLeft) / this.pixelsPerSecond; }
  rowTop(row) { return RULER + row * this.rowHeight - this.top; }
  rowAt(y) { return Math.floor((y - this.rowTop(0)) / this.rowHeight); }

  get #slowest() { return (this.width - GUTTER) / this.seconds; }
  get #fastest() { return Math.min(MAX_PIXELS_PER_SECOND, MAX_WIDTH / this.seconds); }

  // Rows are given the height that is there unless `keep` leaves it as it is.
  setRows(rows, keep) {
    this.rows = rows;
    this.rowOf.fill(-1);
    rows.forEach(({ key }, row) => key >= 0 && (this.rowOf[key] = row));
    if (!keep) this.rowHeight = clamp((this.height - RULER) / rows.length, ...ROW_HEIGHTS);
    this.resize();
  }

  setSeconds(seconds) {
    const wasWhole = this.pixelsPerSecond <= 1.001 * this.#slowest;
    this.seconds = Math.max(seconds, 1);
    if (wasWhole) this.pixelsPerSecond = 0; // and stays so
    this.resize();
  }

  zoom(factor, around = (this.from + this.to) / 2) {
    const x = this.x(around);
    this.pixelsPerSecond = clamp(this.pixelsPerSecond * factor, this.#slowest, this.#fastest);
    this.resize();
    this.#scroll.scrollLeft = GUTTER + around * this.pixelsPerSecond - x;
  }

  showSeconds(seconds) {
    this.pixelsPerSecond = clamp((this.width - GUTTER) / seconds, this.#slowest, this.#fastest);
    this.resize();
  }

  showWhole() {
    this.showSeconds(this.seconds);
  }

  stretch(factor) {
    this.rowHeight = clamp(this.rowHeight * factor, ...ROW_HEIGHTS);
    this.resize();
  }

  // Moves so that a time is in sight, a quarter from the left.
  reveal(seconds) {
    if (seconds < this.from || seconds > this.to - 0.05 * (this.to - this.from)) {
      this.#scroll.scrollLeft = seconds * this.pixelsPerSecond - (this.width - GUTTER) / 4;
    }
  }

  resize() {
    this.pixelsPerSecond = clamp(this.pixelsPerSecond, this.#slowest, this.#fastest);
    this.#size.style.width = `${Math.floor(GUTTER + this.seconds * this.pixelsPerSecond)}px`;
    this.#size.style.height = `${Math.max(this.height, Math.ceil(RULER + this.rows.length * this.rowHeight))}px`;
  }
}

// Pitches from the highest to the lowest that occur, in whole octaves so that rows seldom move
// while notes arrive; then the drums that occur. Keys of drums are 128 more.
export function rowsOf(notes) {
  const rows = [];
  if (notes.lowest <= notes.highest || !notes.drums.size) {
    const lowest = 12 * Math.floor(Math.min(FIRST_PITCHES[0], notes.lowest) / 12);
    const highest = Math.min(127, 12 * Math.floor(Math.max(FIRST_PITCHES[1], notes.highest) / 12) + 11);
    for (let pitch = highest; pitch >= lowest; pitch--) rows.push({ key: pitch, label: pitchName(pitch), pitch });
  }
  if (rows.length && notes.drums.size) rows.push({ key: -1, label: "" });
  for (const key of [...notes.drums].sort((a, b) => b - a)) rows.push({ key: 128 + key, label: drumName(key), isDrum: true });
  return rows;
}
