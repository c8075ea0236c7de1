// The list of recordings: a row each, with its state, its progress and what can be done with it.

import { button, byId, clock, counted, element } from "./dom.js";
import { drop, entries, isOver, onQueueChange } from "./queue.js";

const rows = new Map(); // entry -> its row's elements and what they show
let openEntry = () => {};

const STATES = {
  queued: () => "Not sent yet",
  uploading: ({ sent }) => `Sending, ${Math.floor(100 * sent)} %`,
  waiting: ({ position }) => (position > 0 ? `Waiting, place ${position}` : "Waiting"),
  reading: () => "Reading the audio",
  transcribing: (entry) => `Transcribing, ${clock(entry.decoded_seconds ?? 0)} of ${clock(entry.duration_seconds ?? 0)} · ${numNotes(entry)}`,
  done: (entry) => `Done · ${clock(entry.duration_seconds ?? 0)} · ${numNotes(entry)}`,
  failed: () => "Failed",
  refused: () => "Refused",
  cancelled: () => "Cancelled",
};
const NEWS = { done: "is transcribed", failed: "failed", refused: "was refused" };

const numNotes = (entry) => counted(entry.num_notes ?? 0, "note");
export const describeState = (entry) => STATES[entry.state](entry);

// `onOpen` is called with the recording whose name is clicked, and with the first that is added.
export function startList(onOpen) {
  openEntry = onOpen;
  onQueueChange(show);
}

function show(entry) {
  if (!entries.includes(entry)) {
    const next = rows.get(entry)?.line.nextElementSibling ?? byId("queue").lastElementChild;
    rows.get(entry)?.line.remove();
    rows.delete(entry);
    (next?.isConnected ? next.querySelector("button") : byId("choose")).focus(); // not lost with the row
    return;
  }
  if (!rows.has(entry)) rows.set(entry, makeRow(entry));
  const row = rows.get(entry);
  setText(row.name, entry.name);
  setText(row.state, describeState(entry));
  setText(row.error, entry.error ?? "");
  row.error.hidden = !entry.error;
  row.progress.hidden = isOver(entry);
  row.progress.setAttribute("aria-label", `Progress of ${entry.name}`);
  const share = shareOf(entry);
  if (share === null) row.progress.removeAttribute("value");
  else row.progress.value = share;
  row.name.disabled = entry.id === null;
  const action = isOver(entry) ? "Remove" : "Cancel";
  setText(row.drop, action);
  row.drop.setAttribute("aria-label", `${action} ${entry.name}`);
  if (row.was !== entry.state && NEWS[entry.state]) byId("news").textContent = `${entry.name} ${NEWS[entry.state]}`;
  row.was = entry.state;
  row.line.dataset.state = entry.state;
}

function makeRow(entry) {
  const name = button("", { class: "link" }, () => openEntry(entry));
  const state = element("span", { class: "state figures" });
  const remove = button("", { class: "quiet" }, () => drop(entry));
  const error = element("span", { class: "error" });
  const progress = element("progress", { max: 1 });
  const line = element("li", { class: "entry" }, name, state, remove, error, progress);
  byId("queue").append(line);
  byId("queue").scrollTop = byId("queue").scrollHeight;
  return { line, name, state, drop: remove, error, progress, was: entry.state };
}

// Only what changes, so that nothing is selected or read out anew.
function setText(one, text) {
  if (one.textContent !== text) one.textContent = text;
}

// Share that is sent or transcribed; null where it is not known.
function shareOf(entry) {
  if (entry.state === "queued") return 0;
  if (entry.state === "uploading") return entry.sent;
  if (entry.state !== "transcribing" || !entry.duration_seconds) return null;
  return Math.min(1, (entry.decoded_seconds ?? 0) / entry.duration_seconds);
}

export function markOpen(entry) {
  for (const [one, { line }] of rows) {
    if (one === entry) line.setAttribute("aria-current", "true");
    else line.removeAttribute("aria-current");
  }
}
