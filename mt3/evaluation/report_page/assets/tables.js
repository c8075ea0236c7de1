// Tables, and tables that a click on a heading sorts.
"use strict";

const tables = (() => {
  const { element } = dom;

  // columns: {label, numeric, cell(row) -> text, node, list of these, or {content, class}, value(row) -> for sorting}
  function plain(columns, rows, { caption, label } = {}) {
    const head = element("tr", {}, ...columns.map((column) =>
      element("th", { scope: "col", class: column.numeric && "number" }, column.label)));
    const body = element("tbody", {}, ...rows.map((row) => tableRow(columns, row)));
    return element("table", { "aria-label": label },
      caption ? element("caption", {}, caption) : null, element("thead", {}, head), body);
  }

  function tableRow(columns, row) {
    return element("tr", {}, ...columns.map((column, index) => {
      let cell = column.cell(row);
      if (typeof cell !== "object" || !("content" in cell)) cell = { content: cell };
      const names = [column.numeric ? "number" : column.text ? "text" : "", cell.class ?? ""].join(" ").trim();
      const attributes = { class: names || null };
      return index === 0
        ? element("th", { scope: "row", ...attributes }, ...[cell.content].flat())
        : element("td", attributes, ...[cell.content].flat());
    }));
  }

  function sortable(columns, rows, options = {}) {
    const table = plain(columns, rows, options);
    const body = table.tBodies[0];
    const pairs = rows.map((row, index) => ({ row, line: body.rows[index] }));
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, index) => {
      const button = element("button", { type: "button", class: "sort" }, columns[index].label);
      head.replaceChildren(button);
      head.setAttribute("aria-sort", "none");
      button.addEventListener("click", () => sort(index));
    });

    function sort(index) {
      const before = heads[index].getAttribute("aria-sort");
      const first = columns[index].numeric ? "descending" : "ascending";
      const second = first === "ascending" ? "descending" : "ascending";
      const direction = before === first ? second : first;
      heads.forEach((head) => head.setAttribute("aria-sort", "none"));
      heads[index].setAttribute("aria-sort", direction);
      const sign = direction === "ascending" ? 1 : -1;
      const value = columns[index].value;
      pairs.sort((a, b) => compare(value(a.row), value(b.row), sign));
      body.append(...pairs.map((pair) => pair.line));
    }

    return { table, pairs };
  }

  // What is missing comes last in either direction.
  function compare(a, b, sign) {
    const missing = (a === null || a === undefined) - (b === null || b === undefined);
    if (missing || a === null || a === undefined) return missing;
    if (typeof a === "string") return sign * a.localeCompare(b, "en", { numeric: true });
    return sign * (a - b);
  }

  return { plain, sortable };
})();
