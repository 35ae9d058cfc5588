"use strict";
/* A cell: how it was run, how it went, and what it answered to every test example. */

dhrd.pages.cell = (() => {
  const { h, name, number, threeDigits, NONE, address, coordinates } = dhrd;
  const { sorted, choice, search } = dhrd.table;
  const { facts, settings, text } = dhrd.pages.method;
  const SHOWN = 280; // characters of a text before it is opened

  async function show(main, about) {
    const entry = dhrd.boardOf(about), [task, wanted, seed] = ["task", "method", "seed"].map((key) => about.get(key));
    const [, file] = entry.tasks.find(([each]) => each === task) ?? [];
    const shard = file && (await dhrd.load(file));
    const cell = shard?.cells.find((each) => each.method === wanted && String(each.seed) === seed);
    const row = dhrd.pages.board.cellsOf(entry).find((each) => each.task === task && each.method === wanted && String(each.seed) === seed);
    if (!cell || !row) return dhrd.put(main, h("h1", null, "No such record"), h("p", null, h("a", { href: "#/records" }, "All records")));
    const of = (key) => shard.shared[cell[key]];
    const given = cell.rows === undefined ? null : of("rows");

    dhrd.put(main,
      h("p", { class: "way" }, h("a", { href: address("board", coordinates(entry)) }, name(dhrd.title(entry))), " / ", h("a", { href: address("method", { ...coordinates(entry), method: wanted }) }, name(wanted))),
      h("h1", null, name(`${wanted} on ${task}, seed ${seed}`)),
      siblings(entry, row),
      row.status === "ok" ? null : h("p", { class: "error" }, "This cell failed: ", name(row.error)),
      h("section", { class: "card", "aria-label": "Outcome" }, facts([
        ["Score", number(row.score)], ...Object.entries(cell.metrics).map(([metric, value]) => [metric, number(value)]),
        ["QPS", threeDigits(row.qps)], ["Tokens in / out", cell.tokens[0] === null ? null : cell.tokens.map((count) => Number(count).toLocaleString("en")).join(" / ")],
        ["Unread", `${number(100 * cell.unparsable)} %`], ["Finished", row.finished], ["Isolation", cell.isolation],
        ["Identity", h("code", null, name(cell.identity))], ["Record", h("code", null, name(cell.path))],
        ["Run it again", h("code", null, name(`dhrd-bench rerun results/${cell.path}`))]])),
      curve(cell),
      given ? [h("h2", null, "Answers"), answers(cell, given, shard)] : null,
      h("h2", null, "How it was run"),
      h("div", { class: "pair" },
        group("Budget", settings(of("settings"))), group("Method", settings(of("about"))),
        group("Task, backbone and versions", settings(of("parts"))), group("Data", settings(of("data"))),
        group("Surroundings", settings(of("environment"))),
        group("Training cost", settings(Object.fromEntries(Object.entries(cell.train).filter(([key]) => key !== "epochs")))),
        Object.keys(cell.energy).length ? group("Energy", settings(cell.energy)) : null));
  }

  const group = (title, content) => h("details", { class: "more" }, h("summary", null, title), content);

  /** The other seeds of a cell. */
  function siblings(entry, row) {
    const seeds = dhrd.pages.board.cellsOf(entry).filter((each) => each.task === row.task && each.method === row.method);
    const link = (each) => (each.seed === row.seed ? h("strong", { "aria-current": "page" }, `seed ${each.seed}`) : h("a", { href: dhrd.pages.method.cellLink(entry, each) }, `seed ${each.seed}`));
    return seeds.length > 1 ? h("nav", { class: "seeds", "aria-label": "Seeds" }, seeds.map(link)) : null;
  }

  function curve(cell) {
    const epochs = cell.train.epochs ?? [];
    const keys = [...new Set(epochs.flatMap(Object.keys))];
    const drawn = (wanted) => keys.filter(wanted).map((key, at) => ({ name: key, kind: `pick-${at}`, points: epochs.map((epoch, place) => [place + 1, epoch[key]]).filter(([, value]) => value !== null && value !== undefined) }));
    const best = cell.train.best_epoch ? ` Epoch ${cell.train.best_epoch} was kept.` : "";
    const charts = [
      dhrd.figures.lines({ title: "Loss by epoch", drawn: drawn((key) => key.includes("loss")), xName: "epoch", yName: "loss", least: 0.2 }),
      dhrd.figures.lines({ title: "Dev figures by epoch", note: `Of rows set aside from training.${best}`, drawn: drawn((key) => key.startsWith("dev_") && !key.includes("loss")), xName: "epoch", yName: "score" })];
    return charts.some(Boolean) ? [h("h2", null, "Training"), h("div", { class: "pair" }, charts.filter(Boolean))] : null;
  }

  /** Why there are no inputs, or under which licence they are shown. */
  function licence(given, shard) {
    if (given.text) return shard.licence ? `Inputs under ${shard.licence}.` : null;
    return shard.reason ? `Inputs are not shown: ${shard.reason}.` : null;
  }

  function answers(cell, given, shard) {
    const label = (place) => (place < 0 ? "unread" : shard.classes[place]);
    const rows = given.id.map((id, at) => ({
      id, input: given.text?.[at] ?? null, truth: given.label[at], answer: cell.answer[at], sure: cell.sure?.[at] ?? null, wrote: cell.wrote?.[at] ?? null, why: given.why?.[at] ?? null,
    }));
    const right = (row) => row.truth === row.answer;
    const columns = [
      { head: "Example", first: true, cell: (row) => name(row.id), value: (row) => row.id },
      given.text ? { head: "Input", left: true, kind: () => "prose", cell: (row) => (row.input === null ? NONE : long(row.input)) } : null,
      { head: "Truth", left: true, cell: (row) => name(label(row.truth)), value: (row) => row.truth },
      { head: "Answer", left: true, cell: (row) => [h("span", { class: right(row) ? "right" : "wrong" }, right(row) ? "✓ " : "✗ "), name(label(row.answer)), h("span", { class: "unseen" }, right(row) ? " (right)" : " (wrong)")], value: (row) => row.answer },
      cell.sure ? { head: "Probability", title: "That the method gave its answer", down: true, cell: (row) => number(row.sure, 2), value: (row) => row.sure } : null,
      cell.wrote ? { head: "What it wrote", left: true, kind: () => "prose", cell: (row) => (row.wrote === null ? NONE : long(row.wrote)) } : null,
      given.why ? { head: "Rationale", title: "Of the data, for the truth; no method was shown it", left: true, kind: () => "prose", cell: (row) => (row.why === null ? NONE : long(row.why)) } : null,
    ].filter(Boolean);
    const table = sorted({ caption: "Answers to the test examples", columns, rows, page: 25, empty: "No example fits." });
    const state = { query: "", which: "" };
    const kinds = { "": () => true, wrong: (row) => !right(row), right, unread: (row) => row.answer < 0 };
    const draw = () => {
      const query = state.query.toLowerCase();
      const found = rows.filter((row) => kinds[state.which](row) && [row.id, row.input, row.wrote, row.why, label(row.truth), label(row.answer)].some((each) => each?.toLowerCase().includes(query)));
      table.show(found);
      dhrd.tell(dhrd.many(found.length, "example"));
    };
    const wrong = rows.filter((row) => !right(row)).length;
    return [h("p", { class: "about" }, `${rows.length - wrong} of ${rows.length} right. `, licence(given, shard)),
      h("section", { class: "filters", "aria-label": "Which answers" },
        search("Search examples", "", (query) => { state.query = query; draw(); }),
        choice("Show", [["", "All"], ["wrong", "Wrong"], ["right", "Right"], ["unread", "Unread"]], "", (which) => { state.which = which; draw(); })),
      table];
  }

  /** A text of which the first lines are shown until it is opened. */
  function long(content) {
    if (content.length <= SHOWN) return h("bdi", { class: "text" }, content);
    return h("details", { class: "long" }, h("summary", null, h("bdi", null, `${content.slice(0, SHOWN)}…`)), h("bdi", { class: "text" }, content));
  }

  return Object.assign(show, { long, licence, text });
})();
