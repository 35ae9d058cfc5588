"use strict";
/* A method: its card, its figures by task, its records. And the list of all records. */

dhrd.pages.method = (() => {
  const { h, name, number, threeDigits, pValue, signed, NONE, address, coordinates } = dhrd;
  const { sorted } = dhrd.table;
  const { cellsOf, estimate, badge, boardChoice, marks } = dhrd.pages.board;

  /** Pairs of words and values; what is empty is left out. */
  function facts(pairs) {
    const known = pairs.filter(([, value]) => value !== null && value !== undefined && value !== "");
    return h("dl", { class: "facts" }, known.map(([word, value]) => h("div", null, h("dt", null, name(word)), h("dd", null, value))));
  }
  /** Any value of a record's as text. */
  function text(value) {
    if (value === null || value === undefined) return NONE;
    if (typeof value === "boolean") return value ? "yes" : "no";
    if (typeof value === "number") return Number.isInteger(value) ? value.toLocaleString("en") : String(value);
    if (Array.isArray(value)) return name(value.map((each) => (typeof each === "object" ? JSON.stringify(each) : String(each))).join(", "));
    if (typeof value === "object") return name(JSON.stringify(value));
    return name(value);
  }
  /** A mapping of settings as facts, nested ones by their way. */
  function settings(mapping) {
    const pairs = Object.entries(mapping).flatMap(([key, value]) => (value && typeof value === "object" && !Array.isArray(value)
      ? Object.entries(value).map(([inner, own]) => [`${key}.${inner}`, text(own)]) : [[key, text(value)]]));
    return facts(pairs);
  }

  const cellLink = (entry, cell) => address("cell", { ...coordinates(entry), task: cell.task, method: cell.method, seed: cell.seed });

  /** The columns of a list of cells. */
  function cellColumns(linkOf, more = []) {
    return [...more,
      { head: "Task", left: true, cell: (cell) => name(cell.task), value: (cell) => cell.task },
      { head: "Seed", cell: (cell) => String(cell.seed), value: (cell) => cell.seed },
      { head: "Score", down: true, cell: (cell) => number(cell.score), value: (cell) => cell.score },
      { head: "QPS", down: true, cell: (cell) => threeDigits(cell.qps), value: (cell) => cell.qps },
      { head: "State", left: true, cell: (cell) => (cell.status === "ok" ? "ok" : h("span", { class: "badge worse", title: cell.error }, "failed")), value: (cell) => cell.status },
      { head: "Finished", left: true, cell: (cell) => cell.finished.slice(0, 16).replace("T", " ") || NONE, value: (cell) => cell.finished },
      { head: "Record", left: true, cell: (cell) => h("a", { href: linkOf(cell), "aria-label": `Record of ${cell.method} on ${cell.task}, seed ${cell.seed}` }, "open") }];
  }

  async function show(main, about) {
    const entry = dhrd.boardOf(about), wanted = about.get("method");
    const board = await dhrd.load(entry.file), cells = cellsOf(entry).filter((cell) => cell.method === wanted);
    const method = board.methods.find((each) => each.name === wanted);
    if (!cells.length) return dhrd.put(main, h("h1", null, name(wanted ?? "No method")), boardChoice(entry, "method", { method: wanted }), h("p", null, "No record of it on this board."));
    const [, file] = entry.tasks.find(([task]) => task === cells[0].task);
    const shard = await dhrd.load(file), own = shard.cells.find((cell) => cell.method === wanted), source = shard.shared[own.about];
    const card = dhrd.index().cards.find((each) => each.name === source.name && each.version === source.version);
    const rival = board.baseline && board.baseline !== wanted ? board.baseline : board.methods.find((each) => each.name !== wanted)?.name;

    dhrd.put(main,
      h("h1", null, name(wanted), method ? marks(method, method.whole) : null),
      boardChoice(entry, "method", { method: wanted }),
      h("p", { class: "lead" }, name(source.summary || card?.summary || "")),
      h("section", { class: "card", "aria-label": "Card" }, facts([
        ["Objective", card ? h("code", null, name(card.objective)) : "not known here: no method of this name and version is installed"],
        ["Role", method?.role], ["Inference", method?.inference], ["Source", source.paper ? name(source.paper) : null],
        ["Version", name(`${source.version}, code ${source.code}`)],
        ...(card?.expected_failures ?? []).map(([check, reason]) => [`Does not pass ${check}`, name(reason)]),
      ]), h("h2", null, "Settings"), Object.keys(source.params).length ? settings(source.params) : h("p", null, "It has none.")),
      method ? [h("h2", null, "By task"), taskTable(board, method)] : null,
      rival ? h("p", null, h("a", { class: "button", href: address("compare", { ...coordinates(entry), a: wanted, b: rival }) }, "Compare with ", name(rival))) : null,
      h("div", { class: "pair" }, method ? charts(board, method, cells) : null),
      h("h2", null, "Records"),
      sorted({ caption: "Records of this method", columns: cellColumns((cell) => cellLink(entry, cell)), rows: cells, page: 50 }));
  }

  function taskTable(board, method) {
    const rows = [["All tasks (mean)", method.whole], ...board.tasks.map((task, at) => [task.name, method.tasks[at]])].filter(([, own]) => own);
    return sorted({ caption: "Figures by task", rows, columns: [
      { head: "Task", first: true, cell: ([task]) => name(task), value: ([task]) => task },
      { head: "Score", down: true, cell: ([, own]) => estimate(own.score), value: ([, own]) => own.score[0] },
      { head: "Gain %", down: true, cell: ([, own]) => estimate(own.gain, signed), value: ([, own]) => own.gain?.[0] },
      { head: "Finding", left: true, cell: ([, own]) => badge(own.finding) ?? NONE, value: ([, own]) => own.finding },
      { head: "p", cell: ([, own]) => (own.gain === undefined ? NONE : own.decidable ? pValue(own.p) : "undecidable"), value: ([, own]) => own.p },
      { head: "Detectable", cell: ([, own]) => number(own.detectable), value: ([, own]) => own.detectable },
      { head: "QPS", down: true, cell: ([, own]) => estimate(own.qps, threeDigits), value: ([, own]) => own.qps?.[0] },
    ] });
  }

  function charts(board, method, cells) {
    const { lines, reliability, risk } = dhrd.figures;
    const drawn = board.tasks.slice(0, 7).map((task, at) => {
      const curves = cells.filter((cell) => cell.task === task.name).map((cell) => cell.epochs.filter((score) => score !== null)).filter((curve) => curve.length);
      const length = curves.length ? Math.min(...curves.map((curve) => curve.length)) : 0;
      return { name: task.name, kind: `pick-${at}`, points: Array.from({ length }, (_, epoch) => [epoch + 1, curves.reduce((sum, curve) => sum + curve[epoch], 0) / curves.length]) };
    });
    const given = { picked: [method], of: (each) => each.whole, where: "all tasks" };
    return [lines({ title: "Dev score by epoch", note: "Mean over seeds, of rows set aside from training.", drawn, xName: "epoch", yName: "dev score" }), reliability(given), risk(given)].filter(Boolean);
  }

  return Object.assign(show, { facts, settings, text, cellColumns, cellLink });
})();

dhrd.pages.records = (() => {
  const { h, name, address, coordinates, many } = dhrd;
  const { sorted, choice, search } = dhrd.table;

  return async function show(main, about) {
    const { boards } = dhrd.index();
    const rows = boards.flatMap((entry) => dhrd.pages.board.cellsOf(entry).map((cell) => ({ ...cell, entry })));
    const state = { query: about.get("q") ?? "", state: about.get("state") ?? "" };
    const where = (cell) => dhrd.title(cell.entry);
    const columns = dhrd.pages.method.cellColumns((cell) => dhrd.pages.method.cellLink(cell.entry, cell), [
      { head: "Method", first: true, cell: (cell) => h("a", { href: address("method", { ...coordinates(cell.entry), method: cell.method }) }, name(cell.method)), value: (cell) => cell.method },
      { head: "Board", left: true, cell: (cell) => name(where(cell)), value: where }]);
    const table = sorted({ caption: "Records", columns, rows, page: 50, empty: "No record fits." });
    const draw = () => {
      const words = state.query.toLowerCase().split(/\s+/).filter(Boolean);
      const found = rows.filter((cell) => (!state.state || cell.status === state.state) && words.every((word) => `${cell.method} ${cell.task} ${where(cell)} seed-${cell.seed} ${cell.error}`.toLowerCase().includes(word)));
      table.show(found);
      dhrd.tell(many(found.length, "record"));
      history.replaceState(null, "", address("records", { q: state.query, state: state.state }));
    };
    dhrd.put(main, h("h1", null, "Records"), h("p", { class: "about" }, `${many(rows.length, "cell")}: what one method left on one task at one seed.`),
      h("section", { class: "filters", "aria-label": "Filters" },
        search("Method, task, board or error", state.query, (text) => { state.query = text; draw(); }),
        choice("State", [["", "All"], ["ok", "ok"], ["failed", "failed"]], state.state, (value) => { state.state = value; draw(); })), table);
    draw();
  };
})();

dhrd.pages.about = async function show(main) {
  const { h, name } = dhrd, { command, version } = dhrd.index();
  const words = [
    ["Score", "Mean over tasks and seeds of a task's metrics, 0–100."],
    ["Gain", "100 × (method − baseline) / baseline, on the same test examples and seeds."],
    ["Finding", "What the tests show after correction for the number of comparisons: better, worse, equivalent (within the smallest difference of interest, if one was named), or undecided. A higher score by itself shows nothing."],
    ["Detectable", "The smallest true difference that this many seeds and examples find in four of five cases. A method that is undecided may still be better by less than that."],
    ["Rank, tied", "The ranks that the tests leave open; methods that share a letter were not shown to differ."],
    ["QPS", "Examples answered a second, of the run that was scored. For speeds side by side see “Timed side by side”, if they were timed so."],
    ["Front", "Nothing else is both as good and as fast."],
  ];
  dhrd.put(main, h("h1", null, "About these pages"),
    h("p", { class: "lead" }, "Does training on rationales make a pooled classifier better, by how much, and at what speed? Every figure here was computed from records of runs, one a method, task and seed."),
    command ? h("p", null, "Made by ", h("code", null, name(command))) : null,
    dhrd.pages.method.facts(words),
    h("p", null, "The same figures for programs: ", h("code", null, "dhrd-bench report --format json"), " or ", h("code", null, "csv"), "; the answers of a record: ", h("code", null, "dhrd-bench records predictions"), "."),
    h("p", { class: "dim" }, `dhrd-bench ${version}. The pages read nothing from the network.`));
};
