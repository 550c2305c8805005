"use strict";
(() => {
  const root = document.documentElement;
  root.classList.add("js");
  const byId = (id) => document.getElementById(id);
  const articles = [...document.querySelectorAll("article")];
  const groups = [...document.querySelectorAll(".group")];
  const home = new Map(articles.map((article) => [article, article.parentNode]));
  const familyCards = [...document.querySelectorAll(".families a")];
  const classButtons = [...document.querySelectorAll("[data-class]")];
  const form = document.querySelector(".controls");
  const sorted = byId("sorted");
  const number = byId("number");
  const order = byId("order");
  const classSelect = byId("class");
  const labelSelect = byId("label");

  const wanted = () => ({
    prefix: number.value.trim(),
    symmetry: classSelect ? classSelect.value : "",
    label: labelSelect ? labelSelect.value : "",
  });

  function filter() {
    const { prefix, symmetry, label } = wanted();
    let shown = 0;
    for (const article of articles) {
      const { c, l } = article.dataset;
      const matches =
        article.id.slice(1).startsWith(prefix) && (symmetry === "" || c === symmetry) && (label === "" || l === label);
      article.hidden = !matches;
      shown += matches;
    }
    const flat = order.value !== "family";
    for (const group of groups) group.hidden = flat || !group.querySelector("article:not([hidden])");
    for (const card of familyCards) card.parentNode.hidden = symmetry !== "" && !familyHas(card.dataset.family, symmetry);
    if (byId("no-family")) byId("no-family").hidden = familyCards.some((card) => !card.parentNode.hidden);
    for (const button of classButtons) button.setAttribute("aria-pressed", String(button.dataset.class === symmetry));
    byId("count").value = shown === articles.length ? `${shown} features` : `${shown} of ${articles.length} features`;
    byId("nothing").hidden = shown > 0;
    byId("show-all").hidden = shown === articles.length && !flat;
    root.dataset.shown = String(shown);
  }

  function familyHas(family, symmetry) {
    return articles.some((article) => home.get(article).id === `family${family}` && article.dataset.c === symmetry);
  }

  function arrange() {
    const key = order.value;
    const flat = key !== "family";
    const value = (article) => (key === "number" ? -Number(article.id.slice(1)) : Number(article.dataset[key]));
    const list = flat ? [...articles].sort((a, b) => value(b) - value(a)) : articles;
    for (const article of list) (flat ? sorted : home.get(article)).append(article);
    sorted.hidden = !flat;
    filter();
  }

  function showAll() {
    form.reset();
    arrange();
  }

  function reveal() {
    const target = byId(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    if (target.closest("[hidden]")) showAll();
    target.scrollIntoView();
    if (target.matches("article, .group")) focusWithoutRing(target);
  }

  function focusWithoutRing(target) {
    target.tabIndex = -1;
    target.focus({ preventScroll: true });
  }

  // The paths are the data: index k of a path is rotation k, and its distance from the centre is the cosine.
  function cosineAt(path, turn) {
    const numbers = path.getAttribute("d").match(/-?\d+/g).map(Number);
    const count = numbers.length / 2;
    const k = Math.round(turn * count) % count;
    const cosine = (1.5 * Math.hypot(numbers[2 * k], numbers[2 * k + 1])) / 500 - 0.5;
    return { degrees: (360 * k) / count, cosine };
  }

  function nameInFull(event) {
    const item = event.target.closest && event.target.closest(".strip li");
    if (item) item.title = item.querySelector(".from").textContent;
  }

  function readOut(event) {
    const plot = event.target.closest && event.target.closest("article .polar");
    if (!plot) return;
    const box = plot.getBoundingClientRect();
    const right = event.clientX - box.left - box.width / 2;
    const up = box.top + box.height / 2 - event.clientY;
    const turn = (Math.atan2(up, right) / (2 * Math.PI) + 1) % 1;
    const values = [...plot.querySelectorAll(".curve")].map((path) => cosineAt(path, turn));
    const words = values.map(({ cosine }, row) => `${row ? "mirrored" : "rotated"} ${format(cosine)}`);
    plot.closest("figure").querySelector(".readout").textContent = `${values[0].degrees}°: ${words.join(", ")}`;
  }

  const format = (cosine) => (cosine < -0.495 ? "≤ −0.5" : cosine.toFixed(2).replace("-", "−"));

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const target = byId(`f${number.value.trim()}`);
    if (target) target.scrollIntoView();
  });
  byId("show-all").addEventListener("click", showAll);
  number.addEventListener("input", filter);
  order.addEventListener("change", arrange);
  for (const select of [classSelect, labelSelect]) if (select) select.addEventListener("change", filter);
  for (const button of classButtons) {
    button.addEventListener("click", () => {
      classSelect.value = button.getAttribute("aria-pressed") === "true" ? "" : button.dataset.class;
      filter();
    });
  }
  document.addEventListener("pointermove", readOut, { passive: true });
  document.addEventListener("pointerover", nameInFull, { passive: true });
  window.addEventListener("hashchange", reveal);
  arrange();
  reveal();
  root.dataset.ready = String(articles.length);
})();
