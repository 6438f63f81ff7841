// The box that questions are written in.
import { find, icon } from "./dom.js";

const SEND = "M12 19V5M6 11l6-6 6 6";
const STOP = "M7 7h10v10H7z";

/** The box: `send(text)` asks, `stop()` ends an answer that is on its way. */
export function composer({ send, stop }) {
  const form = find("#composer");
  const field = find("#question");
  const button = find("#send");
  let writing = false;

  function fit() {
    if (CSS.supports("field-sizing", "content")) return;
    field.style.height = "auto";
    field.style.height = `${field.scrollHeight}px`;
  }

  function go() {
    const text = field.value;
    if (!text.trim()) return;
    fill("");
    send(text);
  }

  function fill(text) {
    field.value = text;
    fit();
  }

  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (writing) stop();
    else go();
  });
  field.addEventListener("input", fit);
  field.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    if (!writing) go();
  });

  return {
    fill,
    focus: () => matchMedia("(hover: hover)").matches && field.focus(), // else a phone's keyboard rises
    busy(is) {
      writing = is;
      button.replaceChildren(icon(is ? STOP : SEND));
      button.setAttribute("aria-label", is ? "Stop" : "Send");
      button.title = is ? "Stop (Esc)" : "Send";
    },
  };
}
