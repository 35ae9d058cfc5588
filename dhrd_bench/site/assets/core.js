"use strict";
/* What every page uses: data by script tags, elements without markup in strings, numbers as text. */

const dhrd = (() => {
  const received = new Map(), waiting = new Map();
  const SHARD = /^data\/[a-z0-9-]+\.js$/;
  const toUrl = (path) => {
    if (!SHARD.test(path)) throw new TypeError("no data of this site");
    return path;
  };
  // The one way to a script: data of this site. Anything else is refused by the page's policy.
  const urls = window.trustedTypes ? trustedTypes.createPolicy("shards", { createScriptURL: toUrl }) : { createScriptURL: toUrl };

  function receive(name, text) {
    received.set(name, JSON.parse(text));
  }

  /** A promise of the data called `name`, whose file is loaded once. */
  function load(name) {
    if (received.has(name)) return Promise.resolve(received.get(name));
    if (!waiting.has(name)) {
      waiting.set(name, new Promise((done, fail) => {
        const script = document.createElement("script");
        script.src = urls.createScriptURL(`data/${name}.js`);
        script.onload = () => (received.has(name) ? done(received.get(name)) : fail(new Error(`data/${name}.js is damaged`)));
        script.onerror = () => fail(new Error(`data/${name}.js cannot be read`));
        document.head.append(script);
      }));
    }
    return waiting.get(name);
  }

  // ---------------------------------------------------------------- elements

  const SVG = "http://www.w3.org/2000/svg";

  function fill(element, attributes, children) {
    for (const [key, value] of Object.entries(attributes ?? {})) {
      if (value === null || value === undefined || value === false) continue;
      if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
      else if (key === "value") element.value = value;
      else if (key === "checked") element.checked = value;
      else element.setAttribute(key, value === true ? "" : value);
    }
    element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
    return element;
  }

  /** An HTML element; children are elements and texts, never markup. */
  const h = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
  /** An SVG element. */
  const s = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);
  /** Put `children` into `element`, in the place of what it holds. */
  function put(element, ...children) {
    element.replaceChildren();
    fill(element, null, children);
  }
  /** A stranger's text, whose direction of writing stays its own. */
  const name = (text) => h("bdi", null, String(text));

  // ---------------------------------------------------------------- numbers

  const NONE = "–";
  function number(value, places = 1, sign = false) {
    if (value === null || value === undefined) return NONE;
    const text = Math.abs(value).toFixed(places);
    const zero = !/[1-9]/.test(text);
    return (value < 0 && !zero ? "−" : sign && !zero ? "+" : "") + text;
  }
  function threeDigits(value) {
    if (value === null || value === undefined || value <= 0) return NONE;
    const places = Math.min(4, Math.max(0, 2 - Math.floor(Math.log10(value))));
    return value.toLocaleString("en", { minimumFractionDigits: places, maximumFractionDigits: places });
  }
  const pValue = (p) => (p === null || p === undefined ? NONE : p < 0.001 ? "<0.001" : p.toFixed(3));
  /** The text of an interval's ends, empty without one. */
  function interval(estimate, show = number) {
    if (!estimate || estimate.length < 3) return "";
    return `[${estimate[1] === null ? "−∞" : show(estimate[1])}, ${estimate[2] === null ? "∞" : show(estimate[2])}]`;
  }
  const said = (estimate, show = number) => (estimate ? `${show(estimate[0])} ${interval(estimate, show)}`.trim() : NONE);
  const signed = (value) => number(value, 1, true);
  const many = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

  // ---------------------------------------------------------------- addresses

  /** Where in the site we are: a page, and what it is about. */
  function place() {
    const [page, query] = location.hash.replace(/^#\/?/, "").split("?");
    return { page: page || "board", about: new URLSearchParams(query ?? "") };
  }
  function address(page, about) {
    const query = new URLSearchParams();
    for (const [key, value] of Object.entries(about))
      for (const each of [value].flat()) if (each !== "" && each !== null && each !== undefined) query.append(key, each);
    const text = query.toString();
    return `#/${page === "board" ? "" : page}${text ? `?${text}` : ""}`;
  }
  const coordinates = (board) => ({ suite: board.suite, backbone: board.backbone, budget: board.budget });
  const title = (board) => [board.suite, board.backbone, board.budget].join(" · ");

  /** The board that an address names, the first one otherwise. */
  function boardOf(about) {
    const boards = received.get("index").boards;
    return boards.find((board) => ["suite", "backbone", "budget"].every((key) => about.get(key) === board[key])) ?? boards[0];
  }

  function tell(text) {
    document.getElementById("status").textContent = text;
  }

  return {
    receive, load, h, s, put, name, NONE, number, threeDigits, pValue, interval, said, signed, many, place, address,
    coordinates, title, boardOf, tell, index: () => received.get("index"),
  };
})();
