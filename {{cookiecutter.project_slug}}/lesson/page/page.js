// Shows what the recorder saw. Whatever an event or a request holds is shown as text, by `el`.

const $ = (selector) => document.querySelector(selector);
const $$ = (selector) => [...document.querySelectorAll(selector)];
const SHOWN = 100; // rows of the log
const QUIET = 3000; // ms without a step after which the app is called idle
const KILLED = "no shutdown ran, so there's no row 3";
const LABELS = ["Event", "Listener Action", "Handler Output", "Next Action"];
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const at = (path) => new URL(path.replace(/^\/+/, ""), new URL(".", location.href)); // a proxy may add a path

let about = { events: [], routes: [], rows: [], questions: [], predictions: [], problem: "" };
let steps = []; // of the run before this one, and of this one, oldest first
let now = { run: "", state: "", calls: {}, running: [], handled: null };
let [connection, told] = ["connecting", "connecting"]; // then: live, stopped, closing, lost, killed, away, ...
let [refusal, cameBack, wasIdle, quietSince] = ["", false, false, Date.now()];
let [paused, waiting] = [false, 0]; // steps that came while paused
let unsaid = []; // steps that a screen reader hasn't been told of

const clock = (time) => new Date(time).toLocaleTimeString([], { hour12: false });
const short = (listener) => listener.split(".").at(-1);
const plural = (count, thing) => `${count} ${thing}${count === 1 ? "" : "s"}`;
const key = (step) => `${step.run} ${step.sequence}`;
const pause = (ms) => new Promise((done) => setTimeout(done, ms));
const process = (run) => `process ${run.split("-").at(-1)}`;
const mine = () => steps.filter((step) => step.run === now.run);
const before = () => steps.filter((step) => step.run !== now.run);
const shutdowns = (run) => run.filter((step) => step.type === "Shutdown");
const inOrder = (a, b) => (a.run === b.run ? a.sequence - b.sequence : a.run < b.run ? -1 : 1);
const say = (text) => { $("#announce").textContent = text; };

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
const put = (node, text) => { if (node.textContent !== text) node.textContent = text; };
const mark = (state, text) => el("span", { class: `mark ${state}`, text });
const code = (text) => el("code", { text });
const small = (text) => el("small", { text });
const head = (...children) => el("th", { scope: "row", role: "rowheader" }, ...children);
const cell = (label, ...children) => el("td", { "data-label": label, role: "cell" }, el("div", {}, ...children));
const line = (...cells) => el("tr", { role: "row" }, ...cells);

function fill(table, rows) {
  table.querySelector("tbody")?.remove();
  table.append(el("tbody", { role: "rowgroup" }, ...rows));
}

async function api(path, sent) {
  const json = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(sent) };
  const response = await fetch(at(path), sent === undefined ? {} : json);
  const { ok, status } = response;
  return { ok, status, [ok ? "data" : "text"]: await (ok ? response.json() : response.text()) };
}

// The connection comes back by itself, and says truthfully where the server is.
function connect() {
  const url = at("lesson/live");
  url.protocol = url.protocol.replace("http", "ws");
  const socket = new WebSocket(url);
  let opened = false;
  let earlier = Promise.resolve(); // messages are taken one after the other
  setTimeout(() => socket.readyState === 0 && socket.close(), 2500); // the port is open, and nobody's there
  socket.onmessage = ({ data }) => {
    earlier = earlier.then(() => receive(JSON.parse(data), opened)).then(() => { opened = true; });
  };
  socket.onclose = ({ code }) => earlier.then(async () => {
    if (opened) connection = now.state === "stopped" ? "stopped" : code === 1012 ? "closing" : "lost";
    else if (connection === "lost") connection = "killed";
    else if (!now.run) await askWhy();
    now.running = [];
    show([]);
    setTimeout(connect, opened ? 700 : 1500);
  });
}

// A browser doesn't say why a socket is refused; an ordinary request is told.
async function askWhy() {
  const { status, text } = await api("lesson/events", {}).catch(() => ({}));
  connection = status ? "refused" : "away";
  refusal = status === 403 ? text : "A proxy on the way lets no WebSocket through; make it pass on Upgrade headers.";
}

async function receive(news, opened) {
  const known = new Set(steps.map(key));
  news.steps.sort(inOrder);
  const added = now.run ? news.steps.filter((step) => !known.has(key(step))) : [];
  cameBack = opened ? cameBack : Boolean(now.run) && now.run !== news.run;
  const all = (opened ? [...steps, ...news.steps] : news.steps).sort(inOrder);
  const latest = new Map(all.map((step) => [`${step.run} ${step.type} ${step.listener}`, step]));
  const kept = new Set([...latest.values(), ...all.slice(-3 * SHOWN)]); // under load there are thousands
  steps = all.filter((step) => kept.has(step));
  now = news;
  connection = "live";
  if (news.steps.length) quietSince = Math.max(...news.steps.map((s) => Date.parse(s.time) + s.duration * 1000));
  waiting = paused ? waiting + added.length : 0;
  if (paused) showState();
  else show(added);
  if (!opened) await refresh();
}

async function refresh() {
  const { ok, data } = await api("lesson/about").catch(() => ({}));
  if (!ok && connection === "live") connection = "unread";
  if (!ok) return showState();
  const asked = ({ predictions, questions, problem }) => JSON.stringify([predictions, questions, problem]);
  const shown = asked(about);
  put($("#title"), (about = data).title);
  if (shown !== asked(data)) showQuestions();
  if (!paused) show([]);
}

function show(added) {
  const whose = connection === "live" ? "This run:" : "The run that has ended:";
  for (const node of $$("caption .run")) put(node, `${whose} ${process(now.run)}, since ${clock(now.began ?? 0)}.`);
  showRows();
  showTracker();
  showLog();
  showListeners();
  showInstances();
  showPredictions();
  showState();
  play(added);
  unsaid.push(...added);
}

function sentence() {
  const labels = now.running.map((step) => (step.type === "request" ? step.detail : step.type)).join(", ");
  if (connection === "live" && now.state !== "running") {
    return ["stopping", "Shutting down:", labels ? `${labels} still runs.` : "the shutdown is complete."];
  }
  const news = waiting ? `${plural(waiting, "new step")} to show.` : "Nothing new.";
  if (connection === "live" && paused) return ["paused", "Paused.", news];
  if (connection === "live" && labels) return ["running", "Running:", labels];
  if (connection === "live") {
    const quiet = Math.max(0, Math.floor((Date.now() - quietSince) / 1000));
    const row3 = shutdowns(before()).at(-1)?.handler_output;
    const why = now.handled ? "still runs, was killed, or crashed" : "was killed, or it crashed"; // another instance?
    const last = row3 ? `Row 3 of the last run: ${row3}.` : `The last run ${why}: ${KILLED}.`;
    return ["idle", "Idle:", `nothing runs; quiet for ${quiet} s.${cameBack ? ` The app is back. ${last}` : ""}`];
  }
  return {
    connecting: ["gone", "Connecting", "to your app"],
    stopped: ["gone", "Stopped.", "Row 3 says what happened. Start the app again, and this page comes back."],
    closing: ["stopping", "Shutdown requested.", "The server closed its connections; row 3 comes with the next run."],
    lost: ["gone", "The connection broke;", "looking for the app."],
    killed: ["gone", "The app is gone without a goodbye.", `It was killed (kill -9), or it crashed: ${KILLED}.`],
    away: ["gone", "The app doesn't answer;", "look at your terminal."],
    unread: ["gone", "The lesson can't read your app;", "look at your terminal."],
    refused: ["gone", "Refused.", refusal],
  }[connection];
}

function showState() {
  const [state, name, text] = sentence();
  $("#state").dataset.state = state;
  put($("#state strong"), name);
  put($("#state span"), text);
  if (told !== connection) say(`${name} ${text}`);
  told = connection;
  if (!paused && wasIdle !== isIdle()) showRows();
}

function cells(step, event = step.event) {
  const output = [step.handler_output.replace(/^Fails: /, "")];
  if (step.failed) output.unshift(mark("failed", "failed"), " ");
  const texts = [[event, small(step.detail)], [step.listener_action], output, [step.next_action]];
  return LABELS.map((label, index) => cell(label, ...texts[index]));
}

function filled(number, step, event) {
  const [state, when] = step.run === now.run ? ["done", "at"] : ["earlier", "last run,"];
  return line(head(String(number), mark(state, `${when} ${clock(step.time)}`)), ...cells(step, event));
}

function plain(number, state, word, ...texts) {
  const said = LABELS.map((label, index) => cell(label, texts[index] ?? word));
  return line(head(String(number), mark(state, word)), ...said);
}

// The latest steps of row 1, 2 or 3 of the execution table, one for each listener.
function rowSteps(number) {
  const here = mine().filter((step) => step.step === number && step.cause === null);
  if (number === 2) return here.slice(-1);
  const found = here.length || number === 1 || connection === "killed" ? here : shutdowns(before());
  return [...new Map(found.map((step) => [step.listener, step])).values()];
}

function showRows() {
  const rows = [1, 2, 3].flatMap((number) => {
    const found = rowSteps(number).map((step) => filled(number, step));
    const none = number === 3 && connection === "killed" ? ["none", "none", "none", KILLED] : ["not yet"];
    return found.length ? found : [plain(number, "open", ...none)];
  });
  wasIdle = isIdle();
  const idle = ["done", "now", "No event", "No listener triggered", "No action", "Idle state"];
  const own = about.rows.map((row) => {
    const names = row["Listener Action"].match(/\w+/g) ?? [];
    const step = mine().filter((each) => each.listener && names.includes(short(each.listener))).at(-1);
    return step ? filled(row.Step, step, row.Event) : plain(row.Step, "open", "not yet");
  });
  fill($("#rows"), [...rows, plain(4, ...(wasIdle ? idle : ["open", "not now"])), ...own]);
}

// Row 4 is a state and not an event: it holds between events.
function isIdle() {
  const quiet = !now.running.length && Date.now() - quietSince >= QUIET;
  return connection === "live" && now.state === "running" && quiet;
}

function showTracker() {
  const shown = [1, 2, 3].map((number) => rowSteps(number).at(-1));
  const none = (step) => (step ? code("None") : mark("open", "not yet"));
  const output = (text) => { // a JSON answer's message, if it has one
    try { return JSON.parse(text).message ?? JSON.parse(text); } catch { return text; }
  };
  const held = (step, text) => (step && text !== null ? code(JSON.stringify(text)) : none(step));
  const note = (step) => small(!step ? "" : step.run !== now.run ? "last run" : step.step === 2 ? step.detail : "");
  const row = (name, value) => line(head(code(name)), cell("Start", code("None")),
    ...shown.map((step, index) => cell(`After Step ${index + 1}`, held(step, step && value(step)), note(step))),
    cell("Final", none(shown[2]), note(shown[2])));
  const event = row("event", (step) => step.type.toLowerCase());
  fill($("#variables"), [event, row("handler_output", (step) => output(step.value))]);
}

function showLog() {
  const box = $("#steps .scroll");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  const focused = box.contains(document.activeElement) && document.activeElement.ariaLabel;
  const shown = steps.slice(-SHOWN);
  fill($("#log"), shown.flatMap((step, index) => {
    if (step.run === shown[index - 1]?.run) return [logRow(step)];
    const text = `${step.run === now.run ? "This run" : "The last run"}: ${process(step.run)}`;
    const heading = el("th", { scope: "rowgroup", colspan: "6", role: "rowheader", text });
    return [el("tr", { role: "row", class: "run" }, heading), logRow(step)];
  }));
  if (focused) $$("#log button").find((button) => button.ariaLabel === focused)?.focus();
  if (atEnd) box.scrollTop = box.scrollHeight;
}

function logRow(step) {
  let depth = 0;
  const cause = (of) => of && of.cause && steps.find((other) => other.run === of.run && other.sequence === of.cause);
  for (let up = cause(step); up && depth < 3; up = cause(up)) depth++;
  const ms = step.duration * 1000;
  const [event, ...rest] = cells(step);
  if (depth) {
    event.dataset.depth = depth;
    event.firstChild.append(small(`caused by no. ${step.cause}`));
  }
  return line(head(step.step ? `Step ${step.step}` : "New", small(`no. ${step.sequence}`)), event, ...rest,
    cell("When", clock(step.time), small(`${ms.toFixed(ms < 10 ? 1 : 0)} ms`), again(step)));
}

function again(step) {
  const get = step.type === "request" && step.detail.startsWith("GET /") && step.detail.length < 200;
  const { type, fields } = step;
  const onclick = get ? () => fetch(at(step.detail.slice(4))) : () => api("lesson/events", { type, fields });
  if (!get && (!step.fields || ["Startup", "Shutdown"].includes(step.type))) return "";
  const label = `Send no. ${step.sequence} again: ${step.event}`;
  return el("button", { type: "button", "aria-label": label, text: "Again", onclick });
}

function showListeners() {
  const row = (name, detail, listener) => {
    const count = now.calls[listener] ?? 0;
    const who = listener ? [code(short(listener)), small(listener)] : [mark("open", "nobody listens")];
    const called = count ? plural(count, "time") : mark("open", "waits, 0 times");
    return line(head(name, small(detail)), cell("Listener", ...who), cell("Called", listener ? called : ""));
  };
  const routes = about.routes.map((route) => row("User sends request", route.name, route.listener));
  const listeners = (event) => (event.listeners.length ? event.listeners : [null]);
  const events = about.events.flatMap((event) => listeners(event).map((each) => row(event.name, event.about, each)));
  fill($("#who"), [...routes, ...events]);
}

// With a broker, an event may be handled in another process than the one that this page is of.
function showInstances() {
  const handled = now.handled ?? [];
  for (const node of $$("#instances, nav [href='#instances']")) node.hidden = !now.handled;
  const runs = [...new Set([now.run, ...handled.map(({ run }) => run)])];
  const share = (run) => `${process(run)} handled ${handled.filter((step) => step.run === run).length}`;
  put($("#shares"), `This page: ${process(now.run)}. Of the last ${handled.length}, ${runs.map(share).join(", ")}.`);
  const note = (step) => [step.run === now.run && "this page", step.sent_by && `sent by process ${step.sent_by}`]
    .filter(Boolean).join(", ");
  fill($("#handled"), handled.map((step) => line(head(step.type, small(step.detail)),
    cell("Listener", code(short(step.listener))),
    cell("Instance", mark(step.run === now.run ? "done" : "open", process(step.run)), small(note(step))),
    cell("Attempt", step.attempt > 1 ? mark("earlier", String(step.attempt)) : String(step.attempt ?? "")),
    cells(step)[2], cell("When", clock(step.time)))).reverse());
  $("#beyond").hidden = !now.beyond;
  if (now.beyond) showBeyond(now.beyond);
}

// It guides: it shows what was seen of BEYOND.md, and what to do next; it never does it.
function showBeyond({ steps, dead_letters: letters, max_attempts: max }) {
  const about = (step) => `${short(step.listener)} gave up after ${plural(max, "attempt")}: ${step.handler_output} (${step.detail})`;
  const said = `${plural(letters.length, "dead letter")}: ${letters.map(about).join("; ")}. Mend the listener, then replay.`;
  put($("#letters"), letters.length ? said : "None: no listener has given up an event.");
  const open = steps.find((step) => !step.seen);
  const all = "You've seen every step that shows here. BEYOND.md has the rest.";
  put($("#next"), open ? `Step ${open.number} of BEYOND.md: ${open.text}.` : all);
  const state = (seen) => mark(seen ? "right" : "open", seen ? "seen" : "not yet");
  const items = steps.map((step) => el("li", {}, state(step.seen), ` ${step.text}`));
  const list = $("#beyond ol"); // written only when it differs
  if (list.textContent !== items.map((item) => item.textContent).join("")) list.replaceChildren(...items);
}

// The concept flow: each step of the app is played box by box; under load, only the last ones.
let [queue, playing] = [[], false];

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
    for (const box of boxes) { box.className = ""; put(box.lastChild, ""); }
    for (const [index, box] of boxes.entries()) {
      for (const other of boxes) other.ariaCurrent = other === box ? "step" : null;
      box.className = says[index] ? "lit" : "skipped";
      put(box.lastChild, says[index] ?? "not this time");
      if (!calm.matches && says[index]) await pause(queue.length ? 120 : 320);
    }
  }
  for (const box of boxes) box.ariaCurrent = null;
  playing = false;
}

setInterval(() => { // in batches, so that a screen reader can follow
  const last = unsaid.at(-1);
  if (!last || paused) return;
  say(`${plural(unsaid.length, "new step")}. ${last.event}: ${last.listener_action}. ${last.handler_output}.`);
  unsaid = [];
}, 3000);

function moment(number, act) {
  const button = $(`#moment-${number}`);
  const result = button.nextElementSibling;
  button.onclick = async () => {
    if (button.ariaDisabled) return;
    button.ariaDisabled = "true";
    result.textContent = await act((text) => put(result, text)).catch(() => "The app doesn't answer.");
    button.ariaDisabled = null;
    say(result.textContent);
  };
}

const recorded = async () => (await api("lesson/steps")).data.filter((step) => step.run === now.run);

moment(1, async () => {
  const called = async () => (await recorded()).filter((step) => step.detail === "GET /" && step.listener).length;
  const earlier = plural(await called(), "time");
  const { status } = await fetch(at("/"));
  const later = plural(await called(), "time");
  return `Before: called ${earlier}. The event occurred. Now: ${later}. It answered ${status}.`;
});

moment(2, async () => {
  const earlier = new Set((await recorded()).map(key));
  const { status } = await api("orders", { item: "tea", quantity: 1 });
  if (now.handled) return `Answered ${status}. The broker delivers it: see which instance handled what.`;
  const rows = (await recorded()).filter((step) => !earlier.has(key(step)) && step.type === "OrderPlaced");
  const names = rows.map((step) => (step.listener ? short(step.listener) : "nobody")).join(", ");
  return `Answered ${status}. One OrderPlaced made ${plural(rows.length, "row")}: ${names}.`;
});

moment(3, async (tell) => {
  const earlier = (await recorded()).length;
  for (let left = 5; left; left--) { tell(`Waiting. ${left} s left`); await pause(1000); }
  const added = (await recorded()).length - earlier;
  const nothing = "Five seconds, no event, no row. No handler ran; the app waits.";
  return added ? `${plural(added, "step")} happened meanwhile.` : nothing;
});

$("#pause").onclick = () => {
  paused = !paused;
  $("#pause").ariaPressed = String(paused);
  if (!paused) show([]);
  showState();
};

// Predict, then compare; and the quiz. What is right is known to the server alone.
async function save(item, text, result) {
  const { status, data } = await api("lesson/answers", { id: item.id, text }).catch(() => ({ status: "nothing" }));
  const problem = data ? data.problem : `the app answered ${status}.`;
  if (!problem) item.answer = text; // what refresh compares
  put(result, problem ? `Not saved, so it's only for trying: ${problem}` : "Saved in answers.toml.");
  return data ?? {};
}

function showQuestions() {
  put($("#problem"), about.problem);
  const predict = $("#predict form");
  predict.replaceChildren(...about.predictions.map((prediction) => {
    const input = el("input", { name: prediction.id, autocomplete: "off", value: prediction.answer });
    const saved = el("p", { class: "result" });
    input.onchange = () => save(prediction, input.value, saved);
    input.oninput = () => { put(saved, ""); showPredictions(); };
    const asked = el("div", {}, el("label", {}, prediction.text, input), saved);
    return el("div", { class: "prediction" }, asked, el("p", { class: "compare" }));
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
  if (number === 4) return isIdle() ? "No action, as nothing happens just now." : "";
  return (path && number === 2 ? mine().filter(asked).slice(-1) : rowSteps(number))
    .map((step) => `${step.run === now.run ? "" : "In the last run: "}${step.handler_output}.`).join(" ");
}

function showPredictions() {
  $$(".prediction").forEach((node, index) => {
    const guess = node.querySelector("input").value.trim();
    const happened = outcome(about.predictions[index]);
    const told = happened ? `What happened: ${happened}` : "It hasn't happened yet. Make it happen, then compare.";
    put(node.querySelector(".compare"), guess ? `You predicted: ${guess}. ${told}` : "Write your prediction first.");
  });
}

function ask(question) {
  const [verdict, result] = [el("p"), el("p", { class: "result" })];
  const number = about.questions.filter((each) => !each.after).indexOf(question) + 1;
  const choices = question.choices.map(({ letter, text }) => el("label", { class: "choice" },
    el("input", { type: "radio", name: question.id, value: letter, checked: letter === question.answer }),
    el("span", {}, el("b", { text: letter }), " ", text)));
  const legend = el("legend", {}, el("b", { text: number ? `Question ${number}` : "Because" }), " ", question.text);
  const program = question.code ? [el("pre", { text: question.code.trim() })] : [];
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
    showAfter();
  };
  return node;
}

// A question about the reason comes once the one before it is right.
function showAfter() {
  $$("#questions form").forEach((node, index) => {
    const first = about.questions.find((each) => each.id === about.questions[index].after);
    node.hidden = Boolean(first) && first.verdict?.state !== "right";
  });
}

for (const table of $$("table")) {
  table.setAttribute("role", "table");
  const heads = table.dataset.columns.split("|").map((text) => el("th", { scope: "col", role: "columnheader", text }));
  heads.filter(({ textContent }) => ["Step", "When"].includes(textContent)).forEach((th) => th.classList.add("narrow"));
  table.append(el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...heads)));
}
setInterval(() => { if (connection === "live" && !paused) showState(); }, 1000);
addEventListener("focus", () => { if (connection === "live") refresh(); });
showState();
connect();
