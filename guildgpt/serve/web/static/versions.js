// Versions: who answers how much, how they stand, and what becomes of the candidate.
import { get, send } from "./api.js";
import { ask, el, find, notice } from "./dom.js";
import { attempt, fill, many, office, size, when } from "./office.js";

const SVG = "http://www.w3.org/2000/svg";
const percent = (share) => `${Math.round(100 * share)} %`;

function shape(tag, attributes) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}

/** A value with its interval on a scale from `from` to `to`, and a line at the middle. */
function bar(low, value, high, from, to) {
  const at = (one) => (200 * (Math.min(to, Math.max(from, one)) - from)) / (to - from);
  const svg = shape("svg", { class: "bar", viewBox: "0 0 200 16", preserveAspectRatio: "none", "aria-hidden": "true" });
  svg.append(
    shape("rect", { class: "ground", x: 0, y: 6, width: 200, height: 4, rx: 2 }),
    shape("line", { class: "half", x1: 100, x2: 100, y1: 0, y2: 16 }),
    shape("rect", { class: "range", x: at(low), y: 4, width: Math.max(2, at(high) - at(low)), height: 8, rx: 4 }),
    shape("rect", { class: "point", x: at(value) - 2, y: 1, width: 4, height: 14, rx: 2 }),
  );
  return svg;
}

function fact(name, ...what) {
  return el("div", {}, el("dt", {}, name), el("dd", {}, what));
}

function wins(one) {
  if (!one.wins || one.wins.share === null) return fact("won", "no duels yet");
  const { share, low, high, of } = one.wins;
  return fact("won", percent(share), el("small", {}, `${percent(low)} to ${percent(high)}`), bar(low, share, high, 0, 1));
}

function score(one) {
  if (!one.score) return fact("points", "no duels yet");
  const { points, low, high } = one.score;
  const signed = (value) => `${value > 0 ? "+" : value < 0 ? "−" : ""}${Math.abs(Math.round(value))}`;
  return fact("points", signed(points), el("small", {}, `${signed(low)} to ${signed(high)}`), bar(low, points, high, -400, 400));
}

function speed(one) {
  if (!one.open) return fact("speed", "—", el("small", {}, "not open here"));
  const place = el("dd");
  const button = el("button", { type: "button", "aria-label": `Measure the speed of ${one.id}`, onclick: measure }, "Measure");
  place.append(button);
  async function measure() {
    button.disabled = true;
    button.textContent = "Writing …";
    const found = await attempt(() => send("POST", `/versions/${encodeURIComponent(one.id)}/measure`));
    const rate = found && found.tokens_per_second;
    place.replaceChildren(rate ? `${rate.toFixed(1)} tokens/s` : found ? "too short to say" : "—",
      found ? el("small", {}, `first after ${Math.round(1000 * found.first)} ms`) : "");
    if (!found) place.append(button);
    button.disabled = false;
    button.textContent = "Measure";
  }
  return el("div", {}, el("dt", {}, "speed"), place);
}

function version(one) {
  const learned = Object.entries(one.learned || {}).map(([kind, count]) => many(count, kind)).join(", ");
  const registered = Boolean(one.name);
  const tags = [
    one.share ? el("span", { class: "tag on" }, `answers ${percent(one.share)}`) : null,
    one.candidate ? el("span", { class: "tag warn" }, "candidate") : null,
    one.flaw ? el("span", { class: "tag bad" }, one.flaw) : null,
    one.trouble ? el("span", { class: "tag bad" }, `did not start: ${one.trouble}`) : null,
    registered ? null : el("span", { class: "tag" }, "not registered"),
  ];
  return el("article", { class: "card version", "aria-labelledby": `v-${one.id}` },
    el("div", { class: "name" },
      el("h2", { id: `v-${one.id}` }, one.id),
      el("div", { class: "row" }, tags),
      one.since ? el("span", { class: "soft small" }, `since ${when(one.since)}`) : null,
      registered ? el("span", { class: "soft small plain" }, learned ? `learned from ${learned}` : "learned from no votes") : null),
    el("dl", { class: "facts" },
      wins(one), score(one),
      fact("votes", one.wins ? `${one.votes.toLocaleString()} in ${many(one.wins.of, "duel")}` : one.votes.toLocaleString(), el("small", {}, many(one.answers, "answer")), el("small", {}, `thumbs: ${one.up.toLocaleString()} up, ${one.down.toLocaleString()} down`)),
      fact("size", size(one.size)), speed(one)));
}

const STATES = { canary: "is being tried", preferred: "is preferred, and waits for you", training: "is being trained" };

function trial(decision) {
  if (!decision) return el("p", { class: "soft" }, "No candidate is being tried. ", el("code", {}, "guildgpt learn"), " makes one of the votes, ", el("code", {}, "guildgpt versions canary"), " tries any other model.");
  const [, ...says] = decision.says.split(". ");
  return el("section", { class: "card trial", "aria-label": "The candidate" },
    el("h2", {}, `${decision.candidate_id} ${STATES[decision.state] || decision.state}`),
    el("p", {}, says.join(". ") || decision.says),
    decision.state === "training" ? null : el("div", { class: "row" },
      el("button", { type: "button", class: "main", onclick: promote }, "Promote …"),
      el("button", { type: "button", class: "danger", onclick: drop }, "Drop …")));
}

const KINDS = { serve: "served", canary: "tried", promote: "promoted", drop: "dropped", rollback: "rolled back" };

function releases(all) {
  if (!all.length) return el("p", { class: "soft" }, "Nothing was released: the server answers with the model that it was started with.");
  return el("table", { class: "history" },
    el("thead", {}, el("tr", {}, ["no.", "when", "what", "who answers", "why"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, all.map((one) => el("tr", {},
      el("td", { class: "soft" }, String(one.number)), el("td", {}, when(one.at)), el("td", {}, KINDS[one.kind] || one.kind),
      el("td", {}, Object.entries(one.shares).map(([id, share]) => el("div", {}, el("code", {}, id), ` ${percent(share)}`))),
      el("td", { class: "soft" }, one.why)))));
}

/** Who votes by position or like a machine, by code: nobody has a name here. */
function voters({ says, noticed }) {
  const share = (value) => (value === null ? "" : percent(value));
  const remarks = (one) => [one.excluded_since ? `votes by position since ${when(one.excluded_since)}: not counted` : "", ...one.flags].filter(Boolean).join("; ");
  const told = el("p", { class: "soft" }, says);
  if (!noticed.length) return [told];
  return [told, el("table", { class: "history" },
    el("thead", {}, el("tr", {}, ["voter", "votes", "first wins", "last wins", "what is noticed"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, noticed.map((one) => el("tr", {},
      el("td", {}, el("code", {}, one.code)), el("td", {}, one.votes.toLocaleString()), el("td", {}, share(one.first)), el("td", {}, share(one.last)),
      el("td", { class: "soft" }, remarks(one))))))];
}

/** Ask whether, with a line for the reason, and perhaps a box to tick first; null, or the reason. */
function decide(title, text, act, { tick = null, danger = false } = {}) {
  return ask(title, (close) => {
    const why = el("input", { id: "why", maxlength: 500, autocomplete: "off" });
    const box = tick ? el("input", { type: "checkbox", id: "sure", required: true }) : null;
    return el("form", { onsubmit: (event) => (event.preventDefault(), close({ why: why.value.trim() })) },
      el("p", {}, text),
      box ? el("label", { class: "tick", for: "sure" }, box, el("span", {}, tick)) : null,
      el("label", { for: "why" }, "Why? It is noted beside the release."), why,
      el("div", { class: "ends" },
        el("button", { type: "button", onclick: () => close(null) }, "Cancel"),
        el("button", { class: danger ? "danger" : "main" }, act)));
  });
}

async function promote() {
  const found = await attempt(() => get("/versions/candidate"));
  if (!found) return;
  const said = await decide(`Promote ${found.version}?`, `${found.says} It answers everything from then on; Roll back goes back.`, "Promote",
    { tick: found.against ? "The decision does not say that members prefer it. Promote it all the same; the release notes that I did." : null });
  if (!said) return;
  const done = await attempt(() => send("POST", "/versions/promote", { version: found.version, force: found.against, why: said.why }));
  if (done) notice(`${done.version} answers everything from now on.`);
  load();
}

async function drop() {
  const said = await decide("Drop the candidate?", "Its trial ends, and who served before answers everything again. It stays registered.", "Drop", { danger: true });
  if (!said) return;
  const done = await attempt(() => send("POST", "/versions/drop", said));
  if (done) notice(`${done.serves} answers everything.`);
  load();
}

async function rollback() {
  const said = await decide("Roll back?", "Who served before answers everything again. While a candidate is being tried, this ends its trial.", "Roll back", { danger: true });
  if (!said) return;
  const done = await attempt(() => send("POST", "/versions/rollback", said));
  if (done) notice(`${done.to} answers everything again.`);
  load();
}

/** What the figures mean, for who has never seen such. */
function legend() {
  const means = (word, text) => el("div", {}, el("dt", {}, word), el("dd", {}, text));
  return el("details", { class: "legend" }, el("summary", {}, "What the figures mean"),
    el("dl", {},
      means("duel", "Two versions answered the same prompt, and people said, without knowing whose was whose, which answer is better. However many voted, it counts once, with the mean of their votes; a tie counts half."),
      means("won", "How many of its duels a version won. At 50 % it is as good as those that it met."),
      means("points", "How strong a version is, by whom it won and lost against (a Bradley–Terry score): 0 is the average of all. 100 points more win about 64 duels of 100, 400 points more about 91."),
      means("… to …", "The true value lies between these with 95 % certainty: more votes bring them together. Where the ranges of two versions overlap much, it is still open which one is better.")));
}

async function load() {
  office();
  await fill(find("#versions"), async () => {
    const all = await get("/versions");
    find("#trial").replaceChildren(trial(all.decision));
    find("#releases").replaceChildren(releases(all.releases));
    find("#voters").replaceChildren(...voters(all.voters));
    find("#acts").replaceChildren(...(all.releases.length ? [el("button", { type: "button", onclick: rollback }, "Roll back …")] : []));
    const shown = all.versions.sort((one, other) => other.share - one.share || (other.score?.points ?? -1e9) - (one.score?.points ?? -1e9));
    if (!shown.length) return el("p", { class: "soft" }, "No version is registered yet. ", el("code", {}, "guildgpt versions register MODEL"), " makes one known.");
    return [legend(), ...shown.map(version)];
  });
}

load();
