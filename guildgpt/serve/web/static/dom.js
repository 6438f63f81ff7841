// Elements are made here, and texts go in as text: nothing that people or models wrote is read as
// HTML, but what the server has rendered and cleaned (`html`).

/** An element: `attributes` are attributes, `on…` listeners, `class`, `data` and properties that
 *  are booleans; children are elements or texts, and what is null or false is left out. */
export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (name === "data") Object.assign(made.dataset, value);
    else made.setAttribute(name, value === true ? "" : String(value));
  }
  made.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return made;
}

/** The first element that a selector finds; it has to be there. */
export function find(selector, within = document) {
  const found = within.querySelector(selector);
  if (!found) throw new Error(`the page has no ${selector}`);
  return found;
}

const SVG = "http://www.w3.org/2000/svg";

/** A picture drawn by strokes, which says nothing: its button has a label. */
export function icon(path) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS(SVG, "path");
  line.setAttribute("d", path);
  svg.append(line);
  return svg;
}

/** A button with a picture, and a label that is read and shown by the pointer. */
export function iconButton(path, label, onclick, more = {}) {
  return el("button", { type: "button", class: "icon", "aria-label": label, title: label, onclick, ...more }, icon(path));
}

let hiding = 0;

/** Say something for a few seconds, to screen readers as well: above all else, within a dialog that
 *  is open, because what is outside of one is not read out. */
export function notice(text) {
  const place = find("#notice");
  const home = document.querySelector("dialog[open]") ?? document.body;
  if (place.parentNode !== home) home.append(place);
  clearTimeout(hiding);
  place.hidePopover();
  place.showPopover();
  place.textContent = text;
  hiding = setTimeout(() => {
    place.textContent = "";
    place.hidePopover();
  }, 5000);
}

/** Have what is said stay when the dialog in which it stands goes. */
function keepNotice(dialog) {
  const place = find("#notice");
  if (!dialog.contains(place)) return;
  document.body.append(place);
  if (place.textContent) place.showPopover();
}

/** Put a text into the clipboard and say so. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    // Only pages by https or on loopback have a clipboard of their own.
    const field = el("textarea", { class: "unseen", readonly: true });
    field.value = text;
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
  notice("Copied.");
}

/** Ask in a dialog; what `build(close)` makes is its content, and `close(value)` answers. Escape and
 *  the ground beside it answer null. Focus goes back to where it was. */
export function ask(title, build) {
  return new Promise((resolve) => {
    let answer = null;
    const close = (value) => {
      answer = value;
      dialog.close();
    };
    const heading = el("h2", { id: "asked" }, title);
    const dialog = el("dialog", { "aria-labelledby": "asked" }, heading, build(close));
    dialog.addEventListener("click", (event) => event.target === dialog && close(null));
    dialog.addEventListener("close", () => {
      keepNotice(dialog);
      dialog.remove();
      resolve(answer);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Ask whether something is to be done; `act` is what its button says. */
export function confirm(title, text, act, { danger = false } = {}) {
  return ask(title, (close) =>
    el("div", {}, el("p", {}, text),
      el("div", { class: "ends" },
        el("button", { type: "button", onclick: () => close(false), autofocus: danger }, "Cancel"),
        el("button", { type: "button", class: danger ? "danger" : "main", onclick: () => close(true), autofocus: !danger }, act))),
  );
}

/** Ask for a line of text; null where it is taken back. */
export function askText(title, label, value, act) {
  return ask(title, (close) => {
    const field = el("input", { id: "line", autocomplete: "off", maxlength: 200, autofocus: true, value });
    queueMicrotask(() => field.select());
    return el("form", { onsubmit: (event) => (event.preventDefault(), close(field.value.trim() || null)) },
      el("label", { for: "line" }, label), field,
      el("div", { class: "ends" },
        el("button", { type: "button", onclick: () => close(null) }, "Cancel"),
        el("button", { class: "main" }, act)));
  });
}
