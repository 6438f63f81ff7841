// Votes on their way: each is kept in this browser until the server has said that it stands. A vote
// is sent again with the same id, so that it counts once, however often it arrives.
import { get, send } from "./api.js";

const LONGEST = 60_000;
const MOST = 100;

/** An id that nobody else gives. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** The votes of whoever is signed in. `told(waiting, why)` is called when their number changes, and
 *  `refused(message)` for a vote that the server does not take. */
export class Outbox {
  constructor({ told, refused }) {
    this.told = told;
    this.refused = refused;
    this.key = null;
    this.votes = [];
    this.pause = 1000;
    this.sending = false;
    addEventListener("online", () => this.flush());
  }

  /** Find out whose it is, and send what an earlier visit left. */
  async open() {
    const me = await get("/me");
    this.key = `guildgpt_votes_${me.id}`;
    let left = [];
    try {
      left = JSON.parse(localStorage.getItem(this.key) || "[]");
    } catch {
      // nothing that could be read
    }
    this.votes = [...left, ...this.votes];
    this.keep();
    return this.flush();
  }

  /** Vote. Ends when the server has taken everything, or cannot now. */
  cast(vote) {
    if (this.votes.length >= MOST) {
      this.refused("Too many votes wait already: this one was not kept.");
      return Promise.resolve();
    }
    this.votes.push(vote);
    this.keep();
    return this.flush();
  }

  keep() {
    if (!this.key) return;
    try {
      if (this.votes.length) localStorage.setItem(this.key, JSON.stringify(this.votes));
      else localStorage.removeItem(this.key);
    } catch {
      // no room, or not allowed: they are kept as long as the page is open
    }
  }

  async flush() {
    if (this.sending) return;
    this.sending = true;
    clearTimeout(this.later);
    try {
      while (this.votes.length) {
        const [first] = this.votes;
        try {
          await send("POST", "/votes", first);
        } catch (error) {
          if (error.status === 0 || error.status === 401 || error.status === 429 || error.status >= 500) {
            this.told(this.votes.length, error.message);
            this.later = setTimeout(() => this.flush(), this.pause);
            this.pause = Math.min(2 * this.pause, LONGEST);
            return;
          }
          this.refused(error.message);
        }
        this.votes.shift();
        this.keep();
        this.pause = 1000;
      }
      this.told(0, "");
    } finally {
      this.sending = false;
    }
  }
}
