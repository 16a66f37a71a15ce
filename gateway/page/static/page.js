"use strict";
// What moves on the page. Without this script everything can be read, by loading the page again.

// ---- live: pieces of HTML from this server, each for the element of its id -----------------------------------------

for (const place of document.querySelectorAll("[data-live]")) {
  const source = new EventSource(place.dataset.live);
  source.onmessage = (event) => {
    const { part, html } = JSON.parse(event.data);
    if (part === "end") {
      source.close();
      if (html === "reload" && !document.querySelector(".turn")) location.reload();
      return;
    }
    if (part.startsWith("more-")) add(html);
    else put(document.getElementById(part), html);
  };
}

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
  const before = element.querySelector(".status");
  const focused = element.contains(document.activeElement) ? document.activeElement.textContent : null;
  const word = before && before.textContent;
  const bar = element.querySelector("progress");
  element.innerHTML = html;
  const now = element.querySelector(".status");
  if (now && now.textContent !== word && element.classList.contains("lead-state")) say(now.textContent);
  const grown = element.querySelector("progress");
  if (bar && grown) {
    const value = grown.value;
    grown.replaceWith(bar); // the same bar grows: a new one would begin anew
    bar.value = value;
    bar.setAttribute("aria-label", grown.getAttribute("aria-label"));
  }
  if (focused !== null) [...element.querySelectorAll("button")].find((one) => one.textContent === focused)?.focus();
}

function say(text) {
  const place = document.getElementById("said");
  if (place) place.textContent = text.trim();
}

// ---- forms are sent once ----------------------------------------------------------------------------------------

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.classList.contains("ask")) return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
});
window.addEventListener("pageshow", () => {
  for (const form of document.forms) delete form.dataset.sent; // back from the page that it led to
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
