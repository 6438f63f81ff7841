// Runs: their reports, each of which opens by itself.
import { get } from "./api.js";
import { el, find } from "./dom.js";
import { fill, office, when } from "./office.js";

office();
fill(find("#runs"), async () => {
  const { folder, reports } = await get("/runs");
  find("#about").textContent = `What the runs in ${folder} came to, the newest first. A report opens closed off from this page.`;
  if (!reports.length) return el("p", { class: "soft" }, "No run has a report yet. ", el("code", {}, "guildgpt train"), " writes one at its end.");
  return el("ul", { class: "rows card" }, reports.map((one) => el("li", {},
    el("div", { class: "words" }, el("p", {}, el("strong", {}, one.run)), el("p", { class: "soft small" }, when(one.at))),
    el("a", { class: "button", href: `/api/runs/report?${new URLSearchParams({ run: one.run })}`, target: "_blank", rel: "noopener", "aria-label": `Report of ${one.run}` }, "Open the report"))));
});
