// Corrections: answers as people would have worded them, reviewed before anything learns from them.
import { get, send } from "./api.js";
import { el, find, notice } from "./dom.js";
import { attempt, fill, office, when } from "./office.js";

function side(name, one) {
  const shown = el("div", { class: "text prose" });
  shown.innerHTML = one.html; // rendered and cleaned by the server
  return el("div", {}, el("h3", {}, name), shown);
}

function correction(one) {
  const review = (state, label, kind, said) => el("button", { type: "button", class: kind, "aria-label": `${label} the correction of ${when(one.at)}`, onclick: async () => {
    if (await attempt(() => send("POST", `/corrections/${one.id}/review`, { state }))) {
      notice(said);
      load();
    }
  } }, label);
  return el("article", { class: "card" },
    el("h2", { class: "asked plain" }, one.question),
    el("div", { class: "beside" }, side(one.version ? `The model (${one.version})` : "The model", one.answer), side("As they word it", one.correction)),
    ...one.flags.map((flag) => el("p", {}, el("span", { class: "tag warn" }, `Look twice: ${flag}.`))),
    el("div", { class: "row ends" },
      el("span", { class: "soft small" }, `${when(one.at)} · ${one.licence}${one.before ? ` · after ${one.before} earlier messages` : ""}`),
      review("refused", "Refuse", "", "Refused: nothing learns from it."),
      review("accepted", "Accept", "main", "Accepted: the next model learns from it.")));
}

function load() {
  office();
  return fill(find("#corrections"), async () => {
    const { corrections } = await get("/corrections");
    if (!corrections.length) return el("p", { class: "soft" }, "Nothing waits for you.");
    return corrections.map(correction);
  });
}

load();
