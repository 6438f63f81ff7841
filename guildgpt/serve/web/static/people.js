// People: accounts, the links that let somebody in, and ending them.
import { get, send } from "./api.js";
import { ask, confirm, copy, el, find, notice } from "./dom.js";
import { attempt, fill, office, when } from "./office.js";

const ROLES = { voter: "voter", operator: "operator" };

const AT_HOME = ["localhost", "127.0.0.1", "[::1]"]; // names by which no other machine finds this one

/** Show a link, once: the server keeps no more of it than a hash. */
function showLink(link, whose, { elsewhere = true } = {}) {
  const to = new URL(link);
  return ask("Here is the link", (close) => {
    const field = el("input", { id: "link", readonly: true, value: link, onfocus: () => field.select() });
    return el("div", {},
      el("p", {}, `It is for ${whose}, and for nobody else: whoever opens it is let in. It works once, for seven days, and is shown only now.`),
      elsewhere && AT_HOME.includes(to.hostname)
        ? el("p", { class: "soft small" }, `${to.host} is this machine, and leads nowhere from others. For somebody elsewhere, serve at an address that they reach (--host or --public-name), open this page there, and invite them from it.`)
        : null,
      el("label", { for: "link" }, "Link"),
      el("div", { class: "token" }, field, el("button", { type: "button", class: "main", autofocus: true, onclick: () => copy(link) }, "Copy")),
      el("div", { class: "ends" }, el("button", { type: "button", onclick: () => close(true) }, "Done")));
  });
}

async function invite() {
  const link = await ask("Invite somebody", (close) => {
    const name = el("input", { id: "name", maxlength: 60, autocomplete: "off", autofocus: true });
    const wrong = el("p", { class: "wrong", role: "alert" });
    const role = (value, title, what) => el("label", { class: "tick" },
      el("input", { type: "radio", name: "role", value, checked: value === "voter" }), el("span", {}, el("strong", {}, title), ` ${what}`));
    async function submit(event) {
      event.preventDefault();
      try {
        const asked = { role: new FormData(event.target).get("role"), name: name.value };
        close((await send("POST", "/people/invite", asked)).link);
      } catch (error) {
        wrong.textContent = error.message;
      }
    }
    return el("form", { onsubmit: submit },
      el("div", { class: "field" }, el("label", { for: "name" }, "Name"), name, el("p", { class: "soft small" }, "May be left empty: then they choose it.")),
      el("fieldset", {}, el("legend", { class: "unseen" }, "Role"),
        role("voter", "Voter:", "asks the model, votes, corrects answers."),
        role("operator", "Operator:", "sees these pages, too, and decides on models.")),
      wrong,
      el("div", { class: "ends" }, el("button", { type: "button", onclick: () => close(null) }, "Cancel"), el("button", { class: "main" }, "Make a link")));
  });
  if (!link) return;
  await showLink(link, "whom you invite");
  load();
}

async function again(one) {
  const made = await attempt(() => send("POST", `/people/${one.id}/link`));
  if (!made) return;
  await showLink(made.link, one.you ? "you, on this device or another" : one.name, { elsewhere: !one.you });
  load();
}

async function end(one) {
  const sure = await confirm(`End the account of ${one.name}?`, "They are signed out everywhere and cannot come back under this name. What they voted and wrote stays.", "End the account", { danger: true });
  if (sure && (await attempt(() => send("POST", `/people/${one.id}/end`)))) {
    notice(`The account of ${one.name} has ended.`);
    load();
  }
}

async function withdraw(one) {
  if (await attempt(() => send("DELETE", `/people/invitations/${one.id}`))) {
    notice("The link lets nobody in any more.");
    load();
  }
}

function account(one) {
  const tags = [el("span", { class: one.role === "operator" ? "tag on" : "tag" }, ROLES[one.role]), one.you ? el("span", { class: "tag" }, "you") : null];
  return el("li", {},
    el("div", { class: "words" }, el("p", {}, el("strong", {}, one.name), " ", tags),
      el("p", { class: "soft small" }, one.ended_at ? `ended ${when(one.ended_at)}` : `since ${when(one.created_at)}`)),
    one.ended_at ? null : el("div", { class: "row" },
      el("button", { type: "button", "aria-label": `A link to sign ${one.name} in again`, onclick: () => again(one) }, "Sign-in link"),
      one.you ? null : el("button", { type: "button", class: "danger", "aria-label": `End the account of ${one.name}`, onclick: () => end(one) }, "End")));
}

function invitation(one, names) {
  const whose = one.again ? `${names[one.again] || "an account"}, to sign in again` : one.name || "whoever opens it";
  return el("li", {},
    el("div", { class: "words" }, el("p", {}, whose, " ", el("span", { class: "tag" }, ROLES[one.role])),
      el("p", { class: "soft small" }, `until ${when(one.expires_at)}`)),
    el("button", { type: "button", "aria-label": `Withdraw the link of ${whose}`, onclick: () => withdraw(one) }, "Withdraw"));
}

function load() {
  office();
  return fill(find("#people"), async () => {
    const { accounts, invitations, alone } = await get("/people");
    find("#alone").replaceChildren(...(alone ? [el("div", { class: "card" },
      el("p", {}, "You are alone on this server, so nobody signs in. As soon as somebody comes by a link, everybody does: this browser stays signed in, and for another one you make yourself a sign-in link."))] : []));
    const names = Object.fromEntries(accounts.map((one) => [one.id, one.name]));
    const living = accounts.filter((one) => !one.ended_at);
    const ended = accounts.filter((one) => one.ended_at);
    return [
      el("ul", { class: "rows card" }, living.map(account)),
      ...(invitations.length ? [el("h2", {}, "Links that are out"), el("ul", { class: "rows card" }, invitations.map((one) => invitation(one, names)))] : []),
      ...(ended.length ? [el("h2", {}, "Ended"), el("ul", { class: "rows card" }, ended.map(account))] : []),
    ];
  });
}

find("#invite").addEventListener("click", invite);
load();
