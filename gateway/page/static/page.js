"use strict";
// What moves on the page. Without this script everything can be read, by loading the page again.

// ---- live: pieces of HTML from this server, each for the element of its id -----------------------------------------

const arrived = []; // messages that are still to be taken
let [pressed, leaving] = [false, false];

for (const place of document.querySelectorAll("[data-live]")) {
  const source = new EventSource(place.dataset.live);
  source.onmessage = (message) => {
    arrived.push(message);
    takeAll();
  };
}

// Nothing moves while a button is pressed: if what was pressed has moved away, the browser gives the click to nobody.
function takeAll() {
  while (arrived.length && !pressed) take(arrived.shift());
}
for (const kind of ["pointerdown", "pointermove", "pointerup", "pointercancel"]) {
  const seen = ({ buttons }) => {
    pressed = buttons % 2 === 1; // the first one, or a finger
    if (arrived.length) setTimeout(takeAll); // after the click
  };
  addEventListener(kind, seen, { capture: true, passive: true });
}

function take({ data, target: source }) {
  const { part, html } = JSON.parse(data);
  if (part === "end") {
    source.close();
    if (html === "reload" && !isBusy()) location.reload();
  } else if (part.startsWith("more-")) add(html);
  else put(document.getElementById(part), html);
}

// Who has asked or types a question keeps it, and who follows a link or sends a form gets there.
function isBusy() {
  return leaving || sent.size || document.querySelector(".turn") || document.querySelector(".ask textarea")?.value;
}
addEventListener("beforeunload", () => (leaving = true));

// What a log gets is seen as it comes, as long as its end is looked at.
function add(text) {
  const log = document.getElementById("log");
  const atEnd = log.scrollTop + log.clientHeight > log.scrollHeight - 40;
  log.append(text);
  while (log.childNodes.length > 5000) log.firstChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}
for (const log of document.querySelectorAll("#log[data-live]")) log.scrollTop = log.scrollHeight;

function put(element, html) {
  if (!element) return;
  const word = element.querySelector(".status")?.textContent;
  const fresh = element.cloneNode(false);
  fresh.innerHTML = html;
  bring(element, fresh);
  const now = element.querySelector(".status")?.textContent;
  if (now && now !== word && element.classList.contains("lead-state")) say(now);
}

// Makes a node equal to a fresh one by changing only what differs: focus, selection, scrolling and typed text live on.
function bring(node, fresh) {
  if (node.isEqualNode(fresh)) return;
  if (!(node instanceof Element)) {
    write(node, fresh.data);
    return;
  }
  for (const { name, value } of fresh.attributes) {
    if (node.getAttribute(name) !== value) node.setAttribute(name, value);
  }
  for (const { name } of [...node.attributes]) {
    if (!fresh.hasAttribute(name) && name !== "open") node.removeAttribute(name);
  }
  const wanted = new Set([...fresh.children].map(key));
  for (const child of [...node.children]) if (!wanted.has(key(child))) child.remove();
  let here = node.firstChild;
  for (const next of [...fresh.childNodes]) {
    let same = here; // of texts only this one
    while (same && key(same) !== key(next)) same = next instanceof Element ? same.nextSibling : null;
    if (!same) {
      node.insertBefore(next, here);
      continue;
    }
    while (here !== same) here = dropped(here);
    bring(same, next);
    here = same.nextSibling;
  }
  while (here) here = dropped(here);
}

// What two nodes have in common if they are the same before and after an update.
function key(node) {
  return [node.nodeName, ...["id", "href", "action"].map((name) => node.getAttribute?.(name))].join();
}

function dropped(node) {
  const next = node.nextSibling;
  node.remove();
  return next;
}

// The new characters come before the old ones go, so that a selection that ends behind them still does.
function write(text, data) {
  let [start, end] = [0, 0];
  const most = Math.min(data.length, text.length);
  while (start < most && data[start] === text.data[start]) start++;
  while (end < most - start && data.at(-1 - end) === text.data.at(-1 - end)) end++;
  const [old, fresh] = [text.length - start - end, data.slice(start, data.length - end)];
  text.insertData(start, fresh);
  text.deleteData(start + fresh.length, old);
}

function say(text) {
  const place = document.getElementById("said");
  if (place) place.textContent = text.trim();
}

// ---- ages grow ---------------------------------------------------------------------------------------------------

const shown = Date.now(); // this machine's clock, which may be another one than the server's, counts only from here
setInterval(() => {
  if (pressed) return;
  for (const place of document.querySelectorAll("[data-age]")) {
    write(place.firstChild, short(Number(place.dataset.age) + (Date.now() - shown) / 1000));
  }
}, 1000);

// As `short` in ftq/words.py.
function short(seconds) {
  for (const [unit, length] of Object.entries({ d: 86400, h: 3600, m: 60 })) {
    if (seconds >= length) return Math.floor(seconds / length) + unit;
  }
  return `${Math.round(Math.max(seconds, 0))}s`;
}

// ---- forms are sent once ----------------------------------------------------------------------------------------

const sent = new Set();
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.classList.contains("ask")) return;
  if (sent.has(form)) event.preventDefault();
  sent.add(form);
});
window.addEventListener("pageshow", () => {
  sent.clear(); // back from the page that it led to
  leaving = false;
});

// ---- asking base and tuned model side by side -------------------------------------------------------------------

const ask = document.querySelector("form.ask");
if (ask) {
  const talk = document.querySelector(".talk");
  const [question, button, stop] = [ask.question, ask.querySelector(".first"), ask.querySelector(".stop-asking")];
  let asking = null;
  ask.hidden = false;
  question.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) ask.requestSubmit();
  });
  stop.addEventListener("click", () => asking && asking.abort());
  ask.addEventListener("submit", async (event) => {
    event.preventDefault();
    const text = question.value.trim();
    if (asking || !text) return;
    asking = new AbortController();
    [button.disabled, stop.hidden] = [true, false];
    const turn = make("div", "turn", talk, true);
    make("p", "", turn).textContent = text;
    const sides = make("div", "sides", turn);
    const titles = { base: `${ask.dataset.base}, the base model`, tuned: `${ask.dataset.name}, tuned` };
    const answers = Object.entries(titles).map(([side, title]) => {
      const place = make("div", side, sides);
      make("h3", "", place).textContent = title;
      return answer(ask.dataset[side], text, place, asking.signal);
    });
    await Promise.all(answers);
    [button.disabled, stop.hidden, asking] = [false, true, null];
    question.select();
  });
}

function make(tag, kind, parent, first) {
  const element = document.createElement(tag);
  element.className = kind;
  if (first) parent.prepend(element);
  else parent.append(element);
  return element;
}

async function answer(model, question, place, signal) {
  const said = make("p", "writing", place);
  said.dir = "auto";
  try {
    const body = { model, stream: true, max_tokens: 512, temperature: 0, messages: [{ role: "user", content: question }] };
    const headers = { "Content-Type": "application/json", Accept: "text/event-stream" };
    const response = await fetch("/chat", { method: "POST", headers, body: JSON.stringify(body), signal });
    if (!response.ok) throw new Error((await response.json()).error.message);
    for await (const event of events(response.body)) {
      if (event.error) throw new Error(event.error.message);
      const piece = event.choices && event.choices[0] && event.choices[0].delta.content;
      if (piece) said.append(piece);
    }
    if (!said.textContent) said.textContent = "(nothing)";
  } catch (error) {
    const note = make("p", "bad", place);
    note.textContent = error.name === "AbortError" ? "Stopped." : `No answer: ${error.message}`;
  }
  said.classList.remove("writing");
}

async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = (text + value).split("\n");
    text = lines.pop();
    for (const line of lines) if (line.startsWith("data: {")) yield JSON.parse(line.slice(6));
  }
}
