// Shows what the recorder saw. Whatever an event or a request holds is shown as text, by `el`.

import { build, el } from "./forms.js";

const $ = (selector) => document.querySelector(selector);
const SHOWN = 100; // rows of the log
const QUIET = 3000; // ms without a step after which the app is called idle
const calm = matchMedia("(prefers-reduced-motion: reduce)");

let about = { events: [], routes: [], questions: [], predictions: [] };
let steps = []; // of the last runs and of this one, oldest first
let now = { run: "", calls: {}, running: [], handled: null };
let connection = "connecting"; // then: live, stopping, lost, gone
let before = ""; // the run that was live when the connection went
let told = ""; // the connection of which a screen reader heard
let paused = false;
let waiting = 0; // steps that came while paused
let quietSince = Date.now();

const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });
const short = (listener) => listener.split(".").slice(-1)[0];
const mine = () => steps.filter((step) => step.run === now.run);
const plural = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;

async function api(path, body) {
  const options = body === undefined ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body };
  const response = await fetch(path, options);
  const text = await response.text();
  let data = null;
  try { data = JSON.parse(text); } catch { /* an answer that is no JSON is shown as it is */ }
  return { ok: response.ok, status: response.status, text, data };
}

// The connection: it comes back by itself, and says truthfully where the server is.

function connect() {
  const socket = new WebSocket(`${location.protocol === "https:" ? "wss" : "ws"}://${location.host}/lesson/live`);
  let opened = false;
  let earlier = Promise.resolve(); // messages are taken one after the other
  socket.onmessage = (event) => { earlier = earlier.then(() => take(JSON.parse(event.data))); };
  const take = async (news) => {
    if (opened) return receive(news, news.steps);
    opened = true;
    await reload(news);
  };
  socket.onclose = (event) => {
    before = now.run;
    if (event.code === 1012) connection = "stopping";
    else connection = opened ? "lost" : "gone";
    if (connection === "stopping") setTimeout(() => { if (connection === "stopping") { connection = "gone"; showState(); } }, 1500);
    now.running = [];
    showState();
    setTimeout(connect, opened ? 700 : 1500);
  };
}

async function reload(news) {
  const facts = await api("/lesson/about");
  if (!facts.ok) {
    connection = "unread";
    return showState();
  }
  const changed = (...parts) => parts.some((part) => JSON.stringify(about[part]) !== JSON.stringify(facts.data[part]));
  const asksAnew = changed("predictions", "questions", "problem");
  const formsAnew = changed("events", "routes");
  about = facts.data;
  connection = "live";
  receive(news, news.steps);
  text_($("#title"), about.title);
  if (asksAnew) showQuestions();
  if (formsAnew) showForms();
}

function receive(news, fresh) {
  const known = new Set(steps.map(key));
  const added = fresh.filter((step) => !known.has(key(step)));
  const first = steps.length === 0;
  now = news;
  steps.push(...added);
  steps.sort((a, b) => (a.run === b.run ? a.sequence - b.sequence : a.run < b.run ? -1 : 1));
  steps = steps.slice(-5 * SHOWN);
  if (added.length && !first) quietSince = Date.now();
  if (first && mine().length) quietSince = Math.max(...mine().map((s) => Date.parse(s.time) + s.duration * 1000));
  if (paused) {
    waiting += added.length;
    showState();
  } else show(first ? [] : added);
}

const key = (step) => `${step.run} ${step.sequence}`;

// What is shown.

function show(added) {
  showRows();
  showTracker();
  showLog();
  showListeners();
  showInstances();
  showPredictions();
  showState();
  play(added);
  announce(added);
}

function lastRun() {
  const runs = [...new Set(steps.map((step) => step.run))].filter((run) => run !== now.run);
  return steps.filter((step) => step.run === runs.at(-1));
}

const ended = (run) => run.filter((step) => step.type === "Shutdown");

function showState() {
  const quiet = Math.max(0, Math.floor((Date.now() - quietSince) / 1000));
  const last = lastRun();
  const row3 = ended(last).at(-1);
  const back = before && before !== now.run && last.length && last[0].run === before;
  const goodbye = !back ? "" : row3
    ? ` The app is back. Row 3 of the last run: ${row3.handler_output}.`
    : " The app is back. The last run has no row 3: it was stopped without a goodbye.";
  const [state, name, text] = {
    connecting: ["connecting", "Connecting", "to your app"],
    stopping: ["stopping", "Shutdown requested.", "The server is closing its connections."],
    lost: ["gone", "The connection broke.", "The server said no goodbye; look at your terminal."],
    unread: ["gone", "The lesson cannot read your app;", "look at your terminal."],
    gone: ["gone", "The server is gone;", "look at your terminal. This page comes back when the server does."],
    live: paused
      ? ["paused", "Paused.", waiting ? `${plural(waiting, "new step")} to show.` : "Nothing new."]
      : now.running.length
        ? ["running", "Running:", `${now.running.join(", ")}`]
        : ["idle", "Idle:", `nothing runs; quiet for ${quiet} s.${goodbye}`],
  }[connection];
  $("#state").dataset.state = state;
  text_($("#state-name"), name);
  text_($("#state-text"), text);
  if (told && told !== connection) say(`${name} ${text}`);
  told = connection === "connecting" ? "" : connection;
  if (!paused) showIdle();
}

// Set a text only when it differs, so that nothing is announced or laid out twice.
function text_(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const head = (...children) => el("th", { scope: "row", role: "rowheader" }, ...children);
const cell = (label, ...children) => el("td", { "data-label": label, role: "cell" }, ...children);
const mark = (state, text) => el("span", { class: "mark", "data-mark": state, text });

function body(table, rows) {
  const node = el("tbody", { role: "rowgroup" }, ...rows);
  table.querySelectorAll("tbody").forEach((old) => old.remove());
  table.append(node);
}

function cells(step) {
  return [
    cell("Event", step.event, el("small", { text: step.detail })),
    cell("Listener Action", step.listener_action),
    cell("Handler Output", ...(step.failed ? [mark("failed", "failed"), " "] : []), step.handler_output.replace(/^Fails: /, "")),
    cell("Next Action", step.next_action),
  ];
}

// The four rows of the execution table: the latest call of each listener.
function showRows() {
  const rows = [];
  for (const number of [1, 2, 3]) {
    const here = mine().filter((step) => step.step === number && step.cause === null);
    const from = here.length ? here : number === 3 ? ended(lastRun()) : [];
    const latest = [...new Map(from.map((step) => [number === 2 ? 2 : step.listener, step])).values()];
    for (const step of latest) {
      const state = here.length ? mark("done", `happened at ${clock(step.time)}`) : mark("earlier", `last run, at ${clock(step.time)}`);
      rows.push(el("tr", { role: "row" }, head(String(number), state), ...cells(step)));
    }
    if (!latest.length) {
      rows.push(el("tr", { role: "row", class: "empty" }, head(String(number), mark("open", "not yet")),
        ...["Event", "Listener Action", "Handler Output", "Next Action"].map((label) => cell(label, "not yet"))));
    }
  }
  rows.push(el("tr", { role: "row", id: "idle" }, head("4", mark("open", "")), ...["Event", "Listener Action", "Handler Output", "Next Action"].map((label) => cell(label, ""))));
  body($("#rows"), rows);
  showIdle();
}

// Row 4 is a state and not an event: it holds between events.
function showIdle() {
  const row = $("#idle");
  if (!row) return;
  const idle = connection === "live" && !now.running.length && Date.now() - quietSince >= QUIET;
  row.classList.toggle("empty", !idle);
  const badge = row.querySelector(".mark");
  badge.dataset.mark = idle ? "done" : "open";
  text_(badge, idle ? "now" : "not now");
  const words = idle ? ["No event", "No listener triggered", "No action", "Idle state"] : Array(4).fill("not now");
  row.querySelectorAll("td").forEach((td, index) => text_(td, words[index]));
}

function showTracker() {
  const steps1 = mine().filter((step) => step.cause === null);
  const one = steps1.filter((step) => step.step === 1).at(-1);
  const two = steps1.filter((step) => step.step === 2).at(-1);
  const three = ended(lastRun()).at(-1);
  const none = () => el("code", { text: "None" });
  const value = (step, pick, label, note = "") => cell(label,
    step ? el("code", { text: pick(step) }) : mark("open", "not yet"), step && note ? el("small", { text: note }) : "");
  const message = (step) => {
    if (step.value === null) return "None";
    try { return JSON.stringify(JSON.parse(step.value).message ?? JSON.parse(step.value)); } catch { return JSON.stringify(step.value); }
  };
  const row = (name, pick) => el("tr", { role: "row" }, head(el("code", { text: name })),
    cell("Start", none()),
    value(one, pick, "After Step 1"),
    value(two, pick, "After Step 2", two?.detail),
    value(three, pick, "After Step 3", "last run"),
    cell("Final", three ? none() : mark("open", "not yet"), three ? el("small", { text: "last run" }) : ""));
  body($("#variables"), [row("event", (step) => JSON.stringify(step.type.toLowerCase())), row("handler_output", message)]);
}

// The log keeps its rows, so that the focus stays where it is.
const logged = new Map();

function showLog() {
  const table = $("#log");
  const box = $("#log-scroll");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const shown = steps.filter((step) => step.run === now.run || step.run === lastRun()[0]?.run).slice(-SHOWN);
  const keep = new Set(shown.map(key));
  for (const [id, row] of logged) if (!keep.has(id)) { row.remove(); logged.delete(id); }
  for (const group of table.querySelectorAll("tbody")) if (!group.querySelector("tr.step")) group.remove();
  for (const step of shown) {
    if (logged.has(key(step))) continue;
    let group = [...table.querySelectorAll("tbody")].find((node) => node.dataset.run === step.run);
    if (!group) {
      const [heading, cellOf] = [el("th", { scope: "rowgroup", colspan: "7", role: "rowheader" }), el("tr", { role: "row", class: "run" })];
      cellOf.append(heading);
      group = el("tbody", { role: "rowgroup", "data-run": step.run }, cellOf);
      const after = [...table.querySelectorAll("tbody")].find((node) => node.dataset.run > step.run);
      table.insertBefore(group, after ?? null);
    }
    text_(group.querySelector("th"), step.run === now.run ? "This run" : `Last run, from ${clock(step.time)}`);
    const row = logRow(step);
    const next = [...group.querySelectorAll("tr.step")].find((other) => Number(other.dataset.sequence) > step.sequence);
    group.insertBefore(row, next ?? null);
    logged.set(key(step), row);
  }
  for (const group of table.querySelectorAll("tbody")) {
    if (group.dataset.run !== now.run) text_(group.querySelector("th"), `Last run, from ${clock(steps.find((s) => s.run === group.dataset.run)?.time)}`);
  }
  if (atEnd) box.scrollTop = box.scrollHeight;
}

function logRow(step) {
  let depth = 0;
  for (let at = step; at?.cause && depth < 4; depth++) at = steps.find((other) => other.run === step.run && other.sequence === at.cause);
  const ms = step.duration * 1000;
  const [event, ...rest] = cells(step);
  if (step.cause) event.append(el("small", { class: "cause", text: `caused by no. ${step.cause}` }));
  return el("tr", { class: "step", role: "row", "data-depth": depth, "data-sequence": step.sequence },
    head(step.step ? `Step ${step.step}` : "New", el("small", { text: `no. ${step.sequence}` })), event, ...rest,
    cell("When", clock(step.time), el("small", { text: ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms` })),
    cell("Again", again(step)));
}

function again(step) {
  const label = `Send no. ${step.sequence} again: ${step.event}`;
  const get = step.type === "request" && step.detail.startsWith("GET /") && step.detail.length < 200;
  if (get) return el("button", { type: "button", "aria-label": label, text: "Again", onclick: () => fetch(step.detail.slice(4)) });
  const sendable = step.fields && about.events.some((event) => event.name === step.type && event.schema);
  if (!sendable) return "";
  const sent = JSON.stringify({ type: step.type, fields: step.fields });
  return el("button", { type: "button", "aria-label": label, text: "Again", onclick: () => api("/lesson/events", sent) });
}

function showListeners() {
  const rows = [];
  const add = (name, detail, listeners) => {
    for (const listener of listeners.length ? listeners : [null]) {
      const count = listener ? now.calls[listener] ?? 0 : null;
      rows.push(el("tr", { role: "row" }, head(name, el("small", { text: detail })),
        cell("Listener", listener ? el("code", { text: short(listener) }) : mark("open", "nobody listens"), listener ? el("small", { text: listener }) : ""),
        cell("Called", count === null ? "" : count === 0 ? mark("open", "waits, 0 times") : plural(count, "time"))));
    }
  };
  for (const route of about.routes) add("User sends request", route.name, route.listeners);
  for (const event of about.events) add(event.name, event.about, event.listeners);
  body($("#who"), rows);
}

// With an engine, an event may be handled in another process than the one that this page is of.
function showInstances() {
  const handled = now.handled;
  for (const node of [$("#instances"), $("nav [href='#instances']")]) node.hidden = !handled;
  if (!handled) return;
  const name = (process) => `process ${process}`;
  const own = now.run.split("-").at(-1);
  const counts = new Map([[own, 0]]);
  for (const { process } of handled) counts.set(process, (counts.get(process) ?? 0) + 1);
  const shares = [...counts].map(([process, count]) => `${name(process)}${process === own ? " (this page)" : ""} handled ${count}`);
  text_($("#shares"), handled.length ? `Of the last ${handled.length}, ${shares.join(", ")}.` : `This page is of ${name(own)}. No event was handled yet.`);
  body($("#handled"), [...handled].reverse().map((step) => el("tr", { role: "row" },
    head(step.event, el("small", { text: step.detail })),
    cell("Listener", el("code", { text: short(step.listener) })),
    cell("Instance", mark(step.run === now.run ? "done" : "open", name(step.process)),
      el("small", { text: [step.run === now.run ? "this page" : "", step.sent_by ? `sent by ${name(step.sent_by)}` : ""].filter(Boolean).join(", ") })),
    cell("Handler Output", ...(step.failed ? [mark("failed", "failed"), " "] : []), step.handler_output.replace(/^Fails: /, "")),
    cell("When", clock(step.time)))));
}

// The concept flow: each step of the app is played box by box; under load, only the last ones.

let queue = [];
let playing = false;

const nobody = (step) => (step.listener_action === "No listener triggered" ? "nobody listens" : step.listener_action);

async function play(added) {
  queue.push(...added.sort((a, b) => a.sequence - b.sequence));
  queue = queue.slice(-4);
  if (playing) return;
  playing = true;
  const boxes = [...$("#boxes").children];
  for (let step; (step = queue.shift());) {
    const heard = step.listener !== null;
    const emits = step.next_action.startsWith("Emits ");
    const says = [
      step.event, heard ? short(step.listener) : nobody(step), heard ? `calls ${short(step.listener)}` : "not this time",
      heard ? step.handler_output : "not this time", emits ? step.next_action : "not this time", emits ? "Continues" : `Ends: ${step.next_action}`,
    ];
    boxes.forEach((box, index) => {
      const skipped = says[index] === "not this time";
      box.dataset.box = "dark";
      box.dataset.next = skipped ? "skipped" : "lit";
      text_(box.lastElementChild, "");
    });
    for (const [index, box] of boxes.entries()) {
      boxes.forEach((other) => other.removeAttribute("aria-current"));
      box.dataset.box = box.dataset.next;
      box.setAttribute("aria-current", "step");
      text_(box.lastElementChild, says[index]);
      if (!calm.matches && box.dataset.next === "lit") await new Promise((done) => setTimeout(done, queue.length ? 120 : 320));
    }
  }
  boxes.forEach((box) => box.removeAttribute("aria-current"));
  playing = false;
}

// Told to a screen reader in batches, so that it can follow.

let unsaid = [];

function announce(added) {
  unsaid.push(...added);
}

setInterval(() => {
  if (!unsaid.length || paused) return;
  const last = unsaid.at(-1);
  $("#announce").textContent = `${plural(unsaid.length, "new step")}. ${last.event}: ${last.listener_action}. ${last.handler_output}.`;
  unsaid = [];
}, 3000);

// Forms and buttons that make something happen.

function select(node, items, chosen) {
  const value = node.value;
  node.replaceChildren(...items.map((item) => el("option", { value: item.name, text: item.name })));
  if (items.some((item) => item.name === value)) node.value = value;
  node.onchange = () => chosen(items.find((item) => item.name === node.value));
  if (items.length) node.onchange();
}

function showForms() {
  const request = $("#request");
  let fields = null;
  select(request.elements.route, about.routes, (route) => {
    request.elements.path.value = route.path;
    request.querySelector(".fields").replaceChildren();
    fields = route.schema ? build(request.querySelector(".fields"), { ...route.schema }) : null;
    request.onsubmit = (event) => submit(event, fields, async (json) => {
      const body = json === "{}" && !fields ? undefined : json;
      const url = new URL(request.elements.path.value, location.origin);
      if (url.origin !== location.origin) return "Type a path of this app, such as /orders.";
      const options = { method: route.method, headers: body ? { "Content-Type": "application/json" } : {}, body };
      const response = await fetch(url, options);
      const text = await response.text();
      if (response.status === 422) fields?.show(problems(text));
      return `${response.status} ${text.slice(0, 300)}`;
    });
  });
  const form = $("#emit");
  select(form.elements.type, about.events.filter((event) => event.schema), (type) => {
    form.querySelector(".about").textContent = type.about;
    const place = form.querySelector(".fields");
    place.replaceChildren();
    const fields = build(place, type.schema);
    form.onsubmit = (event) => submit(event, fields, async (json) => {
      const { ok, status, text, data } = await api("/lesson/events", `{"type":${JSON.stringify(type.name)},"fields":${json}}`);
      if (ok) return data.failures.length ? `Emitted, and ${data.failures.join("; ")}` : "Emitted. Its rows are in the table of all steps.";
      fields.show(problems(text));
      return status === 422 ? "Not emitted: the class refuses these fields." : `Not emitted: the server answered ${status}.`;
    });
  });
}

function problems(text) {
  try { return [JSON.parse(text).detail].flat().filter((e) => e?.loc); } catch { return []; }
}

async function submit(event, fields, send) {
  event.preventDefault();
  const result = event.target.querySelector(".result");
  fields?.show([]);
  try {
    result.textContent = await send(fields ? fields.read() : "{}");
  } catch (errors) {
    if (Array.isArray(errors)) fields.show(errors);
    result.textContent = Array.isArray(errors) ? "Not sent." : "Not sent: the server does not answer.";
  }
  say(result.textContent);
}

function say(text) {
  $("#announce").textContent = text;
}

function moment(number, act) {
  const button = $(`#moment-${number}`);
  const result = button.parentElement.querySelector(".result");
  button.onclick = async () => {
    if (button.getAttribute("aria-disabled")) return;
    button.setAttribute("aria-disabled", "true");
    try { result.textContent = await act((text) => { result.textContent = text; }); }
    catch { result.textContent = "The server does not answer; look at your terminal."; }
    button.removeAttribute("aria-disabled");
    say(result.textContent);
  };
}

const pause_ = (ms) => new Promise((done) => setTimeout(done, ms));
const recorded = async () => (await api("/lesson/steps")).data.filter((step) => step.run === now.run);

moment(1, async () => {
  const called = (all) => all.filter((step) => step.detail === "GET /" && step.listener).length;
  const earlier = called(await recorded());
  const response = await fetch("/");
  const later = called(await recorded());
  return `Before: called ${plural(earlier, "time")}. The event occurred. Now: ${plural(later, "time")}. It answered ${response.status}.`;
});

moment(2, async () => {
  const earlier = new Set((await recorded()).map(key));
  const response = await fetch("/orders", { method: "POST", headers: { "Content-Type": "application/json" }, body: '{"item": "tea", "quantity": 1}' });
  const rows = (await recorded()).filter((step) => !earlier.has(key(step)) && step.type === "OrderPlaced");
  if (now.handled) return `Answered ${response.status}. The engine hands OrderPlaced to each listener: see which instance handled what.`;
  const names = rows.map((step) => (step.listener ? short(step.listener) : "nobody")).join(", ");
  return `Answered ${response.status}. One OrderPlaced made ${plural(rows.length, "row")}: ${names}.`;
});

moment(3, async (tell) => {
  const earlier = (await recorded()).length;
  for (let left = 5; left; left--) { tell(`Waiting. ${left} s left`); await pause_(1000); }
  const added = (await recorded()).length - earlier;
  return added ? `${plural(added, "step")} happened meanwhile: somebody made an event occur.` : "Five seconds, no event, no row. No handler ran; the app waits.";
});

$("#pause").onclick = () => {
  paused = !paused;
  $("#pause").setAttribute("aria-pressed", String(paused));
  if (!paused) { waiting = 0; show([]); }
  showState();
};

// Predict, then compare; and the quiz. What is right is known to the server alone.

function showQuestions() {
  const form = $("#predict form");
  text_($("#problem"), about.problem);
  form.replaceChildren(...about.predictions.map((prediction) => {
    const node = el("input", { name: prediction.id, autocomplete: "off", value: prediction.answer ?? "" });
    const label = el("label", {}, prediction.text, node);
    return el("div", { class: "prediction", "data-id": prediction.id }, label, el("p", { class: "compare" }));
  }));
  form.onsubmit = (event) => event.preventDefault();
  form.oninput = showPredictions;
  $("#quiz .questions").replaceChildren(...about.questions.map((question, index) => ask(question, `Question ${index + 1}`)));
  showPredictions();
}

function showPredictions() {
  for (const node of document.querySelectorAll(".prediction")) {
    const number = Number(node.dataset.id.slice(-1));
    const row = [...document.querySelectorAll("#rows tbody tr")].find((tr) => parseInt(tr.querySelector("th").textContent, 10) === number);
    const happened = row && !row.classList.contains("empty");
    const guess = node.querySelector("input").value.trim();
    const output = happened ? row.querySelector('[data-label="Handler Output"]').textContent : "";
    text_(node.querySelector(".compare"), !guess ? "Write your prediction, then see what happened."
      : happened ? `You predicted: ${guess}. What happened: ${output}.` : "It has not happened yet. Make it happen, then compare.");
  }
}

function ask(question, title) {
  const verdict = el("p", { class: "verdict" });
  const because = el("div");
  const form = el("form", { class: "card question", novalidate: true },
    el("fieldset", {}, el("legend", {}, el("b", { text: title }), " ", question.text),
      ...question.choices.map(({ letter, text }) => el("label", { class: "choice" },
        el("input", { type: "radio", name: question.id, value: letter, checked: letter === question.answer }), el("span", {}, el("b", { text: letter }), " ", text)))),
    el("details", {}, el("summary", { text: "Hint" }), el("p", { text: question.hint })),
    el("button", { class: "main", text: "Check" }), verdict);
  form.onsubmit = async (event) => {
    event.preventDefault();
    const letter = new FormData(form).get(question.id) ?? "";
    try {
      const { data } = await api("/lesson/quiz", JSON.stringify({ id: question.id, letter }));
      verdict.replaceChildren(mark(data.state, data.state), " ", data.sentence);
      say(`${data.state}. ${data.sentence}`);
      if (data.state === "right" && question.because && !because.childElementCount) because.append(ask(question.because, "Because"));
    } catch {
      verdict.textContent = "The server does not answer; look at your terminal.";
    }
  };
  return question.because ? el("div", {}, form, because) : form;
}

for (const table of document.querySelectorAll("table")) {
  table.setAttribute("role", "table");
  table.querySelector("thead").setAttribute("role", "rowgroup");
  table.querySelector("thead tr").setAttribute("role", "row");
  table.querySelectorAll("thead th").forEach((th) => th.setAttribute("role", "columnheader"));
}
setInterval(() => { if (connection === "live" && !paused) showState(); }, 1000);
showState();
connect();
