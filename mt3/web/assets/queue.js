// The recordings of this page: sent one after another, then followed until they are done.
//
// Browsers hold few connections to a server at a time, so the page has one upload, one question
// about states and one stream of notes (viewer.js) under way, however many recordings there are.

import * as api from "./api.js";
import { size, span } from "./dom.js";

const POLL_MILLISECONDS = 700;
const STORED = "mt3 recordings"; // of this tab, so that loading the page again does not lose them
const GONE = "The server no longer keeps this recording.";

// A recording: {name, file (null after the page was loaded again), id (of the job; null until it is sent),
// state, sent (share), position, duration_seconds, decoded_seconds, num_notes, error,
// isStreamed (whether news come by themselves: see viewer.js)}.
// States of the page: queued, uploading, refused; the others are the server's.
export const entries = [];
export const limits = {}; // of the server: see limits.py
export const isOver = (entry) => ["done", "failed", "cancelled", "refused"].includes(entry.state);

const listeners = [];
let upload = null; // {entry, abort()}
let isPolling = false;

export const onQueueChange = (listener) => listeners.push(listener);
const changed = (entry) => listeners.forEach((listener) => listener(entry));

export function add(files) {
  for (const file of files) {
    const entry = { name: file.name, file, id: null, state: "queued", sent: 0, error: null };
    entries.push(entry);
    const reason = refusalOf(file);
    if (reason) update(entry, { state: "refused", error: reason });
    else changed(entry);
  }
  sendNext();
}

// What the server would refuse is not sent.
function refusalOf(file) {
  if (file.size === 0) return "The file is empty.";
  if (file.size > limits.upload_bytes) {
    return `The file is ${size(file.size)} large; at most ${size(limits.upload_bytes)} are taken. Send a shorter recording, or a compressed one.`;
  }
  return null;
}

// Takes on the server's word about a job, or the page's.
export function update(entry, news) {
  const isNew = news.id && news.id !== entry.id;
  for (const name of ["id", "name", "state", "sent", "position", "duration_seconds", "decoded_seconds", "num_notes", "error"]) {
    if (name in news) entry[name] = news[name];
  }
  if (isNew) store();
  changed(entry);
  if (isOver(entry)) sendNext(); // there may be room for it now
}

const numUnfinished = () => entries.filter((entry) => entry.id && !isOver(entry)).length;

async function sendNext() {
  const entry = entries.find(({ state }) => state === "queued");
  if (upload || !entry || numUnfinished() >= limits.jobs_per_client) return;
  const sending = api.send(entry.file, entry.name, (sent) => entry.state === "uploading" && update(entry, { sent }));
  upload = { entry, abort: sending.abort };
  update(entry, { state: "uploading", sent: 0, error: null });
  try {
    const job = await sending.job;
    if (entry.state === "uploading") update(entry, job);
    else api.forget(job.id).catch(() => {}); // dropped when it was nearly sent
    poll();
  } catch (error) {
    const isWanted = entry.state === "uploading";
    if (isWanted && error.retrySeconds) await waitForPlace(entry, error);
    else if (isWanted) update(entry, { state: "refused", error: await reasonOf(entry, error) });
  }
  upload = null;
  sendNext();
}

// A busy server is asked again later, unless the recording is removed meanwhile.
async function waitForPlace(entry, { message, retrySeconds }) {
  update(entry, { state: "queued", sent: 0, error: `${message} Asking again in ${span(retrySeconds)}.` });
  await new Promise((resolve) => {
    const timer = setTimeout(resolve, 1000 * retrySeconds);
    upload.abort = () => resolve(clearTimeout(timer));
  });
}

// Where a file cannot be read (a folder, or changed on disk), the browser says only that nothing was sent.
async function reasonOf(entry, error) {
  if (error.status !== 0) return error.message;
  const isReadable = await entry.file.slice(0, 1).arrayBuffer().then(() => true, () => false);
  return isReadable ? error.message : "The file cannot be read: it is a folder, or it has changed or gone.";
}

// Asks for the states of all that are not over and not streamed, one after another, until none is left.
export async function poll() {
  if (isPolling) return;
  isPolling = true;
  while (true) {
    const waiting = entries.filter((entry) => entry.id && !isOver(entry));
    if (!waiting.length) break;
    for (const entry of waiting.filter(({ isStreamed }) => !isStreamed)) {
      try {
        const news = await api.job(entry.id);
        if (entries.includes(entry) && !isOver(entry) && !entry.isStreamed) update(entry, news);
      } catch (error) {
        if (error.status === 404) update(entry, { state: "failed", error: GONE });
        else update(entry, { error: error.message }); // asked again in the next round
      }
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MILLISECONDS));
  }
  isPolling = false;
}

// Cancels what is under way, or removes what is over; the server forgets it.
export async function drop(entry) {
  const wasOver = isOver(entry);
  if (wasOver) entries.splice(entries.indexOf(entry), 1);
  else update(entry, { state: "cancelled", error: null });
  if (upload?.entry === entry) upload.abort();
  if (entry.id) await api.forget(entry.id).catch(() => {}); // the server forgets it by itself some time later
  entry.id = null;
  store();
  changed(entry);
}

function store() {
  const known = entries.filter(({ id }) => id).map(({ id, name }) => ({ id, name }));
  sessionStorage.setItem(STORED, JSON.stringify(known));
}

export function restore() {
  for (const { id, name } of JSON.parse(sessionStorage.getItem(STORED) ?? "[]")) {
    const entry = { name, file: null, id, state: "waiting", sent: 1, error: null };
    entries.push(entry);
    changed(entry);
  }
  poll();
}
