// Starts the parts of the page.

import * as api from "./api.js";
import { byId, say, size, span } from "./dom.js";
import { add, limits, restore } from "./queue.js";
import { startList } from "./queue_list.js";
import { startRecorder } from "./recorder.js";
import { startTheme } from "./theme.js";
import { openEntry, startViewer } from "./viewer.js";

function startAdding() {
  byId("choose").addEventListener("click", () => byId("files").click());
  byId("files").addEventListener("change", () => {
    addFiles([...byId("files").files]);
    byId("files").value = ""; // so that the same file can be chosen again
  });
  let depth = 0; // entering an element comes before leaving the one around it
  const isFiles = (event) => event.dataTransfer?.types.includes("Files");
  const mark = () => document.body.classList.toggle("dropping", depth > 0);
  const on = (name, act) => addEventListener(name, (event) => {
    if (!isFiles(event)) return;
    event.preventDefault(); // or the browser would leave the page to show the file
    act(event);
    mark();
  });
  on("dragenter", () => depth++);
  on("dragleave", () => depth--);
  on("dragover", () => {});
  on("drop", (event) => {
    depth = 0;
    addFiles([...event.dataTransfer.files]);
  });
}

function addFiles(files) {
  say("message", "");
  add(files);
}

function describe({ model, version, limits: bounds }) {
  byId("limits").textContent = [
    `WAV, FLAC, MP3, OGG or AIFF of up to ${span(bounds.audio_seconds)} and ${size(bounds.upload_bytes)} each.`,
    `Uploads are not kept, results for ${span(60 * bounds.kept_minutes)}.`,
  ].join(" ");
  byId("footer").textContent = `Model: ${model} · mt3 ${version}`;
}

startTheme();
startList(openEntry);
startAdding();
try {
  const info = await api.info();
  Object.assign(limits, info.limits);
  describe(info);
  startViewer(info.formats);
  startRecorder((file) => addFiles([file]), limits.audio_seconds);
  restore();
} catch (error) {
  say("message", error.message);
}
document.documentElement.dataset.ready = "true";
