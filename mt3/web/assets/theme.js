// Light and dark: as the system says, until a reader chooses.

const CHOICES = { auto: "Theme: automatic", light: "Theme: light", dark: "Theme: dark" };
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = [];
let choice = "auto";

export const isDark = () => document.documentElement.dataset.theme === "dark";
export const onThemeChange = (listener) => listeners.push(listener);

function setTheme() {
  const dark = choice === "auto" ? system.matches : choice === "dark";
  document.documentElement.dataset.theme = dark ? "dark" : "light";
}

function apply() {
  setTheme();
  document.getElementById("theme").textContent = CHOICES[choice];
  listeners.forEach((listener) => listener());
}

export function startTheme() {
  document.getElementById("theme").addEventListener("click", () => {
    const names = Object.keys(CHOICES);
    choice = names[(names.indexOf(choice) + 1) % names.length];
    apply();
  });
  system.addEventListener("change", apply);
  apply();
}

setTheme(); // at once, before the page is shown
