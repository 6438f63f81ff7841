// One's own account: sessions, the choice about training, and what is kept.
import { get, send } from "./api.js";
import { ask, el, find, notice } from "./dom.js";

const devices = find("#devices");
const train = find("#train");

async function tried(work) {
  try {
    await work();
  } catch (error) {
    notice(error.message);
  }
}

/** A browser and a system as people call them, of what a browser says of itself. */
function called(device) {
  const browser = /(Firefox|Edg|OPR|Chrome|Safari)/.exec(device)?.[1];
  const system = /(Windows|Android|iPhone|iPad|Mac OS|Linux)/.exec(device)?.[1];
  const names = { Edg: "Edge", OPR: "Opera" };
  return [names[browser] ?? browser, system].filter(Boolean).join(" on ") || device || "A browser";
}

async function sessions() {
  const found = await get("/sessions");
  find("#devices-section").hidden = found.length === 0; // at the machine itself one needs none
  devices.replaceChildren(...found.map((one) => {
    const seen = new Date(one.seen_at).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
    const end = el("button", {
      type: "button", "aria-label": `End the session: ${called(one.device)}`,
      onclick: () => tried(async () => {
        await send("DELETE", `/sessions/${one.id}`);
        await sessions();
        notice("That session is over.");
      }),
    }, "End");
    return el("li", {},
      el("span", {}, el("strong", {}, called(one.device)), el("br"), el("span", { class: "soft small" }, `Last seen ${seen}`)),
      one.here ? el("span", { class: "soft" }, "This browser") : end);
  }));
}

/** Be called otherwise: the page is drawn anew, for the name stands in its menu, too. */
async function rename(me) {
  const done = await ask("Choose another name", (close) => {
    const field = el("input", { id: "called", maxlength: 60, value: me.name, autocomplete: "off", autofocus: true, required: true });
    const wrong = el("p", { class: "wrong", role: "alert" });
    async function submit(event) {
      event.preventDefault();
      try {
        await send("PATCH", "/me", { name: field.value });
        close(true);
      } catch (error) {
        wrong.textContent = error.message;
      }
    }
    return el("form", { onsubmit: submit },
      el("label", { for: "called" }, "What shall we call you?"), field, wrong,
      el("div", { class: "ends" },
        el("button", { type: "button", onclick: () => close(false) }, "Cancel"),
        el("button", { class: "main" }, "Take this name")));
  });
  if (done) location.reload();
}

async function leave() {
  await send("POST", "/leave");
  location.assign("/join?done=left");
}

async function erase(me) {
  const name = await ask("Erase everything?", (close) => {
    const field = el("input", { id: "sure", autocomplete: "off", autofocus: true, required: true });
    return el("form", { onsubmit: (event) => (event.preventDefault(), close(field.value)) },
      el("p", {}, "Your chats, votes, thumbs, corrections and prompts are erased, and your account with them. Nobody can bring them back. Models that learned from them are marked, and later ones learn without."),
      el("label", { for: "sure" }, `Write your name, ${me.name}, to go on`), field,
      el("div", { class: "ends" },
        el("button", { type: "button", onclick: () => close(null) }, "Cancel"),
        el("button", { class: "danger" }, "Erase everything")));
  });
  if (name === null) return;
  await send("POST", "/me/erase", { name });
  location.assign("/join?done=erased");
}

tried(async () => {
  const me = await get("/me");
  find("#name").textContent = me.name;
  find("#role").textContent = me.role === "operator" ? "an operator of this server" : "who asks and votes here";
  find("#rename").addEventListener("click", () => tried(() => rename(me)));
  find("#leave").addEventListener("click", () => tried(leave));
  find("#erase").addEventListener("click", () => tried(() => erase(me)));
  train.checked = (await get("/me/choice")).train;
  train.addEventListener("change", () => tried(async () => {
    train.disabled = true;
    try {
      await send("PUT", "/me/choice", { train: train.checked });
      notice("Your choice is kept.");
    } finally {
      train.disabled = false;
    }
  }));
  await sessions();
});
