"use strict";
(() => {
  const root = document.documentElement;
  const all = (selector, within = document) => [...within.querySelectorAll(selector)];
  root.classList.add("scripted-page");

  // Language: what the address asks for, what was chosen before, what the browser prefers.
  const languages = ["en", "zh"];
  const remembered = () => {
    try { return localStorage.getItem("aigc-language"); } catch { return null; }
  };
  const remember = (language) => {
    try { localStorage.setItem("aigc-language", language); } catch { /* private mode: the choice lasts for the page */ }
  };
  const speak = (language) => {
    root.lang = language;
    for (const name of ["aria-label", "alt", "title"]) {
      for (const element of all(`[data-${name}-${language}]`)) {
        element.setAttribute(name, element.getAttribute(`data-${name}-${language}`));
      }
    }
    document.title = document.querySelector("title").getAttribute("title");
    for (const button of all("[data-language]")) {
      button.setAttribute("aria-pressed", button.dataset.language === language);
    }
  };
  const asked = new URLSearchParams(location.search).get("lang");
  const preferred = (navigator.languages || []).map((tag) => tag.slice(0, 2));
  speak([asked, remembered(), ...preferred, "en"].find((language) => languages.includes(language)));
  for (const button of all("[data-language]")) {
    button.addEventListener("click", () => {
      speak(button.dataset.language);
      remember(button.dataset.language);
    });
  }

  // Sorting: numbers by value, words by name; what has no value stays at the end.
  const compare = (a, b) => {
    if (a === "" || b === "") return null;
    const difference = Number(a) - Number(b);
    return Number.isNaN(difference) ? a.localeCompare(b) : difference;
  };
  for (const table of all("table.sortable")) {
    const body = table.tBodies[0];
    const heads = all("thead tr:last-child th", table);
    heads.forEach((head, column) => {
      const button = head.querySelector("button");
      button.addEventListener("click", () => {
        const first = button.dataset.first;
        const second = first === "ascending" ? "descending" : "ascending";
        const order = head.getAttribute("aria-sort") === first ? second : first;
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        head.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const key = (row) => row.cells[column].dataset.order;
        const rows = [...body.rows].sort((a, b) => {
          const found = compare(key(a), key(b));
          return found === null ? (key(a) === "") - (key(b) === "") : sign * found;
        });
        table.classList.add("sorted");
        body.append(...rows);
      });
    });

    // Folding: a group of columns shows its main ones or all of them.
    const fold = (head, open) => {
      const button = head.querySelector("button");
      if (!button) return;
      button.setAttribute("aria-expanded", open);
      head.colSpan = open ? head.dataset.all : head.dataset.main;
      head.querySelector(".count").textContent = `${head.colSpan}/${head.dataset.all}`;
      for (const cell of all(`[data-extra="${head.dataset.group}"]`, table)) cell.hidden = !open;
    };
    const groups = all("th[data-group]", table);
    const isOpen = (head) => head.querySelector("button")?.getAttribute("aria-expanded") !== "false";
    const unfold = document.querySelector(`.unfold[aria-controls="${table.id}"]`);
    const tell = () => unfold?.setAttribute("aria-pressed", groups.every(isOpen));
    for (const head of groups) {
      fold(head, false);
      head.querySelector("button")?.addEventListener("click", () => { fold(head, !isOpen(head)); tell(); });
    }
    unfold?.addEventListener("click", () => {
      const open = !groups.every(isOpen);
      groups.forEach((head) => fold(head, open));
      tell();
    });
    const intervals = document.querySelector(`.intervals[aria-controls="${table.id}"]`);
    intervals?.addEventListener("click", () => {
      intervals.setAttribute("aria-pressed", table.classList.toggle("with-intervals"));
    });
  }
})();
