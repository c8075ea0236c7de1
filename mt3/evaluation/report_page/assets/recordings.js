// A row a recording: sorted by its headings, found by name, opened as a piano roll.
"use strict";

const recordings = (() => {
  const { byId, element, options } = dom;
  const { page } = pageData;
  const several = page.runs.length > 1;
  let open = () => {};
  let pairs = [];

  function start(openRecording) {
    open = openRecording;
    options(byId("recordings-metric"), page.metrics.map((metric) => [metric.name, metric.name]));
    byId("recordings-metric-label").hidden = !several;
    byId("recordings-metric").addEventListener("change", show);
    byId("recordings-find").addEventListener("input", find);
    show();
  }

  function show() {
    const rows = page.recordings.map((recording, index) => ({ recording, index }));
    const made = tables.sortable(several ? runColumns() : metricColumns(), rows, { label: "Recordings" });
    pairs = made.pairs;
    byId("recordings-table").replaceChildren(made.table);
    find();
  }

  function commonColumns() {
    return [
      {
        label: "Recording",
        value: ({ recording }) => recording.id,
        cell: ({ recording, index }) => {
          if (!recording.notes.some((block) => block !== null)) return recording.id;
          const button = element("button", { type: "button", class: "link", title: "Show the piano roll" }, recording.id);
          button.addEventListener("click", () => open(index));
          return button;
        },
      },
      number("Notes", ({ recording }) => Math.max(...recording.num_reference_notes.map((value) => value ?? 0)), dom.count),
    ];
  }

  function metricColumns() {
    const shown = page.metrics.filter((metric) => metric.is_headline);
    return [
      ...commonColumns(),
      number("Estimated", ({ recording }) => recording.num_estimated_notes[0], dom.count),
      ...shown.map((metric) => number(metric.name, ({ index }) => page.scores[metric.name][0][index], dom.score)),
    ];
  }

  function runColumns() {
    const scores = page.scores[byId("recordings-metric").value];
    const columns = commonColumns();
    page.runs.forEach((run, index) => columns.push(number(run.name, (row) => scores[index][row.index], dom.score)));
    page.runs.slice(1).forEach((run, index) => {
      const gap = (row) => {
        const [first, other] = [scores[0][row.index], scores[index + 1][row.index]];
        return first === null || other === null ? null : other - first;
      };
      columns.push(number(`${run.name} − ${page.runs[0].name}`, gap, dom.difference));
    });
    return columns;
  }

  const number = (label, value, format) => ({ label, numeric: true, value, cell: (row) => format(value(row)) });

  function find() {
    const wanted = byId("recordings-find").value.trim().toLowerCase();
    let shown = 0;
    for (const { row, line } of pairs) {
      line.hidden = !row.recording.id.toLowerCase().includes(wanted);
      shown += !line.hidden;
    }
    byId("recordings-count").textContent = `${shown} of ${pairs.length}`;
  }

  function mark(index) {
    for (const { row, line } of pairs) {
      if (row.index === index) line.setAttribute("aria-current", "true");
      else line.removeAttribute("aria-current");
    }
  }

  return { start, mark };
})();
