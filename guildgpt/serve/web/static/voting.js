// What rounds, rankings and comparisons have in common: how answers are shown, keys, and the box
// that says what waits.
import { Outbox } from "./outbox.js";
import { el, find, notice } from "./dom.js";

export const LETTERS = "ABCDE";
const BLINK = 250; // milliseconds: nobody has an opinion on what they have not seen

/** An answer as the server has rendered and cleaned it. */
export function text(answer) {
  const made = el("div", { class: "text prose" });
  if (answer.html) made.innerHTML = answer.html;
  else made.append(el("p", { class: "plain" }, answer.text));
  if (answer.cut) made.append(cut());
  return made;
}

/** Below an answer that ends where it was not finished. */
export const cut = () => el("p", { class: "note" }, "It was cut at its length.");

/** The prompt above its answers. */
export function prompt(round) {
  const by = round.credit ? el("span", { class: "soft" }, `Prompt: ${round.credit}`) : null;
  return el("p", { class: "prompt" }, round.prompt, by);
}

/** A state without answers: why, and what can be done. */
export function quiet(heading, why, ...acts) {
  return el("div", { class: "quiet", role: "status" }, el("h2", {}, heading), el("p", { class: "soft" }, why),
    acts.some(Boolean) ? el("div", { class: "row" }, acts) : null);
}

/** Keys that mean something on the page: `keys[name]()` by the key's name in small letters. None
 *  while somebody types, within a dialog, or before what is shown could be read. */
export function listen(keys, shownAt) {
  const box = document.querySelector("#keys");
  const kept = "guildgpt_keys";
  if (box) {
    box.checked = localStorage.getItem(kept) !== "off";
    box.addEventListener("change", () => localStorage.setItem(kept, box.checked ? "on" : "off"));
  }
  addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input:not([type=checkbox]), textarea, select, dialog, pre, .scroll");
    if (typing || localStorage.getItem(kept) === "off" || event.ctrlKey || event.metaKey || event.altKey || event.repeat) return;
    const act = keys[event.key.toLowerCase()];
    if (!act || document.querySelector("dialog[open]")) return;
    if (performance.now() - shownAt() < BLINK) return;
    event.preventDefault();
    act();
  });
}

/** The votes on their way, with the box that says so. */
export function outbox() {
  const box = find("#kept");
  const made = new Outbox({
    told(waiting, why) {
      box.hidden = !waiting;
      const votes = waiting === 1 ? "Your vote is" : `Your ${waiting} votes are`;
      box.textContent = waiting ? `${votes} kept in this browser, and sent as soon as that works. ${why}` : "";
    },
    refused: notice,
  });
  return made;
}

/** Wait. */
export const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
