// The list of chats: searched, walked by arrow keys, and a drawer on a phone.
import { get } from "./api.js";
import { el, find, notice } from "./dom.js";

const DAY = 86_400_000;

/** The list; `open(id)` opens a chat, `closed()` is called when the search is left. */
export function list({ open, closed }) {
  const side = find("#side");
  const opener = find("#open-side");
  const place = find("#list");
  const search = find("#search");
  const none = find("#none");
  let shown = [];
  let more = false;
  let current = null;
  let asking = null;
  let timer = 0;

  async function load({ further = false } = {}) {
    asking?.abort();
    asking = new AbortController();
    const text = search.value.trim();
    const query = new URLSearchParams(text ? { search: text } : {});
    if (further) query.set("before", shown.at(-1).changed_at);
    try {
      const found = await get(`/chats?${query}`, asking.signal);
      shown = further ? [...shown, ...found.chats] : found.chats;
      more = found.more;
      draw(text);
    } catch (error) {
      if (error.name !== "AbortError") notice(error.message);
    }
  }

  function draw(text) {
    const focused = document.activeElement?.dataset?.chat;
    const rows = [];
    let heading = "";
    for (const one of shown) {
      const said = text ? "" : ago(one.changed_at);
      if (said !== heading) rows.push(el("li", {}, el("h2", {}, said)));
      heading = said;
      rows.push(el("li", {}, row(one)));
    }
    if (more) rows.push(el("li", {}, el("button", { type: "button", onclick: () => load({ further: true }) }, "Older chats")));
    place.replaceChildren(...rows);
    none.hidden = shown.length > 0;
    none.textContent = text ? `Nothing is called “${text}”, or says so.` : "What you ask stands here, for you alone.";
    if (focused) place.querySelector(`[data-chat="${CSS.escape(focused)}"]`)?.focus();
  }

  function row(one) {
    const name = one.title || "New chat";
    return el("a", {
      href: `/?chat=${one.id}`, title: name, data: { chat: one.id },
      "aria-current": one.id === current ? "page" : null,
      onclick(event) {
        if (event.metaKey || event.ctrlKey || event.shiftKey) return;
        event.preventDefault();
        close();
        open(one.id);
      },
    }, name, one.excerpt ? el("small", {}, one.excerpt) : null);
  }

  function mark(id) {
    current = id;
    for (const link of place.querySelectorAll("a")) {
      if (link.dataset.chat === id) link.setAttribute("aria-current", "page");
      else link.removeAttribute("aria-current");
    }
  }

  function unfold(is) {
    side.classList.toggle("open", is);
    opener.setAttribute("aria-expanded", String(is));
  }

  function close() {
    unfold(false);
  }

  opener.addEventListener("click", () => {
    unfold(!side.classList.contains("open"));
    if (side.classList.contains("open")) search.focus();
  });
  document.addEventListener("click", (event) => {
    if (!side.contains(event.target) && !opener.contains(event.target)) close();
  });
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(load, 150);
  });
  side.addEventListener("keydown", (event) => {
    if (event.key === "Escape") {
      if (search.value) {
        search.value = "";
        load();
      }
      close();
      closed();
      event.stopPropagation();
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const stops = [search, ...place.querySelectorAll("a")];
    const next = stops[stops.indexOf(document.activeElement) + step];
    if (next) {
      event.preventDefault();
      next.focus();
    }
  });
  if (navigator.platform.startsWith("Mac")) find("#search-key").textContent = "⌘ K";
  document.addEventListener("keydown", (event) => {
    if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.shiftKey && !event.altKey) {
      event.preventDefault();
      unfold(true);
      search.focus();
      search.select();
    }
  });

  return { load, mark, close };
}

function ago(moment) {
  const midnight = new Date().setHours(0, 0, 0, 0);
  const then = new Date(moment).getTime();
  if (then >= midnight) return "Today";
  if (then >= midnight - DAY) return "Yesterday";
  if (then >= midnight - 7 * DAY) return "This week";
  return new Date(moment).toLocaleDateString(undefined, { month: "long", year: "numeric" });
}
