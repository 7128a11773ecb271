// With a broker, an event may be handled in a process other than this page's.

import { $, clock, code, el, fill, mark, output, plural, process, put, short, small } from "./dom.js";

const scrolls = { class: "scroll", tabindex: "0", role: "group" };
const columns = "Event|Listener|Instance|Attempt|Handler Output|When";
const table = el("table", { role: "table", id: "handled", "data-columns": columns },
  el("caption", { text: "All runs from this folder since this one began, newest first." }));
const section = el("section", { id: "instances", "aria-labelledby": "instances-h" },
  el("h2", { id: "instances-h", text: "Which instance handled what" }),
  el("p", {}, "The broker delivers each event to every listener, on one of the instances. ",
    el("span", { id: "shares" })),
  el("div", { ...scrolls, "aria-label": "Table of what each instance handled; it scrolls" }, table),
  el("div", { id: "beyond" }, el("h3", { text: "Dead letters" }), el("p", { id: "letters" }),
    el("h3", { text: "What comes next" }), el("p", { id: "next" }), el("ol")));
const link = el("a", { href: "#instances", text: "Instances" });
$("#listeners").before(section);
$("nav [href='#listeners']").before(link, " ");

export function show({ run, handled, beyond }) {
  section.hidden = link.hidden = !handled; // no broker is connected
  if (!handled) return;
  const runs = [...new Set([run, ...handled.map((step) => step.run)])];
  const share = (of) => `${process(of)} handled ${handled.filter((step) => step.run === of).length}`;
  put($("#shares"), `This page: ${process(run)}. Of the last ${handled.length}, ${runs.map(share).join(", ")}.`);
  const note = (step) => [step.run === run && "this page", step.sent_by && `sent by process ${step.sent_by}`]
    .filter(Boolean).join(", ");
  fill(table, handled.map((step) => [[step.type, small(step.detail)], code(short(step.listener)),
    [mark(step.run === run ? "done" : "open", process(step.run)), small(note(step))],
    step.attempt > 1 ? mark("earlier", String(step.attempt)) : String(step.attempt ?? ""),
    output(step), clock(step.time)]).reverse());
  $("#beyond").hidden = !beyond;
  if (beyond) showBeyond(beyond);
}

// It guides: it shows which steps of BEYOND.md were seen, and what comes next; it never does them.
function showBeyond({ steps, dead_letters: letters, max_attempts: max }) {
  const attempts = plural(max, "attempt");
  const tell = (step) => `${short(step.listener)} gave up after ${attempts}: ${step.handler_output} (${step.detail})`;
  const said = `${plural(letters.length, "dead letter")}: ${letters.map(tell).join("; ")}.`;
  const none = "None: no listener has given up on an event.";
  put($("#letters"), letters.length ? `${said} Fix the listener, then replay.` : none);
  const open = steps.find((step) => !step.seen);
  const all = "You've seen every step that shows here. BEYOND.md has the rest.";
  put($("#next"), open ? `Step ${open.number} of BEYOND.md: ${open.text}.` : all);
  const state = (seen) => mark(seen ? "right" : "open", seen ? "seen" : "not yet");
  const list = el("ol", {}, ...steps.map((step) => el("li", {}, state(step.seen), ` ${step.text}`)));
  if (!list.isEqualNode($("#beyond ol"))) $("#beyond ol").replaceWith(list);
}
