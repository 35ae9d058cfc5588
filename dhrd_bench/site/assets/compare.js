"use strict";
/* Two methods: on which examples one is right and the other wrong, in both directions. */

dhrd.pages.compare = (() => {
  const { h, name, signed, said, pValue, many, NONE, address, coordinates } = dhrd;
  const { sorted, choice, search } = dhrd.table;

  async function show(main, about) {
    const entry = dhrd.boardOf(about), board = await dhrd.load(entry.file);
    const names = board.methods.map((method) => method.name);
    const a = names.includes(about.get("a")) ? about.get("a") : names.find((each) => each !== board.baseline);
    const b = names.includes(about.get("b")) ? about.get("b") : names.find((each) => each === board.baseline && each !== a) ?? names.find((each) => each !== a);
    const head = [h("h1", null, "Compare two methods"), dhrd.pages.board.boardChoice(entry, "compare", { a, b })];
    if (!a || !b) return dhrd.put(main, ...head, h("p", null, "This board has one method only."));
    const files = await Promise.all(entry.tasks.map(async ([task, file]) => [task, await dhrd.load(file)]));
    const pairs = files.map(([task, shard]) => ({ task, shard, ...paired(shard, a, b) })).filter((pair) => pair.seeds.length);
    const go = (more) => { location.hash = address("compare", { ...coordinates(entry), a, b, task: about.get("task"), ...more }); };
    const options = names.map((each) => [each, each]);
    const chosen = pairs.find((pair) => pair.task === about.get("task")) ?? pairs[0];
    dhrd.put(main, ...head,
      h("section", { class: "filters", "aria-label": "Which methods" },
        choice("First", options, a, (value) => go({ a: value, b: value === b ? a : b })), choice("Second", options, b, (value) => go({ b: value, a: value === a ? b : a })),
        h("div", { class: "field" }, h("button", { type: "button", onclick: () => go({ a: b, b: a }) }, "Swap"))),
      tested(board, a, b),
      chosen ? [counts(pairs, a, b, go), examples(chosen, pairs, a, b, go)] : h("p", null, "They share no seed of a task."));
  }

  /** The outcomes of two methods at the seeds and examples that both have. */
  function paired(shard, a, b) {
    const of = (method) => shard.cells.filter((cell) => cell.method === method && cell.rows !== undefined);
    const mine = of(a), theirs = of(b), found = new Map(), seeds = [];
    const count = { both: 0, a: 0, b: 0, none: 0 };
    for (const cell of mine) {
      const other = theirs.find((each) => each.seed === cell.seed);
      if (!other) continue;
      seeds.push(cell.seed);
      const rows = shard.shared[cell.rows], beside = shard.shared[other.rows];
      const places = cell.rows === other.rows ? null : new Map(beside.id.map((id, at) => [id, at]));
      rows.id.forEach((id, at) => {
        const place = places ? places.get(id) : at;
        if (place === undefined) return;
        const truth = rows.label[at], right = [cell.answer[at] === truth, other.answer[place] === truth];
        count[right[0] ? (right[1] ? "both" : "a") : right[1] ? "b" : "none"] += 1;
        if (!found.has(id)) found.set(id, { id, truth, input: rows.text?.[at] ?? null, a: [], b: [], rightA: 0, rightB: 0, won: 0, lost: 0, wroteA: null, wroteB: null });
        const row = found.get(id);
        row.a.push(cell.answer[at]);
        row.b.push(other.answer[place]);
        row.rightA += right[0];
        row.rightB += right[1];
        row.won += right[0] && !right[1];
        row.lost += right[1] && !right[0];
        row.wroteA ??= cell.wrote?.[at] ?? null;
        row.wroteB ??= other.wrote?.[place] ?? null;
      });
    }
    return { rows: [...found.values()], seeds, count };
  }

  /** What the tests say, where one of the two is the baseline. */
  function tested(board, a, b) {
    const other = a === board.baseline ? b : b === board.baseline ? a : null;
    const method = other && board.methods.find((each) => each.name === other);
    if (!method?.whole.gain && !method?.whole.difference) return h("p", { class: "about" }, "Tests of each two methods are in the letters of the leaderboard: those that share one were not shown to differ.");
    const own = method.whole;
    return h("p", { class: "about" }, name(other), ` against ${board.baseline}: ${said(own.difference, signed)} points, p ${own.decidable ? pValue(own.p) : "undecidable"}; `, dhrd.pages.board.badge(own.finding));
  }

  function counts(pairs, a, b, go) {
    const share = (pair, key) => { const all = Object.values(pair.count).reduce((x, y) => x + y, 0); return `${pair.count[key]} (${((100 * pair.count[key]) / all).toFixed(0)} %)`; };
    const column = (head, key) => ({ head, down: true, cell: (pair) => share(pair, key), value: (pair) => pair.count[key] });
    return sorted({ caption: "Answers of both, over the seeds that both have", rows: pairs, columns: [
      { head: "Task", first: true, cell: (pair) => h("button", { type: "button", class: "link", onclick: () => go({ task: pair.task }) }, name(pair.task)), value: (pair) => pair.task },
      { head: "Seeds", cell: (pair) => String(pair.seeds.length), value: (pair) => pair.seeds.length },
      column("Both right", "both"), column(["Only ", name(a)], "a"), column(["Only ", name(b)], "b"), column("Both wrong", "none"),
      { head: "Balance", title: "First less second", down: true, cell: (pair) => signed(pair.count.a - pair.count.b).replace(".0", ""), value: (pair) => pair.count.a - pair.count.b }] });
  }

  function examples(chosen, pairs, a, b, go) {
    const { shard, rows, seeds } = chosen, flips = rows.filter((row) => row.won || row.lost);
    const label = (place) => (place < 0 ? "unread" : shard.classes[place]);
    const given = (answers) => [...new Set(answers)].map((each) => [each, answers.filter((other) => other === each).length]).sort((x, y) => y[1] - x[1]).map(([each, count]) => `${label(each)}${seeds.length > 1 ? ` ×${count}` : ""}`).join(", ");
    const right = (count) => h("span", { class: count * 2 > seeds.length ? "right" : "wrong" }, seeds.length > 1 ? `${count}/${seeds.length} ` : count ? "✓ " : "✗ ");
    const columns = [
      { head: "Example", first: true, cell: (row) => name(row.id), value: (row) => row.id },
      rows.some((row) => row.input) ? { head: "Input", left: true, kind: () => "prose", cell: (row) => (row.input === null ? NONE : dhrd.pages.cell.long(row.input)) } : null,
      { head: "Truth", left: true, cell: (row) => name(label(row.truth)), value: (row) => row.truth },
      { head: name(a), left: true, cell: (row) => [right(row.rightA), name(given(row.a)), row.wroteA ? dhrd.pages.cell.long(row.wroteA) : null], value: (row) => row.rightA, kind: () => (rows.some((row) => row.wroteA) ? "prose" : "") },
      { head: name(b), left: true, cell: (row) => [right(row.rightB), name(given(row.b)), row.wroteB ? dhrd.pages.cell.long(row.wroteB) : null], value: (row) => row.rightB, kind: () => (rows.some((row) => row.wroteB) ? "prose" : "") },
      { head: "Flips", title: "Seeds at which only one of the two is right", down: true, cell: (row) => [row.won ? `+${row.won} ` : "", row.lost ? `−${row.lost}` : ""], value: (row) => row.won - row.lost },
    ].filter(Boolean);
    const table = sorted({ caption: `Examples of ${chosen.task} that flip`, columns, rows: flips, page: 25, by: columns.length - 1, down: true, empty: "No example fits." });
    const state = { way: "", query: "" };
    const ways = { "": () => true, a: (row) => row.won > row.lost, b: (row) => row.lost > row.won };
    const draw = () => {
      const query = state.query.toLowerCase();
      const found = flips.filter((row) => ways[state.way](row) && [row.id, row.input, label(row.truth)].some((each) => each?.toLowerCase().includes(query)));
      table.show(found);
      dhrd.tell(many(found.length, "example"));
    };
    return [h("h2", null, "Examples that flip"),
      h("p", { class: "about" }, `${flips.length} of ${rows.length} examples; ${many(seeds.length, "seed")}. `, dhrd.pages.cell.licence({ text: rows.some((row) => row.input) }, shard)),
      h("section", { class: "filters", "aria-label": "Which examples" },
        choice("Task", pairs.map((pair) => [pair.task, pair.task]), chosen.task, (task) => go({ task })),
        choice("Direction", [["", "Both"], ["a", `Won by ${a}`], ["b", `Won by ${b}`]], "", (way) => { state.way = way; draw(); }),
        search("Search examples", "", (query) => { state.query = query; draw(); })),
      table];
  }

  return show;
})();
