"use strict";
/* The leaderboard: filters, the table, charts, and everything else that a report says. */

dhrd.pages = {};

dhrd.pages.board = (() => {
  const { h, name, number, threeDigits, interval, pValue, signed, many, NONE, address, coordinates } = dhrd;
  const { sorted, plain, choice, search, boxes } = dhrd.table;
  const MOST_PICKS = 5;

  /** Cells of the index as rows. */
  function cellsOf(entry) {
    const { cells } = entry;
    return cells.task.map((task, at) => Object.fromEntries(Object.keys(cells).map((key) => [key, cells[key][at]])));
  }

  /** A figure with its interval below it, and a bar from 0 to 100 if it is a score. */
  function estimate(value, show = number) {
    if (!value) return NONE;
    const ends = interval(value, show);
    return [h("span", { class: "figure" }, show(value[0])), ends ? h("span", { class: "detail" }, ends) : null];
  }

  const MEANS = {
    better: "better than the baseline, after correction", worse: "worse than the baseline, after correction",
    equivalent: "within the smallest difference of interest", undecided: "not shown to differ",
  };
  const badge = (finding, text = finding) => (text ? h("span", { class: `badge ${finding ?? ""}`, title: MEANS[finding] }, text) : null);

  async function show(main, about) {
    const entry = dhrd.boardOf(about);
    const board = await dhrd.load(entry.file), cells = cellsOf(entry);
    const others = await sizesBeside(entry);
    const state = {
      task: board.tasks.findIndex((task) => task.name === about.get("task")),
      query: about.get("q") ?? "",
      roles: new Set((about.get("roles") ?? "").split(",").filter(Boolean)),
      picks: new Set(board.methods.map((method) => method.name).filter((each) => about.getAll("pick").includes(each))),
    };
    const roles = [...new Set(board.methods.map((method) => method.role))];
    if (!state.roles.size) roles.forEach((role) => state.roles.add(role));
    const rivals = board.methods.filter((method) => method.ranked && method.name !== board.baseline);
    const start = [...rivals.slice(0, 1), board.methods.find((method) => method.name === board.baseline), ...rivals.slice(1)];
    if (!about.has("pick")) start.filter(Boolean).slice(0, 3).forEach((method) => state.picks.add(method.name));

    const link = (method) => address("method", { ...coordinates(entry), method: method.name });
    const charts = h("div", { class: "charts" }), picks = h("div", { class: "picks" });
    const of = (method) => (state.task < 0 ? method.whole : method.tasks[state.task]);
    const fits = (method) => state.roles.has(method.role) && method.name.toLowerCase().includes(state.query.toLowerCase()) && of(method);
    const shown = () => board.methods.filter(fits);
    const where = () => (state.task < 0 ? (board.tasks.length > 1 ? `mean of ${board.tasks.length} tasks` : board.tasks[0].name) : board.tasks[state.task].name);

    const columns = columnsOf(board, state, of, link, () => { drawPicks(); drawPicked(); keep(); });
    const table = sorted({ caption: "Leaderboard", columns, rows: shown(), row: (method) => ({ class: method.ranked ? null : "partial" }) });
    const byTask = board.tasks.length > 1 ? sorted({ caption: "Score by task, and its gain over the baseline in %", columns: taskColumns(board, link), rows: shown() }) : null;

    function keep() {
      if (dhrd.place().page !== "board") return; // another page was asked for meanwhile
      const kept = { ...coordinates(entry), task: state.task < 0 ? "" : board.tasks[state.task].name, q: state.query, roles: state.roles.size === roles.length ? "" : [...state.roles].join(","), pick: [...state.picks] };
      history.replaceState(null, "", address("board", kept));
    }
    function runs(method) {
      const own = cells.filter((cell) => cell.method === method.name && cell.score !== null && (state.task < 0 || cell.task === board.tasks[state.task].name));
      const wanted = state.task < 0 ? board.tasks.filter((_, at) => method.tasks[at]).length : 1;
      const seeds = new Map();
      for (const cell of own) seeds.set(cell.seed, [...(seeds.get(cell.seed) ?? []), cell.score]);
      return [...seeds].filter(([, scores]) => scores.length === wanted).map(([seed, scores]) => [seed, scores.reduce((a, b) => a + b, 0) / scores.length]).sort((a, b) => a[0] - b[0]);
    }
    function epochs(method) {
      const curves = cells.filter((cell) => cell.method === method.name && cell.epochs.length && (state.task < 0 || cell.task === board.tasks[state.task].name)).map((cell) => cell.epochs.filter((score) => score !== null));
      const length = Math.min(...curves.map((curve) => curve.length));
      return Number.isFinite(length) ? Array.from({ length }, (_, at) => curves.reduce((sum, curve) => sum + curve[at], 0) / curves.length) : [];
    }
    const picked = () => board.methods.filter((method) => state.picks.has(method.name));
    const pickedCharts = h("div", { class: "pair" });
    function drawPicked() {
      const given = { picked: picked(), of, epochs, where: where(), bySize: (method) => others(method.name, state.task < 0 ? null : board.tasks[state.task].name) };
      const found = ["learning", "sizes", "reliability", "risk"].map((kind) => dhrd.figures[kind](given)).filter(Boolean);
      pickedCharts.replaceChildren(...found);
    }
    function drawPicks() {
      const chosen = picked();
      const pair = chosen.length > 1 ? address("compare", { ...coordinates(entry), a: chosen[0].name, b: chosen[1].name }) : null;
      picks.replaceChildren(h("span", null, "Picked: "), ...chosen.map((method, at) => h("span", { class: `pick pick-${at}` }, name(method.name))),
        pair ? h("a", { class: "button", href: pair }, `Compare the first two`) : h("span", { class: "dim" }, "tick two methods to compare them"));
    }
    function draw(changed = true) {
      const rows = shown(), given = { shown: rows, of, link, runs, where: where(), board };
      table.show(rows);
      byTask?.show(rows);
      charts.replaceChildren(...["pareto", "forest", "seeds"].map((kind) => dhrd.figures[kind](given)).filter(Boolean));
      dhrd.tell(many(rows.length, "method"));
      drawPicked();
      if (changed) keep();
    }

    dhrd.put(main,
      h("h1", null, "Leaderboard"),
      h("p", { class: "about" }, board.about),
      h("p", { class: "verdict" }, board.verdict.join(" ")),
      summary(board),
      h("div", { class: "panel" }, boardChoice(entry, "board"), h("section", { class: "filters", "aria-label": "Filters" },
        choice("Task", [["-1", board.tasks.length > 1 ? "All (mean)" : "All"], ...board.tasks.map((task, at) => [String(at), task.name])], String(state.task), (value) => { state.task = Number(value); draw(); }),
        search("Method", state.query, (text) => { state.query = text; draw(); }),
        roles.length > 1 ? boxes("Role", roles.map((role) => [role, role]), state.roles, () => draw()) : null)),
      table, picks,
      h("details", { class: "numbers" }, h("summary", null, "How to read the columns"), board.caption.map((line) => h("p", { class: "note" }, line))),
      dhrd.index().studies.length ? [h("h2", null, "Studies"), dhrd.pages.studies.list("h3")] : null,
      h("h2", null, "Charts"), charts,
      h("h2", null, "Training and confidence of the picked methods"), pickedCharts,
      byTask ? [h("h2", null, "By task"), byTask, h("p", { class: "note" }, "* shown to differ at 5 % after correction over methods and tasks.")] : null,
      board.claims.length ? [h("h2", null, "Paper against measured"), dhrd.figures.paper(board)] : null,
      notesOf(board),
      h("h2", null, "Every table of the report"),
      [...board.tables, ...dhrd.index().across].map((each) => h("details", { class: "more" }, h("summary", null, each.title), plain(each))));
    drawPicks();
    draw(false);
  }

  /** How many methods were shown to be what, against the baseline. */
  function summary(board) {
    const found = board.methods.map((method) => method.whole.finding).filter(Boolean);
    if (!found.length) return null;
    const counts = Object.keys(MEANS).map((finding) => [finding, found.filter((each) => each === finding).length]).filter(([, count]) => count);
    return h("p", { class: "summary" }, h("span", null, "Against ", h("strong", null, name(board.baseline)), ":"),
      counts.map(([finding, count]) => h("span", { class: `badge ${finding}`, title: MEANS[finding] }, `${count} ${finding}`)));
  }

  // ---------------------------------------------------------------- columns

  function columnsOf(board, state, of, link, change) {
    const pick = (method) => h("input", { type: "checkbox", "aria-label": `Pick ${method.name}`, checked: state.picks.has(method.name), onchange: (event) => {
      if (event.target.checked && state.picks.size >= MOST_PICKS) { event.target.checked = false; dhrd.tell(`No more than ${MOST_PICKS} can be picked`); return; }
      if (event.target.checked) state.picks.add(method.name); else state.picks.delete(method.name);
      change();
    } });
    const whole = () => state.task < 0;
    const ends = board.methods.flatMap((method) => [method.whole, ...method.tasks].filter(Boolean).flatMap((own) => own.score));
    const range = [Math.min(...ends), Math.max(...ends)];
    const rank = (method) => (method.rank ? [...new Set(method.rank)].join("–") : NONE);
    const score = (method) => {
      const own = of(method);
      const bar = own.score.length > 1 ? scoreBar(own.score, range) : null;
      return [estimate(own.score), bar];
    };
    const columns = [
      { head: h("span", { class: "unseen" }, "Pick"), cell: pick },
      { head: "Rank", plain: "Rank", title: "The ranks that the tests leave open", cell: (method) => (whole() ? rank(method) : NONE), value: (method) => (whole() && method.rank ? method.rank[0] + method.rank[1] / 1000 : null) },
      { head: "Method", first: true, cell: (method) => [h("a", { href: link(method) }, name(method.name)), marks(method, of(method))], value: (method) => method.name },
      { head: "Score", title: "0–100, with its 95 % interval", down: true, kind: () => "score", cell: score, value: (method) => of(method).score[0] },
    ];
    if (board.baseline) {
      const gain = (method) => (method.name === board.baseline ? h("span", { class: "dim" }, "baseline") : estimate(of(method).gain, signed));
      columns.push(
        { head: "Gain %", title: `Relative to ${board.baseline}`, down: true, cell: gain, value: (method) => of(method).gain?.[0] ?? (method.name === board.baseline ? 0 : null) },
        { head: "Finding", left: true, cell: (method) => badge(of(method).finding) ?? NONE, value: (method) => of(method).finding ?? null },
        { head: "p", title: "Of no difference, corrected", cell: (method) => (of(method).gain === undefined ? NONE : of(method).decidable ? pValue(of(method).p) : "undecidable"), value: (method) => of(method).p ?? null },
        { head: "Detectable", title: "Smallest true difference in points that is found in four of five cases", cell: (method) => number(of(method).detectable), value: (method) => of(method).detectable ?? null });
    }
    columns.push(
      { head: "Tied", title: "Methods that share a letter were not shown to differ", left: true, cell: (method) => (whole() && method.tied) || NONE, value: (method) => method.tied || null },
      { head: "QPS", title: "Examples per second", down: true, cell: (method) => estimate(of(method).qps, threeDigits), value: (method) => of(method).qps?.[0] ?? null });
    if (board.reference) {
      columns.push({ head: "× reference", title: `QPS over that of ${board.reference}`, down: true, cell: (method) => (method.name === board.reference ? h("span", { class: "dim" }, "reference") : estimate(of(method).ratio, (ratio) => `${threeDigits(ratio)}×`)), value: (method) => of(method).ratio?.[0] ?? (method.name === board.reference ? 1 : null) });
    }
    columns.push({ head: "Front", title: "On the Pareto front of score and QPS", left: true, cell: (method) => (of(method).front ? "yes" : of(method).front === false ? "no" : NONE), value: (method) => (of(method).front ? 1 : of(method).front === false ? 0 : null), down: true });
    if (board.methods.some((method) => method.unparsable !== null)) {
      columns.push({ head: "Unread %", title: "Answers that could not be parsed", down: true, cell: (method) => (method.unparsable === null ? NONE : number(100 * method.unparsable)), value: (method) => method.unparsable });
    }
    return columns;
  }

  /** Where a score and its interval lie among all scores of the board. */
  function scoreBar([value, low, high], [least, most]) {
    const at = (score) => (1 + (98 * (score - least)) / Math.max(most - least, 1)).toFixed(1);
    return dhrd.s("svg", { class: "scorebar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" },
      dhrd.s("rect", { class: "track", x: 0, y: 2, width: 100, height: 2 }), dhrd.s("rect", { class: "span", x: at(low), y: 1, width: Math.max(0.6, at(high) - at(low)).toFixed(1), height: 4 }), dhrd.s("rect", { class: "point", x: at(value), y: 0, width: 1.4, height: 6 }));
  }

  function marks(method, own) {
    const found = [];
    if (method.role !== "method") found.push([method.role, ""]);
    if (method.verified && method.verified[0] === method.verified[1]) found.push(["verified", "a maintainer has run its cells again with the same predictions"]);
    if (method.untaught) found.push(["no rationales", "learns from rationales, and there were none"]);
    if (!method.ranked) found.push(["partial", "lacks tasks or seeds, so it has no rank"]);
    if (own?.collapsed?.length) found.push(["collapsed", `gave one answer to nearly every row at seeds ${own.collapsed.join(", ")}`]);
    return found.map(([text, title]) => h("span", { class: `tag ${text.replace(" ", "-")}`, title }, text));
  }

  function taskColumns(board, link) {
    return [{ head: "Method", first: true, cell: (method) => h("a", { href: link(method) }, name(method.name)), value: (method) => method.name },
      ...board.tasks.map((task, at) => ({
        head: name(task.name), plain: task.name, down: true, title: `${task.metrics.join(" and ")}; ${many(task.rows, "test row")}, ${many(task.seeds.length, "seed")}`,
        value: (method) => method.tasks[at]?.score[0] ?? null,
        kind: (method) => { const own = method.tasks[at]; return own?.gain && own.finding !== "undecided" ? `tint ${own.finding}` : ""; },
        cell: (method) => { const own = method.tasks[at]; return own ? [number(own.score[0]), own.gain ? h("span", { class: "detail" }, `${signed(own.gain[0])} %${own.finding === "better" || own.finding === "worse" ? "*" : ""}`) : null] : NONE; },
      }))];
  }

  // ---------------------------------------------------------------- other boards

  /** Choices of suite, backbone and budget, of which only those are offered that there are. */
  function boardChoice(entry, page, more = {}) {
    const { boards } = dhrd.index(), keys = ["suite", "backbone", "budget"];
    const go = (key) => (value) => {
      // The nearest board: of the same names otherwise, as many as there are.
      const like = (board) => keys.filter((each) => each !== key && board[each] === entry[each]).length;
      const [best] = boards.filter((board) => board[key] === value).sort((a, b) => like(b) - like(a));
      location.hash = address(page, { ...coordinates(best), ...more });
    };
    const fields = keys.map((key) => {
      const values = [...new Set(boards.map((board) => board[key]))];
      const label = key[0].toUpperCase() + key.slice(1);
      return choice(label, values.map((value) => [value, value]), entry[key], go(key));
    });
    return h("section", { class: "filters boards", "aria-label": "Which results" }, fields);
  }

  /** Scores by training rows of the boards of the same suite and backbone. */
  async function sizesBeside(entry) {
    const same = dhrd.index().boards.filter((board) => board.suite === entry.suite && board.backbone === entry.backbone);
    if (same.length < 2) return () => [];
    const boards = await Promise.all(same.map((board) => dhrd.load(board.file)));
    const rows = same.map((board) => board.cells.train_rows.find((count) => count) ?? null);
    return (method, task) => boards.flatMap((board, at) => {
      const found = board.methods.find((each) => each.name === method);
      const own = found && (task === null ? found.whole : found.tasks[board.tasks.findIndex((each) => each.name === task)]);
      return own && rows[at] ? [[rows[at], ...own.score]] : [];
    }).sort((a, b) => a[0] - b[0]);
  }

  function notesOf(board) {
    const { notes, problems } = dhrd.index();
    const lists = [["Left out, and to be read with it", board.notes], ["No leaderboard", notes], ["Records that could not be read", problems]];
    return lists.filter(([, lines]) => lines.length).map(([head, lines]) => [h("h2", null, head), h("ul", { class: "notes" }, lines.map((line) => h("li", null, name(line))))]);
  }

  return Object.assign(show, { cellsOf, estimate, badge, boardChoice, marks });
})();
