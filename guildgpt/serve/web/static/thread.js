// The messages of a chat: shown, written as they come, and branched.
import { sentence, stream } from "./api.js";
import { copy, el, find, iconButton } from "./dom.js";
import { opinion } from "./opinions.js";

const COPY = "M9 9h11v11H9zM5 15H4V4h11v1";
const EDIT = "M4 20h4L19 9l-4-4L4 16z";
const AGAIN = "M20 11.500A8 8 0 1 0 17.700 17.200M20 5v6.500h-6.500";
const TWICE = "M4 5h7v14H4zM13 5h7v14h-7z";
const BACK = "M14.500 6l-6 6 6 6";
const ON = "M9.500 6l6 6-6 6";
const NEAR = 60; // pixels from the end at which one still reads along

/** The messages; `ask(parent, text)` asks below an answer, `retry(question)` has one answered anew. */
export function thread({ ask, retry }) {
  const frame = find("#thread");
  const place = find("#messages");
  const status = find("#status");
  let shown = new Map(); // elements by the ids of their messages, and what they were made from
  let path = [];
  let current = null; // the chat
  const running = new Map(); // answers that are being written, by their chats
  let branch = () => {};

  /** Change what stands there; who reads at the end stays at the end, and others where they are. */
  function keepingPlace(change) {
    const top = frame.scrollTop;
    const along = frame.scrollHeight - top - frame.clientHeight < NEAR;
    change();
    frame.scrollTop = along ? frame.scrollHeight : top;
  }

  /** Put elements into the place, and leave those that are there already where they stand. */
  function put(elements) {
    elements.forEach((element, number) => {
      if (place.children[number] !== element) place.insertBefore(element, place.children[number] || null);
    });
    while (place.children.length > elements.length) place.lastChild.remove();
  }

  /** Show a way through a chat. `written` is an answer that was written just now: it stays as it
   *  stands. An answer that is being written is at the end. */
  function show(messages, { id, at = null, written = null }) {
    const other = id !== current;
    const fresh = running.get(id);
    current = id;
    path = fresh ? upTo(messages, fresh.question) : messages;
    const before = shown;
    shown = new Map();
    for (const message of path) {
      const made = JSON.stringify(message);
      const known = before.get(message.id);
      let element = known?.made === made ? known.element : null;
      if (!element && written?.id === message.id) {
        element = written.element;
        finish(element, message, written.broken);
      }
      shown.set(message.id, { made, element: element || build(message) });
    }
    const elements = [...shown.values()].map((one) => one.element);
    const last = path.at(-1);
    if (fresh) elements.push(fresh.element);
    else if (!last) elements.push(empty());
    else if (last.role === "user" && !last.deleted) elements.push(unanswered(last, written?.broken));
    keepingPlace(() => put(elements));
    if (other) frame.scrollTop = frame.scrollHeight;
    else if (at && !written) shown.get(at)?.element.scrollIntoView({ block: "nearest" });
  }

  /** The beginning of a way, up to this message. */
  function upTo(messages, id) {
    return messages.slice(0, messages.findIndex((one) => one.id === id) + 1 || messages.length);
  }

  function build(message) {
    if (message.deleted) return el("article", { class: "said gone" }, el("p", {}, "This message is gone."));
    return message.role === "user" ? questionOf(message) : answerOf(message);
  }

  function questionOf(message) {
    const bubble = el("div", { class: "bubble", dir: "auto" }, message.text);
    const edit = iconButton(EDIT, "Edit this question", () => element.replaceWith(editing(message, element)));
    edit.classList.add("edit");
    const taken = iconButton(COPY, "Copy this question", () => copy(message.text));
    taken.classList.add("copy");
    const element = el("article", { class: "said user", "aria-label": "You asked" }, bubble,
      message.id ? el("div", { class: "deeds" }, taken, edit, branches(message)) : null);
    return element;
  }

  function editing(message, element) {
    const field = el("textarea", { "aria-label": "Your question", rows: 3, maxlength: 100000 });
    field.value = message.text;
    const back = () => {
      form.replaceWith(element);
      element.querySelector(".edit").focus();
    };
    const form = el("form", {
      class: "said user edit-form",
      onsubmit(event) {
        event.preventDefault();
        if (!field.value.trim()) return;
        form.replaceWith(element);
        ask(message.parent, field.value);
      },
      onkeydown(event) {
        if (event.key === "Escape") {
          event.stopPropagation();
          back();
        } else if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
          event.preventDefault();
          form.requestSubmit();
        }
      },
    }, field, el("div", { class: "ends" },
      el("button", { type: "button", onclick: back }, "Cancel"), el("button", { class: "main" }, "Ask")));
    queueMicrotask(() => field.focus());
    return form;
  }

  function answerOf(message) {
    const body = el("div", { class: "prose" });
    body.innerHTML = message.html; // rendered and cleaned by the server
    dress(body);
    const element = el("article", { class: "said assistant", "aria-label": "The model answered" },
      el("p", { class: "about" }, message.version), body);
    finish(element, message);
    return element;
  }

  /** What stands below an answer that is written. */
  function finish(element, message, broken = "") {
    dress(element);
    element.querySelectorAll(".deeds, .note, .failed, .theirs, .reason").forEach((one) => one.remove());
    element.querySelector(".about").textContent = message.version;
    const notes = { cancelled: broken || "It was stopped here.", length: "It was cut at its length." };
    if (notes[message.stop]) element.append(el("p", { class: "note" }, notes[message.stop]));
    const { up, down, pen, below } = opinion(element, message);
    const bar = el("div", { class: "deeds" }, branches(message), up, down, more([
      worded(iconButton(COPY, "Copy this answer", () => copy(message.text))),
      worded(pen),
      worded(iconButton(AGAIN, "Answer again", () => retry(message.parent))),
      worded(iconButton(TWICE, "Two answers, side by side", () => location.assign(`/compare?${new URLSearchParams({ chat: current, question: message.parent })}`))),
    ]));
    element.append(bar);
    below();
  }

  function branches(message) {
    const all = message.siblings || [];
    if (all.length < 2) return null;
    const number = all.indexOf(message.id);
    const step = (path, label, to) =>
      iconButton(path, label, () => branch(all[to]), { disabled: all[to] === undefined });
    return el("div", { class: "branches", role: "group", "aria-label": `${message.role === "user" ? "Question" : "Answer"} ${number + 1} of ${all.length}` },
      step(BACK, "The one before", number - 1), `${number + 1}/${all.length}`, step(ON, "The next one", number + 1));
  }

  function unanswered(question, broken = "") {
    return el("div", { class: "failed" }, el("p", {}, broken || "This was not answered."),
      el("button", { type: "button", onclick: () => retry(question.id) }, broken ? "Ask again" : "Answer it"));
  }

  function empty() {
    return el("div", { class: "empty" }, el("h2", {}, "What would you like to know?"),
      el("p", {}, "Ask, and say with a thumb what was good. What you word better yourself, the next model can learn from."));
  }

  /** Cut the way that is shown of a chat after a message, and begin an answer there. */
  function begin(id, after, question) {
    current = id;
    path = after === null ? [] : upTo(path, after);
    const elements = path.map((one) => shown.get(one.id).element);
    if (question) elements.push(questionOf(question));
    const body = el("div", { class: "prose" }, el("div", { class: "rest" }, thinking()));
    const element = el("article", { class: "said assistant", "aria-label": "The model answers", "aria-busy": "true" },
      el("p", { class: "about" }), body);
    const fresh = { chat: id, id: null, question: question ? null : after, element, body, rest: body.firstChild, broken: "" };
    running.set(id, fresh);
    put([...elements, element]);
    frame.scrollTop = frame.scrollHeight;
    status.textContent = "The model answers.";
    return fresh;
  }

  /** Take an answer as it comes, whichever chat is shown; the id of what is last in its chat then.
   *  `kept` is called once its question is in the store. */
  async function write(fresh, address, body, { signal, kept }) {
    let said = false;
    try {
      await stream(address, body, { signal, on: {
        asked(event) {
          fresh.question = event.question;
          kept();
        },
        begun(event) {
          fresh.id = event.id;
          fresh.element.querySelector(".about").textContent = event.version;
        },
        text(event) {
          said = true;
          keepingPlace(() => {
            fresh.rest.insertAdjacentHTML("beforebegin", event.done); // rendered and cleaned by the server
            fresh.rest.innerHTML = event.rest;
          });
        },
        whole: (event) => (fresh.body.innerHTML = event.html),
        error: (event) => (fresh.broken = sentence(event.message)),
      } });
    } catch (error) {
      if (error.name !== "AbortError") fresh.broken = error.message;
    }
    running.delete(fresh.chat);
    fresh.element.removeAttribute("aria-busy");
    if (fresh.chat === current) status.textContent = fresh.broken || "The answer is complete.";
    return said ? fresh.id : fresh.question;
  }

  return {
    show,
    write,
    asked: (id, text, parent) => begin(id, parent, { role: "user", text, parent }),
    again: (id, question) => begin(id, question, null),
    answering: (id) => running.get(id)?.question ?? null,
    last: () => path.findLast((one) => one.role === "assistant")?.id ?? null,
    onbranch: (listener) => (branch = listener),
  };
}

/** A button with its label in words, where there is no pointer that would show it. */
function worded(button) {
  button.append(el("span", { class: "word" }, button.title));
  return button;
}

/** Buttons that stand in the bar, and on a narrow screen below it, once they are asked for. */
function more(buttons) {
  const others = el("div", { class: "others" }, buttons);
  const opener = el("button", { type: "button", class: "more", "aria-expanded": "false", onclick: () => open(opener.getAttribute("aria-expanded") === "false") }, "More");
  function open(is) {
    opener.setAttribute("aria-expanded", String(is));
    others.classList.toggle("open", is);
    if (is) others.scrollIntoView({ block: "nearest" });
  }
  others.addEventListener("keydown", (event) => {
    if (event.key !== "Escape" || opener.getAttribute("aria-expanded") === "false") return;
    event.stopPropagation();
    open(false);
    opener.focus();
  });
  return [opener, others];
}

function thinking() {
  return el("span", { class: "thinking" }, el("i"), el("i"), el("i"), el("span", { class: "unseen" }, "The model is thinking."));
}

/** Give what is done its buttons: code is copied, what is too wide is moved by the keyboard. */
function dress(body) {
  for (const figure of body.querySelectorAll(".code:not(.dressed)")) {
    figure.classList.add("dressed");
    figure.append(el("button", { type: "button", onclick: () => copy(figure.querySelector("code").textContent) }, "Copy"));
    figure.querySelector("pre").tabIndex = 0;
  }
  for (const wide of body.querySelectorAll(".scroll:not([tabindex])")) wide.tabIndex = 0;
}
