// Plays one of several sounds of a recording; changing between them keeps the position.
"use strict";

const player = (() => {
  const audio = new Audio();
  let sources = []; // {name, load() -> Blob}
  let playing = -1; // index of the source that is loaded
  let position = 0;
  let listener = () => {};
  let failed = () => {};
  let request = 0; // of the latest play: a slower one before it is dropped

  function start(onChange, onFailure) {
    listener = onChange;
    failed = onFailure;
    for (const event of ["play", "pause", "ended", "seeked"]) audio.addEventListener(event, () => listener());
  }

  function setSources(list) {
    stop();
    sources.forEach((source) => source.url && URL.revokeObjectURL(source.url));
    sources = list;
    playing = -1;
    position = 0;
    listener();
  }

  // Sounds of notes that are made here change with the filters.
  function forget(isStale) {
    sources.forEach((source, index) => {
      if (!source.url || !isStale(source)) return;
      URL.revokeObjectURL(source.url);
      source.url = null;
      if (index === playing) {
        position = now();
        stop();
        playing = -1;
      }
    });
  }

  async function toggle(index) {
    if (index === playing && !audio.paused) {
      audio.pause();
      return;
    }
    position = now();
    const own = ++request;
    if (index !== playing) {
      audio.pause();
      const source = sources[index];
      source.url ??= URL.createObjectURL(await source.load());
      if (own !== request) return;
      audio.src = source.url;
      playing = index;
      const readable = await new Promise((resolve) => {
        audio.addEventListener("loadedmetadata", () => resolve(true), { once: true });
        audio.addEventListener("error", () => resolve(false), { once: true });
      });
      if (own !== request) return;
      if (!readable) {
        playing = -1;
        failed(source.name);
        return;
      }
    }
    audio.currentTime = position >= audio.duration ? 0 : position;
    await audio.play().catch((error) => {
      if (error.name !== "AbortError") throw error; // a pause came first
    });
  }

  function stop() {
    request++;
    audio.pause();
  }

  function seek(seconds) {
    position = Math.max(0, seconds);
    if (playing >= 0) audio.currentTime = position;
    listener();
  }

  const now = () => (playing >= 0 ? audio.currentTime : position);
  const isPlaying = () => playing >= 0 && !audio.paused && !audio.ended;
  const current = () => playing;

  return { start, setSources, forget, toggle, seek, now, isPlaying, current, audio, sources: () => sources };
})();
