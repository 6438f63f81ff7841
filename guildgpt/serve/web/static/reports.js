// Reports: what members want somebody to look at.
import { get, send } from "./api.js";
import { el, find, notice } from "./dom.js";
import { attempt, fill, office, when } from "./office.js";

function report(one) {
  const done = async () => {
    if (await attempt(() => send("POST", `/reports/${one.id}/resolve`))) {
      notice("Noted: you have looked at it.");
      load();
    }
  };
  return el("li", { class: "card" },
    el("div", { class: "words" },
      one.text ? el("p", { class: "plain" }, one.text) : el("p", { class: "soft" }, "The answer is gone."),
      el("p", { class: "soft small" }, [when(one.created_at), one.version_id, one.guild_id ? "Discord" : "the web page"].filter(Boolean).join(" · ")),
      one.reason ? el("p", { class: "plain" }, el("strong", {}, "Why: "), one.reason) : null),
    el("div", { class: "row" },
      one.link ? el("a", { class: "button", href: one.link, rel: "noreferrer", target: "_blank" }, "On Discord") : null,
      el("button", { type: "button", class: "main", onclick: done }, "Done")));
}

function load() {
  office();
  return fill(find("#reports"), async () => {
    const { reports, more } = await get("/reports");
    if (!reports.length) return el("p", { class: "soft" }, "There is nothing to look at.");
    return [el("ul", { class: "rows" }, reports.map(report)), more ? el("p", { class: "soft" }, "There are more: they come up as these are done.") : ""];
  });
}

load();
