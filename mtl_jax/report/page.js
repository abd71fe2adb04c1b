// Draws the figures of the page when they come into view, and hides in all of them what
// a reader does not want to see. The data lie in the page, figure by figure.
"use strict";
const themes = JSON.parse(document.getElementById("themes").textContent);
const prefers = window.matchMedia("(prefers-color-scheme: dark)");
const hidden = { variants: new Set(), seeds: new Set(), tasks: new Set() };
const scales = { y: "auto" };
const views = new Map(); // of panels, by their element

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return new Response(new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"))).json();
}

function rowsOf(columns) {
  const names = Object.keys(columns);
  const unpacked = names.map((name) => {
    const column = columns[name];
    return Array.isArray(column) ? column : column.codes.map((code) => column.names[code]);
  });
  const count = unpacked.length ? unpacked[0].length : 0;
  return Array.from({ length: count }, (_, i) => Object.fromEntries(names.map((n, k) => [n, unpacked[k][i]])));
}

// Black lines are white in the dark; ordinates are as the reader wants them.
function adapted(panel, rows) {
  let text = JSON.stringify(panel.spec);
  if (prefers.matches) text = text.replaceAll('"#000000"', '"#ffffff"').replaceAll('"#222222"', '"#e8e8e8"');
  const spec = JSON.parse(text);
  for (const layer of spec.layer) {
    const y = layer.encoding.y;
    if (scales.y === "auto" || !y || !y.scale || !y.scale.type) continue;
    y.scale.type = scales.y === "linear" ? "linear" : y.scale.type === "log" ? "log" : "symlog";
    if (scales.y === "log" && y.scale.type === "symlog") y.scale.constant = 0.01;
    y.axis = { ...y.axis, format: "~g" };
  }
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    width: "container", data: { values: rows }, ...spec,
    config: prefers.matches ? themes.dark : themes.light,
  };
}

// One after another in the same place.
function draw(element) {
  element.drawn = (element.drawn ?? Promise.resolve()).then(() => drawNow(element));
  return element.drawn;
}

async function drawNow(element) {
  const { panel, name, columns } = element.source;
  const rows = (element.rows ??= rowsOf(await columns()));
  const result = await vegaEmbed(element, adapted(panel, rows), {
    actions: { export: { svg: true, png: true }, source: false, compiled: false, editor: false },
    downloadFileName: name, renderer: "svg", tooltip: { theme: prefers.matches ? "dark" : "light" },
  });
  views.get(element)?.finalize();
  views.set(element, result);
  await applyTo(result.view);
}

async function applyTo(view) {
  view.signal("hidden", [...hidden.variants]).signal("hidden_seeds", [...hidden.seeds]);
  await view.runAsync();
}

function applyAll() {
  for (const { view } of views.values()) applyTo(view);
  for (const button of document.querySelectorAll("button[data-variant]")) {
    const off = hidden.variants.has(button.dataset.variant);
    button.setAttribute("aria-pressed", String(!off));
  }
  const search = document.getElementById("search");
  const wanted = search ? search.value.trim().toLowerCase() : "";
  for (const part of document.querySelectorAll("[data-task]")) {
    const task = part.dataset.task;
    if (task) part.hidden = hidden.tasks.has(task) || !task.toLowerCase().includes(wanted);
  }
}

function toggle(kind, name) {
  hidden[kind].has(name) ? hidden[kind].delete(name) : hidden[kind].add(name);
  applyAll();
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    draw(entry.target);
  }
}, { rootMargin: "400px" });

function redraw() {
  for (const element of views.keys()) draw(element);
}

const markers = {
  circle: "M9 5a4 4 0 1 0 8 0a4 4 0 1 0 -8 0", square: "M9 1h8v8h-8z", diamond: "M13 0l4 5l-4 5l-4 -5z",
  "triangle-up": "M13 1l4.5 8h-9z", "triangle-down": "M13 9l4.5 -8h-9z", "triangle-right": "M17 5l-8 4.5v-9z",
  cross: "M11.5 0.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
};

function sample(look, hasLines) {
  const ink = look.color === "#000000" ? "currentColor" : look.color;
  const dash = look.dash[1] ? look.dash.join(" ") : "none";
  const mark = hasLines ? `<line x1="0" y1="5" x2="26" y2="5" stroke="${ink}" stroke-width="2.4" stroke-dasharray="${dash}"/>`
    : `<path d="${markers[look.marker]}" fill="${ink}"/>`;
  return `<svg width="26" height="10" aria-hidden="true">${mark}</svg>`;
}

function legend(figure, looks, hasLines) {
  const line = document.createElement("p");
  line.className = "legend";
  for (const look of looks) {
    const button = document.createElement("button");
    button.type = "button";
    button.dataset.variant = look.name;
    button.setAttribute("aria-pressed", "true");
    button.title = "Show or hide everywhere";
    button.innerHTML = sample(look, hasLines);
    button.append(look.label);
    button.onclick = () => toggle("variants", look.name);
    line.append(button);
  }
  figure.prepend(line);
}

// Tables: of the page, and of the data behind a figure.
const lines = {
  CSV: (rows) => rows.map((row) => row.map((cell) => /[",\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell).join(",")).join("\n"),
  Markdown: (rows) => rows.map((row, i) => `| ${row.map((cell) => cell.replaceAll("|", "\\|")).join(" | ")} |` + (i ? "" : "\n|" + row.map(() => "---|").join(""))).join("\n"),
  LaTeX: (rows) => `\\begin{tabular}{${"l".repeat(rows[0].length)}}\n\\hline\n` +
    rows.map((row, i) => row.map((cell) => cell.replace(/[&%$#_{}]/g, "\\$&")).join(" & ") + " \\\\" + (i ? "" : "\n\\hline")).join("\n") + "\n\\hline\n\\end{tabular}",
};

function cellsOf(table) {
  return [...table.rows].map((row) => [...row.cells].map((cell) =>
    [...cell.querySelectorAll(".value, small")].map((part) => part.textContent).join(" ") || cell.textContent.trim())
    .map((text) => text.replaceAll("\u2212", "-").replaceAll("\u2013", "").trim()));
}

function copyButtons(rows) {
  const line = document.createElement("p");
  line.className = "copy";
  line.append("copy as ");
  for (const [kind, write] of Object.entries(lines)) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = kind;
    button.onclick = async () => {
      await navigator.clipboard.writeText(write(rows()));
      button.textContent = "copied";
      setTimeout(() => { button.textContent = kind; }, 1200);
    };
    line.append(button);
  }
  return line;
}

const told = (value) => value === null || value === undefined ? "" : String(value);

function dataTable(details, panels, columns) {
  const names = [...new Set(columns.flatMap(Object.keys))].filter((n) => n !== "last");
  const rows = [["panel", ...names]];
  for (const [i, panel] of panels.entries()) {
    for (const row of rowsOf(columns[i])) rows.push([panel.title, ...names.map((name) => told(row[name]))]);
  }
  const most = 400;
  const box = document.createElement("div");
  box.className = "scroll";
  box.tabIndex = 0;
  const table = document.createElement("table");
  for (const [place, row] of rows.slice(0, most + 1).entries()) {
    const line = table.insertRow();
    for (const text of row) {
      const cell = document.createElement(place ? "td" : "th");
      cell.textContent = text;
      line.append(cell);
    }
  }
  box.append(table);
  details.append(copyButtons(() => rows), box);
  if (rows.length > most + 1) {
    const note = document.createElement("p");
    note.className = "note";
    note.textContent = `The first ${most} of ${rows.length - 1} rows; copying takes all.`;
    details.append(note);
  }
}

for (const figure of document.querySelectorAll("figure[data-figure]")) {
  const payload = JSON.parse(document.getElementById(`data-${figure.dataset.figure}`).textContent);
  let data; // promised when first asked for
  const columns = () => (data ??= unpacked(payload.rows));
  const grid = figure.querySelector(".panels");
  grid.style.setProperty("--columns", payload.columns);
  for (const [i, panel] of payload.panels.entries()) {
    const box = document.createElement("div");
    box.className = "panel";
    box.dataset.task = panel.task;
    const title = document.createElement("h4");
    title.textContent = panel.title;
    if (panel.color) title.style.borderColor = panel.color;
    box.append(title);
    if (panel.note) {
      const note = document.createElement("p");
      note.className = "note";
      note.textContent = panel.note;
      box.append(note);
    }
    if (panel.spec.layer) {
      const chart = document.createElement("div");
      chart.className = "chart";
      chart.style.minHeight = `${panel.spec.height + 45}px`;
      chart.source = { panel, columns: async () => (await columns())[i], name: `${payload.id}-${panel.title}`.replace(/[^\w-]+/g, "_") };
      chart.setAttribute("role", "img");
      chart.setAttribute("aria-label", `${panel.title}; the data are in the table below`);
      box.append(chart);
      seen.observe(chart);
    }
    grid.append(box);
  }
  const layers = payload.panels.flatMap((panel) => panel.spec.layer ?? []);
  if (payload.looks.length) legend(figure, payload.looks, layers.some((layer) => layer.mark.type === "line"));
  const details = figure.querySelector("details.data");
  let filled; // promised when first opened
  details.fill = () => (filled ??= columns().then((shown) => dataTable(details, payload.panels, shown)));
  details.addEventListener("toggle", () => { if (details.open) details.fill(); });
}
for (const table of document.querySelectorAll(".scroll > table")) {
  const box = table.parentElement;
  if (!box.closest("details")) box.after(copyButtons(() => cellsOf(table)));
}
for (const box of document.querySelectorAll("input[data-seed]")) {
  box.onchange = () => toggle("seeds", box.dataset.seed);
}
for (const choice of document.querySelectorAll("input[name=scale]")) {
  choice.onchange = () => { scales.y = choice.value; redraw(); };
}
document.getElementById("search")?.addEventListener("input", applyAll);
prefers.addEventListener("change", redraw);
window.addEventListener("beforeprint", () => {
  for (const chart of document.querySelectorAll(".chart")) if (!views.has(chart)) draw(chart);
});

// A reload, as that of a page which follows a run, keeps what the reader has chosen.
const place = `mtl_jax ${location.pathname}`;
const storage = (() => { try { return window.sessionStorage; } catch { return null; } })(); // it may be forbidden
const folds = [...document.querySelectorAll("details:not(.chart details)")].map((fold) =>
  [fold, (fold.closest("[id]") ?? fold.querySelector("[id]"))?.id + fold.firstElementChild.textContent]);
const search = document.getElementById("search");

function keep() {
  const names = Object.fromEntries(Object.entries(hidden).map(([kind, of]) => [kind, [...of]]));
  const open = folds.filter(([fold]) => fold.open).map(([, name]) => name);
  const state = { names, open, y: scales.y, search: search?.value ?? "", hash: location.hash, scroll: window.scrollY };
  storage?.setItem(place, JSON.stringify(state));
}

async function restore({ names, open, y, search: wanted, hash, scroll }) {
  for (const [kind, of] of Object.entries(names)) for (const name of of) hidden[kind].add(name);
  for (const [fold, name] of folds) fold.open ||= open.includes(name);
  for (const box of document.querySelectorAll("input[data-seed]")) box.checked = !hidden.seeds.has(box.dataset.seed);
  for (const choice of document.querySelectorAll("input[name=scale]")) choice.checked = choice.value === y;
  scales.y = y;
  if (search) search.value = wanted;
  applyAll();
  if (hash !== location.hash) return; // the reader came by a link
  history.scrollRestoration = "manual";
  await Promise.all(folds.map(([fold]) => fold.open && fold.fill?.())); // they have a height
  window.scrollTo(0, scroll);
  window.addEventListener("load", () => window.scrollTo(0, scroll));
}

window.addEventListener("pagehide", keep);
const kept = storage?.getItem(place);
if (kept) restore(JSON.parse(kept));
// A <meta> would go to the anchor of the address instead, if it has one.
const { refresh } = document.body.dataset;
if (refresh) setTimeout(() => location.reload(), 1000 * refresh);
