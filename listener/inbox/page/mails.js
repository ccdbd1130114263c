// The mails of the list, the newest first: those that were seen are known, of the others only the number.

import * as server from "./server.js";

const PAGE = 100;

/** What a list shows. Tells its watcher of each change: `reset`, `before` with a number of mails that came
 * before the first, `again` with the number of new ones, `gone` with the index of one that went, `filled`. */
export class Mails {
  query = "";
  total = 0;
  unread = 0;
  isLoaded = false;
  fault = "";
  /** The id of the mail that is open: it is read, also where an older answer says otherwise. */
  reading = "";
  #slots = [];
  #asked = new Map();
  #version = 0;
  #watch;
  #resync = 0;
  #abort = new AbortController();

  constructor(watch) {
    this.#watch = watch;
  }

  get length() {
    return this.#slots.length;
  }

  at(index) {
    return this.#slots[index];
  }

  indexOf(id) {
    return this.#slots.findIndex((one) => one?.ID === id);
  }

  /** Begin again with this search. */
  async search(query) {
    this.query = query;
    this.#forget();
    await this.#load(0, { reset: true });
  }

  /** Ask for the mails from one index to another that are not known. */
  need(first, last) {
    for (let page = Math.floor(first / PAGE); page * PAGE <= last; page += 1) {
      const start = page * PAGE;
      const end = Math.min(start + PAGE, this.length);
      let missing = false;
      for (let index = start; index < end && !missing; index += 1) missing = this.#slots[index] === undefined;
      if (missing && !this.#asked.has(start)) this.#load(start);
    }
  }

  /** A mail arrived. */
  arrived(summary) {
    if (!this.isLoaded) return;
    if (this.query) {
      this.refreshSoon();
    } else if (this.indexOf(summary.ID) < 0) {
      const first = this.#slots[0];
      if (this.length && (first === undefined || Date.parse(first.Created) > Date.parse(summary.Created))) {
        this.refreshSoon();
        return;
      }
      this.#slots.unshift(summary);
      this.#watch("before", 1);
    }
  }

  /** A mail was deleted. */
  gone(id) {
    const index = this.indexOf(id);
    if (index >= 0) {
      this.#version += 1;
      this.#asked.clear();
      this.#slots.splice(index, 1);
      this.#watch("gone", index);
    } else {
      this.refreshSoon();
    }
  }

  /** A mail was marked. */
  marked(id, read) {
    const one = this.#slots[this.indexOf(id)];
    if (one && one.Read !== read) {
      one.Read = read;
      this.#watch("filled");
    }
  }

  /** The totals of the inbox. */
  counted(total, unread) {
    this.total = total;
    this.unread = unread;
    if (this.isLoaded && !this.query && total !== this.length) this.refreshSoon();
    this.#watch("filled");
  }

  /** Ask again soon, once for many changes. */
  refreshSoon() {
    if (!this.#resync) this.#resync = setTimeout(() => this.refresh(), 150);
  }

  /** Ask again, and keep what is looked at where it is. */
  async refresh() {
    clearTimeout(this.#resync);
    this.#resync = 0;
    this.#asked.clear();
    this.#version += 1;
    await this.#load(0, { again: true });
  }

  #forget() {
    this.#abort.abort();
    this.#abort = new AbortController();
    clearTimeout(this.#resync);
    this.#resync = 0;
    this.#version += 1;
    this.#asked.clear();
    this.isLoaded = false;
  }

  async #load(start, { reset = false, again = false } = {}) {
    const version = this.#version;
    this.#asked.set(start, true);
    let found;
    try {
      found = await server.list(this.query, start, PAGE, this.#abort.signal);
      this.fault = "";
    } catch (error) {
      if (error.name === "AbortError") return;
      if (version === this.#version) this.#asked.delete(start);
      this.fault = error.message;
      this.#watch("filled");
      return;
    }
    if (version !== this.#version) return;
    this.#asked.delete(start);
    this.total = found.total;
    this.unread = found.unread;
    if (reset || !this.isLoaded) {
      this.#slots = new Array(found.messages_count);
      this.#put(0, found.messages);
      this.isLoaded = true;
      this.#watch("reset");
    } else if (again) {
      this.#again(found);
    } else {
      // Mails may have arrived since the question: a place counted from the oldest stays the same.
      const shift = this.length - found.messages_count;
      if (shift < 0) this.refreshSoon();
      else this.#put(start + shift, found.messages);
      this.#watch("filled");
    }
  }

  /** The first page anew. What stands below it stays if the new mails explain the new number. */
  #again(found) {
    const before = this.#slots;
    const known = found.messages.findIndex((one) => one.ID === before[0]?.ID);
    const more = found.messages_count - before.length;
    if (known >= 0 && known === more) {
      this.#slots = [...new Array(more), ...before];
      this.#put(0, found.messages);
      if (more) this.#watch("before", more);
      else this.#watch("filled");
      return;
    }
    this.#slots = new Array(found.messages_count);
    this.#put(0, found.messages);
    this.#watch("again", Math.max(more, 0));
  }

  #put(start, messages) {
    messages.forEach((one, offset) => {
      if (one.ID === this.reading) one.Read = true;
      if (start + offset < this.length) this.#slots[start + offset] = one;
    });
  }
}
