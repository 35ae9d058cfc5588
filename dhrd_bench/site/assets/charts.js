"use strict";
/* Charts in SVG: axes, marks that the keyboard reaches, a tip, and the numbers as a table. */

dhrd.charts = (() => {
  const { h, s } = dhrd;
  const tip = document.getElementById("tip");

  // ---------------------------------------------------------------- scales

  function ticksOf(low, high, count = 5) {
    const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((each) => each >= raw);
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k += 1) ticks.push(k * step);
    return { ticks, places: Math.max(0, -Math.floor(Math.log10(step) + 1e-9)) };
  }
  /** A scale from [low, high] to pixels. */
  function linear(low, high, from, to, show) {
    const scale = (value) => from + ((value - low) / (high - low)) * (to - from);
    const { ticks, places } = ticksOf(low, high, Math.max(2, Math.min(7, Math.abs(to - from) / (to < from ? 45 : 70))));
    scale.ticks = ticks.map((tick) => [tick, show ? show(tick) : dhrd.number(tick, places)]).filter(([, shown]) => shown);
    scale.clamp = (value) => Math.min(Math.max(from, to), Math.max(Math.min(from, to), scale(value)));
    return scale;
  }
  function logarithmic(low, high, from, to) {
    const [left, right] = [Math.log10(low), Math.log10(high)];
    const scale = (value) => from + ((Math.log10(value) - left) / (right - left)) * (to - from);
    const factors = right - left < 0.7 ? [1, 1.5, 2, 3, 4, 5, 6, 7, 8] : right - left < 2.2 ? [1, 2, 5] : [1];
    scale.ticks = [];
    for (let k = Math.floor(left); k <= Math.ceil(right); k += 1)
      for (const factor of factors) {
        const tick = factor * 10 ** k;
        if (tick >= low * 0.999 && tick <= high * 1.001) scale.ticks.push([tick, dhrd.threeDigits(tick).replace(/\.0+$/, "")]);
      }
    if (scale.ticks.length < 2) scale.ticks = [[low, dhrd.threeDigits(low)], [high, dhrd.threeDigits(high)]];
    scale.clamp = (value) => Math.min(Math.max(from, to), Math.max(Math.min(from, to), scale(Math.max(value, 1e-300))));
    return scale;
  }
  /** The ends of an axis around `values`, a little beyond them. */
  function around(values, least = 4, within = null) {
    const known = values.filter((value) => value !== null && value !== undefined && Number.isFinite(value));
    if (!known.length) return [0, 1];
    const [min, max] = [Math.min(...known), Math.max(...known)];
    const middle = (min + max) / 2, half = Math.max((max - min) * 0.55, least / 2);
    const ends = [middle - half, middle + half];
    return within ? [Math.max(within[0], ends[0]), Math.min(within[1], ends[1])] : ends;
  }

  // ---------------------------------------------------------------- parts

  const line = (x1, y1, x2, y2, kind) => s("line", { class: kind, x1: x1.toFixed(1), y1: y1.toFixed(1), x2: x2.toFixed(1), y2: y2.toFixed(1) });
  const text = (x, y, content, kind = "axis", anchor = "start") => s("text", { class: kind, x: x.toFixed(1), y: y.toFixed(1), "text-anchor": anchor }, content);
  const path = (points, kind) => s("path", { class: kind, d: points.map(([x, y], at) => `${at ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join(" ") });

  /** Grid lines and figures of both axes in `box` {left, right, top, bottom}. */
  function axes(x, y, box, names) {
    const marks = s("g", { "aria-hidden": "true" });
    for (const [tick, shown] of x?.ticks ?? []) marks.append(line(x(tick), box.top, x(tick), box.bottom, "grid"), text(x(tick), box.bottom + 16, shown, "axis", "middle"));
    for (const [tick, shown] of y?.ticks ?? []) marks.append(line(box.left, y(tick), box.right, y(tick), "grid"), text(box.left - 6, y(tick) + 4, shown, "axis", "end"));
    if (names?.x) marks.append(text((box.left + box.right) / 2, box.bottom + 34, names.x, "axis name", "middle"));
    if (names?.y) marks.append(text(box.left - 40, box.top - 14, names.y, "axis name"));
    return marks;
  }

  /** A mark by its role: told apart by form, not by colour alone. */
  function mark(role, x, y, size = 5.5) {
    const at = { class: `mark ${role}`, transform: `translate(${x.toFixed(1)} ${y.toFixed(1)})` };
    const [form] = role.split(" ");
    if (form === "baseline") return s("path", { ...at, d: `M${-size} ${-size}H${size}V${size}H${-size}Z` });
    if (form === "reference") return s("path", { ...at, d: `M0 ${-size * 1.35}L${size * 1.35} 0L0 ${size * 1.35}L${-size * 1.35} 0Z` });
    if (form === "control") return s("path", { ...at, d: `M0 ${-size * 1.2}L${size * 1.2} ${size}H${-size * 1.2}Z` });
    return s("circle", { ...at, r: size });
  }

  /** What can be pointed at: a link, or an image, with a name that says its figures, shown as a tip as well. */
  function target(label, href, ...marks) {
    const lines = label.split("\n");
    const attributes = { class: "target", tabindex: "-1", "aria-label": lines.join(", ") };
    const group = href ? s("a", { ...attributes, href }, marks) : s("g", { ...attributes, role: "img" }, marks);
    const show = () => {
      tip.replaceChildren(h("strong", null, dhrd.name(lines[0])), ...lines.slice(1).map((each) => h("div", null, dhrd.name(each))));
      tip.hidden = false;
      const at = group.getBoundingClientRect(), own = tip.getBoundingClientRect();
      const left = Math.min(Math.max(8, at.left + at.width / 2 - own.width / 2), document.documentElement.clientWidth - own.width - 8);
      const above = at.top - own.height - 8;
      tip.style.left = `${left + scrollX}px`;
      tip.style.top = `${(above > 4 ? above : at.bottom + 8) + scrollY}px`;
    };
    const hide = () => { tip.hidden = true; };
    for (const event of ["pointerenter", "focus"]) group.addEventListener(event, show);
    for (const event of ["pointerleave", "blur"]) group.addEventListener(event, hide);
    return group;
  }
  document.addEventListener("keydown", (event) => { if (event.key === "Escape") tip.hidden = true; });

  /** One stop of the tab key a chart; arrows go from mark to mark. */
  function roving(svg) {
    const targets = [...svg.querySelectorAll(".target")];
    targets[0]?.setAttribute("tabindex", "0");
    svg.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      const at = targets.indexOf(document.activeElement);
      if (!step || at < 0) return;
      event.preventDefault();
      const next = targets[(at + step + targets.length) % targets.length];
      targets[at].setAttribute("tabindex", "-1");
      next.setAttribute("tabindex", "0");
      next.focus();
    });
  }

  /**
   * A figure: title, what it shows, the picture drawn as wide as there is room, and its numbers.
   *
   * draw: width => {height, marks}; numbers: {columns, rows} of texts; extra: fields above the picture.
   */
  function figure({ title, note, draw, numbers, extra = null, legend = null }) {
    const plot = h("div", { class: "plot" });
    const whole = h("figure", { class: "chart" },
      h("figcaption", null, h("h3", null, title), note ? h("p", { class: "note" }, note) : null),
      extra, legend, plot,
      numbers && h("details", { class: "numbers" }, h("summary", null, "These numbers as a table"),
        dhrd.table.plain({ title, columns: numbers.columns.map((head, at) => ({ head, left: at === 0 })), rows: numbers.rows.map((row) => row.map((cell) => [cell, "", 0])) })));
    let width = 0;
    const redraw = () => {
      const room = Math.floor(plot.clientWidth);
      if (!room || room === width) return;
      width = room;
      const { height, marks } = draw(room);
      const svg = s("svg", { viewBox: `0 0 ${room} ${height}`, width: room, height, role: "group", "aria-label": `${title}; its numbers are in the table below` }, marks);
      plot.replaceChildren(svg);
      roving(svg);
    };
    new ResizeObserver(redraw).observe(plot);
    return whole;
  }

  /** What forms and colours mean: pairs of class and text. */
  function legend(entries) {
    return h("ul", { class: "legend" }, entries.map(([kind, label]) => {
      const size = { width: 18, height: 14, viewBox: "0 0 18 14", "aria-hidden": "true" };
      const [what, role] = kind.split(" ");
      const drawn = what === "mark" ? mark(role, 9, 7, 4.5) : line(1, 7, 17, 7, kind);
      return h("li", null, s("svg", size, drawn), label);
    }));
  }

  const ROLES = { method: "method", baseline: "baseline", reference: "reference", control: "control" };
  const rolesOf = (methods) => Object.keys(ROLES).filter((role) => methods.some((method) => method.role === role)).map((role) => [`mark ${role}`, ROLES[role]]);

  return { linear, logarithmic, around, line, text, path, axes, mark, target, figure, legend, rolesOf };
})();
