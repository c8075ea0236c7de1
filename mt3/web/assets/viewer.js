// The recording that is open: its notes as they come, how it is played, and its files.

import * as api from "./api.js";
import { button, byId, counted, say } from "./dom.js";
import { clearLegend, muted, showLegend, startLegend } from "./legend.js";
import { Notes } from "./notes.js";
import * as player from "./player.js";
import { entries, onQueueChange, update } from "./queue.js";
import { describeState, markOpen } from "./queue_list.js";
import { extendRoll, openRoll, redraw, refresh, startRoll } from "./roll.js";
import { onThemeChange } from "./theme.js";

let open = null; // the recording, or null
let stream = null; // of its notes
let formats = [];

// serverFormats: [{name, suffix, label}]
export function startViewer(serverFormats) {
  formats = serverFormats;
  byId("downloads").replaceChildren(...formats.map((format) => button(format.label, { "data-format": format.name }, (event) => download(format, event.currentTarget))));
  startRoll();
  startLegend(() => {
    player.setMuted(muted);
    redraw();
  });
  player.startPlayer(onPlayer);
  byId("play").addEventListener("click", player.toggle);
  byId("position").addEventListener("input", () => player.seek(Number(byId("position").value)));
  byId("balance").addEventListener("input", () => player.setBalance(Number(byId("balance").value)));
  onQueueChange(onChange);
  onThemeChange(() => {
    if (open?.notes) showLegend(open.notes);
    redraw();
  });
}

export function openEntry(entry) {
  if (entry === open) return;
  close();
  open = entry;
  open.notes ??= new Notes();
  byId("viewer").hidden = false;
  byId("viewer-title").textContent = entry.name;
  say("download-message", "");
  markOpen(entry);
  clearLegend();
  player.load(entry.notes, entry.file, secondsOf);
  openRoll(entry.notes, secondsOf());
  if (!entry.isComplete) listen(entry);
  show();
}

function close() {
  stream?.close();
  if (open) open.isStreamed = false;
  stream = null;
  open = null;
  player.pause();
  byId("viewer").hidden = true;
  markOpen(null);
}

const secondsOf = () => Math.max(open?.duration_seconds ?? 0, open?.notes?.seconds ?? 0);

// The server sends all that there is so far, then what comes.
function listen(entry) {
  const own = (stream = api.events(entry.id));
  entry.isStreamed = true;
  const replace = () => player.setNotes((entry.notes = new Notes()));
  replace();
  own.addEventListener("state", ({ data }) => update(entry, JSON.parse(data)));
  own.addEventListener("notes", ({ data }) => {
    const { decoded_seconds, notes, replaces } = JSON.parse(data);
    if (replaces) replace();
    entry.notes.add(notes);
    showLegend(entry.notes);
    update(entry, { decoded_seconds });
  });
  for (const name of ["done", "failed", "cancelled"]) {
    own.addEventListener(name, ({ data }) => {
      own.close(); // or the browser would ask for more
      entry.isStreamed = false;
      entry.isComplete = name === "done";
      update(entry, JSON.parse(data));
    });
  }
  own.addEventListener("open", () => (entry.isStreamed = own.readyState === EventSource.OPEN));
  own.addEventListener("error", async () => {
    entry.isStreamed = false;
    if (own.readyState !== EventSource.CLOSED || entry.isComplete) return; // otherwise the browser tries again
    const news = await api.job(entry.id).catch(({ message }) => ({ state: "failed", error: message }));
    if (entry.id) update(entry, news);
  });
}

// First of the page's recordings that can be looked at is opened by itself.
function onChange(entry) {
  if (entry === open && (!entry.id || !entries.includes(entry))) close();
  else if (entry === open) show();
  else if (!open && entry.id && !["failed", "cancelled"].includes(entry.state)) openEntry(entry);
}

function show() {
  const { notes, state, decoded_seconds, error } = open;
  byId("viewer-state").textContent = error ? `${describeState(open)}: ${error}` : describeState(open);
  for (const one of byId("downloads").children) one.disabled = state !== "done" || one.dataset.busy === "true";
  extendRoll(notes, secondsOf(), state === "done" ? null : (decoded_seconds ?? 0));
  byId("roll-canvas").setAttribute("aria-label",
    `Piano roll of ${open.name}: ${counted(notes.count, "note")} of ${counted(notes.perInstrument.size, "instrument")}`);
  onPlayer();
}

const WITHOUT_ORIGINAL = {
  none: "The original is not at hand after the page was loaded again; the notes can be heard.",
  unplayable: "This browser cannot play the original; the notes can be heard.",
  there: "",
};

function onPlayer() {
  const isPlaying = player.isPlaying();
  byId("play").textContent = isPlaying ? "Pause" : "Play";
  byId("play").setAttribute("aria-pressed", String(isPlaying));
  byId("balance").disabled = player.originalState() !== "there";
  byId("player-note").textContent = open ? WITHOUT_ORIGINAL[player.originalState()] : "";
  refresh();
}

async function download({ name, suffix, label }, pressed) {
  const { id, name: recording } = open;
  say("download-message", "");
  pressed.dataset.busy = "true";
  pressed.disabled = true;
  try {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await api.file(id, name));
    link.download = recording.replace(/\.[^.]*$/, "") + suffix;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  } catch (error) {
    if (open?.id === id) say("download-message", `${label}: ${error.message}`);
  }
  delete pressed.dataset.busy;
  pressed.disabled = open?.state !== "done";
}
