// Rounds: a prompt, two blind answers, one key a verdict; the next pair is fetched while one is read.
import { get } from "./api.js";
import { el, find } from "./dom.js";
import { newId } from "./outbox.js";
import { LETTERS, listen, outbox, prompt, quiet, sleep, text } from "./voting.js";

const stage = find("#stage");
const about = find("#about");
const past = find("#past");
const votes = outbox();

const SAID = { left: "A is better", right: "B is better", tie: "A tie", both_bad: "Both are bad", skip: "Skipped" };
const PAUSE = 30_000; // until it is looked again whether there is something to vote on

let current = null; // the round that has no verdict yet
let last = null; // the one before it, whose verdict can be taken back
let asked = null; // which of them is shown
let ahead = null; // the next one, on its way
let pending = false; // whether nothing can be asked until it is here
let shownAt = 0;
let count = 0;
const seen = [];
let waiting = 0;

/** The next round, asked for again while it is being written. None of those that were shown here: a
 *  vote on them may still be on its way. */
async function fetchNext() {
  for (;;) {
    const found = await get(`/rounds/next?without=${seen.join(",")}`);
    if (found.round) return found.round;
    await sleep(500);
  }
}

function fetchAhead() {
  ahead = fetchNext();
  ahead.catch(() => {}); // looked at when it is needed
}

async function next() {
  if (pending) return;
  clearTimeout(waiting);
  current = asked = null;
  pending = true;
  const coming = ahead;
  ahead = null;
  const writing = setTimeout(onTheWay, 300);
  try {
    current = await (coming || fetchNext());
  } catch (error) {
    // What was fetched ahead may have failed for a reason that has passed.
    current = coming ? await fetchNext().catch(fail) : fail(error);
  } finally {
    clearTimeout(writing);
    pending = false;
  }
  if (!current) return;
  seen.push(current.id);
  if (seen.length > 20) seen.shift();
  if (!asked) ask(current); // else the one before is looked at once more, and stays
  fetchAhead();
}

function onTheWay() {
  if (asked) return;
  show(quiet("Two answers are on their way …", last ? `${SAID[last.verdict]}: noted. The next ones are being written.` : "The models are writing them.", undoButton()));
}

/** From the round before to the one that has no verdict yet, or to waiting for it. */
function goOn() {
  asked = null;
  if (current) ask(current);
  else if (pending) onTheWay();
  else next();
}

function fail(error) {
  if (asked) return null; // it is looked again when they go on
  const again = el("button", { type: "button", class: "main", onclick: next }, "Look again");
  const heads = { all_voted: "You are up to date", no_prompt: "There is nothing to ask", not_yours: "Nothing is kept of you" };
  show(quiet(heads[error.code] || "No round just now", error.message, again, undoButton()));
  waiting = setTimeout(next, error.status === 0 ? 3000 : PAUSE);
  return null;
}

function show(...children) {
  const within = stage.contains(document.activeElement);
  stage.replaceChildren(...children);
  // Who goes by Tab goes on from here, not from the top of the page.
  if (within) stage.focus({ preventScroll: true });
  shownAt = performance.now();
}

/** Show a pair, and ask. */
function ask(round) {
  asked = round;
  const before = round === last?.round ? last.verdict : null;
  const cards = round.answers.map((answer, place) =>
    el("article", { class: `answer${before === ["left", "right"][place] ? " chosen" : ""}`, "aria-labelledby": `answer-${place}` },
      el("h2", { id: `answer-${place}` }, el("span", { class: "letter", "aria-hidden": "true" }, LETTERS[place]), `Answer ${LETTERS[place]}`),
      text(answer)));
  about.textContent = !round.decides
    ? "Two answers, blind: what you prefer, the next model learns."
    : round.alone
      ? "A new version is being tried: a day of your votes is one piece of advice on it."
      : "A new version is being tried: these votes decide on it. Nobody sees who wrote what.";
  if (last) find("#said").textContent = `${SAID[last.verdict]}: noted. ${before ? "Say it anew" : "Next"}: ${round.prompt}`;
  show(prompt(round), el("div", { class: "pair" }, cards), el("div", { class: "bar" }, verdicts(), aside(before)));
}

function verdict(said, label, key, main = false) {
  return el("button", { type: "button", class: main ? "main" : "", data: { said }, onclick: () => say(said) }, label, el("kbd", { "aria-hidden": "true" }, key));
}

function verdicts() {
  return el("div", { class: "verdicts", role: "group", "aria-label": "Your verdict" },
    verdict("left", "A is better", "A", true), verdict("tie", "Tie", "T"),
    verdict("both_bad", "Both bad", "X"), verdict("right", "B is better", "B", true));
}

function undoButton() {
  if (!last) return null;
  return el("button", { type: "button", onclick: undo }, "Take it back", el("kbd", { "aria-hidden": "true" }, "U"));
}

function aside(before) {
  const told = before ? `You said: ${SAID[before]}. Say it anew.` : count ? `${SAID[last.verdict]}: noted. ${count} so far.` : "";
  const right = before
    ? el("button", { type: "button", onclick: goOn }, "Leave it")
    : el("span", { class: "row" }, undoButton(), el("button", { type: "button", data: { said: "skip" }, onclick: () => say("skip") }, "Skip", el("kbd", { "aria-hidden": "true" }, "S")));
  return el("div", { class: "aside" }, el("span", {}, told), right);
}

function say(said) {
  if (!asked) return;
  const round = asked;
  votes.cast({ id: newId(), comparison: round.comparison, ticket: round.ticket, verdict: said });
  const again = round === last?.round;
  if (!again) count += 1;
  last = { round, verdict: said };
  if (again) goOn();
  else next();
}

function undo() {
  if (last && asked !== last.round) {
    clearTimeout(waiting);
    ask(last.round);
  }
}

// What they said before

const VERDICTS = { tie: "a tie", both_bad: "both bad", skip: "skipped" };

function line(one) {
  const first = one.ranking.length ? one.ranking[0] : [];
  const pair = one.versions === null || one.versions.length === 2;
  const said = one.verdict === "ranked" ? (first.length > 1 ? "equal at the top" : `${LETTERS[first[0]]} ${pair ? "better" : "best"}`) : VERDICTS[one.verdict];
  const wrote = one.versions && new Set(one.versions).size > 1
    ? one.versions.map((version, place) => `${LETTERS[place]}: ${version}`).join(" · ")
    : one.versions ? `by ${one.versions[0]}` : one.open ? "still open" : "who wrote which is told once it is decided";
  return el("li", {},
    el("span", { class: "q" }, one.prompt),
    el("span", { class: "tag on" }, said),
    el("span", { class: "soft small" }, wrote));
}

past.addEventListener("toggle", async () => {
  if (!past.open) return;
  const place = find("div", past);
  try {
    const said = await get("/rounds/mine");
    place.replaceChildren(said.length ? el("ul", { class: "rows" }, said.map(line)) : el("p", { class: "soft" }, "Nothing yet."));
  } catch (error) {
    place.replaceChildren(el("p", { class: "wrong" }, error.message));
  }
});

const keys = {
  a: () => say("left"), arrowleft: () => say("left"), 1: () => say("left"),
  b: () => say("right"), arrowright: () => say("right"), 2: () => say("right"),
  t: () => say("tie"), x: () => say("both_bad"), s: () => say("skip"), u: undo,
};
listen(keys, () => shownAt);
votes.open().catch(() => {}).finally(next);
