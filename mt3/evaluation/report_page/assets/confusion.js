// Which instrument was taken for which: a shaded table.
"use strict";

const confusion = (() => {
  const { byId, element, options } = dom;
  const { page } = pageData;
  const STRONG = 0.55; // from this shade on, text is in the other colour

  function start() {
    const select = byId("confusion-run");
    const known = page.runs.map((run, index) => [String(index), run.name]).filter(([index]) => page.confusions[index]);
    options(select, known);
    byId("confusion-run-label").hidden = known.length < 2;
    select.addEventListener("change", show);
    if (known.length) show();
    else byId("confusion-table").append(element("p", { class: "notice" }, "The results hold no notes to compare."));
  }

  function show() {
    const { labels, counts } = page.confusions[Number(byId("confusion-run").value)];
    const names = [...labels, "missed"]; // of the columns
    const extra = counts[labels.length];
    const head = element("tr", {}, element("th", { scope: "col" }, "Reference"),
      ...names.map((label) => element("th", { scope: "col" }, element("span", {}, label))));
    const rows = labels.map((label, row) => {
      const all = counts[row].reduce((sum, number) => sum + number, 0);
      return element("tr", {}, element("th", { scope: "row" }, label),
        ...counts[row].map((number, column) =>
          cell(number, all, `${label}: ${column < labels.length ? `taken for ${names[column]}` : "missed"}`, row === column)));
    });
    const lastRow = element("tr", {}, element("th", { scope: "row" }, "extra"),
      ...labels.map((_, column) => element("td", { class: extra[column] ? "aside" : "aside zero" }, dom.count(extra[column]))),
      element("td", { class: "aside" }));
    byId("confusion-table").replaceChildren(element("table", { class: "matrix", "aria-label": "Confusion matrix" },
      element("thead", {}, head), element("tbody", {}, ...rows, lastRow)));
  }

  function cell(number, all, what, same) {
    const share = all ? number / all : 0;
    const names = [share > STRONG ? "strong" : "", number ? "" : "zero", same ? "same" : ""].join(" ").trim();
    const made = element("td", { class: names || null, title: `${what}: ${number} of ${all}` }, dom.count(number));
    made.style.setProperty("--share", share);
    return made;
  }

  return { start };
})();
