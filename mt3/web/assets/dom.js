// Making elements, and numbers as text. Text is only ever set as text.

export const byId = (id) => document.getElementById(id);

// element("td", {class: "number", "aria-label": "..."}, "text", child, ...)
export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

export function button(text, attributes, action) {
  const made = element("button", { type: "button", ...attributes }, text);
  made.addEventListener("click", action);
  return made;
}

// Shows a text in an element, or hides it where there is none.
export function say(id, text) {
  byId(id).textContent = text ?? "";
  byId(id).hidden = !text;
}

// Minutes and seconds; hours where there are some.
export function clock(seconds) {
  const whole = Math.max(0, Math.floor(seconds));
  const two = (number) => String(number).padStart(2, "0");
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes}:${two(whole % 60)}`;
  return `${Math.floor(minutes / 60)}:${two(minutes % 60)}:${two(whole % 60)}`;
}

const rounded = (number) => number.toLocaleString("en", { maximumFractionDigits: number < 10 ? 1 : 0 });

export function size(numBytes) {
  const units = ["bytes", "kB", "MB", "GB"];
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(1, numBytes)) / 3));
  return `${rounded(numBytes / 1000 ** power)} ${units[power]}`;
}

// A length of time in words: "45 seconds", "20 minutes", "2 hours".
export function span(seconds) {
  const [number, unit] = seconds < 120 ? [seconds, "second"] : seconds < 7200 ? [seconds / 60, "minute"] : [seconds / 3600, "hour"];
  return counted(number, unit);
}

export const counted = (number, unit) => `${rounded(number)} ${unit}${number === 1 ? "" : "s"}`;
