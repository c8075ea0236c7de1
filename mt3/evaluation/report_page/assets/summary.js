// Scores of all runs, their differences, and published scores beside them.
"use strict";

const summary = (() => {
  const { byId, element, options } = dom;
  const { page } = pageData;
  const PUBLISHED_DIGITS = 4; // as papers print
  const several = page.runs.length > 1;

  function start() {
    const recordings = page.runs.map((run) => run.num_recordings);
    const same = recordings.every((number) => number === recordings[0]);
    byId("title").textContent = page.title;
    byId("subtitle").textContent = [
      several ? `${page.runs.length} runs: ${page.runs.map((run) => run.name).join(", ")}` : page.runs[0].name,
      `${same ? recordings[0] : recordings.join(" and ")} recordings`,
    ].join(" · ");
    byId("footer").textContent = `Made by mt3 ${page.version}.`;
    const hasIntervals = page.metrics.some((metric) => metric.values.some((value) => value && value.low !== null));
    byId("summary-note").textContent =
      "Means over recordings, each counting the same" +
      (hasIntervals ? ", with 95 % intervals by bootstrap over recordings." : ".") +
      (several ? ` Differences are from ${page.runs[0].name}, over the recordings that both have.` : "");
    byId("summary-table").append(scoreTable(page.metrics.filter((metric) => metric.is_headline), "Main scores"));
    const others = page.metrics.filter((metric) => !metric.is_headline);
    byId("all-metrics-title").textContent = `${others.length} more scores`;
    byId("all-metrics").append(scoreTable(others, "More scores"));
    byId("all-metrics").parentElement.hidden = others.length === 0;
    byId("runs").append(factsTable());
    const datasets = [...new Set(page.runs.flatMap((run) => Object.keys(run.datasets)))];
    byId("datasets-details").hidden = datasets.length < 2;
    byId("datasets").append(datasetTable(datasets));
    byId("remarks").append(...remarks());
    startPublished();
  }

  function scoreTable(metrics, label) {
    const columns = [{ label: "Score", cell: (metric) => metric.name }];
    page.runs.forEach((run, index) => {
      columns.push({
        label: run.name,
        numeric: true,
        cell: (metric) => ({ content: valueContent(metric.values[index], dom.score), class: best(metric, index) }),
      });
    });
    page.runs.forEach((run, index) => {
      if (index > 0) {
        columns.push({
          label: `${run.name} − ${page.runs[0].name}`,
          numeric: true,
          cell: (metric) => valueContent(metric.differences[index], dom.difference),
        });
      }
    });
    return tables.plain(columns, metrics, { label });
  }

  function datasetTable(datasets) {
    const columns = [{ label: "Score", cell: (metric) => metric.name }];
    for (const dataset of datasets) {
      for (const run of page.runs) {
        const label = several ? `${dataset}, ${run.name}` : dataset;
        columns.push({ label, numeric: true, cell: (metric) => dom.score(run.datasets[dataset]?.[metric.name]) });
      }
    }
    return tables.plain(columns, page.metrics.filter((metric) => metric.is_headline), { label: "Means of each dataset" });
  }

  function best(metric, index) {
    const means = metric.values.map((value) => value?.mean ?? null);
    const known = means.filter((mean) => mean !== null);
    // Of other scores than shares that are better when higher nothing is said.
    const ranked = several && /F1|precision|recall|accuracy/i.test(metric.name);
    return ranked && known.length > 1 && means[index] === Math.max(...known) ? "best" : "";
  }

  function valueContent(value, format) {
    if (!value) return dom.MISSING;
    if (value.low === null) return format(value.mean);
    return [format(value.mean), element("span", { class: "interval" }, `${format(value.low)} to ${format(value.high)}`)];
  }

  function factsTable() {
    const names = [...new Set(page.runs.flatMap((run) => run.facts.map(([name]) => name)))];
    const columns = [{ label: "Setting", cell: (name) => name }];
    for (const run of page.runs) {
      const facts = new Map(run.facts);
      columns.push({ label: run.name, text: true, cell: (name) => facts.get(name) ?? dom.MISSING });
    }
    return tables.plain(columns, names, { label: "How the results were made" });
  }

  function remarks() {
    const lists = page.runs.flatMap((run) => [
      [`${run.name}: not scored`, run.skipped],
      [`${run.name}: scored, but without a piano roll`, run.without_notes],
    ]);
    lists.push(["Sound", page.remarks.map((remark) => [null, remark])]);
    return lists.filter(([, entries]) => entries.length).map(([title, entries]) =>
      element("div", { class: "notice" }, `${title} (${entries.length})`,
        element("ul", {}, ...entries.map(([id, reason]) => element("li", {}, id === null ? reason : `${id}: ${reason}`)))));
  }

  function startPublished() {
    const datasets = [...new Set(page.published.map((score) => score.dataset))];
    const select = byId("published-dataset");
    options(select, [["", "none"], ...datasets.map((name) => [name, name])]);
    select.value = page.runs.flatMap((run) => Object.keys(run.datasets)).find((name) => datasets.includes(name)) ?? "";
    select.addEventListener("change", showPublished);
    showPublished();
  }

  function showPublished() {
    const dataset = byId("published-dataset").value;
    const ofDataset = page.published.filter((score) => score.dataset === dataset);
    const order = new Map(page.metrics.map((metric, index) => [metric.name, index]));
    const rows = ofDataset.filter((score) => order.has(score.metric));
    rows.sort((a, b) => order.get(a.metric) - order.get(b.metric));
    if (!rows.length) {
      const text = dataset
        ? "These results have none of the scores that are published of this dataset."
        : "Choose the dataset that was scored to set published results beside these.";
      byId("published-table").replaceChildren(element("p", { class: "note" }, text));
      return;
    }
    const sources = [...new Set(rows.map(sourceOf))];
    const columns = [
      { label: "Score", cell: (score) => score.metric },
      { label: "System", text: true, cell: (score) => [score.system, element("sup", {}, String(sources.indexOf(sourceOf(score)) + 1))] },
      { label: "Published", numeric: true, cell: (score) => dom.score(score.value, PUBLISHED_DIGITS) },
    ];
    page.runs.forEach((run, index) => columns.push({
      label: run.name,
      numeric: true,
      cell: (score) => {
        const mean = ownMean(score, index);
        if (!dom.isNumber(mean)) return dom.MISSING;
        return [dom.score(mean, PUBLISHED_DIGITS), element("span", { class: "interval" }, dom.difference(mean - score.value, PUBLISHED_DIGITS))];
      },
    }));
    const notes = [element("ol", { class: "sources" }, ...sources.map((source) => element("li", {}, source)))];
    const unshown = ofDataset.length - rows.length;
    if (unshown) notes.push(element("p", { class: "note" }, `${unshown} published scores that these results lack are not shown.`));
    byId("published-table").replaceChildren(tables.plain(columns, rows, { label: "Published results" }), ...notes);
  }

  const sourceOf = (score) => [score.source, score.note].filter(Boolean).join("; ");

  // Runs whose recordings are of no dataset are taken to be of the one that is chosen.
  function ownMean(score, run) {
    const { datasets } = page.runs[run];
    if (Object.keys(datasets).length) return datasets[score.dataset]?.[score.metric];
    return page.metrics.find((metric) => metric.name === score.metric)?.values[run]?.mean;
  }

  return { start };
})();
