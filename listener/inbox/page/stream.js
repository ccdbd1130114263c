// The server's events. A hidden tab lets go of its connection after a while, because a browser opens few of
// them to one server; it catches up when it is shown.

import { url } from "./place.js";

const HIDDEN = 30_000;
const KINDS = ["new", "update", "delete", "prune", "truncate", "stats"];

/** Call `event(kind, data)` for each event, and `state(isLive, isFirst)` when the connection begins or breaks. */
export class Stream {
  #source = null;
  #event;
  #state;
  #timer = 0;
  #begun = false;

  constructor(event, state) {
    this.#event = event;
    this.#state = state;
    document.addEventListener("visibilitychange", () => {
      clearTimeout(this.#timer);
      if (document.hidden) this.#timer = setTimeout(() => this.#close(), HIDDEN);
      else if (!this.#source) this.open();
    });
  }

  /** Begin, or begin again for another inbox. */
  open() {
    this.#close();
    const source = new EventSource(url("api/v1/stream"));
    this.#source = source;
    source.addEventListener("open", () => {
      this.#state(true, !this.#begun);
      this.#begun = true;
    });
    source.addEventListener("error", () => {
      this.#state(false, false);
      // The browser gives up after a refusal, for instance while the server starts again.
      if (source.readyState === EventSource.CLOSED && this.#source === source) {
        this.#timer = setTimeout(() => this.open(), 1_000);
      }
    });
    for (const kind of KINDS) {
      source.addEventListener(kind, (found) => this.#event(kind, JSON.parse(found.data)));
    }
  }

  #close() {
    clearTimeout(this.#timer);
    this.#source?.close();
    this.#source = null;
  }
}
