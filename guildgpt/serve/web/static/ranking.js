// Rankings: three to five blind answers are put in order, equals together.
import { get } from "./api.js";
import { confirm, el, find, iconButton } from "./dom.js";
import { newId } from "./outbox.js";
import { LETTERS, listen, outbox, prompt, quiet, sleep, text } from "./voting.js";

const UP = "M12 19V5M6 11l6-6 6 6";
const DOWN = "M12 5v14M6 13l6 6 6-6";
const EQUAL = "M5 9h14M5 15h14";
const stage = find("#stage");
const many = find("#many");
const votes = outbox();
const tell = (words) => (find("#said").textContent = words);

let round = null;
let order = []; // the answers' places as they came, the best first
let same = []; // whether a place is shared with the one above
let moved = false;
let shownAt = 0;
let turn = 0;
let before = ""; // the one just voted on: its vote may still be on its way

async function next() {
  before = round?.id || before;
  round = null;
  const mine = ++turn;
  show(quiet("The answers are on their way …", `${many.value} of them are being written.`));
  for (;;) {
    let found;
    try {
      found = await get(`/rounds/next?answers=${many.value}&without=${before}`);
    } catch (error) {
      if (mine === turn) show(quiet("No answers just now", error.message, el("button", { type: "button", class: "main", onclick: next }, "Try again")));
      return;
    }
    if (mine !== turn) return;
    if (found.round) return begin(found.round);
    await sleep(500);
  }
}

function begin(found) {
  round = found;
  order = round.answers.map((_, place) => place);
  same = order.map(() => false);
  moved = false;
  draw();
}

function show(...children) {
  stage.replaceChildren(...children);
  shownAt = performance.now();
}

/** The places in words: 1, 2, 2, 4. */
function places() {
  let place = 0;
  return order.map((_, index) => (place = same[index] ? place : index + 1));
}

function draw(focused = null) {
  const numbers = places();
  const items = order.map((answer, index) => {
    const shared = same[index] || same[index + 1];
    const letter = LETTERS[answer];
    const above = index > 0 ? LETTERS[order[index - 1]] : "";
    return el("li", { tabindex: 0, data: { answer }, class: `${same[index] ? "equal" : ""} ${same[index + 1] ? "followed" : ""}`, "aria-label": `Answer ${letter}, place ${numbers[index]}${shared ? ", shared" : ""}`, onkeydown: (event) => keyed(event, index) },
      el("h2", { class: "unseen" }, `Answer ${letter}`),
      el("div", { class: "place" }, `${numbers[index]}.`, el("small", {}, shared ? `${letter}, equal` : letter)),
      text(round.answers[answer]),
      el("div", { class: "moves" },
        iconButton(UP, `Move ${letter} up`, () => move(index, -1), { disabled: index === 0 }),
        iconButton(DOWN, `Move ${letter} down`, () => move(index, 1), { disabled: index === order.length - 1 }),
        iconButton(EQUAL, above ? `${letter} is as good as ${above}` : `${letter} is first`, () => equal(index), { disabled: index === 0, "aria-pressed": String(same[index]) })));
  });
  show(
    prompt(round),
    el("p", { class: "soft small ways" }, "The best goes to the top. Move answers with the arrows beside them, or choose one with Tab and move it with ↑ and ↓; = makes it equal to the one above."),
    el("ol", { class: "places", "aria-label": "Answers, the best first" }, items),
    el("div", { class: "verdicts ranked", role: "group", "aria-label": "Your verdict" },
      el("button", { type: "button", class: "main", onclick: save }, "Save this order", el("kbd", { "aria-hidden": "true" }, "Enter")),
      el("button", { type: "button", onclick: () => say("tie") }, "All equal"),
      el("button", { type: "button", onclick: () => say("both_bad") }, "All bad"),
      el("button", { type: "button", onclick: () => say("skip") }, "Skip")),
  );
  if (focused !== null) find(`[data-answer="${focused}"]`).focus();
}

function keyed(event, index) {
  if (event.target.closest("button") && event.key === "Enter") return;
  const act = { ArrowUp: () => move(index, -1), ArrowDown: () => move(index, 1), "=": () => equal(index) }[event.key];
  if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  act();
}

function move(index, by) {
  const to = index + by;
  if (to < 0 || to >= order.length) return;
  const answer = order[index];
  [order[index], order[to]] = [order[to], order[index]];
  moved = true;
  draw(answer);
  tell(`${LETTERS[answer]} is at place ${places()[to]}.`);
}

function equal(index) {
  if (index === 0) return;
  same[index] = !same[index];
  moved = true;
  draw(order[index]);
  tell(same[index] ? `${LETTERS[order[index]]} and ${LETTERS[order[index - 1]]} are equal.` : `${LETTERS[order[index]]} is below ${LETTERS[order[index - 1]]}.`);
}

/** The order with equals together: [[2], [0, 3], [1]]. */
function ranking() {
  const tiers = [];
  order.forEach((answer, index) => (same[index] ? tiers.at(-1).push(answer) : tiers.push([answer])));
  return tiers;
}

async function save() {
  if (!round) return;
  const tiers = ranking();
  if (tiers.length === 1) return say("tie");
  if (!moved && !(await confirm("Save this order?", "The answers stand in the order in which they came.", "Save it"))) return;
  say("ranked", tiers);
}

function say(verdict, tiers = []) {
  if (!round) return;
  votes.cast({ id: newId(), comparison: round.comparison, ticket: round.ticket, verdict, ranking: tiers });
  tell({ ranked: "Your order is noted.", tie: "All equal.", both_bad: "All bad.", skip: "Skipped." }[verdict]);
  next();
}

many.addEventListener("change", next);
listen({ enter: () => !document.activeElement.closest("button, a, summary") && save() }, () => shownAt);
votes.open().catch(() => {}).finally(next);
