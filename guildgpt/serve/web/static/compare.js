// Two answers to one question, streamed side by side, blind; the better one goes on.
import { get, send, stream } from "./api.js";
import { el, find, notice } from "./dom.js";
import { newId } from "./outbox.js";
import { LETTERS, cut, listen, outbox } from "./voting.js";

const SAID = { left: "A is better", right: "B is better", tie: "A tie", both_bad: "Both are bad" };
const talk = find("#talk");
const stage = find("#stage");
const field = find("#question");
const stop = find("#stop");
const votes = outbox();

const given = new URLSearchParams(location.search);
let chat = given.get("chat");
let parent = given.get("at"); // the answer that the next question stands below
let pair = null; // what is voted on
let cards = [];
let stopping = null;
let shownAt = 0;

function asked(text) {
  return el("p", { class: "prompt" }, text);
}

function card(place) {
  const done = el("div");
  const rest = el("div");
  const text = el("div", { class: "text prose", "aria-busy": "true" }, done, rest);
  const whole = el("article", { class: "answer", "aria-labelledby": `answer-${place}` },
    el("h2", { id: `answer-${place}` }, el("span", { class: "letter", "aria-hidden": "true" }, LETTERS[place]), `Answer ${LETTERS[place]}`), text);
  return { whole, text, done, rest };
}

/** What is told of an answer, as it comes. */
const heard = {
  text: ({ place, done, rest }) => {
    cards[place].done.insertAdjacentHTML("beforeend", done); // rendered and cleaned by the server
    cards[place].rest.innerHTML = rest;
  },
  whole: ({ place, html }) => {
    cards[place].done.innerHTML = html;
    cards[place].rest.replaceChildren();
  },
  end: ({ place, stop }) => {
    cards[place].text.setAttribute("aria-busy", "false");
    if (stop === "length") cards[place].text.append(cut());
  },
  error: ({ place, message }) => {
    if (place === undefined) return notice(message);
    cards[place].text.setAttribute("aria-busy", "false");
    cards[place].text.append(el("p", { class: "wrong", role: "alert" }, message));
  },
  pair: (told) => {
    pair = told;
  },
};

function busy(is) {
  find("#send").hidden = is;
  stop.hidden = !is;
}

/** Ask twice: a text, or a question that is in the chat already. */
async function ask(body, text) {
  pair = null;
  let question = null;
  cards = [card(0), card(1)];
  stage.replaceChildren(asked(text), el("div", { class: "pair" }, cards.map((one) => one.whole)));
  find("#said").textContent = "Two answers are being written.";
  busy(true);
  field.disabled = true;
  stopping = new AbortController();
  try {
    chat ||= (await send("POST", "/chats")).id;
    await stream(`/chats/${chat}/pairs`, body, { signal: stopping.signal, on: { ...heard, asked: (told) => (question = told.question) } });
    if (pair) judge(text);
    else fail(question, text, "One of the answers is missing, so there is nothing to choose between.");
  } catch (error) {
    fail(question, text, error.name === "AbortError" ? "Stopped." : error.message);
  } finally {
    busy(false);
  }
  field.disabled = false;
}

function fail(question, text, why) {
  const again = question
    ? el("button", { type: "button", class: "main", onclick: () => ask({ question }, text) }, "Ask again")
    : el("button", { type: "button", class: "main", onclick: () => ask({ text, parent }, text) }, "Ask again");
  stage.append(el("div", { class: "aside" }, el("span", { class: "wrong", role: "alert" }, why), again));
}

function judge(text) {
  find("#said").textContent = "Both answers are there. Which one is better?";
  shownAt = performance.now();
  find("#ask").hidden = true; // until it is said which one goes on
  if (pair.same) {
    stage.append(el("div", { class: "aside" }, el("span", {}, "Both said the same."), el("button", { type: "button", onclick: () => goOn(0, text) }, "Go on")));
    return;
  }
  const verdict = (said, label, key, main) =>
    el("button", { type: "button", class: main ? "main" : "", onclick: () => say(said, text) }, label, el("kbd", { "aria-hidden": "true" }, key));
  stage.append(el("div", { class: "verdicts", role: "group", "aria-label": "Your verdict" },
    verdict("left", "A is better", "A", true), verdict("tie", "Tie", "T"), verdict("both_bad", "Both bad", "X"), verdict("right", "B is better", "B", true)));
  keyed = (said) => say(said, text);
}

let keyed = null;

function say(said, text) {
  if (!pair || pair.same) return;
  votes.cast({ id: newId(), comparison: pair.comparison, ticket: pair.ticket, verdict: said });
  find("#said").textContent = `${SAID[said]}.`;
  goOn(said === "right" ? 1 : 0, text, SAID[said]);
}

/** One answer stays, and the next question stands below it. */
function goOn(place, text, verdict = "") {
  keyed = null;
  find("#ask").hidden = false;
  parent = pair.answers[place];
  const kept = el("div", { class: "text prose" });
  kept.append(...cards[place].done.childNodes, ...cards[place].rest.childNodes, ...cards[place].text.querySelectorAll(":scope > .note"));
  talk.append(asked(text), el("article", { class: "answer", "aria-label": "The answer that goes on" }, el("h2", {}, verdict ? `You said: ${verdict}` : "The answer"), kept));
  stage.replaceChildren(el("div", { class: "aside" }, el("span", {}, "Ask on below, or leave for the chat with this answer."),
    el("a", { class: "button", href: `/?chat=${chat}&at=${parent}` }, "Go on in the chat")));
  field.focus();
}

find("#ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = field.value;
  if (!text.trim() || !stop.hidden) return;
  field.value = "";
  ask({ text, parent }, text);
});
field.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    find("#ask").requestSubmit();
  }
});
stop.addEventListener("click", () => stopping.abort());

listen({
  a: () => keyed?.("left"), b: () => keyed?.("right"), t: () => keyed?.("tie"), x: () => keyed?.("both_bad"),
}, () => shownAt);
votes.open().catch(() => {});

/** A question of the chat that is to be answered twice. */
async function begin() {
  const question = given.get("question");
  if (!chat || !question) return field.focus();
  history.replaceState(null, "", location.pathname); // asked once, however often the page is loaded
  try {
    const { messages } = await get(`/chats/${chat}?at=${question}`);
    const found = messages.find((one) => one.id === question);
    if (found) ask({ question }, found.text);
    else notice("The question is not there any more.");
  } catch (error) {
    notice(error.message);
  }
}

begin();
