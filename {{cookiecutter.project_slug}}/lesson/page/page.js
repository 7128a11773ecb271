// Shows what the recorder saw. Whatever an event or a request holds is shown as text, by `el`.

const $ = (selector) => document.querySelector(selector);
const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];
const SHOWN = 100; // rows of the log
const QUIET = 3000; // ms without a step after which the app is called idle
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const base = new URL(".", location.href); // a proxy may have put the app under a path
const at = (path) => new URL(path.replace(/^\/+/, ""), base);

let about = { events: [], routes: [], rows: [], questions: [], predictions: [], problem: "" };
let steps = []; // of the last run and of this one, oldest first
let now = { run: "", state: "", calls: {}, running: [], handled: null };
let connection = "connecting"; // then: live, stopped, closing, lost, killed, refused, blocked, unread
let refusal = "";
let cameBack = false;
let paused = false;
let waiting = 0; // steps that came while paused
let quietSince = Date.now();

const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });
const short = (listener) => listener.split(".").at(-1);
const plural = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;
const key = (step) => `${step.run} ${step.sequence}`;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const process = (run) => `process ${run.split("-").at(-1)}`;
const mine = () => steps.filter((step) => step.run === now.run);
const lastRun = () => steps.filter((step) => step.run !== now.run);
const shutdowns = (run) => run.filter((step) => step.type === "Shutdown");

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children);
  return node;
}

// Set a text only when it differs, so that nothing is announced or laid out twice.
function put(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const mark = (state, text) => el("span", { class: `mark ${state}`, text });
const code = (text) => el("code", { text });
const small = (text) => el("small", { text });
const head = (...children) => el("th", { scope: "row", role: "rowheader" }, ...children);
const cell = (label, ...children) => el("td", { "data-label": label, role: "cell" }, el("div", {}, ...children));
const line = (...cells) => el("tr", { role: "row" }, ...cells);

function fill(table, rows) {
  $$("tbody", table).forEach((old) => old.remove());
  table.append(el("tbody", { role: "rowgroup" }, ...rows));
}

function say(text) {
  $("#announce").textContent = text;
}

async function api(path, sent) {
  const json = { method: "POST", headers: { "Content-Type": "application/json" }, body: sent };
  const response = await fetch(at(path), sent === undefined ? {} : json);
  const text = await response.text();
  let data = null;
  try { data = JSON.parse(text); } catch { /* an answer that isn't JSON is shown as it is */ }
  return { ok: response.ok, status: response.status, text, data };
}

// The connection comes back by itself, and says truthfully where the server is.

function connect() {
  const url = at("lesson/live");
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  let opened = false;
  let earlier = Promise.resolve(); // messages are taken one after the other
  socket.onmessage = ({ data }) => {
    earlier = earlier.then(() => receive(JSON.parse(data), opened)).then(() => (opened ||= true));
  };
  socket.onclose = ({ code }) => earlier.then(async () => {
    if (now.state === "stopped" && opened) connection = "stopped";
    else if (opened) connection = code === 1012 ? "closing" : "lost";
    else if (connection === "lost") connection = "killed";
    else if (!now.run || connection === "refused" || connection === "blocked") await askWhy();
    now.running = [];
    show([]);
    setTimeout(connect, opened ? 700 : 1500);
  });
}

// A browser says nothing of why a socket is refused; an ordinary request is told.
async function askWhy() {
  try {
    const { status, text } = await api("lesson/events", "");
    refusal = text;
    connection = status === 403 ? "refused" : "blocked";
  } catch {
    connection = "away";
  }
}

async function receive(news, opened) {
  const known = new Set(steps.map(key));
  const added = news.steps.filter((step) => !known.has(key(step)));
  const first = !now.run;
  if (!opened) {
    cameBack = Boolean(now.run) && now.run !== news.run;
    steps = news.steps;
    connection = "live";
  } else steps.push(...added);
  now = news;
  steps.sort((a, b) => (a.run === b.run ? a.sequence - b.sequence : a.run < b.run ? -1 : 1));
  const latest = new Map(steps.map((step) => [`${step.run} ${step.type} ${step.listener}`, step]));
  const keep = new Set([...latest.values(), ...steps.slice(-3 * SHOWN)]);
  steps = steps.filter((step) => keep.has(step)); // under load there are thousands
  if (added.length) quietSince = Math.max(...added.map((step) => Date.parse(step.time) + step.duration * 1000));
  if (paused) {
    waiting += added.length;
    showState();
  } else show(first ? [] : added);
  if (!opened) await refresh();
}

async function refresh() {
  const facts = await api("lesson/about").catch(() => ({ ok: false }));
  if (connection === "live" && !facts.ok) connection = "unread";
  if (!facts.ok) return showState();
  const differs = (...parts) => parts.some((part) => JSON.stringify(about[part]) !== JSON.stringify(facts.data[part]));
  const [asks, forms] = [differs("predictions", "questions", "problem"), differs("events", "routes")];
  about = facts.data;
  put($("#title"), about.title);
  if (asks) showQuestions();
  if (forms) showForms();
  if (!paused) show([]);
}

// What is shown.

function show(added) {
  showRows();
  showTracker();
  showLog();
  showListeners();
  showInstances();
  showPredictions();
  showState();
  const began = now.began ? `since ${clock(now.began)}` : "";
  const over = connection === "live" ? "This run:" : "The run that has ended:";
  $$("caption .run").forEach((node) => put(node, `${over} ${process(now.run)}, ${began}.`));
  play(added);
  unsaid.push(...added);
}

const KILLED = "no shutdown ran, so there's no row 3";

function sentence() {
  const labels = now.running.map((step) => (step.type === "request" ? step.detail : step.type));
  const quiet = Math.max(0, Math.floor((Date.now() - quietSince) / 1000));
  const row3 = shutdowns(lastRun()).at(-1)?.handler_output;
  const back = row3 ? `Row 3 of the last run: ${row3}.` : `The last run was killed, or crashed: ${KILLED}.`;
  const stopping = labels.length ? `it finishes ${labels.join(", ")}.` : "its shutdown runs.";
  const idle = `nothing runs; quiet for ${quiet} s. ${cameBack ? `The app is back. ${back}` : ""}`;
  if (connection === "live" && now.state !== "running") return ["stopping", "Shutting down:", stopping];
  if (connection === "live" && paused) return ["paused", "Paused.", waiting ? `${plural(waiting, "new step")} to show.` : "Nothing new."];
  if (connection === "live") return labels.length ? ["running", "Running:", labels.join(", ")] : ["idle", "Idle:", idle];
  return {
    connecting: ["connecting", "Connecting", "to your app"],
    stopped: ["gone", "Stopped.", "Row 3 says what happened. Start the app again, and this page comes back."],
    closing: ["stopping", "Shutdown requested.", "The server closed this page's connection; it shows row 3 once it's back."],
    lost: ["gone", "The connection broke;", "looking for the app."],
    killed: ["gone", "The app is gone without a goodbye.", `It was killed (kill -9), or it crashed: ${KILLED}. Look at your terminal.`],
    away: ["gone", "The app doesn't answer;", "look at your terminal."],
    unread: ["gone", "The lesson can't read your app;", "look at your terminal."],
    refused: ["gone", "Refused.", refusal],
    blocked: ["gone", "No live data:", "a proxy on the way lets no WebSocket through; make it pass on Upgrade headers."],
  }[connection];
}

let told = "connecting";

function showState() {
  const [state, name, text] = sentence();
  $("#state").dataset.state = state;
  put($("#state strong"), name);
  put($("#state span"), text.trim());
  if (told !== connection) say(`${name} ${text}`);
  told = connection;
  if (!paused) showIdle();
}

const LABELS = ["Event", "Listener Action", "Handler Output", "Next Action"];

function cells(step, event = step.event) {
  const output = [step.handler_output.replace(/^Fails: /, "")];
  if (step.failed) output.unshift(mark("failed", "failed"), " ");
  return [cell("Event", event, small(step.detail)), cell("Listener Action", step.listener_action),
    cell("Handler Output", ...output), cell("Next Action", step.next_action)];
}

const empty = (number, text) => {
  const row = line(head(String(number), mark("open", text)), ...LABELS.map((label) => cell(label, text)));
  row.classList.add("empty");
  return row;
};

// The rows of the execution table: the latest call of each listener; then the learner's own rows.
function showRows() {
  const happened = (step) => (step.run === now.run ? mark("done", `at ${clock(step.time)}`) : mark("earlier", `last run, ${clock(step.time)}`));
  const filled = (number, step, event) => line(head(String(number), happened(step)), ...cells(step, event));
  const rows = [1, 2, 3].flatMap((number) => {
    const found = rowSteps(number);
    const none = number !== 3 ? "not yet" : connection === "killed" ? "none: killed" : "not yet";
    return found.length ? found.map((step) => filled(number, step)) : [empty(number, none)];
  });
  const idle = empty(4, "not now");
  idle.id = "idle";
  const own = about.rows.map((row) => {
    const names = row["Listener Action"].match(/\w+/g) ?? [];
    const step = mine().filter((each) => each.listener && names.includes(short(each.listener))).at(-1);
    return step ? filled(row.Step, step, row.Event) : empty(row.Step, "not yet");
  });
  fill($("#rows"), [...rows, idle, ...own]);
  showIdle();
}

function rowSteps(number) {
  const here = mine().filter((step) => step.step === number && step.cause === null);
  if (number === 2) return here.slice(-1);
  const from = here.length || number !== 3 ? here : shutdowns(lastRun());
  return [...new Map(from.map((step) => [step.listener, step])).values()];
}

// Row 4 is a state and not an event: it holds between events.
const isIdle = () => connection === "live" && now.state === "running" && !now.running.length && Date.now() - quietSince >= QUIET;

function showIdle() {
  const row = $("#idle");
  if (!row) return;
  const idle = isIdle();
  row.classList.toggle("empty", !idle);
  row.querySelector(".mark").className = `mark ${idle ? "done" : "open"}`;
  put(row.querySelector(".mark"), idle ? "now" : "not now");
  const words = ["No event", "No listener triggered", "No action", "Idle state"];
  $$("td div", row).forEach((node, index) => put(node, idle ? words[index] : "not now"));
}

function showTracker() {
  const [one, two, three] = [1, 2, 3].map((number) => rowSteps(number).at(-1));
  const note = three && three.run !== now.run ? small("last run") : "";
  const message = (step) => {
    if (step.value === null) return "None";
    try { return JSON.stringify(JSON.parse(step.value).message ?? JSON.parse(step.value)); } catch { return JSON.stringify(step.value); }
  };
  const row = (name, pick) => line(head(code(name)), cell("Start", code("None")),
    ...[one, two, three].map((step, index) => cell(`After Step ${index + 1}`,
      step ? code(pick(step)) : mark("open", "not yet"), index === 2 ? note : step && index ? small(step.detail) : "")),
    cell("Final", three ? code("None") : mark("open", "not yet"), note.cloneNode?.(true) ?? ""));
  fill($("#variables"), [row("event", (step) => JSON.stringify(step.type.toLowerCase())), row("handler_output", message)]);
}

// The log keeps its rows, so that the focus stays where it is.
const logged = new Map();

function showLog() {
  const [table, box] = [$("#log"), $("#steps .scroll")];
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const shown = steps.slice(-SHOWN);
  const keep = new Set(shown.map(key));
  for (const [id, row] of logged) if (!keep.has(id)) { row.remove(); logged.delete(id); }
  $$("tbody", table).forEach((group) => { if (!group.querySelector("[data-sequence]")) group.remove(); });
  for (const step of shown.filter((each) => !logged.has(key(each)))) {
    let group = $$("tbody", table).find((node) => node.dataset.run === step.run);
    if (!group) {
      const heading = el("th", { scope: "rowgroup", colspan: "6", role: "rowheader" });
      group = el("tbody", { role: "rowgroup", "data-run": step.run }, el("tr", { role: "row", class: "run" }, heading));
      table.insertBefore(group, $$("tbody", table).find((node) => node.dataset.run > step.run) ?? null);
    }
    const row = logRow(step);
    group.insertBefore(row, $$("[data-sequence]", group).find((other) => other.dataset.sequence > step.sequence) ?? null);
    logged.set(key(step), row);
  }
  for (const group of $$("tbody", table)) {
    const run = group.dataset.run === now.run ? "This run" : "The last run";
    put(group.querySelector("th"), `${run}: ${process(group.dataset.run)}`);
  }
  if (atEnd) box.scrollTop = box.scrollHeight;
}

function logRow(step) {
  let depth = 0;
  for (let up = step; up?.cause && depth < 3; depth++) up = steps.find((other) => other.run === step.run && other.sequence === up.cause);
  const ms = step.duration * 1000;
  const [event, ...rest] = cells(step);
  if (depth) event.dataset.depth = depth;
  if (depth) event.firstChild.append(small(`caused by no. ${step.cause}`));
  const row = line(head(step.step ? `Step ${step.step}` : "New", small(`no. ${step.sequence}`)), event, ...rest,
    cell("When", clock(step.time), small(ms < 10 ? `${ms.toFixed(1)} ms` : `${Math.round(ms)} ms`), again(step)));
  row.dataset.sequence = step.sequence;
  return row;
}

function again(step) {
  const get = step.type === "request" && step.detail.startsWith("GET /") && step.detail.length < 200;
  const sent = JSON.stringify({ type: step.type, fields: step.fields });
  const send = get ? () => fetch(at(step.detail.slice(4))) : () => api("lesson/events", sent);
  if (!get && (!step.fields || ["Startup", "Shutdown"].includes(step.type))) return "";
  const label = `Send no. ${step.sequence} again: ${step.event}`;
  return el("button", { type: "button", "aria-label": label, text: "Again", onclick: send });
}

function showListeners() {
  const row = (name, detail, listener) => {
    const count = listener ? now.calls[listener] ?? 0 : null;
    return line(head(name, small(detail)),
      cell("Listener", ...(listener ? [code(short(listener)), small(listener)] : [mark("open", "nobody listens")])),
      cell("Called", count === null ? "" : count ? plural(count, "time") : mark("open", "waits, 0 times")));
  };
  fill($("#who"), [
    ...about.routes.map((route) => row("User sends request", `${route.method} ${route.path}`, route.listener)),
    ...about.events.flatMap((event) => (event.listeners.length ? event.listeners : [null]).map((each) => row(event.name, event.about, each))),
  ]);
}

// With a broker, an event may be handled in another process than the one that this page is of.
function showInstances() {
  const handled = now.handled;
  for (const node of [$("#instances"), $("nav [href='#instances']")]) node.hidden = !handled;
  if (!handled) return;
  const counts = new Map([[process(now.run), 0]]);
  for (const { run } of handled) counts.set(process(run), (counts.get(process(run)) ?? 0) + 1);
  const shares = [...counts].map(([name, count]) => `${name}${name === process(now.run) ? " (this page)" : ""} handled ${count}`);
  put($("#shares"), handled.length ? `Of the last ${handled.length}, ${shares.join(", ")}.` : "No event was handled yet.");
  fill($("#handled"), [...handled].reverse().map((step) => {
    const notes = [step.run === now.run ? "this page" : "", step.sent_by ? `sent by process ${step.sent_by}` : ""];
    const where = [mark(step.run === now.run ? "done" : "open", process(step.run)), small(notes.filter(Boolean).join(", "))];
    return line(head(step.type, small(step.detail)), cell("Listener", code(short(step.listener))),
      cell("Instance", ...where), cells(step)[2], cell("When", clock(step.time)));
  }));
}

// The concept flow: each step of the app is played box by box; under load, only the last ones.

let queue = [];
let playing = false;

async function play(added) {
  queue = [...queue, ...added].slice(-4);
  if (playing) return;
  playing = true;
  const boxes = [...$("#boxes").children];
  for (let step; (step = queue.shift());) {
    const name = step.listener && short(step.listener);
    const emits = step.next_action.startsWith("Emits ");
    const says = [step.event, name ?? step.listener_action, name && `calls ${name}`, name && step.handler_output,
      emits ? step.next_action : null, emits ? "Continues" : `Ends: ${step.next_action}`];
    boxes.forEach((box) => { box.className = ""; put(box.lastChild, ""); });
    for (const [index, box] of boxes.entries()) {
      boxes.forEach((other) => other.removeAttribute("aria-current"));
      box.setAttribute("aria-current", "step");
      box.className = says[index] ? "lit" : "skipped";
      put(box.lastChild, says[index] ?? "not this time");
      if (!calm.matches && says[index]) await pause(queue.length ? 120 : 320);
    }
  }
  boxes.forEach((box) => box.removeAttribute("aria-current"));
  playing = false;
}

// Told to a screen reader in batches, so that it can follow.

let unsaid = [];

setInterval(() => {
  if (!unsaid.length || paused) return;
  const last = unsaid.at(-1);
  say(`${plural(unsaid.length, "new step")}. ${last.event}: ${last.listener_action}. ${last.handler_output}.`);
  unsaid = [];
}, 3000);

// Forms and buttons that make something happen.

const fresh = (text) => text.replace(/[0-9a-f]{8}-[0-9a-f-]{27}/g, (id) => crypto.randomUUID?.() ?? id);

function form(selector, choices, chosen, send) {
  const node = $(selector);
  const { choice, body } = node.elements;
  const [result, value] = [$(`${selector} .result`), choice.value];
  const current = () => choices.find((each) => each.name === choice.value);
  choice.replaceChildren(...choices.map(({ name }) => el("option", { value: name, text: name })));
  if (choices.some(({ name }) => name === value)) choice.value = value;
  choice.onchange = () => {
    const sample = current()?.sample;
    body.value = fresh(sample ?? "");
    body.parentElement.hidden = sample === null;
    if (current()) chosen(current());
  };
  choice.onchange();
  node.onsubmit = async (event) => {
    event.preventDefault();
    body.removeAttribute("aria-invalid");
    try {
      result.textContent = await send(current(), body.value);
    } catch (error) {
      if (error instanceof SyntaxError) body.setAttribute("aria-invalid", "true");
      result.textContent = error instanceof SyntaxError ? `Not sent. This isn't JSON: ${error.message}` : "Not sent: the app doesn't answer.";
    }
    say(result.textContent);
  };
  return (text) => {
    body.setAttribute("aria-invalid", "true");
    const errors = [JSON.parse(text).detail].flat().filter((each) => each?.loc);
    return errors.map(({ loc, msg }) => `${loc.filter((part) => part !== "body").join(".")}: ${msg}`).join("; ");
  };
}

function showForms() {
  const request = $("#request").elements;
  const routes = about.routes.map((route) => ({ ...route, name: `${route.method} ${route.path}` }));
  const refused = form("#request", routes, (route) => { request.path.value = route.path; }, async (route, body) => {
    const url = at(request.path.value);
    if (url.origin !== location.origin) return "Type a path of this app, such as /orders.";
    const json = { headers: { "Content-Type": "application/json" }, body };
    const response = await fetch(url, { method: route.method, ...(route.sample === null ? {} : json) });
    const text = await response.text();
    const why = response.status === 422 ? refused(text) : "";
    return `${response.status} ${why || text.slice(0, 300)}`;
  });
  const types = about.events.filter((event) => event.sample !== null);
  const wrong = form("#emit", types, (type) => put($("#emit .about"), type.about), async (type, body) => {
    const { ok, status, text, data } = await api("lesson/events", JSON.stringify({ type: type.name, fields: JSON.parse(body) }));
    if (ok && data.failures.length) return `Emitted, and ${data.failures.join("; ")}`;
    if (ok) return "Emitted. Its rows are in the table of all steps.";
    return status === 422 ? `Not emitted. ${wrong(text)}` : `Not emitted: the app answered ${status}.`;
  });
}

function moment(number, act) {
  const button = $(`#moment-${number}`);
  const result = button.nextElementSibling;
  button.onclick = async () => {
    if (button.getAttribute("aria-disabled")) return;
    button.setAttribute("aria-disabled", "true");
    try { result.textContent = await act((text) => { result.textContent = text; }); }
    catch { result.textContent = "The app doesn't answer; look at your terminal."; }
    button.removeAttribute("aria-disabled");
    say(result.textContent);
  };
}

const recorded = async () => (await api("lesson/steps")).data.filter((step) => step.run === now.run);

moment(1, async () => {
  const called = async () => (await recorded()).filter((step) => step.detail === "GET /" && step.listener).length;
  const earlier = await called();
  const { status } = await fetch(at("/"));
  return `Before: called ${plural(earlier, "time")}. The event occurred. Now: ${plural(await called(), "time")}. It answered ${status}.`;
});

moment(2, async () => {
  const earlier = new Set((await recorded()).map(key));
  const { status } = await api("orders", '{"item": "tea", "quantity": 1}');
  if (now.handled) return `Answered ${status}. The broker delivers OrderPlaced to each listener: see which instance handled what.`;
  const rows = (await recorded()).filter((step) => !earlier.has(key(step)) && step.type === "OrderPlaced");
  const names = rows.map((step) => (step.listener ? short(step.listener) : "nobody")).join(", ");
  return `Answered ${status}. One OrderPlaced made ${plural(rows.length, "row")}: ${names}.`;
});

moment(3, async (tell) => {
  const earlier = (await recorded()).length;
  for (let left = 5; left; left--) { tell(`Waiting. ${left} s left`); await pause(1000); }
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

async function save(item, text, result) {
  try {
    const { ok, status, data } = await api("lesson/answers", JSON.stringify({ id: item.id, text }));
    const problem = ok ? data.problem : `The app answered ${status}.`;
    if (!problem) item.answer = text;
    result.append(problem ? `Not saved, so it's only for trying: ${problem}` : "Saved in answers.toml.");
    return data;
  } catch {
    result.append("Not saved: the app doesn't answer.");
  }
}

function showQuestions() {
  put($("#problem"), about.problem);
  const predict = $("#predict form");
  predict.replaceChildren(...about.predictions.map((prediction) => {
    const input = el("input", { name: prediction.id, autocomplete: "off", value: prediction.answer });
    const [saved, compare] = [el("p", { class: "result" }), el("p", { class: "compare" })];
    input.onchange = async () => { saved.textContent = ""; await save(prediction, input.value, saved); };
    input.oninput = () => { saved.textContent = ""; showPredictions(); };
    return el("div", { class: "prediction" }, el("div", {}, el("label", {}, prediction.text, input), saved), compare);
  }), el("button", { class: "main", text: "Save" }));
  predict.onsubmit = (event) => event.preventDefault(); // leaving the field, or Enter, has saved it
  $("#questions").replaceChildren(...about.questions.map(ask));
  showAfter();
  showPredictions();
}

function outcome({ id, text }) {
  const number = Number(id.slice(-1));
  const path = text.match(/https?:\/\/[^/\s]+(\/[^\s?]*)/)?.[1]; // the request that it asks about
  const asked = (step) => step.step === 2 && step.detail.split("?")[0] === `GET ${path}`;
  if (number === 4) return isIdle() ? ["Now, while nothing happens: No action."] : [];
  return (number === 2 && path ? mine().filter(asked).slice(-1) : rowSteps(number))
    .map((step) => `${step.run === now.run ? "" : "In the last run: "}${step.handler_output}.`);
}

function showPredictions() {
  $$(".prediction").forEach((node, index) => {
    const guess = node.querySelector("input").value.trim();
    const happened = outcome(about.predictions[index]).join(" ");
    put(node.querySelector(".compare"), !guess ? "Write your prediction, then see what happens."
      : happened ? `You predicted: ${guess}. What happened: ${happened}` : "It hasn't happened yet. Make it happen, then compare.");
  });
}

function ask(question) {
  const verdict = el("p", { class: "verdict" });
  const number = about.questions.filter((each) => !each.after).indexOf(question) + 1;
  const node = el("form", { class: `card${question.after ? " after" : ""}`, novalidate: true },
    el("fieldset", {}, el("legend", {}, el("b", { text: number ? `Question ${number}` : "Because" }), " ", question.text),
      ...(question.code ? [el("pre", { tabindex: "0", text: question.code.trim() })] : []),
      ...question.choices.map(({ letter, text }) => el("label", { class: "choice" },
        el("input", { type: "radio", name: question.id, value: letter, checked: letter === question.answer }),
        el("span", {}, el("b", { text: letter }), " ", text)))),
    el("details", {}, el("summary", { text: "Hint" }), el("p", { text: question.hint })),
    el("button", { class: "main", text: "Check" }), verdict);
  const judge = ({ state, sentence }) => verdict.replaceChildren(mark(state, state), ` ${sentence} `);
  if (question.verdict) judge(question.verdict);
  node.onsubmit = async (event) => {
    event.preventDefault();
    const result = el("span");
    const data = await save(question, new FormData(node).get(question.id) ?? "", result);
    if (data?.state) { question.verdict = data; judge(data); }
    verdict.append(result);
    say(verdict.textContent);
    showAfter();
  };
  return node;
}

// A question about the reason comes once the one before it is right.
function showAfter() {
  $$("#questions form").forEach((node, index) => {
    const before = about.questions.find((each) => each.id === about.questions[index].after);
    node.hidden = Boolean(before) && before.verdict?.state !== "right";
  });
}

for (const table of $$("table")) {
  table.setAttribute("role", "table");
  const names = table.dataset.columns.split("|");
  const width = (name) => (["Step", "When"].includes(name) ? "s" : null);
  const heads = names.map((text) => el("th", { scope: "col", role: "columnheader", "data-width": width(text), text }));
  table.append(el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads)));
}
setInterval(() => { if (connection === "live" && !paused) showState(); }, 1000);
addEventListener("focus", () => { if (connection === "live") refresh(); });
showState();
connect();
