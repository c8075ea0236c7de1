// The server's interface. Every refusal becomes a Refusal with the server's one line.

const HOLD_BACK_SECONDS = 5; // where a busy server names no time

export class Refusal extends Error {
  // status: of HTTP, or 0 where there was no answer; retrySeconds: when a busy server may be asked again
  constructor(message, status, retrySeconds = null) {
    super(message);
    this.status = status;
    this.retrySeconds = retrySeconds;
  }
}

const unreachable = () => new Refusal("The server does not answer. Is `mt3 serve` still running?", 0);
const jobPath = (id) => `/api/jobs/${encodeURIComponent(id)}`;

async function ask(path, options = {}) {
  const response = await fetch(path, { cache: "no-store", ...options }).catch(() => {
    throw unreachable();
  });
  if (!response.ok) throw refusal(response.status, await response.text().catch(() => ""), response.headers.get("Retry-After"));
  return response;
}

function refusal(status, body, retryAfter) {
  let message = `The server refused with status ${status}.`;
  try {
    message = String(JSON.parse(body).error || message);
  } catch {
    // not JSON: from something between the page and the server
  }
  return new Refusal(message, status, status === 429 ? Number(retryAfter) || HOLD_BACK_SECONDS : null);
}

export const info = async () => (await ask("/api/info")).json();
export const job = async (id) => (await ask(jobPath(id))).json();
export const forget = (id) => ask(jobPath(id), { method: "DELETE" });
export const file = async (id, format) => (await ask(`${jobPath(id)}/files/${encodeURIComponent(format)}`)).blob();
export const events = (id) => new EventSource(`${jobPath(id)}/events`);

// Sends a file; `onProgress` is given the share that is sent. -> {job: Promise of the server's answer, abort()}
// XMLHttpRequest, because fetch does not say how much of a body is sent.
export function send(blob, name, onProgress) {
  const request = new XMLHttpRequest();
  const answer = new Promise((resolve, reject) => {
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new DOMException("The upload was cancelled.", "AbortError"));
    request.onload = () => {
      const { status, responseText } = request;
      if (status === 202) resolve(JSON.parse(responseText));
      else reject(refusal(status, responseText, request.getResponseHeader("Retry-After")));
    };
  });
  request.open("POST", "/api/jobs");
  request.setRequestHeader("Content-Type", "application/octet-stream");
  request.setRequestHeader("X-File-Name", encodeURIComponent(wellFormed(name)));
  request.send(blob);
  return { job: answer, abort: () => request.abort() };
}

// Names of files may hold halves of characters, which cannot be encoded.
const wellFormed = (name) => new TextDecoder().decode(new TextEncoder().encode(name));
