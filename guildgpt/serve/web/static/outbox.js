// Votes on their way: each is kept in this browser until the server has said that it stands. A vote
// is sent again with the same id, so that it counts once, however often it arrives. Each is an entry
// of its own: what another tab keeps at the same moment is never written over.
import { get, send } from "./api.js";

const LONGEST = 60_000;
const MOST = 100;

/** An id that nobody else gives. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** One after the other, also among tabs. Pages by http from elsewhere have no locks: their tabs may
 *  send a vote twice, and it counts once. */
const alone = (work) => (navigator.locks ? navigator.locks.request("guildgpt_votes", work) : work());

/** The votes of whoever is signed in. `told(waiting, why)` is called when their number changes, and
 *  `refused(message)` for a vote that the server does not take. */
export class Outbox {
  constructor({ told, refused }) {
    this.told = told;
    this.refused = refused;
    this.prefix = null; // of the keys of their votes; null until it is known whose they are
    this.loose = []; // votes that only this page keeps
    this.count = 0; // of those that were cast here
    this.pause = 1000;
    this.sending = false;
    addEventListener("online", () => this.flush());
    // Another tab has sent one: perhaps none is left.
    addEventListener("storage", ({ key, newValue }) => this.prefix && key?.startsWith(this.prefix) && newValue === null && this.flush());
  }

  /** Find out whose it is, and send what an earlier visit left. */
  async open() {
    const me = await get("/me");
    this.prefix = `guildgpt_vote_${me.id}_`;
    for (const vote of this.loose.splice(0)) this.keep(vote);
    return this.flush();
  }

  /** Vote. Ends when the server has taken everything, or cannot now. */
  cast(vote) {
    if (this.waiting().length >= MOST) {
      this.refused("Too many votes wait already: this one was not kept.");
      return Promise.resolve();
    }
    this.keep(vote);
    return this.flush();
  }

  keep(vote) {
    try {
      if (!this.prefix) throw new Error("it is not known whose it is");
      // By time: who changes their mind on a round is heard in that order.
      const order = String(Date.now()).padStart(15, "0") + String(this.count++ % 1000).padStart(3, "0");
      localStorage.setItem(`${this.prefix}${order}_${vote.id}`, JSON.stringify(vote));
    } catch {
      // no room, or not allowed: it is kept as long as the page is open
      this.loose.push(vote);
    }
  }

  /** What waits, the oldest first: each vote, and what forgets it. */
  waiting() {
    const loose = this.loose.map((vote) => ({ vote, forget: () => (this.loose = this.loose.filter((one) => one !== vote)) }));
    try {
      const keys = Object.keys(localStorage).filter((key) => this.prefix && key.startsWith(this.prefix)).sort();
      return [...keys.map((key) => ({ vote: read(key), forget: () => localStorage.removeItem(key) })), ...loose];
    } catch {
      return loose; // the browser keeps nothing
    }
  }

  async flush() {
    if (this.sending) return;
    this.sending = true;
    clearTimeout(this.later);
    await alone(() => this.sendAll());
  }

  async sendAll() {
    try {
      for (let left = this.waiting(); left.length; left = this.waiting()) {
        const [{ vote, forget }] = left;
        try {
          if (vote) await send("POST", "/votes", vote);
        } catch (error) {
          if (error.status === 0 || error.status === 401 || error.status === 429 || error.status >= 500) {
            this.told(left.length, error.message);
            this.later = setTimeout(() => this.flush(), this.pause);
            this.pause = Math.min(2 * this.pause, LONGEST);
            return;
          }
          this.refused(error.message);
        }
        forget();
        this.pause = 1000;
      }
      this.told(0, "");
    } finally {
      this.sending = false;
    }
  }
}

/** A vote that is kept; null where it cannot be read. */
function read(key) {
  try {
    return JSON.parse(localStorage.getItem(key));
  } catch {
    return null;
  }
}
