"use strict";
/* Which page is shown, light or dark, and the news of a site that is served. */

(() => {
  const { h } = dhrd, main = document.getElementById("main");
  let turn = 0;

  async function show(first) {
    const { page, about } = dhrd.place(), mine = (turn += 1);
    const made = h("div");
    document.getElementById("tip").hidden = true;
    try {
      if (!dhrd.index().boards.length) waiting(made);
      else await (Object.hasOwn(dhrd.pages, page) ? dhrd.pages[page] : dhrd.pages.board)(made, about);
    } catch (error) {
      dhrd.put(made, h("h1", null, "This page cannot be shown"), h("p", { class: "error" }, error.message), h("p", null, "Make the site anew."));
    }
    if (mine !== turn) return; // another page was asked for meanwhile
    main.replaceChildren(...made.childNodes);
    for (const link of document.querySelectorAll("nav [data-page]")) {
      if (link.dataset.page === page) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
    document.title = `${main.querySelector("h1")?.textContent ?? "Leaderboard"} · dhrd-bench`;
    if (first) return;
    scrollTo(0, 0);
    main.focus({ preventScroll: true }); // a screen reader reads the new page
  }

  function waiting(made) {
    dhrd.put(made, h("h1", null, "Nothing to show yet"), dhrd.index().notes.map((note) => h("p", null, dhrd.name(note))));
  }

  // ---------------------------------------------------------------- light and dark

  const THEMES = ["auto", "light", "dark"], button = document.getElementById("theme");
  function kept(value) {
    try { // a page that is opened from disk may keep nothing
      if (value !== undefined) localStorage.setItem("dhrd-theme", value);
      return localStorage.getItem("dhrd-theme");
    } catch { return null; }
  }
  function paint(theme) {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    button.textContent = `Theme: ${theme}`;
    button.dataset.theme = theme;
  }
  button.addEventListener("click", () => {
    const theme = THEMES[(THEMES.indexOf(button.dataset.theme) + 1) % THEMES.length];
    kept(theme);
    paint(theme);
  });
  paint(THEMES.includes(kept()) ? kept() : "auto");

  // ---------------------------------------------------------------- a site that is served

  const { revision } = document.body.dataset, PATIENCE = 15000;
  let touched = -PATIENCE;
  for (const event of ["pointerdown", "keydown", "wheel"]) addEventListener(event, () => { touched = performance.now(); }, { passive: true });
  async function look() {
    // Whoever is at work on the page is left alone.
    const busy = document.hidden || performance.now() - touched < PATIENCE || document.activeElement?.matches("input, select");
    try {
      const answer = busy ? null : await fetch("revision", { cache: "no-store" });
      if (answer?.ok && (await answer.text()) !== revision) return location.reload();
    } catch { /* the server has stopped: what is shown stays */ }
    return setTimeout(look, 3000);
  }
  if (revision) setTimeout(look, 3000);

  addEventListener("hashchange", () => show(false));
  document.querySelector(".skip").addEventListener("click", (event) => {
    event.preventDefault(); // what is behind # is the page that is shown
    main.focus();
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
  show(true);
})();
