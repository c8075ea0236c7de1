// Making elements, and numbers as text. Text is only ever set as text.
"use strict";

const dom = (() => {
  const byId = (id) => document.getElementById(id);

  // element("td", {class: "number", "aria-label": "..."}, "text", child, ...)
  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) {
      if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  }

  function options(select, entries) {
    select.replaceChildren(...entries.map(([value, text]) => element("option", { value }, text)));
  }

  const MISSING = "–";
  const MINUS = "−";
  const score = (value, digits = 3) => (isNumber(value) ? value.toFixed(digits).replace("-", MINUS) : MISSING);
  const count = (value) => (isNumber(value) ? value.toLocaleString("en") : MISSING);
  const isNumber = (value) => typeof value === "number" && Number.isFinite(value);

  function difference(value, digits = 3) {
    if (!isNumber(value)) return MISSING;
    const text = Math.abs(value).toFixed(digits);
    if (Number(text) === 0) return text;
    return (value > 0 ? "+" : MINUS) + text;
  }

  function time(seconds) {
    const whole = Math.max(0, Math.floor(seconds));
    return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
  }

  // One colour a run, the same everywhere; runs are also told apart by name and order.
  const RUN_HUES = [205, 32, 160, 325, 265, 55];
  const runColour = (run) => `hsl(${RUN_HUES[run % RUN_HUES.length]} 62% ${theme() === "dark" ? 62 : 42}%)`;
  const theme = () => document.documentElement.dataset.theme;

  return { byId, element, options, score, count, difference, time, isNumber, runColour, MISSING };
})();
