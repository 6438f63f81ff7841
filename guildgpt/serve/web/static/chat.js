// The chat: which one is open, asking in it, and what stands around it.
import { get, send } from "./api.js";
import { list } from "./chat_list.js";
import { composer } from "./composer.js";
import { ask, askText, confirm, el, find, iconButton, notice } from "./dom.js";
import { thread } from "./thread.js";

const title = find("#title");
const deeds = find("#deeds");
let chat = null; // the id of the one that is open
const writing = new Map(); // what stops the answers that are on their way, by their chats

const messages = thread({ ask: (parent, text) => question(text, parent), retry });
const chats = list({ open, closed: () => find("#question").focus() });
const box = composer({ send: (text) => question(text, messages.last()), stop });

function address(id) {
  return id ? `/?chat=${encodeURIComponent(id)}` : "/";
}

/** Open a chat, or a new one. */
async function open(id, { at = null, push = true } = {}) {
  chat = id;
  box.busy(writing.has(id));
  if (push) history.pushState(null, "", address(id));
  chats.mark(id);
  try {
    await show(at || messages.answering(id));
  } catch (error) {
    chat = null;
    history.replaceState(null, "", "/");
    await show();
    notice(error.message);
  }
  box.focus();
}

/** Show the chat that is open, on the way past the message `at`. */
async function show(at = null) {
  const id = chat;
  const found = id ? await get(`/chats/${id}${at ? `?at=${encodeURIComponent(at)}` : ""}`) : { title: "", messages: [] };
  if (id !== chat) return; // another was opened meanwhile
  named(found.title);
  messages.show(found.messages, { id, at });
}

function named(text) {
  title.textContent = text;
  title.hidden = !text;
  deeds.hidden = !chat;
  document.title = `${text || "Chat"} · GuildGPT`;
}

/** Ask below an answer, or at the beginning. */
async function question(text, parent) {
  if (writing.has(chat)) return;
  try {
    if (!chat) {
      const made = await send("POST", "/chats");
      chat = made.id;
      history.pushState(null, "", address(chat));
    }
  } catch (error) {
    box.fill(text);
    notice(error.message);
    return;
  }
  await answered("questions", { text, parent }, () => messages.asked(chat, text, parent));
}

async function retry(id) {
  if (!writing.has(chat)) await answered("answers", { question: id }, () => messages.again(chat, id));
}

/** Have an answer written, and shown as it comes; it goes on while another chat is looked at. */
async function answered(path, body, begin) {
  const own = chat;
  const stopper = new AbortController();
  writing.set(own, stopper);
  box.busy(true);
  const written = begin();
  const at = await messages.write(written, `/chats/${own}/${path}`, body, { signal: stopper.signal, kept: listed });
  writing.delete(own);
  if (chat === own) {
    box.busy(false);
    await settled(own, at, written);
  }
  await listed();
}

async function listed() {
  await chats.load();
  chats.mark(chat);
}

/** Show what was kept: an answer that was stopped is written down a moment later. */
async function settled(own, at, written) {
  for (let tries = 0; tries < 20 && chat === own; tries += 1) {
    try {
      const found = await get(`/chats/${own}${at ? `?at=${encodeURIComponent(at)}` : ""}`);
      if (chat !== own) return;
      named(found.title);
      if (!at || tries === 19 || found.messages.some((one) => one.id === at)) {
        messages.show(found.messages, { id: own, at, written });
        return;
      }
    } catch (error) {
      return notice(error.message);
    }
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

function stop() {
  writing.get(chat)?.abort();
}

deeds.append(
  iconButton("M4 20h4L19 9l-4-4L4 16zM13.500 6.500l4 4", "Rename this chat", async () => {
    const said = await askText("Rename this chat", "Title", title.textContent, "Rename");
    if (said) await tried(async () => named((await send("PATCH", `/chats/${chat}`, { title: said })).title));
  }),
  iconButton("M12 4v11M7 11l5 5 5-5M5 20h14", "Export this chat", () =>
    ask("Export this chat", (close) => {
      const at = messages.last() || "";
      const link = (form, text) => el("a", { class: "button", href: `/api/chats/${chat}/export?form=${form}&at=${at}`, download: true, onclick: () => close(null) }, text);
      return el("div", {}, el("p", {}, "What you see as a text to read, or all of it, with every branch, for programs."),
        el("div", { class: "ends" }, el("button", { type: "button", onclick: () => close(null) }, "Cancel"), link("markdown", "Markdown"), link("json", "JSON")));
    })),
  iconButton("M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13M10 11v5M14 11v5", "Delete this chat", async () => {
    const sure = await confirm("Delete this chat?", "Everything that was said in it is erased, also from the store. This cannot be taken back.", "Delete", { danger: true });
    if (sure) await tried(async () => {
      await send("DELETE", `/chats/${chat}`);
      await open(null);
      notice("The chat is erased.");
    });
  }),
);

async function tried(work) {
  try {
    await work();
    await listed();
  } catch (error) {
    notice(error.message);
  }
}

find("#new").addEventListener("click", () => {
  chats.close();
  open(null);
});
messages.onbranch((id) => !writing.has(chat) && show(id).catch((error) => notice(error.message)));
addEventListener("popstate", () => open(new URLSearchParams(location.search).get("chat"), { push: false }));
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && writing.has(chat) && !document.querySelector("dialog[open]")) stop();
});

chats.load();
const wanted = new URLSearchParams(location.search);
open(wanted.get("chat"), { at: wanted.get("at"), push: false });
