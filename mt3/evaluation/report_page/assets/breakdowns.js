// F1 by instrument, pitch, polyphony and loudness, as bars in tables.
"use strict";

const breakdowns = (() => {
  const { byId, element } = dom;
  const { page } = pageData;

  function start() {
    byId("breakdown-measure").addEventListener("change", show);
    theme.onChange(show);
    show();
  }

  function show() {
    const measure = byId("breakdown-measure").value;
    byId("breakdown-tables").replaceChildren(...page.breakdowns.map((breakdown) => card(breakdown, measure)));
    byId("breakdown-legend").replaceChildren(...(measure === "kinds" ? kindsLegend() : runsLegend()));
  }

  function card(breakdown, measure) {
    const title = element("h3", {}, `By ${breakdown.title.toLowerCase()}`);
    const columns = [
      { label: breakdown.title, cell: (group) => group.label },
      { label: "Notes", numeric: true, cell: (group) => dom.count(Math.max(...group.reference.map(total))) },
      { label: measure === "kinds" ? "Share of the notes" : "F1", cell: (group) => cells(group, measure) },
    ];
    const table = breakdown.groups.length
      ? tables.plain(columns, breakdown.groups, { label: `By ${breakdown.title.toLowerCase()}` })
      : element("p", { class: "note" }, "There are no notes to count.");
    return element("div", { class: "card" }, title, element("p", { class: "note" }, breakdown.explanation), table);
  }

  const total = (kinds) => kinds.reduce((sum, number) => sum + number, 0);

  function cells(group, measure) {
    const bars = page.runs.map((run, index) =>
      measure === "kinds" ? kindsBar(group.reference[index], run) : scoreBar(group, measure, index));
    return { content: bars, class: "bars" };
  }

  function scoreBar(group, measure, run) {
    const [precision, recall, f1] = group[measure][run];
    const fill = element("span", { class: "fill" });
    fill.style.setProperty("--share", f1);
    fill.style.setProperty("--run-colour", dom.runColour(run));
    const known = total(group.reference[run]) > 0;
    const words = known ? `F1 ${dom.score(f1)}, precision ${dom.score(precision)}, recall ${dom.score(recall)}` : "no reference notes";
    const title = `${page.runs[run].name}: ${words}, ${total(group.estimate[run])} estimated notes`;
    const text = known ? dom.score(f1) : dom.MISSING;
    return element("div", { class: "bar", title }, element("div", { class: "track" }, fill), element("span", {}, text));
  }

  function kindsBar(kinds, run) {
    const all = total(kinds);
    const parts = kinds.map((number, kind) => (number ? kindPart(kind, number / all) : null));
    const words = kinds.map((number, kind) => (number ? `${page.kinds[kind]} ${number}` : "")).filter(Boolean);
    const title = `${run.name}: ${words.join(", ") || "no notes"}`;
    return element("div", { class: "bar", title },
      element("div", { class: "track", role: "img", "aria-label": title }, ...parts),
      element("span", {}, all ? dom.score(kinds[0] / all) : dom.MISSING));
  }

  function kindPart(kind, share) {
    const part = element("span", { class: "part" });
    part.style.width = `${share * 100}%`;
    part.style.backgroundColor = patterns.kindColour(kind);
    return part;
  }

  function runsLegend() {
    if (page.runs.length < 2) return [];
    return page.runs.map((run, index) => {
      const swatch = element("i");
      swatch.style.setProperty("--run-colour", dom.runColour(index));
      return element("span", {}, swatch, run.name);
    });
  }

  function kindsLegend() {
    const last = page.kinds.length - 1; // extra notes are none of the reference
    const kinds = page.kinds.slice(0, last).map((name, kind) => {
      const swatch = element("i");
      swatch.style.setProperty("--run-colour", patterns.kindColour(kind));
      return element("span", {}, swatch, name);
    });
    if (page.runs.length < 2) return kinds;
    return [...kinds, element("span", {}, `Bars from above: ${page.runs.map((run) => run.name).join(", ")}`)];
  }

  return { start };
})();
