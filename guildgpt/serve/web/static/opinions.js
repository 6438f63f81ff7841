// What a person thinks of an answer: thumbs with a reason, and their own wording.
import { send } from "./api.js";
import { ask, el, iconButton, notice } from "./dom.js";

const UP = "M7 11v9H4v-9zM7 11l4-8c1.700 0 2.500 1.200 2.200 2.800L12.500 9H19a2 2 0 0 1 2 2.400l-1.300 7A2 2 0 0 1 17.700 20H7";
const DOWN = "M7 13V4H4v9zM7 13l4 8c1.700 0 2.500-1.200 2.200-2.800L12.500 15H19a2 2 0 0 0 2-2.400l-1.300-7A2 2 0 0 0 17.700 4H7";
const PEN = "M4 20h16M5 15L15.500 4.500l3 3L8 18H5z";
const STATES = { offered: "waits for the operator", accepted: "taken", refused: "not taken" };

/** The thumbs and the pen of an answer's bar; `below()` shows under it what was said already. */
export function opinion(element, message) {
  const place = `/messages/${message.id}`;
  const up = iconButton(UP, "A good answer", () => rate(1));
  const down = iconButton(DOWN, "A bad answer", () => rate(-1));
  const pen = iconButton(PEN, "Word it better", correct);
  let theirs = null;
  let form = null;

  function pressed() {
    up.setAttribute("aria-pressed", String(message.rating === 1));
    down.setAttribute("aria-pressed", String(message.rating === -1));
  }

  async function tell(value, reason = null) {
    try {
      const told = await send("POST", `${place}/rating`, { value, reason });
      message.rating = told.value;
      message.reason = told.reason;
      pressed();
      return true;
    } catch (error) {
      notice(error.message);
      return false;
    }
  }

  async function rate(value) {
    const wanted = message.rating === value ? 0 : value;
    if (!(await tell(wanted))) return;
    form?.remove();
    form = null;
    if (wanted) askWhy(wanted);
    else notice("Taken back.");
  }

  function askWhy(value) {
    const field = el("input", { "aria-label": "Why, if you like", maxlength: 2000, autocomplete: "off",
      placeholder: value === 1 ? "What was good? (if you like)" : "What was wrong? (if you like)" });
    form = el("form", {
      class: "reason",
      async onsubmit(event) {
        event.preventDefault();
        if (!field.value.trim() || (await tell(value, field.value))) {
          form.remove();
          (value === 1 ? up : down).focus();
          notice("Thank you.");
        }
      },
      onkeydown(event) {
        if (event.key !== "Escape") return;
        event.stopPropagation();
        form.remove();
        (value === 1 ? up : down).focus();
      },
    }, field, el("button", {}, "Send"));
    up.parentNode.after(form);
  }

  async function correct() {
    const said = await ask("How would you word it?", (close) => wording(message, close));
    if (!said) return;
    try {
      const told = await (said.back ? send("DELETE", `${place}/correction`) : send("POST", `${place}/correction`, said));
      Object.assign(message, told);
      below();
      notice(said.back ? "Taken back." : message.correction_state === "offered" ? "Thank you. The operator looks at it before a model learns from it." : "Thank you. The next model can learn from it.");
    } catch (error) {
      notice(error.message);
    }
  }

  function below() {
    theirs?.remove();
    theirs = null;
    pen.setAttribute("aria-pressed", String(Boolean(message.correction)));
    if (!message.correction) return;
    const state = STATES[message.correction_state];
    theirs = el("div", { class: "theirs", dir: "auto" }, el("b", {}, `Your wording${state ? ` (${state})` : ""}`), message.correction);
    element.append(theirs);
  }

  pressed();
  return { up, down, pen, below };
}

/** The form that an answer is reworded in. */
function wording(message, close) {
  const field = el("textarea", { id: "wording", maxlength: 20000, required: true });
  field.value = message.correction || message.text;
  const own = el("input", { type: "checkbox", id: "own", required: true });
  const licence = (id, text, checked) =>
    el("label", { class: "choice" }, el("input", { type: "radio", name: "licence", value: id, checked }), el("span", {}, text));
  const form = el("form", {
    onsubmit(event) {
      event.preventDefault();
      close({ text: field.value, own: true, licence: new FormData(form).get("licence") });
    },
  },
    el("p", { class: "soft" }, "Write the answer as it should have been. A later model can learn from it."),
    el("label", { for: "wording" }, "Your answer"), field,
    el("fieldset", {}, el("legend", {}, "Who may use it?"),
      licence("CC0-1.0", "Anybody, for anything (CC0)", true),
      licence("CC-BY-SA-4.0", "Anybody who says where it is from, and shares alike (CC BY-SA 4.0)", false)),
    el("label", { class: "tick" }, own, el("span", {}, "I wrote this myself, and may give it away so.")),
    el("div", { class: "ends" },
      message.correction ? el("button", { type: "button", class: "danger", onclick: () => close({ back: true }) }, "Take it back") : null,
      el("button", { type: "button", onclick: () => close(null) }, "Cancel"),
      el("button", { class: "main" }, "Send it")));
  return form;
}
