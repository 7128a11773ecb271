// What the page is made of: elements, which show whatever an event or a request holds as text.

export const $ = (selector) => document.querySelector(selector);
export const $$ = (selector) => [...document.querySelectorAll(selector)];
const ROLES = { thead: "rowgroup", tbody: "rowgroup", tr: "row", td: "cell" }; // a card's layout hides them

export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries({ role: ROLES[tag] ?? null, ...attributes })) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

// Set a text only when it differs, so that nothing is announced or laid out twice.
export const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
export const mark = (state, text) => el("span", { class: "mark", "data-state": state, text });
export const code = (text) => el("code", { text });
export const small = (text) => el("small", { text });

// How a step is said.
export const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });
export const short = (listener) => listener.split(".").at(-1);
export const plural = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;
export const process = (run) => `process ${run.split("-").at(-1)}`;

export const output = ({ failed, handler_output: text }) => (
  failed ? [mark("failed", "failed"), ` ${text.replace(/^Fails: /, "")}`] : [text]);

// Fill a table with rows, if they differ. A row is a list of cells, its heading first; or just a text.
export function fill(table, rows) {
  const columns = table.dataset.columns.split("|");
  const th = (scope, role, ...content) => el("th", { scope, role }, ...content);
  const td = (content, index) => el("td", { "data-label": columns[index + 1] }, el("div", {}, ...[content].flat()));
  const tr = ([heading, ...cells]) => el("tr", {}, th("row", "rowheader", ...[heading].flat()), ...cells.map(td));
  const wide = { scope: "rowgroup", role: "rowheader", colspan: columns.length };
  const over = (text) => el("tr", { class: "run" }, el("th", { ...wide, text }));
  const body = el("tbody", {}, ...rows.map((row) => (typeof row === "string" ? over(row) : tr(row))));
  const heads = columns.map((name) => th("col", "columnheader", name));
  if (!table.tHead) table.append(el("thead", {}, el("tr", {}, ...heads)));
  if (table.tBodies[0]?.isEqualNode(body)) return;
  const focused = table.contains(document.activeElement) && document.activeElement.ariaLabel;
  table.tBodies[0]?.remove();
  table.append(body);
  if (focused) table.querySelector(`[aria-label="${CSS.escape(focused)}"]`)?.focus();
}
