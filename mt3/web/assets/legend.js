// The instruments of a recording: which of them are shown, and which are heard.

import { button, byId, element } from "./dom.js";
import { instrumentColour, instrumentName } from "./instruments.js";

const SVG = "http://www.w3.org/2000/svg";
const SPEAKER = "M2 6h3l4-3v10l-4-3H2z";
const LINES = [["waves", "M11 5.5a3.5 3.5 0 0 1 0 5M12.8 3.5a6 6 0 0 1 0 9"], ["silence", "M11.5 6l3 4M14.5 6l-3 4"]];

export const hidden = new Set();
export const muted = new Set();
let changed = () => {};
const chips = new Map(); // instrument -> {chip, count}

// onChange() is called when instruments are shown, hidden, muted or heard again.
export function startLegend(onChange) {
  changed = onChange;
}

export function clearLegend() {
  hidden.clear();
  muted.clear();
  chips.clear();
  byId("legend").replaceChildren();
  changed();
}

// Instruments keep their order: pitched ones by program, drums last.
export function showLegend(notes) {
  for (const [instrument, { chip }] of chips) {
    if (notes.perInstrument.has(instrument)) continue;
    chip.remove();
    chips.delete(instrument);
  }
  for (const instrument of [...notes.perInstrument.keys()].sort((a, b) => a - b)) {
    if (!chips.has(instrument)) addChip(instrument);
    const { chip, count } = chips.get(instrument);
    count.textContent = notes.perInstrument.get(instrument).toLocaleString("en");
    chip.style.setProperty("--instrument", instrumentColour(instrument));
  }
}

function addChip(instrument) {
  const name = instrumentName(instrument);
  const count = element("small");
  const shown = toggle(hidden, instrument, { class: "show", title: `Show or hide ${name}` }, element("i", { "aria-hidden": "true" }), name, count);
  const heard = toggle(muted, instrument, { class: "hear", "aria-label": `Hear ${name}`, title: `Hear or mute ${name}` }, speaker());
  const chip = element("span", { class: "chip" }, shown, heard);
  shown.addEventListener("click", () => chip.classList.toggle("unshown", hidden.has(instrument)));
  const next = [...chips.keys()].filter((other) => other > instrument).sort((a, b) => a - b)[0];
  byId("legend").insertBefore(chip, chips.get(next)?.chip ?? null);
  chips.set(instrument, { chip, count });
}

function toggle(without, instrument, attributes, ...content) {
  const made = button("", { "aria-pressed": "true", ...attributes }, () => {
    if (!without.delete(instrument)) without.add(instrument);
    made.setAttribute("aria-pressed", String(!without.has(instrument)));
    changed();
  });
  made.replaceChildren(...content);
  return made;
}

function speaker() {
  const drawing = document.createElementNS(SVG, "svg");
  drawing.setAttribute("viewBox", "0 0 16 16");
  drawing.setAttribute("aria-hidden", "true");
  for (const [name, line] of [["body", SPEAKER], ...LINES]) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("class", name);
    path.setAttribute("d", line);
    drawing.append(path);
  }
  return drawing;
}
