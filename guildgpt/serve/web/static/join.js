// Signing in by a link, whose token stands behind the `#`: it reaches the server in a body alone,
// and no log.
import { get, send } from "./api.js";
import { el, find } from "./dom.js";

const place = find("#join");
const wanted = new URLSearchParams(location.search).get("to") || "/";
// Only pages of our own, whatever a link says.
const next = /^\/[a-z]*$/.test(wanted) ? wanted : "/";

function show(...children) {
  place.replaceChildren(...children);
}

const DONE = { left: "You are signed out", erased: "Everything of yours is erased" };

function nobody() {
  const done = new URLSearchParams(location.search).get("done");
  show(
    el("h1", {}, Object.hasOwn(DONE, done) ? DONE[done] : "You are not signed in"),
    el("p", {}, "People come here by a link that the operator of this server gives them. It works once, and from then on this browser is signed in."),
    el("p", { class: "soft" }, "You run this server? ", el("code", {}, "guildgpt serve invite --operator"), " makes a link for you, and ", el("code", {}, "guildgpt serve accounts sign-in operator"), " one for who was the operator at the machine itself."),
  );
}

function offer(invitation, token) {
  const wrong = el("p", { class: "wrong", role: "alert" });
  const name = el("input", { id: "name", maxlength: 60, autocomplete: "nickname", required: true, value: invitation.name || "" });
  const button = el("button", { class: "main" }, invitation.again ? "Sign in" : "Come in");
  async function come(event) {
    event.preventDefault();
    button.disabled = true;
    wrong.textContent = "";
    try {
      await send("POST", "/join", { token, name: invitation.again ? null : name.value });
      location.replace(next);
    } catch (error) {
      wrong.textContent = error.message;
      button.disabled = false;
      name.focus();
    }
  }
  const role = invitation.role === "operator" ? "You come as an operator: you see everybody’s votes, and decide on models." : "You can ask the model, and say which answers are good.";
  show(
    el("h1", {}, invitation.again ? "Welcome back" : "Welcome"),
    el("p", {}, invitation.again ? "This link signs you in on this browser." : role),
    el("form", { onsubmit: come, class: "card" },
      invitation.again ? null : el("div", { class: "field" },
        el("label", { for: "name" }, "What shall we call you?"), name,
        el("p", { class: "soft small hint" }, "Other people here see this name. It cannot be changed later.")),
      button, wrong),
  );
  (invitation.again ? button : name).focus();
}

async function begin() {
  const token = location.hash.slice(1);
  if (!token) {
    try {
      // A link from elsewhere brings no cookie along; from here it does.
      if ((await get("/signed-in")).signed_in) return location.replace(next);
    } catch (error) {
      return show(el("h1", {}, "Sign in"), el("p", {}, error.message));
    }
    return nobody();
  }
  history.replaceState(null, "", location.pathname + location.search); // it is in no history either
  try {
    offer(await send("POST", "/invitation", { token }), token);
  } catch (error) {
    show(el("h1", {}, "This link does not work"), el("p", {}, error.message));
  }
}

begin();
