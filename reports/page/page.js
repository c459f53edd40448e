"use strict";
const $ = (id) => document.getElementById(id);

/* Tables: a heading sorts each panel's rows; chance and majority rows stay on top. */
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, place) => head.firstElementChild.addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") !== "descending" && place > 0 || head.getAttribute("aria-sort") === "ascending";
    heads.forEach((other) => other.setAttribute("aria-sort", "none"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => {
      const cell = row.cells[place];
      if (place === 0 || cell.classList.contains("text")) return cell.textContent.trim();
      return cell.dataset.value === "" ? null : Number(cell.dataset.value);
    };
    for (const body of table.tBodies) {
      const rows = [...body.rows].filter((row) => !/panel|level/.test(row.className));
      rows.sort((a, b) => {
        const x = key(a), y = key(b);
        if (x === null || y === null) return (x === null) - (y === null);
        const order = typeof x === "string" ? x.localeCompare(y) : x - y;
        return down ? -order : order;
      });
      body.append(...rows);
    }
  }));
}

/* Items */
const ROW = 44;
let data = { texts: [], cells: [] }, shown = [], chosen = -1;
const text = (place) => data.texts[place];
const element = (name, content, className) => {
  const made = document.createElement(name);
  if (content !== undefined) made.textContent = content;
  if (className) made.className = className;
  return made;
};
const distinct = (values) => [...new Set(values)];
const fill = (select, values, any) => {
  select.replaceChildren(...(any ? [new Option(any, "")] : []), ...values.map((value) => new Option(value, value)));
};
const full = (cell) => (cell.unit === "score" ? 100 : 1);
const verdict = (cell, place) => {
  const value = cell.value[place];
  return value === null ? "none" : value >= full(cell) / 2 ? "right" : "wrong";
};
const places = new Map();
function placeIn(cell, id) {
  if (!places.has(cell)) places.set(cell, new Map(cell.id.map((own, place) => [own, place])));
  return places.get(cell).get(id);
}
function counterpart(cell, method) {
  const same = data.cells.filter((other) => other.task === cell.task && other.method === method && other.id.length);
  return same.find((other) => other.seed === cell.seed) || (same.length === 1 ? same[0] : undefined);
}

function filter() {
  const [task, seed, a, b] = ["f-task", "f-seed", "f-a", "f-b"].map((id) => $(id).value);
  const wanted = $("f-verdict").value, pair = $("f-pair").value, needle = $("f-text").value.toLowerCase();
  const matches = needle ? new Set(data.texts.flatMap((t, place) => (t.toLowerCase().includes(needle) ? [place] : []))) : null;
  shown = [];
  data.cells.forEach((cell, index) => {
    if ((task && cell.task !== task) || (seed && String(cell.seed) !== seed) || (a && cell.method !== a)) return;
    const other = b && pair !== "any" ? counterpart(cell, b) : undefined;
    if (b && pair !== "any" && (!other || other === cell)) return;
    for (let place = 0; place < cell.id.length; place++) {
      const own = verdict(cell, place);
      if (wanted !== "any" && own !== wanted) continue;
      if (other) {
        const there = placeIn(other, cell.id[place]);
        if (there === undefined) continue;
        const theirs = verdict(other, there);
        if (own === "none" || theirs === "none" || (own === "right" ? "1" : "0") + (theirs === "right" ? "1" : "0") !== pair) continue;
      }
      if (matches && ![cell.id, cell.prompt, cell.gold, cell.prediction, cell.outputs].some((column) => matches.has(column[place]))) continue;
      shown.push([index, place]);
    }
  });
  chosen = -1;
  $("count").textContent = `${shown.length.toLocaleString("en")} item${shown.length === 1 ? "" : "s"}`;
  $("spacer").style.height = `${shown.length * ROW}px`;
  $("list").scrollTop = 0;
  draw();
}

function draw() {
  const list = $("list"), first = Math.max(0, Math.floor(list.scrollTop / ROW) - 8);
  const last = Math.min(shown.length, first + Math.ceil(list.clientHeight / ROW) + 16);
  const rows = [];
  for (let number = first; number < last; number++) {
    const [index, place] = shown[number], cell = data.cells[index], own = verdict(cell, place);
    const row = element("div", undefined, "item");
    row.id = `item-${number}`;
    row.setAttribute("role", "option");
    row.setAttribute("aria-selected", String(number === chosen));
    row.setAttribute("aria-posinset", number + 1);
    row.setAttribute("aria-setsize", shown.length);
    row.style.top = `${number * ROW}px`;
    const meta = element("div", `${cell.task} · ${cell.method} · seed ${cell.seed} · ${text(cell.id[place])} · `, "meta");
    meta.append(element("span", own === "none" ? "no verdict" : own, own));
    row.append(element("div", text(cell.prompt[place])), meta);
    row.addEventListener("click", () => choose(number));
    rows.push(row);
  }
  const spacer = $("spacer");
  spacer.replaceChildren(...rows);
  if (chosen >= first && chosen < last) list.setAttribute("aria-activedescendant", `item-${chosen}`);
  else list.removeAttribute("aria-activedescendant");
}

function choose(number) {
  if (!shown.length) return;
  chosen = Math.max(0, Math.min(shown.length - 1, number));
  const list = $("list"), top = chosen * ROW;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + ROW > list.scrollTop + list.clientHeight) list.scrollTop = top + ROW - list.clientHeight;
  draw();
  detail(...shown[chosen]);
}

function detail(index, place) {
  const cell = data.cells[index], own = verdict(cell, place), parts = [];
  const block = (title, content) => parts.push(element("h4", title), element("pre", content));
  parts.push(element("h3", `${text(cell.id[place])} (${cell.task}, ${cell.method}, seed ${cell.seed})`));
  const line = element("p", "Verdict: ");
  line.append(element("strong", own === "none" ? "no verdict" : own, own), ` (${cell.primary} ${cell.value[place] ?? "not scored"})`);
  parts.push(line);
  block("Prompt", text(cell.prompt[place]));
  const choices = JSON.parse(text(cell.choices[place])), outputs = JSON.parse(text(cell.outputs[place]));
  if (choices) {
    const table = element("table"), head = table.createTHead().insertRow();
    for (const name of ["choice", "log-likelihood", "greedy"]) { const th = element("th", name); th.scope = "col"; head.append(th); }
    const body = table.createTBody();
    choices.forEach((choice, k) => {
      const row = body.insertRow();
      row.append(element("td", choice), element("td", Array.isArray(outputs[k]) ? String(outputs[k][0]) : String(outputs[k] ?? "")), element("td", Array.isArray(outputs[k]) && outputs[k][1] ? "yes" : ""));
    });
    parts.push(element("h4", "Choices"), table);
  } else outputs.forEach((output, k) => block(outputs.length > 1 ? `Output ${k + 1}` : "Output", typeof output === "string" ? output : JSON.stringify(output)));
  block("Prediction", text(cell.prediction[place]));
  block("Gold", text(cell.gold[place]));
  block("Metrics", text(cell.metrics[place]));
  if (text(cell.extra[place]) !== "{}") block("Details", JSON.stringify(JSON.parse(text(cell.extra[place])), null, 1));
  const others = data.cells.filter((other) => other !== cell && other.task === cell.task && placeIn(other, cell.id[place]) !== undefined);
  if (others.length) {
    const table = element("table"), head = table.createTHead().insertRow();
    for (const name of ["method", "seed", "prediction", "verdict"]) { const th = element("th", name); th.scope = "col"; head.append(th); }
    const body = table.createTBody();
    for (const other of others) {
      const there = placeIn(other, cell.id[place]), row = body.insertRow(), theirs = verdict(other, there);
      row.append(element("td", other.method), element("td", String(other.seed)), element("td", text(other.prediction[there]).slice(0, 200)), element("td", theirs === "none" ? "no verdict" : theirs, theirs));
    }
    parts.push(element("h4", "The same item elsewhere"), table);
  }
  $("detail").replaceChildren(...parts);
  $("detail").scrollTop = 0;
}

function cells() {
  $("cell-list").replaceChildren(...data.cells.map((cell) => {
    const details = element("details"), summary = element("summary", `${cell.method} on ${cell.task}, seed ${cell.seed} (${cell.status}, ${cell.hash})`);
    details.append(summary);
    details.addEventListener("toggle", () => {
      if (details.open && details.children.length === 1) { const pre = element("pre", text(cell.record)); pre.tabIndex = 0; details.append(pre); }
    });
    return details;
  }));
}

$("list").addEventListener("scroll", () => requestAnimationFrame(draw));
$("list").addEventListener("keydown", (event) => {
  const page = Math.max(1, Math.floor($("list").clientHeight / ROW) - 1);
  const to = { ArrowDown: chosen + 1, ArrowUp: chosen - 1, PageDown: chosen + page, PageUp: chosen - page, Home: 0, End: shown.length - 1, Enter: Math.max(0, chosen) }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  choose(to);
});
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("input", filter);

(async () => {
  try {
    const bytes = Uint8Array.from(atob($("payload").textContent), (c) => c.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    data = JSON.parse(await new Response(stream).text());
  } catch (error) {
    $("count").textContent = "The items could not be read: this browser lacks DecompressionStream; use a newer one.";
    return;
  }
  const tasks = distinct(data.cells.map((cell) => cell.task)), methods = distinct(data.cells.map((cell) => cell.method));
  fill($("f-task"), tasks, "all");
  fill($("f-seed"), distinct(data.cells.map((cell) => String(cell.seed))), "all");
  fill($("f-a"), methods, "all");
  fill($("f-b"), methods, "none");
  cells();
  filter();
  document.body.dataset.ready = "true";
})();
