"use strict";
/* Studies: a list with their verdicts, and a page for each. */

dhrd.pages.studies = (() => {
  const { h, s, name, number, said, signed, many, address } = dhrd;
  const { badge } = dhrd.pages.board;
  const MOST = 8;
  const MEANS = {
    confirmatory: "frozen before the first record, and run as planned", exploratory: "not all is as it was planned",
    draft: "not frozen", unreadable: "no study",
  };

  const link = (study) => h("a", { href: address("studies", { name: study.name }) }, name(study.name));
  const tag = (study) => h("span", { class: `tag ${study.status}`, title: MEANS[study.status] }, study.status);
  const about = (contrast) => `${contrast.method} beside ${contrast.baseline}`;
  const margin = (study) => `Margin ${number(study.margin)} points`;
  const difference = (contrast) => (contrast.difference ? `${said(contrast.difference, signed)} points` : "");

  /** The verdict on a contrast, with the difference that it is about. */
  function contrast(each) {
    const { boards } = dhrd.index(), { suite, backbone, budget, method, baseline } = each;
    const there = boards.some((board) => board.suite === suite && board.backbone === backbone && board.budget === budget);
    const way = there && each.finding ? address("compare", { suite, backbone, budget, a: method, b: baseline }) : null;
    return h("li", null, badge(each.finding, each.verdict), " ", way ? h("a", { href: way }, name(about(each))) : name(about(each)), " ",
      h("span", { class: "dim" }, "over ", name(each.over)), " ", difference(each));
  }
  function contrasts(study, most = study.contrasts.length) {
    const more = study.contrasts.length - most;
    return h("ul", { class: "contrasts" }, study.contrasts.slice(0, most).map(contrast), more > 0 ? h("li", null, "and ", h("a", { href: address("studies", { name: study.name }) }, `${many(more, "further contrast")} of ${study.name}`)) : null);
  }

  /** The studies in short, under heads of a level; null where there are none. */
  function list(head) {
    const { studies } = dhrd.index();
    const frozen = studies.filter((study) => study.frozen), others = studies.filter((study) => !study.frozen);
    if (!studies.length) return null;
    return [frozen.map((study) => h("article", { class: "card study" },
      h(head, null, link(study), tag(study)), h("p", null, name(study.hypothesis)),
      h("p", { class: "note" }, [study.frozen, study.state, `${margin(study)}.`, many(study.deviations.length, "deviation"), "from the plan."].join(" ")),
      contrasts(study, MOST))),
    others.length ? h("p", null, "Not frozen: ", others.map((study, at) => [at ? ", " : null, link(study), tag(study)])) : null];
  }

  /** The differences with their intervals, and what would not matter. */
  function chart(study) {
    const rows = study.contrasts.filter((each) => each.difference);
    if (!rows.length) return null;
    const { linear, around, line, text, axes, mark, target, figure, legend } = dhrd.charts;
    const draw = (width) => {
      const step = 46, height = rows.length * step + 62, box = { left: 12, right: width - 14, top: 8, bottom: height - 44 };
      const x = linear(...around([...rows.flatMap((each) => each.difference), 0, -study.margin, study.margin], 2 * study.margin), box.left, box.right, (tick) => number(tick, 0, true));
      const marks = rows.map((each, at) => {
        const y = box.top + step * at, [value, low, high] = each.difference, label = `${about(each)}, ${each.over}`;
        return target([about(each), each.over, `Difference ${difference(each)}`, each.verdict].join("\n"), null,
          text(box.left, y + 14, label.slice(0, Math.floor(width / 6.8)), "label halo"),
          each.difference.length > 1 ? line(x.clamp(low ?? -1e9), y + 27, x.clamp(high ?? 1e9), y + 27, `bar wide ${each.finding}`) : null, mark(`method ${each.finding}`, x(value), y + 27));
      });
      const band = s("rect", { class: "margin", x: x.clamp(-study.margin), y: box.top, width: x.clamp(study.margin) - x.clamp(-study.margin), height: box.bottom - box.top });
      return { height, marks: [band, axes(x, null, box, { x: "difference, points" }), line(x(0), box.top, x(0), box.bottom, "zero"), marks] };
    };
    const found = [...new Set(rows.map((each) => each.finding))].map((finding) => [`bar wide ${finding}`, finding]);
    return figure({
      title: "Differences and the margin", draw, legend: legend(found),
      note: `Method less baseline with its interval. Shaded: differences of less than ${number(study.margin)} points, the smallest of interest. Colours tell the verdict.`,
      numbers: { columns: ["Contrast", "Over", "Difference, points", "Verdict"], rows: rows.map((each) => [about(each), each.over, said(each.difference, signed), each.verdict]) },
    });
  }

  function one(main, study) {
    const lines = (head, every) => (every.length ? [h("h2", null, head), h("ul", { class: "notes" }, every.map((each) => h("li", null, name(each))))] : null);
    dhrd.put(main, h("p", { class: "way" }, h("a", { href: address("studies", {}) }, "All studies")),
      h("h1", null, "Study ", name(study.name), " ", tag(study)),
      h("p", { class: "lead" }, name(study.hypothesis)),
      h("p", { class: "about" }, [study.frozen, study.state, study.margin === null ? "" : `${margin(study)}.`].filter(Boolean).join(" ")),
      study.status === "draft" ? h("p", null, "A draft: what it plans is not frozen, so nothing is judged yet.") : null,
      study.contrasts.length ? [h("h2", null, "Verdicts"), contrasts(study)] : null,
      lines("Deviations from the plan", study.deviations),
      h("div", { class: "charts" }, chart(study)),
      study.tables.length ? [h("h2", null, "Tables of the report"), study.tables.map((each) => dhrd.table.plain(each))] : null,
      lines("To be read with it", study.notes),
      study.command ? h("p", null, "By ", h("code", null, name(study.command)), ".") : null);
  }

  async function show(main, about) {
    const { studies } = dhrd.index(), wanted = about.get("name"), found = studies.find((study) => study.name === wanted);
    if (found) return one(main, found);
    return dhrd.put(main, h("h1", null, "Studies"),
      h("p", { class: "about" }, "A question with what would answer it, written down before anything was scored."),
      list("h2") ?? h("p", null, "There are none beside these results."));
  }

  return Object.assign(show, { list });
})();
