// The pool: what rounds ask, and what members offered.
import { get, send } from "./api.js";
import { ask, el, find, notice } from "./dom.js";
import { attempt, fill, many, office } from "./office.js";

const STATES = { offered: "Offered", accepted: "Asked", refused: "Refused" };
const FOR = { decide: "decides", train: "to learn from" };
let state = new URLSearchParams(location.search).get("state") || "accepted";
let skip = 0;

function judge(one, to, label, kind = "") {
  return el("button", { type: "button", class: kind, "aria-label": `${label}: ${one.text.slice(0, 60)}`, onclick: async () => {
    if (await attempt(() => send("POST", `/pool/${one.id}/judge`, { state: to }))) {
      notice(to === "accepted" ? "Rounds ask it." : "Rounds do not ask it.");
      load();
      office();
    }
  } }, label);
}

function line(one) {
  const acts = {
    offered: [judge(one, "accepted", "Accept", "main"), judge(one, "refused", "Refuse")],
    accepted: [judge(one, "refused", "Take out")],
    refused: [judge(one, "accepted", "Ask it again")],
  }[one.state];
  return el("li", {},
    el("div", { class: "words" }, el("p", {}, one.text),
      el("p", { class: "soft small" }, [FOR[one.purpose], one.submitted ? "offered by a member" : one.source, one.licence, one.credit].filter(Boolean).join(" · "))),
    el("div", { class: "row" }, acts));
}

function load() {
  return fill(find("#prompts"), async () => {
    const q = find("#search").value;
    const all = await get(`/pool?${new URLSearchParams({ state, q, skip })}`);
    find("#about").textContent = `Rounds ask ${many(all.decide + all.train, "prompt")}: ${all.decide.toLocaleString()} decide on a candidate, and nothing is ever trained on those; ${all.train.toLocaleString()} are to learn from. Which is which follows from the text.`;
    find("#states").replaceChildren(...Object.entries(STATES).map(([name, title]) =>
      el("button", { type: "button", "aria-pressed": String(name === state), onclick: () => ((state = name), (skip = 0), load()) }, title, ` ${all.counts[name].toLocaleString()}`)));
    if (!all.found) return el("p", { class: "soft" }, q ? "No prompt has these words." : state === "offered" ? "Nobody has offered a prompt that waits for you." : "None. A round fills an empty pool with the starter pack’s prompts.");
    const last = skip + all.prompts.length;
    return [
      el("ul", { class: "rows" }, all.prompts.map(line)),
      all.found > all.prompts.length ? el("div", { class: "row" },
        el("button", { type: "button", disabled: skip === 0, onclick: () => ((skip -= 50), load()) }, "Newer"),
        el("span", { class: "soft small" }, `${skip + 1} to ${last} of ${all.found.toLocaleString()}`),
        el("button", { type: "button", disabled: last >= all.found, onclick: () => ((skip += 50), load()) }, "Older")) : "",
    ];
  });
}

async function add() {
  const done = await ask("Add prompts", (close) => {
    const text = el("textarea", { id: "text", rows: 7, required: true, autofocus: true });
    const licence = el("input", { id: "licence", value: "own", required: true, autocomplete: "off" });
    const credit = el("input", { id: "credit", autocomplete: "off" });
    const wrong = el("p", { class: "wrong", role: "alert" });
    async function submit(event) {
      event.preventDefault();
      try {
        close(await send("POST", "/pool", { text: text.value, licence: licence.value, credit: credit.value }));
      } catch (error) {
        wrong.textContent = error.message;
      }
    }
    return el("form", { onsubmit: submit },
      el("div", { class: "field" }, el("label", { for: "text" }, "One prompt a line"), text),
      el("div", { class: "two" },
        el("div", { class: "field" }, el("label", { for: "licence" }, "Licence"), licence, el("p", { class: "soft small" }, "own, if you wrote them; else its name: CC-BY-4.0")),
        el("div", { class: "field" }, el("label", { for: "credit" }, "Credit"), credit, el("p", { class: "soft small" }, "whom the licence wants to be named"))),
      wrong,
      el("div", { class: "ends" }, el("button", { type: "button", onclick: () => close(null) }, "Cancel"), el("button", { class: "main" }, "Add")));
  });
  if (!done) return;
  const left = Object.entries(done.left_out).map(([why, count]) => `${count} left out, ${why}`);
  const there = done.already_there ? [`${done.already_there} there already`] : [];
  notice([`${many(done.decide + done.train, "prompt")} added`, ...there, ...left].join("; ") + ".");
  state = "accepted";
  load();
}

let typing = 0;
find("#search").addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(() => ((skip = 0), load()), 200);
});
find("#add").addEventListener("click", add);
office();
load();
