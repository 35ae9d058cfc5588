"use strict";
/* Tables that sort and turn pages, and the fields that filter them. */

dhrd.table = (() => {
  const { h, tell, many } = dhrd;
  let made = 0;

  /** A scrollable frame that the keyboard reaches. */
  function frame(table, label) {
    return h("div", { class: "wide", tabindex: "0", role: "region", "aria-label": label }, table);
  }

  /**
   * A table that sorts by its heads.
   *
   * columns: {head, cell: row => node, value: row => number or text (sorts by it), left, first (row header), title,
   * down (sorts from the largest first)}; page: rows a page, 0 for all.
   */
  function sorted({ caption, columns, rows, by = null, down = false, page = 0, empty = "Nothing fits the filters.", row: dress }) {
    let order = { by, down }, at = 0;
    const body = h("tbody"), heads = h("tr"), pages = h("div", { class: "pages" });
    const table = h("table", null, h("caption", null, caption), h("thead", null, heads), body);

    function ordered() {
      if (order.by === null) return rows;
      const value = columns[order.by].value, sign = order.down ? -1 : 1;
      const key = (row) => value(row) ?? null;
      return [...rows].sort((a, b) => {
        const [x, y] = [key(a), key(b)];
        if (x === null || y === null) return (x === null) - (y === null); // what has none is last either way
        return sign * (typeof x === "number" && typeof y === "number" ? x - y : String(x).localeCompare(String(y), "en", { numeric: true }));
      });
    }

    function head(column, place) {
      const sorts = order.by === place ? (order.down ? "descending" : "ascending") : null;
      const side = column.left || column.first ? "left" : "";
      if (!column.value) return h("th", { scope: "col", class: side, title: column.title }, column.head);
      const turn = () => {
        const down = order.by === place ? !order.down : !!column.down;
        order = { by: place, down };
        at = 0;
        draw();
        heads.children[place].querySelector("button").focus();
        tell(`Sorted by ${column.plain ?? column.head}, ${down ? "descending" : "ascending"}`);
      };
      const arrow = h("span", { class: "arrow", "aria-hidden": "true" }, sorts ? (order.down ? "▼" : "▲") : "");
      return h("th", { scope: "col", class: side, "aria-sort": sorts, title: column.title },
        h("button", { type: "button", onclick: turn }, column.head, arrow));
    }

    function draw() {
      heads.replaceChildren(...columns.map(head));
      const all = ordered(), shown = page ? all.slice(at * page, (at + 1) * page) : all;
      body.replaceChildren(...shown.map((row) => h("tr", dress ? dress(row) : null, columns.map((column) => {
        const side = column.left || column.first ? "left" : "";
        const content = column.cell(row);
        return column.first ? h("th", { scope: "row", class: side }, content) : h("td", { class: `${side} ${column.kind?.(row) ?? ""}`.trim() || null }, content);
      }))));
      if (!all.length) body.append(h("tr", null, h("td", { colspan: String(columns.length), class: "left dim" }, empty)));
      turnPages(all.length);
    }

    function turnPages(count) {
      const last = page ? Math.max(0, Math.ceil(count / page) - 1) : 0;
      if (!last) return pages.replaceChildren();
      const go = (to) => () => { at = Math.min(last, Math.max(0, to)); draw(); tell(`Page ${at + 1} of ${last + 1}`); };
      return pages.replaceChildren(
        h("button", { type: "button", onclick: go(at - 1), disabled: at === 0 }, "Previous"),
        h("span", null, `Page ${at + 1} of ${last + 1}, ${many(count, "row")}`),
        h("button", { type: "button", onclick: go(at + 1), disabled: at === last }, "Next"));
    }

    draw();
    const whole = h("div", { class: "table" }, frame(table, caption), pages);
    whole.show = (other) => { rows = other; at = 0; draw(); };
    return whole;
  }

  /** A table as a report has it: heads, cells of a figure and its interval, and what stands below. */
  function plain({ title, columns, rows, caption = [] }) {
    const body = rows.map((row) => h("tr", null, row.map(([main, detail, strong], place) => {
      const attributes = { class: columns[place].left ? "left" : null };
      const content = [strong ? h("strong", null, dhrd.name(main)) : dhrd.name(main), detail ? h("span", { class: "detail" }, detail) : null];
      return place === 0 ? h("th", { ...attributes, scope: "row" }, content) : h("td", attributes, content);
    })));
    const heads = columns.map((column) => h("th", { scope: "col", class: column.left ? "left" : null }, dhrd.name(column.head)));
    const table = h("table", null, h("caption", null, title), h("thead", null, h("tr", null, heads)), h("tbody", null, body));
    return [frame(table, title), caption.map((line) => h("p", { class: "note" }, line))];
  }

  // ---------------------------------------------------------------- fields

  function labelled(label, field) {
    const id = `field-${made++}`;
    field.id = id;
    return h("div", { class: "field" }, h("label", { for: id }, label), field);
  }
  /** A choice of `options`, pairs of value and text. */
  function choice(label, options, chosen, change) {
    const field = h("select", { onchange: () => change(field.value) }, options.map(([value, text]) => h("option", { value }, text)));
    field.value = chosen;
    return labelled(label, field);
  }
  function search(label, text, change) {
    const field = h("input", { type: "search", value: text, autocomplete: "off", spellcheck: "false", oninput: () => change(field.value) });
    return labelled(label, field);
  }
  /** Boxes to tick, pairs of value and text. */
  function boxes(label, options, ticked, change) {
    const inputs = options.map(([value, text]) => h("label", { class: "box" },
      h("input", { type: "checkbox", checked: ticked.has(value), onchange: (event) => { if (event.target.checked) ticked.add(value); else ticked.delete(value); change(); } }), text));
    return h("fieldset", { class: "field" }, h("legend", null, label), h("div", { class: "row" }, inputs));
  }

  return { sorted, plain, choice, search, boxes };
})();
