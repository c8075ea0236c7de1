// The piano roll: which recording, run and notes are shown, and what keys and buttons do.
"use strict";

const roll = (() => {
  const { byId, element, options } = dom;
  const { page } = pageData;
  const ALL_RUNS = "all";
  const RIGHT = 0;
  const FIRST_SECONDS = 20; // in sight when a recording is opened
  const MIN_FIRST_SECONDS = 60; // recordings up to this length are shown whole
  const scroll = byId("roll-scroll");
  const view = rollView.make(scroll, byId("roll-size"));
  const hiddenKinds = new Set();
  const hiddenFamilies = new Set();
  // `version` tells drawings of different content apart.
  const scene = { panels: [], shows, colour: "kind", cursor: 0, marked: null, version: 0 };
  let recording = null; // index of the one that is open
  let opening = 0;
  let drawing = false;

  function start() {
    const withNotes = page.recordings.map(({ id }, index) => [String(index), id]).filter(([index]) => hasNotes(index));
    options(byId("roll-recording"), withNotes);
    const runs = page.runs.map((run, index) => [String(index), run.name]);
    options(byId("roll-run"), runs.length > 1 ? [...runs, [ALL_RUNS, "all, one below the other"]] : runs);
    byId("roll-run-label").hidden = runs.length < 2;
    byId("roll-recording").addEventListener("change", () => open(Number(byId("roll-recording").value)));
    byId("roll-run").addEventListener("change", () => open(recording, { keep: true }));
    byId("roll-colour").addEventListener("change", () => {
      scene.colour = byId("roll-colour").value;
      redraw();
    });
    connectButtons();
    scroll.addEventListener("scroll", refresh, { passive: true });
    scroll.addEventListener("keydown", onKey);
    scroll.addEventListener("click", onClick);
    scroll.addEventListener("pointermove", onPointer);
    scroll.addEventListener("wheel", onWheel, { passive: false });
    new ResizeObserver(() => {
      view.resize();
      redraw();
    }).observe(scroll);
    theme.onChange(() => {
      showChips();
      redraw();
    });
    player.start(onPlayer, (name) => showMessage(`This browser cannot play ${name} (${page.media_type}).`));
    byId("player-position").addEventListener("input", () => player.seek(Number(byId("player-position").value)));
    if (withNotes.length) return open(firstOpened(withNotes));
    showMessage("The results hold no notes. Evaluate with an output directory to see piano rolls.");
    return Promise.resolve();
  }

  const hasNotes = (index) => page.recordings[index].notes.some((block) => block !== null);

  // One that can be heard, if any.
  function firstOpened(withNotes) {
    const heard = withNotes.find(([index]) => page.recordings[index].clips.length);
    return Number((heard ?? withNotes[0])[0]);
  }

  async function open(index, { keep = false } = {}) {
    const own = ++opening;
    recording = index;
    byId("roll-recording").value = String(index);
    const chosen = byId("roll-run").value;
    const wanted = page.runs.map((_, run) => run).filter((run) => chosen === ALL_RUNS || chosen === String(run));
    const runs = wanted.filter((run) => page.recordings[index].notes[run] !== null);
    const sides = await Promise.all(runs.map(async (run) =>
      notes.unpack(await pageData.inflated(page.recordings[index].notes[run]))));
    if (own !== opening) return;
    const absent = wanted.filter((run) => !runs.includes(run)).map((run) => page.runs[run].name);
    showMessage(absent.length ? `There are no notes of this recording in ${absent.join(", ")}.` : "");
    scene.marked = null;
    scene.panels = sides.length ? [{ title: panelTitle("Reference", runs, sides), side: sides[0][0], run: null }] : [];
    sides.forEach(([, side], at) => scene.panels.push({ title: `Estimate: ${page.runs[runs[at]].name}`, side, run: runs[at] }));
    layOut(keep);
    showChips();
    player.setSources(soundSources(index));
    recordings.mark(index);
    describeRoll();
    redraw();
  }

  const panelTitle = (title, runs, sides) =>
    sides.length > 1 ? `${title} (errors of ${page.runs[runs[0]].name})` : title;

  function layOut(keep) {
    const sides = scene.panels.map((panel) => panel.side);
    const seconds = Math.max(1, ...sides.map((side) => (side.count ? side.latestEnd[side.count - 1] : 0)));
    const before = { left: scroll.scrollLeft, scale: view.pixelsPerSecond };
    view.setContent(seconds, rollView.rowsOf(sides), Math.max(1, sides.length));
    byId("player-position").max = seconds.toFixed(2);
    if (keep) {
      view.showSeconds((view.width() - rollView.GUTTER) / before.scale);
      scroll.scrollLeft = before.left;
    } else {
      view.showSeconds(seconds <= MIN_FIRST_SECONDS ? seconds : FIRST_SECONDS);
      scroll.scrollLeft = 0;
      scroll.scrollTop = 0;
    }
  }

  function soundSources(index) {
    const clips = page.recordings[index].clips;
    const embedded = (source, run) => clips.find((clip) => clip.source === source && clip.run === run);
    const sources = [];
    const add = (name, clip, side) => {
      if (clip) sources.push({ name, load: async () => new Blob([pageData.bytes(clip.block)], { type: page.media_type }) });
      else if (side) sources.push({ name: `${name} (tones)`, isMade: true, load: async () => tones.render(side, shows) });
    };
    add("Original", embedded("original", 0), null);
    for (const panel of scene.panels) {
      if (panel.run === null) add("Reference", embedded("reference", 0), panel.side);
      else add(page.runs.length > 1 ? panel.title : "Estimate", embedded("estimate", panel.run), panel.side);
    }
    byId("player-note").textContent = sources.some((source) => source.isMade)
      ? "Tones are plain and follow the filters: what is hidden is not played."
      : "Rendered with a SoundFont; the filters do not change what is played.";
    byId("player-sources").replaceChildren(...sources.map((source, at) => {
      const button = element("button", { type: "button", "aria-pressed": "false", "aria-label": `Play ${source.name}`, title: `${source.name} (${at + 1})` }, source.name);
      button.addEventListener("click", () => player.toggle(at));
      return button;
    }));
    return sources;
  }

  function shows(side, index) {
    return !hiddenKinds.has(side.kind[index]) && !hiddenFamilies.has(notes.family(side, index));
  }

  function showChips() {
    const kinds = new Array(page.kinds.length).fill(0);
    const families = new Map();
    for (const { side, run } of scene.panels) {
      for (let index = 0; index < side.count; index++) {
        const family = notes.family(side, index);
        families.set(family, (families.get(family) ?? 0) + 1);
        // A pair counts once: at the estimate, or where it is missed.
        if (run !== null || page.kinds[side.kind[index]] === "missed") kinds[side.kind[index]]++;
      }
    }
    byId("roll-kinds").replaceChildren(...page.kinds.map((name, kind) =>
      chip(name, kinds[kind], hiddenKinds, kind, (context, box) => patterns.drawKind(context, kind, box))));
    byId("roll-instruments").replaceChildren(...[...families.keys()].sort((a, b) => a - b).map((family) =>
      chip(page.families[family], families.get(family), hiddenFamilies, family,
        (context, box) => patterns.drawFamily(context, family, box))));
  }

  function chip(name, count, hidden, key, draw) {
    const button = element("button", { type: "button", class: "chip", "aria-pressed": String(!hidden.has(key)) },
      patterns.swatch(draw), name, element("small", {}, dom.count(count)));
    button.addEventListener("click", () => {
      if (!hidden.delete(key)) hidden.add(key);
      button.setAttribute("aria-pressed", String(!hidden.has(key)));
      player.forget((source) => source.isMade);
      scene.marked = null;
      redraw();
    });
    return button;
  }

  function connectButtons() {
    const actions = {
      "roll-zoom-in": () => view.zoom(1.5),
      "roll-zoom-out": () => view.zoom(1 / 1.5),
      "roll-fit": () => view.fit(),
      "roll-taller": () => view.stretch(1.3),
      "roll-flatter": () => view.stretch(1 / 1.3),
      "roll-next": () => stepError(1),
      "roll-previous": () => stepError(-1),
    };
    for (const [id, action] of Object.entries(actions)) {
      byId(id).addEventListener("click", () => {
        action();
        redraw();
      });
    }
  }

  const KEYS = {
    " ": () => player.sources().length && player.toggle(Math.max(0, player.current())),
    "+": () => view.zoom(1.5),
    "=": () => view.zoom(1.5),
    "-": () => view.zoom(1 / 1.5),
    0: () => view.fit(),
    n: () => stepError(1),
    p: () => stepError(-1),
    Home: () => (scroll.scrollLeft = 0),
    End: () => (scroll.scrollLeft = scroll.scrollWidth),
  };

  function onKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const source = Number(event.key) - 1;
    const action = source >= 0 && source < player.sources().length ? () => player.toggle(source) : KEYS[event.key];
    if (!action) return;
    event.preventDefault();
    action();
    redraw();
  }

  function onWheel(event) {
    if (!event.ctrlKey) return; // a pinch, or the wheel with Ctrl
    event.preventDefault();
    view.zoom(Math.exp(-event.deltaY / 200), view.secondsAt(event.clientX - scroll.getBoundingClientRect().left));
    redraw();
  }

  function onClick(event) {
    const { seconds } = place(event);
    if (seconds >= 0) player.seek(Math.min(seconds, view.seconds));
  }

  const place = (event) => {
    const box = scroll.getBoundingClientRect();
    return view.hit(event.clientX - box.left - scroll.clientLeft, event.clientY - box.top - scroll.clientTop);
  };

  function onPointer(event) {
    const { seconds, panel, row } = place(event);
    const side = scene.panels[panel]?.side;
    if (!side) return;
    const [first, last] = notes.range(side, seconds, seconds);
    for (let index = first; index < last; index++) {
      if (side.end[index] < seconds || !shows(side, index)) continue;
      if (view.rowOf[side.pitch[index] + (notes.isDrum(side, index) ? 128 : 0)] === row) {
        byId("roll-note").textContent = describe(panel, index);
        return;
      }
    }
  }

  function describe(panel, index) {
    const { title, side } = scene.panels[panel];
    const drum = notes.isDrum(side, index);
    return [
      `${title}: ${page.kinds[side.kind[index]]}`,
      drum ? `drum ${side.pitch[index]}` : `${notes.pitchName(side.pitch[index])}, ${page.programs[side.program[index]]}`,
      `${side.onset[index].toFixed(3)} to ${side.end[index].toFixed(3)} s`,
      `velocity ${side.velocity[index] || "unknown"}`,
    ].join(" · ");
  }

  // The next or previous note that is shown and not right, after the one marked or from what is in sight.
  function stepError(direction) {
    const errors = scene.panels.flatMap(({ side, run }, panel) =>
      [...side.kind.keys()]
        .filter((index) => side.kind[index] !== RIGHT && shows(side, index) && (run !== null || page.kinds[side.kind[index]] === "missed"))
        .map((index) => ({ side, panel, index, onset: side.onset[index] })));
    errors.sort((a, b) => a.onset - b.onset || a.panel - b.panel || a.index - b.index);
    if (!errors.length) {
      byId("roll-note").textContent = "No errors among the notes that are shown.";
      return;
    }
    const marked = errors.findIndex(({ panel, index }) => panel === scene.marked?.panel && index === scene.marked.index);
    const inSight = errors.findIndex(({ onset }) => onset >= view.from());
    const start = inSight < 0 ? errors.length : inSight;
    const next = marked >= 0 ? marked + direction : direction > 0 ? start : start - 1;
    scene.marked = errors[(next + errors.length) % errors.length];
    view.reveal(scene.marked.onset);
    const { side, index, panel } = scene.marked;
    view.revealRow(panel, view.rowOf[side.pitch[index] + (notes.isDrum(side, index) ? 128 : 0)]);
    player.seek(Math.max(0, scene.marked.onset));
    byId("roll-note").textContent = describe(panel, index);
  }

  function onPlayer() {
    [...byId("player-sources").children].forEach((button, at) =>
      button.setAttribute("aria-pressed", String(player.isPlaying() && at === player.current())));
    refresh();
  }

  function describeRoll() {
    const counts = scene.panels.map(({ title, side }) => `${title}: ${side.count} notes`);
    byId("roll-canvas").setAttribute("aria-label",
      `Piano roll of ${page.recordings[recording].id}, ${dom.time(view.seconds)} long. ${counts.join(". ")}.`);
  }

  function showMessage(text) {
    byId("roll-message").textContent = text;
    byId("roll-message").hidden = !text;
  }

  // What is shown has changed.
  function redraw() {
    scene.version++;
    refresh();
  }

  // Only where it is seen or the cursor has changed.
  function refresh() {
    if (drawing) return;
    drawing = true;
    requestAnimationFrame(() => {
      drawing = false;
      scene.cursor = player.now();
      if (player.isPlaying()) view.reveal(scene.cursor);
      byId("player-position").value = String(scene.cursor);
      byId("player-time").textContent = `${dom.time(scene.cursor)} / ${dom.time(view.seconds)}`;
      scroll.dataset.drawn = rollDrawing.draw(byId("roll-canvas"), view, scene, scroll.scrollTop);
      if (player.isPlaying()) refresh();
    });
  }

  return { start, open };
})();
