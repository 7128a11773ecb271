// Shows what the recorder saw: one state, which `receive` changes, and `show`, which draws all of it.

import { $, $$, clock, code, el, fill, mark, output, plural, process, put, short, small } from "./dom.js";

const SHOWN = 100; // rows of the log
const QUIET = 3000; // ms without a step after which the app is called idle
const KILLED = "no shutdown ran, so there's no row 3";
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const at = (path) => new URL(path.replace(/^\/+/, ""), new URL(".", location.href)); // a proxy may add a path

let about = { events: [], routes: [], rows: [], questions: [], predictions: [], problem: "" };
let now = { run: "", state: "", calls: {}, running: [], steps: [] }; // steps: also the last run's, oldest first
let [connection, told] = ["connecting", "connecting"]; // then: live, stopped, closing, lost, killed, away, ...
let [refusal, cameBack, paused] = ["", false, false];
let [waiting, unsaid] = [[], []]; // steps that came while paused; that a screen reader hasn't been told of

const key = (step) => `${step.run} ${step.sequence}`;
const mine = () => now.steps.filter((step) => step.run === now.run);
const shutdowns = () => now.steps.filter((step) => step.run !== now.run && step.type === "Shutdown");
const ends = (step) => Date.parse(step.time) + step.duration * 1000;
const quiet = () => Date.now() - Math.max(Date.parse(now.began), ...mine().map(ends)); // ms
const say = (text) => { $("#announce").textContent = text; };

async function api(path, sent) {
  const json = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent) };
  const response = await fetch(at(path), sent === undefined ? {} : json);
  const { ok, status } = response;
  return { ok, status, [ok ? "data" : "text"]: await (ok ? response.json() : response.text()) };
}

// Reconnects automatically, and says truthfully where the server is.
function connect() {
  const url = at("lesson/live");
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  let [first, earlier] = [true, Promise.resolve()]; // messages are taken one after the other
  setTimeout(() => socket.readyState === 0 && socket.close(), 2500); // the port is open, and nobody's there
  socket.onmessage = ({ data }) => {
    earlier = earlier.then(() => receive(JSON.parse(data), first)).then(() => { first = false; });
  };
  socket.onclose = ({ code }) => earlier.then(async () => {
    if (!first) connection = now.state === "stopped" ? "stopped" : code === 1012 ? "closing" : "lost";
    else if (connection === "lost") connection = "killed";
    else if (!now.run) await askWhy();
    now.running = [];
    show();
    setTimeout(connect, first ? 1500 : 700);
  });
}

// A browser doesn't say why a socket is refused; an ordinary request is told.
async function askWhy() {
  const { status, text } = await api("lesson/events", {}).catch(() => ({}));
  connection = status ? "refused" : "away";
  refusal = status === 403 ? text : "A proxy in between blocks WebSockets; make it pass on Upgrade headers.";
}

async function receive(news, first) {
  const known = new Set(now.steps.map(key));
  const added = now.run ? news.steps.filter((step) => !known.has(key(step))) : [];
  if (first) cameBack = Boolean(now.run) && now.run !== news.run;
  [now, connection] = [news, "live"];
  for (const list of [waiting, unsaid]) list.push(...added);
  show();
  if (first) await refresh();
}

async function refresh() {
  const { ok, data } = await api("lesson/about").catch(() => ({}));
  if (!ok && connection === "live") connection = "unread";
  const asked = ({ predictions, questions, problem }) => JSON.stringify([predictions, questions, problem]);
  const before = asked(about);
  if (ok && before !== asked(about = data)) showQuestions();
  show();
}

function show() {
  const [state, name, text] = sentence();
  $("#state").dataset.state = state;
  put($("#state strong"), name);
  put($("#state span"), text);
  if (told !== connection) say(`${name} ${text}`);
  told = connection;
  if (paused) return;
  waiting.splice(0).slice(-1).forEach(showFlow);
  const whose = connection === "live" ? "This run:" : "The run that has ended:";
  for (const node of $$("caption .run")) put(node, `${whose} ${process(now.run)}, since ${clock(now.began ?? 0)}.`);
  showRows();
  showTracker();
  showLog();
  showListeners();
  showForms();
  if ("handled" in now) import("./instances.js").then((instances) => instances.show(now)); // there's a broker
}

function sentence() {
  const labels = now.running.map((step) => (step.type === "request" ? step.detail : step.type)).join(", ");
  if (connection === "live") {
    const still = labels ? `${labels} still running.` : "the shutdown is complete.";
    if (now.state !== "running") return ["stopping", "Shutting down:", still];
    const news = waiting.length ? `${plural(waiting.length, "new step")} to show.` : "Nothing new.";
    if (paused) return ["paused", "Paused.", news];
    if (labels) return ["running", "Running:", labels];
    const why = now.handled ? "still runs, was killed, or crashed" : "was killed, or it crashed"; // another instance?
    const [row3] = shutdowns().slice(-1).map((step) => `Row 3 of the last run: ${step.handler_output}.`);
    const back = cameBack ? ` The app is back. ${row3 ?? `The last run ${why}: ${KILLED}.`}` : "";
    return ["idle", "Idle:", `nothing is running; quiet for ${Math.max(0, Math.floor(quiet() / 1000))} s.${back}`];
  }
  return {
    connecting: ["gone", "Connecting", "to your app"],
    stopped: ["gone", "Stopped.", "Row 3 shows what happened, and the terminal why. Start the app again."],
    closing: ["stopping", "Shutdown requested.", "The server closed its connections; row 3 comes with the next run."],
    lost: ["gone", "The connection broke;", "looking for the app."],
    killed: ["gone", "The app is gone, without a shutdown.", `It was killed (kill -9), or it crashed: ${KILLED}.`],
    away: ["gone", "The app doesn't answer;", "look at your terminal."],
    unread: ["gone", "The lesson can't read your app;", "look at your terminal."],
    refused: ["gone", "Refused.", refusal],
  }[connection];
}

const cells = (step, event = step.event) => [
  [event, small(step.detail)], step.listener_action, output(step), step.next_action];

function filled(number, step, event) {
  const [state, when] = step.run === now.run ? ["done", "at"] : ["earlier", "last run,"];
  return [[number, mark(state, `${when} ${clock(step.time)}`)], ...cells(step, event)];
}

const plain = (number, state, word, texts = Array(4).fill(word)) => [[number, mark(state, word)], ...texts];

// The latest steps of row 1, 2 or 3 of the execution table, one for each listener.
function rowSteps(number) {
  const here = mine().filter((step) => step.step === number && step.cause === null);
  if (number === 2) return here.slice(-1);
  const found = here.length || number === 1 || connection === "killed" ? here : shutdowns();
  return [...new Map(found.map((step) => [step.listener, step])).values()];
}

function showRows() {
  const rows = [1, 2, 3].flatMap((number) => {
    const found = rowSteps(number).map((step) => filled(number, step));
    const none = number === 3 && connection === "killed" ? ["none", ["none", "none", KILLED, "none"]] : ["not yet"];
    return found.length ? found : [plain(number, "open", ...none)];
  });
  const idle = ["done", "now", ["No event", "No listener triggered", "No action", "Idle state"]];
  const own = about.rows.map((row) => {
    const names = row["Listener Action"].match(/\w+/g) ?? [];
    const step = mine().filter((each) => each.listener && names.includes(short(each.listener))).at(-1);
    return step ? filled(row.Step, step, row.Event) : plain(row.Step, "open", "not yet");
  });
  fill($("#rows"), [...rows, plain(4, ...(isIdle() ? idle : ["open", "not now"])), ...own]);
}

// Row 4 is a state and not an event: it holds between events.
const isIdle = () => connection === "live" && now.state === "running" && !now.running.length && quiet() >= QUIET;

function showTracker() {
  const shown = [1, 2, 3].map((number) => rowSteps(number).at(-1));
  const none = (step) => (step ? code("None") : mark("open", "not yet"));
  const message = (text) => { try { return JSON.parse(text).message ?? JSON.parse(text); } catch { return text; } };
  const held = (step, text) => (step && text !== null ? code(JSON.stringify(text)) : none(step));
  const note = (step) => small(!step ? "" : step.run !== now.run ? "last run" : step.step === 2 ? step.detail : "");
  const row = (name, value) => [code(name), code("None"),
    ...shown.map((step) => [held(step, step && value(step)), note(step)]), [none(shown[2]), note(shown[2])]];
  const event = row("event", (step) => step.type.toLowerCase());
  fill($("#variables"), [event, row("handler_output", (step) => message(step.value))]);
}

function showLog() {
  const box = $("#steps .scroll");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const shown = now.steps.slice(-SHOWN);
  fill($("#log"), shown.flatMap((step, index) => {
    if (step.run === shown[index - 1]?.run) return [logRow(step)];
    return [`${step.run === now.run ? "This run" : "The last run"}: ${process(step.run)}`, logRow(step)];
  }));
  if (atEnd) box.scrollTop = box.scrollHeight;
}

function logRow(step) {
  let [event, ...rest] = cells(step);
  if (step.cause) event.push(small(`caused by no. ${step.cause}`));
  const cause = (of) => now.steps.find((other) => other.run === of.run && other.sequence === of.cause);
  for (let up = cause(step), depth = 0; up && depth < 3; up = cause(up), depth++) {
    event = el("div", { class: "caused" }, ...[event].flat());
  }
  return [[step.step ? `Step ${step.step}` : "New", small(`no. ${step.sequence}`)], event, ...rest,
    [clock(step.time), small(`${(step.duration * 1000).toFixed(step.duration < 0.01 ? 1 : 0)} ms`), again(step)]];
}

function again({ type, event, detail, fields, sequence }) {
  const get = type === "request" && detail.startsWith("GET /") && detail.length < 200;
  if (!get && (!fields || ["Startup", "Shutdown"].includes(type))) return "";
  const onclick = get ? () => fetch(at(detail.slice(4))) : () => api("lesson/events", { type, fields });
  return el("button", { type: "button", "aria-label": `Send no. ${sequence} again: ${event}`, text: "Again", onclick });
}

function showListeners() {
  const called = (count) => (count ? plural(count, "time") : mark("open", "waits, 0 times"));
  const row = (name, detail, listener) => [[name, small(detail)], [code(short(listener)), small(listener)],
    called(now.calls[listener])];
  const routes = about.routes.map((route) => row("User sends request", route.name, route.listener));
  const events = about.events.flatMap((event) => event.listeners.map((each) => row(event.name, event.about, each)));
  const unheard = about.events.filter((event) => !event.listeners.length)
    .map((event) => [[event.name, small(event.about)], mark("open", "nobody listens"), ""]);
  fill($("#who"), [...routes, ...events, ...unheard]);
}

// The concept flow of the last step: its boxes light up one after the other.
function showFlow(step) {
  const calm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  const name = step.listener && short(step.listener);
  const emits = step.next_action.startsWith("Emits ");
  const says = [step.event, name ?? step.listener_action, name && `calls ${name}`, name && step.handler_output,
    emits ? step.next_action : null, emits ? "Continues" : `Ends: ${step.next_action}`];
  for (const [index, box] of [...$("#boxes").children].entries()) {
    box.className = says[index] ? "lit" : "skipped";
    put(box.lastChild, says[index] ?? "not this time");
    if (!calm) box.animate({ opacity: [0.2, 1] }, { duration: 300, delay: 300 * index, fill: "backwards" });
  }
}

setInterval(() => { // in batches, so that a screen reader can follow
  const last = unsaid.at(-1);
  if (!last || paused) return;
  say(`${plural(unsaid.length, "new step")}. ${last.event}: ${last.listener_action}. ${last.handler_output}.`);
  unsaid = [];
}, 3000);

// The buttons of the key moments: each does something and says what came of it.
const recorded = async (is) => (await api("lesson/steps")).data.filter((step) => step.run === now.run && is(step));
const moments = [
  async () => {
    const isCall = (step) => step.detail === "GET /" && step.listener;
    const called = async () => plural((await recorded(isCall)).length, "time");
    const earlier = await called();
    const { status } = await fetch(at("/"));
    return `Before: called ${earlier}. The event occurred. Now: ${await called()}. It answered ${status}.`;
  },
  async () => {
    const orders = () => recorded((step) => step.type === "OrderPlaced");
    const earlier = await orders();
    const { status } = await api("orders", { item: "tea", quantity: 1 });
    if (now.handled) return `Answered ${status}. The broker delivers it: see which instance handled what.`;
    const rows = (await orders()).slice(earlier.length);
    const names = rows.map((step) => (step.listener ? short(step.listener) : "nobody")).join(", ");
    return `Answered ${status}. One OrderPlaced made ${plural(rows.length, "row")}: ${names}.`;
  },
  async (result) => {
    const earlier = await recorded(Boolean);
    for (let left = 5; left; left--) { put(result, `Waiting. ${left} s left`); await pause(1000); }
    const added = (await recorded(Boolean)).length - earlier.length;
    const nothing = "Five seconds, no event, no row. No handler ran; the app waits.";
    return added ? `${plural(added, "step")} happened in the meantime.` : nothing;
  },
];

for (const [index, button] of $$("#moments button").entries()) {
  const result = button.nextElementSibling;
  button.onclick = async () => {
    if (button.ariaDisabled) return;
    button.ariaDisabled = "true";
    put(result, await moments[index](result).catch(() => "The app doesn't answer."));
    button.ariaDisabled = null;
    say(result.textContent);
  };
}

$("#pause").onclick = () => {
  paused = !paused;
  put($("#pause"), paused ? "Resume" : "Pause");
  show();
};

// Predict, then compare; and the quiz. What is right is known to the server alone.
async function save(item, text, result) {
  const { data } = await api("lesson/answers", { id: item.id, text }).catch(() => ({}));
  const problem = data ? data.problem : "the app doesn't answer. Start it, and save again.";
  if (!problem) item.answer = text; // what refresh compares
  put(result, problem ? `Not saved, but you can go on trying: ${problem}` : "Saved in answers.toml.");
  return data ?? {};
}

function showQuestions() {
  put($("#problem"), about.problem);
  const predict = $("#predict form");
  predict.replaceChildren(...about.predictions.map((prediction) => {
    const saved = el("p", { class: "result" });
    const onchange = ({ target }) => save(prediction, target.value, saved);
    const oninput = () => { put(saved, ""); showForms(); };
    const input = { name: prediction.id, autocomplete: "off", value: prediction.answer, onchange, oninput };
    const asked = el("label", {}, prediction.text.replace("http://127.0.0.1:8000/", at("/")), el("input", input));
    return el("div", { class: "prediction" }, el("div", {}, asked, saved), el("p", { class: "compare" }));
  }), el("button", { class: "main", text: "Save" }));
  predict.onsubmit = (event) => event.preventDefault(); // leaving the field, or Enter, has saved it
  $("#questions").replaceChildren(...about.questions.map(ask));
}

function outcome({ id, text }) {
  const number = Number(id.slice(-1));
  const path = text.match(/https?:\/\/[^/\s]+(\/[^\s?]*)/)?.[1]; // the request that it asks about
  const asked = (step) => step.step === 2 && step.detail.split("?")[0] === `GET ${path}`;
  if (number === 4) return isIdle() ? "No action: nothing is happening right now." : "";
  return (path && number === 2 ? mine().filter(asked).slice(-1) : rowSteps(number))
    .map((step) => `${step.run === now.run ? "" : "In the last run: "}${step.handler_output}.`).join(" ");
}

function showForms() {
  for (const [index, node] of $$(".prediction").entries()) {
    const guess = node.querySelector("input").value.trim();
    const happened = outcome(about.predictions[index]);
    const found = happened ? `What happened: ${happened}` : "It hasn't happened yet. Make it happen, then compare.";
    put(node.querySelector(".compare"), guess ? `You predicted: ${guess}. ${found}` : "Write your prediction first.");
  }
  for (const [index, node] of $$("#questions form").entries()) { // the reason comes once its question is right
    const first = about.questions.find((each) => each.id === about.questions[index].after);
    node.hidden = Boolean(first) && first.verdict?.state !== "right";
  }
}

function ask(question) {
  const [verdict, result] = [el("p"), el("p", { class: "result" })];
  const title = `Question ${about.questions.filter((each) => !each.after).indexOf(question) + 1}, ${question.id}`;
  const choices = question.choices.map(({ letter, text }) => el("label", { class: "choice" },
    el("input", { type: "radio", name: question.id, value: letter, checked: letter === question.answer.toUpperCase() }),
    el("span", {}, el("b", { text: letter }), " ", text)));
  const legend = el("legend", {}, el("b", { text: question.after ? "Because" : title }), " ", question.text);
  const program = question.code ? [el("pre", { tabindex: "0", text: question.code.trim() })] : [];
  const node = el("form", { class: `card${question.after ? " after" : ""}`, novalidate: true },
    el("fieldset", {}, legend, ...program, ...choices),
    el("details", {}, el("summary", { text: "Hint" }), el("p", { text: question.hint })),
    el("button", { class: "main", text: "Check" }), verdict, result);
  const judge = ({ state, sentence }) => verdict.replaceChildren(mark(state, state), ` ${sentence}`);
  if (question.verdict) judge(question.verdict);
  node.onsubmit = async (event) => {
    event.preventDefault();
    const data = await save(question, new FormData(node).get(question.id) ?? "", result);
    if (data.state) judge(question.verdict = data);
    if (data.state === "not yet") put(result, "");
    say(`${verdict.textContent} ${result.textContent}`);
    showForms();
  };
  return node;
}

for (const section of $$("main > section")) {
  $("nav").append(el("a", { href: `#${section.id}`, text: section.querySelector("h2").textContent }), " ");
}
setInterval(() => { if (connection === "live") show(); }, 1000);
addEventListener("focus", () => { if (connection === "live") refresh(); });
show();
connect();
