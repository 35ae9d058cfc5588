"use strict";
/* The charts of a board: each takes the methods that are shown, and what they have over the suite or on a task. */

dhrd.figures = (() => {
  const { number, threeDigits, interval, said, signed, many, NONE } = dhrd;
  const { linear, logarithmic, around, line, text, path, axes, mark, target, figure, legend, rolesOf } = dhrd.charts;

  const MOST_ROWS = 60;
  const FINDINGS = { better: "better", worse: "worse", equivalent: "equivalent", undecided: "undecided" };
  const short = (label, room) => (label.length > room ? `${label.slice(0, Math.max(3, room - 1))}…` : label);
  /** Pixels for the names at the left, and how many characters fit. */
  const names = (width) => { const left = Math.min(190, Math.max(96, width * 0.27)); return [left, Math.floor((left - 10) / 6.7)]; };
  const cut = (shown) => (shown.length > MOST_ROWS ? ` The first ${MOST_ROWS} of ${shown.length} are drawn; the filters above choose others.` : "");

  // ---------------------------------------------------------------- score against throughput

  function pareto({ shown, of, link, where }) {
    const placed = shown.map((method) => ({ method, own: of(method) })).filter(({ own }) => own?.qps && own.qps[0] > 0);
    if (!placed.length) return null;
    const draw = (width) => {
      const height = Math.max(300, Math.min(460, width * 0.55));
      const box = { left: 46, right: width - 16, top: 30, bottom: height - 44 };
      // Two seeds can leave an interval of many powers of ten: it is cut where it would press the rest together.
      const paces = placed.map(({ own }) => own.qps[0]), [least, most] = [Math.min(...paces) / 2, Math.max(...paces) * 2];
      const ends = placed.flatMap(({ own }) => own.qps.slice(1).map((end) => Math.min(most, Math.max(least, end ?? most))));
      const x = logarithmic(Math.min(...paces, ...ends) / 1.15, Math.max(...paces, ...ends) * 1.15, box.left, box.right);
      const y = linear(...around(placed.flatMap(({ own }) => own.score), 5), box.bottom, box.top);
      const on = placed.filter(({ own }) => own.front).sort((a, b) => a.own.qps[0] - b.own.qps[0]);
      const stairs = on.flatMap(({ own }, at) => (at ? [[x(own.qps[0]), null]] : [[box.left, y(own.score[0])]]).concat([[x(own.qps[0]), y(own.score[0])]]));
      stairs.forEach((point, at) => { if (point[1] === null) { point[0] = stairs[at - 1][0]; point[1] = stairs[at + 1][1]; } });
      const front = on.length ? path([...stairs, [stairs.at(-1)[0], box.bottom]], "front") : null;
      const taken = placed.map(({ own }) => [x(own.qps[0]) - 8, x(own.qps[0]) + 8, y(own.score[0]) + 4]), labels = [], marks = [];
      for (const { method, own } of [...placed].sort((a, b) => b.own.score[0] - a.own.score[0])) {
        const [px, py] = [x(own.qps[0]), y(own.score[0])];
        const bars = [];
        if (own.qps.length > 1) bars.push(line(x.clamp(own.qps[1] ?? least), py, x.clamp(own.qps[2] ?? most), py, `bar ${method.role}`));
        if (own.score.length > 1) bars.push(line(px, y.clamp(own.score[1]), px, y.clamp(own.score[2]), `bar ${method.role}`));
        const onFront = own.front ? "on the front" : own.front === false ? "not on the front" : "";
        const chance = own.probability === null || own.probability === undefined ? "" : ` (in ${number(100 * own.probability, 0)} % of draws)`;
        const label = [method.name, `Score ${said(own.score)}`, `QPS ${said(own.qps, threeDigits)}`, onFront + chance].filter(Boolean).join("\n");
        marks.push(target(label, link(method), bars, mark(`${method.role}${own.front ? " front" : ""}`, px, py)));
        // A name stands close to its mark, on the side where there is room, or not at all.
        const wide = 6.6 * method.name.length;
        const free = (width < 520 ? [4, -7] : [4, -7, 15, -18, 26]).flatMap((down) => [px + 9, px - 9 - wide].map((left) => [left, py + down]))
          .find(([left, at]) => left >= box.left && left + wide <= box.right + 10 && taken.every(([l, r, t]) => Math.abs(at - t) > 12 || left > r || left + wide < l));
        if (free) {
          taken.push([free[0], free[0] + wide, free[1]]);
          labels.push(text(...free, method.name, "label halo"));
        }
      }
      const labelGroup = dhrd.s("g", { "aria-hidden": "true" }, labels);
      return { height, marks: [axes(x, y, box, { x: "examples per second (QPS), logarithmic", y: "score" }), front, marks, labelGroup] };
    };
    return figure({
      title: `Score against throughput, ${where}`,
      note: "Up and to the right is better. Bars are 95 % intervals; the stairs are the Pareto front: nothing else is both as good and as fast.",
      legend: legend([...rolesOf(placed.map(({ method }) => method)), ["front", "Pareto front"]]),
      draw,
      numbers: {
        columns: ["Method", "Score", "QPS", "On the front", "Chance of being on it"],
        rows: placed.map(({ method, own }) => [method.name, said(own.score), said(own.qps, threeDigits), own.front ? "yes" : "no", own.probability === null || own.probability === undefined ? NONE : number(own.probability, 2)]),
      },
    });
  }

  // ---------------------------------------------------------------- gains

  function forest({ shown, of, link, where, board }) {
    const every = shown.map((method) => ({ method, own: of(method) })).filter(({ own }) => own?.gain);
    if (!every.length) return null;
    every.sort((a, b) => b.own.gain[0] - a.own.gain[0]);
    const rows = every.slice(0, MOST_ROWS), margin = board.margin;
    // Points of score as shares of the baseline's, which the gain is a share of.
    const detectable = (own) => {
      const base = own.score[0] - own.difference[0];
      return own.detectable === null || base <= 0 ? null : (100 * own.detectable) / base;
    };
    const draw = (width) => {
      const [left, room] = names(width), step = 26;
      const height = rows.length * step + 62;
      const box = { left, right: width - 14, top: 18, bottom: height - 44 };
      const values = rows.flatMap(({ own }) => [own.gain[0], own.gain[1], own.gain[2] ?? own.gain[0]]);
      const limits = around([...values, 0, ...(margin ? [-margin, margin] : [])], 6);
      const furthest = 3 * Math.max(5, ...rows.map(({ own }) => Math.abs(own.gain[0])), margin ?? 0);
      const x = linear(Math.max(limits[0], -furthest), Math.min(limits[1], furthest), box.left, box.right, (tick) => number(tick, 0, true));
      const marks = rows.map(({ method, own }, at) => {
        const y = box.top + step * (at + 0.5), found = own.finding, seen = detectable(own);
        const drawn = [dhrd.s("rect", { class: "reach", x: 0, y: y - step / 2, width, height: step }), text(box.left - 8, y + 4, short(method.name, room), "label", "end")];
        if (seen !== null) for (const side of [-seen, seen]) if (x.clamp(side) === x(side)) drawn.push(line(x(side), y - 8, x(side), y + 8, "detectable"));
        if (own.gain.length > 1) drawn.push(line(x.clamp(own.gain[1] ?? -1e9), y, x.clamp(own.gain[2] ?? 1e9), y, `bar wide ${found}`));
        drawn.push(mark(`${method.role} ${found}`, x.clamp(own.gain[0]), y));
        const label = [method.name, `Gain ${said(own.gain, signed)} %: ${FINDINGS[found]}`, `Difference ${said(own.difference, signed)} points, p ${dhrd.pValue(own.p)}`, seen === null ? "" : `Detectable: ${number(own.detectable)} points`].filter(Boolean).join("\n");
        return target(label, link(method), drawn);
      });
      const band = margin ? dhrd.s("rect", { class: "margin", x: x.clamp(-margin), y: box.top, width: x.clamp(margin) - x.clamp(-margin), height: box.bottom - box.top }) : null;
      return { height, marks: [band, axes(x, null, box, { x: `gain over ${short(board.baseline, 30)}, %` }), line(x(0), box.top, x(0), box.bottom, "zero"), marks] };
    };
    return figure({
      title: `Gains over ${board.baseline}, ${where}`,
      note: "Colours tell what the tests show after correction for the number of comparisons; the 95 % intervals are not corrected. "
        + (margin ? `Shaded: differences of less than ${number(margin)} %, too small to matter. ` : "No smallest difference of interest was named (--margin). ")
        + `Upright ticks: the smallest true difference that this many seeds and examples find in four of five cases.${cut(every)}`,
      legend: legend([...rolesOf(rows.map(({ method }) => method)), ["bar wide better", "better"], ["bar wide worse", "worse"], ["bar wide undecided", "undecided"],
        ...(margin ? [["bar wide equivalent", "equivalent"]] : []), ["detectable", "detectable difference"]]),
      draw,
      numbers: {
        columns: ["Method", "Gain %", "Difference, points", "p, corrected", "Detectable, points", "Finding"],
        rows: every.map(({ method, own }) => [method.name, said(own.gain, signed), said(own.difference, signed), own.p === null ? NONE : own.decidable ? dhrd.pValue(own.p) : "undecidable", number(own.detectable), own.finding]),
      },
    });
  }

  // ---------------------------------------------------------------- seeds

  function seeds({ shown, of, runs, link, where }) {
    const every = shown.map((method) => ({ method, own: of(method), runs: runs(method) })).filter((each) => each.own && each.runs.length);
    if (!every.length) return null;
    every.sort((a, b) => b.own.score[0] - a.own.score[0]);
    const rows = every.slice(0, MOST_ROWS);
    const draw = (width) => {
      const [left, room] = names(width), step = 26, height = rows.length * step + 62;
      const box = { left, right: width - 14, top: 18, bottom: height - 44 };
      const x = linear(...around(rows.flatMap((each) => [...each.own.score, ...each.runs.map(([, score]) => score)]), 6, [0, 100]), box.left, box.right);
      const marks = rows.map(({ method, own, runs: points }, at) => {
        const y = box.top + step * (at + 0.5);
        const drawn = [dhrd.s("rect", { class: "reach", x: 0, y: y - step / 2, width, height: step }), text(box.left - 8, y + 4, short(method.name, room), "label", "end")];
        if (own.score.length > 1) drawn.push(line(x.clamp(own.score[1]), y, x.clamp(own.score[2]), y, "bar"));
        drawn.push(line(x(own.score[0]), y - 8, x(own.score[0]), y + 8, "mean"));
        drawn.push(points.map(([, score]) => dhrd.s("circle", { class: `seed ${method.role}`, cx: x(score).toFixed(1), cy: y.toFixed(1), r: 4 })));
        return target([method.name, `Mean ${said(own.score)}`, ...points.map(([seed, score]) => `Seed ${seed}: ${number(score)}`).slice(0, 12)].join("\n"), link(method), drawn);
      });
      return { height, marks: [axes(x, null, box, { x: "score" }), marks] };
    };
    return figure({
      title: `Every seed, ${where}`,
      note: `One dot a seed; the tick is the mean, the bar its 95 % interval.${cut(every)}`,
      draw,
      numbers: {
        columns: ["Method", "Mean", "Seeds"],
        rows: every.map((each) => [each.method.name, said(each.own.score), each.runs.map(([seed, score]) => `${seed}: ${number(score)}`).join("; ")]),
      },
    });
  }

  // ---------------------------------------------------------------- lines

  /** Lines over a common axis; lines: {name, kind, points: [x, y, low, high], link}. */
  function lines({ title, note, drawn, xName, yName, log = false, xPlaces = 0, yEnds, least = 5, diagonal = false }) {
    const found = drawn.filter((each) => each.points.length);
    if (!found.length) return null;
    const draw = (width) => {
      const height = Math.max(260, Math.min(380, width * 0.6)), box = { left: 46, right: width - 14, top: 30, bottom: height - 44 };
      const xs = found.flatMap((each) => each.points.map(([x]) => x)), ys = found.flatMap((each) => each.points.flatMap(([, ...y]) => y));
      const x = log ? logarithmic(Math.min(...xs) / 1.1, Math.max(...xs) * 1.1, box.left, box.right)
        : linear(...(diagonal ? [0, 1] : [Math.min(...xs), Math.max(...xs, Math.min(...xs) + 1)]), box.left, box.right, (tick) => (xPlaces || Number.isInteger(tick) ? number(tick, xPlaces) : ""));
      const y = linear(...(yEnds ?? around(ys, least)), box.bottom, box.top);
      const marks = found.map((each) => {
        const points = each.points.map(([px, py]) => [x(px), y(py)]);
        return [path(points, `line ${each.kind}`), each.points.map(([px, py, low, high]) => target(
          [each.name, `${xName}: ${number(px, xPlaces)}`, `${yName}: ${said(low === undefined ? [py] : [py, low, high], (value) => number(value, yEnds ? 2 : 1))}`].join("\n"), each.link,
          low === undefined ? null : line(x(px), y.clamp(low), x(px), y.clamp(high), `bar ${each.kind}`), dhrd.s("circle", { class: `dot ${each.kind}`, cx: x(px).toFixed(1), cy: y(py).toFixed(1), r: 4 })))];
      });
      return { height, marks: [axes(x, y, box, { x: xName, y: yName }), diagonal ? line(x(0), y(0), x(1), y(1), "zero dashed") : null, marks] };
    };
    return figure({
      title, note, draw,
      legend: legend(found.map((each) => [`line ${each.kind}`, dhrd.name(each.name)])),
      numbers: {
        columns: ["Line", xName, yName],
        rows: found.flatMap((each) => each.points.map(([px, py, low, high]) => [each.name, number(px, xPlaces), low === undefined ? number(py, yEnds ? 3 : 1) : said([py, low, high], (value) => number(value, yEnds ? 3 : 1))])),
      },
    });
  }

  /** Dev scores by epoch, of the picked methods. */
  function learning({ picked, epochs, where }) {
    const drawn = picked.map((method, at) => ({ name: method.name, kind: `pick-${at}`, points: epochs(method).map((score, epoch) => [epoch + 1, score]) }));
    return lines({ title: `Dev score by epoch, ${where}`, note: "Mean over seeds and tasks, of rows set aside from training: few, so a rough guide. Pick methods in the table above.", drawn, xName: "epoch", yName: "dev score" });
  }

  /** Scores over numbers of training rows, where other budgets have other numbers. */
  function sizes({ picked, bySize, where }) {
    const drawn = picked.map((method, at) => ({ name: method.name, kind: `pick-${at}`, points: bySize(method) })).filter((each) => each.points.length > 1);
    return lines({ title: `Score by training rows, ${where}`, note: "Budgets of this suite and backbone; they may differ in more than rows, as in epochs and test rows.", drawn, xName: "training rows, logarithmic", yName: "score", log: true });
  }

  function reliability({ picked, of, where }) {
    const drawn = picked.map((method, at) => ({ name: method.name, kind: `pick-${at}`, points: (of(method)?.curves?.bins ?? []).map(({ sure, right }) => [sure, ...right]) }));
    const chart = lines({ title: `Reliability, ${where}`, note: "How often answers were right, by the probability that the method gave them (15 bins; tasks and seeds count alike), with 95 % intervals. On the broken line it is as sure as it should be; below it, too sure.", drawn, xName: "probability of the answer", yName: "share right", xPlaces: 2, yEnds: [0, 1], diagonal: true });
    return chart;
  }
  function risk({ picked, of, where }) {
    const drawn = picked.map((method, at) => ({ name: method.name, kind: `pick-${at}`, points: of(method)?.curves?.risk ?? [] }));
    const worst = Math.max(0.1, ...drawn.flatMap((each) => each.points.map(([, error]) => error)));
    return lines({ title: `Risk and coverage, ${where}`, note: "Error rate if only the surest answers are given, up to this share of them. A line that rises to the right: the method knows where it may be wrong.", drawn, xName: "share answered", yName: "error rate", xPlaces: 2, yEnds: [0, Math.min(1, worst * 1.08)] });
  }

  // ---------------------------------------------------------------- the paper

  function paper(board) {
    if (!board.claims.length) return null;
    const rows = board.claims.map((claim) => [[claim.text, "", 0],
      [claim.published ? [...new Set(claim.published.map((end) => show(claim, end)))].join(" to ") : NONE, "", 0],
      [claim.ours ? show(claim, claim.ours[0]) : NONE, claim.ours ? interval(claim.ours, (end) => show(claim, end)) : "", 0],
      [claim.verdict, claim.reason, claim.verdict === "reproduced" || claim.verdict === "contradicted" ? 1 : 0]]);
    return [claimsChart(board.claims.filter((claim) => claim.figure === "gain" && claim.published && claim.ours)),
      dhrd.table.plain({ title: "Against the paper", columns: [{ head: "Claim", left: true }, { head: "Published" }, { head: "Ours" }, { head: "Verdict", left: true }], rows, caption: [board.paper] })];
  }
  const show = (claim, value) => (claim.figure === "qps-ratio" ? `${threeDigits(value)}×` : number(value, claim.figure === "gain" ? 2 : 1, true));

  function claimsChart(claims) {
    if (!claims.length) return null;
    const draw = (width) => {
      const step = 46, height = claims.length * step + 62, box = { left: 12, right: width - 14, top: 8, bottom: height - 44 };
      const x = linear(...around(claims.flatMap((claim) => [...claim.published, ...claim.ours.map((end) => end ?? claim.ours[0]), 0]), 6), box.left, box.right, (tick) => number(tick, 0, true));
      const marks = claims.map((claim, at) => {
        const y = box.top + step * at, [low, high] = claim.published;
        return target([claim.text, `Published: ${show(claim, low)} to ${show(claim, high)} %`, `Ours: ${said(claim.ours, signed)} %`, claim.verdict].join("\n"), null,
          text(box.left, y + 14, short(claim.text, Math.floor(width / 6.8)), "label"),
          dhrd.s("rect", { class: "published", x: Math.min(x(low), x(high) - 3), y: y + 20, width: Math.max(4, x(high) - x(low)), height: 14 }),
          claim.ours.length > 1 ? line(x.clamp(claim.ours[1] ?? -1e9), y + 27, x.clamp(claim.ours[2] ?? 1e9), y + 27, "bar wide") : null, mark("method", x(claim.ours[0]), y + 27));
      });
      return { height, marks: [axes(x, null, box, { x: "relative gain, %" }), line(x(0), box.top, x(0), box.bottom, "zero"), marks] };
    };
    return figure({ title: "Published and measured gains", note: "Boxes: from the lowest to the highest published figure. Dots: measured here, with their 95 % intervals.", draw, numbers: null, legend: legend([["published", "published"], ["mark method", "measured here"]]) });
  }

  return { pareto, forest, seeds, learning, sizes, reliability, risk, paper, lines, many };
})();
