// What the operator's pages have in common: the way between them, dates, and work that may fail.
import { get } from "./api.js";
import { el, find, notice } from "./dom.js";

const PAGES = [["versions", "Versions"], ["pool", "Prompts"], ["corrections", "Corrections"], ["reports", "Reports"], ["people", "People"], ["runs", "Runs"]];

/** The way between the pages, with how much waits behind each. */
export async function office() {
  const here = document.body.dataset.page;
  const links = PAGES.map(([name, title]) =>
    el("a", { href: `/${name}`, "aria-current": name === here ? "page" : null, data: { name } }, title));
  find("#office").replaceChildren(...links);
  try {
    const waiting = await get("/office");
    for (const link of links) {
      link.querySelector(".count")?.remove();
      const count = waiting[link.dataset.name];
      if (count) link.append(el("span", { class: "count", "aria-label": `, ${count} waiting` }, String(count)));
    }
  } catch {
    // the page itself says what is wrong
  }
}

const dates = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** A moment as people write it. */
export const when = (moment) => (moment ? dates.format(new Date(moment)) : "");

/** A number of bytes as people read it. */
export function size(bytes) {
  if (bytes === null || bytes === undefined) return "not here";
  return bytes >= 1e9 ? `${(bytes / 1e9).toFixed(1)} GB` : `${Math.max(1, Math.round(bytes / 1e6)).toLocaleString()} MB`;
}

/** Many or one. */
export const many = (count, one, more = `${one}s`) => `${count.toLocaleString()} ${count === 1 ? one : more}`;

/** Do something that the server may refuse: its words are said; what it answers, or null. */
export async function attempt(work) {
  try {
    return await work();
  } catch (error) {
    notice(error.message);
    return null;
  }
}

/** Fill a place with what is asked for, or with why it is not there. */
export async function fill(place, work) {
  try {
    place.replaceChildren(...[await work()].flat());
  } catch (error) {
    place.replaceChildren(el("p", { class: "wrong", role: "alert" }, error.message));
  }
}
