// The list: only the rows in sight exist, however many mails there are.

import { byId, make } from "./elements.js";
import { followHighlights, highlightsOf } from "./highlights.js";
import { row } from "./row.js";
import * as words from "./words.js";

const HEIGHT = 84;
/** Pixels of a row: list.css says the same. */

const BEYOND = 6;
/** Rows above and below those in sight. */

const QUIET = 2_000;
/** Milliseconds after which a pointer that rests on the list is about to do nothing. */

/** Shows mails. `open(id)` opens one. */
export class List {
  cursor = "";
  opened = "";
  /** True if mails of several inboxes are shown, so each says of which it is. */
  showsInboxes = false;
  #mails;
  #open;
  #scroll = byId("scroll");
  #rows = byId("rows");
  #arrived = byId("arrived");
  #elements = new Map();
  #above = 0;
  #moved = -QUIET;
  #due = 0;
  #isPressed = false;
  #waiting = [];

  constructor(open) {
    this.#open = open;
    this.#scroll.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.#scroll.addEventListener("pointermove", () => (this.#moved = performance.now()), { passive: true });
    // A row that is replaced between the press of a button and its release gets no click.
    this.#rows.addEventListener("pointerdown", () => (this.#isPressed = true));
    for (const end of ["pointerup", "pointercancel", "blur"]) addEventListener(end, () => setTimeout(() => this.#released()));
    this.#arrived.addEventListener("click", () => this.toTop());
    new ResizeObserver(() => this.draw()).observe(this.#scroll);
    followHighlights((ids) => {
      for (const id of ids) this.#elements.delete(id);
      this.draw();
    });
  }

  show(mails) {
    this.#mails = mails;
  }

  /** The mails changed as `Mails` tells. */
  changed(kind, value = 0) {
    if (this.#isPressed) {
      this.#waiting.push([kind, value]);
      return;
    }
    if (kind === "reset") {
      this.#above = 0;
      this.#scroll.scrollTop = 0;
    } else if (kind === "before" && value) {
      this.#push(value, this.#isLookedAt());
    } else if (kind === "again" && value && this.#isLookedAt()) {
      this.#push(value, true);
    } else if (kind === "gone" && (value + 1) * HEIGHT <= this.#scroll.scrollTop) {
      this.#above = Math.max(this.#above - 1, 0);
      this.#jump(this.#scroll.scrollTop - HEIGHT);
    }
    if (kind !== "filled") this.#elements.clear();
    this.draw();
  }

  /** Draw once before the next frame. */
  draw() {
    if (!this.#due) {
      this.#due = requestAnimationFrame(() => {
        this.#due = 0;
        if (!this.#isPressed) this.#draw();
      });
    }
  }

  /** The rows as they are now: a mark or the open mail changed. */
  redraw() {
    this.#elements.clear();
    this.draw();
  }

  toTop() {
    this.#above = 0;
    this.#scroll.scrollTop = 0;
    this.draw();
  }

  /** Scroll as little as needed until a row is in sight. */
  reveal(index) {
    const top = index * HEIGHT;
    const { scrollTop, clientHeight } = this.#scroll;
    if (top < scrollTop) this.#scroll.scrollTop = top;
    else if (top + HEIGHT > scrollTop + clientHeight) this.#scroll.scrollTop = top + HEIGHT - clientHeight;
    this.draw();
  }

  /** The index of the first row in sight. */
  get first() {
    return Math.max(0, Math.ceil(this.#scroll.scrollTop / HEIGHT));
  }

  #released() {
    if (!this.#isPressed) return;
    this.#isPressed = false;
    for (const [kind, value] of this.#waiting.splice(0)) this.changed(kind, value);
    this.draw();
  }

  #isLookedAt() {
    const isPointed = performance.now() - this.#moved < QUIET && this.#scroll.matches(":hover");
    return Boolean(this.opened || this.cursor) || this.#scroll.scrollTop > 0 || isPointed || this.#scroll.contains(document.activeElement);
  }

  /** Mails came before the first. Those that are looked at stay where they are. */
  #push(count, isLookedAt) {
    if (!isLookedAt) return;
    this.#above += count;
    this.#jump(this.#scroll.scrollTop + count * HEIGHT);
  }

  #jump(top) {
    this.#size(top);
    this.#scroll.scrollTop = top;
  }

  /** There is room below the last row as long as new ones are out of sight, or a short list would move. */
  #size(top) {
    const needed = this.#above ? top + this.#scroll.clientHeight : 0;
    this.#rows.style.height = `${Math.max(this.#mails.length * HEIGHT, needed)}px`;
  }

  #scrolled() {
    this.#above = Math.min(this.#above, Math.ceil(this.#scroll.scrollTop / HEIGHT));
    this.draw();
  }

  #draw() {
    const mails = this.#mails;
    const { scrollTop, clientHeight } = this.#scroll;
    this.#size(scrollTop);
    const first = Math.max(0, Math.floor(scrollTop / HEIGHT) - BEYOND);
    const last = Math.min(mails.length - 1, Math.ceil((scrollTop + clientHeight) / HEIGHT) + BEYOND);
    if (mails.isLoaded) mails.need(first, last);
    const drawn = new Map();
    for (let index = first; index <= last; index += 1) {
      const mail = mails.at(index);
      const key = mail?.ID ?? `unknown ${index}`;
      drawn.set(key, this.#elementOf(mail, key, index));
    }
    this.#place(drawn);
    this.#elements = drawn;
    this.#tell();
  }

  #elementOf(mail, key, index) {
    const known = this.#elements.get(key);
    const state = mail ? `${mail.Read} ${mail.ID === this.opened} ${mail.ID === this.cursor} ${mail.Tags}` : "";
    let element = known;
    if (!known || known.dataset.state !== state) {
      element = row(mail, {
        index,
        count: this.#mails.length,
        isOpen: mail?.ID === this.opened,
        isCursor: mail?.ID === this.cursor,
        highlights: mail && highlightsOf(mail.ID),
        showsInbox: this.showsInboxes,
        open: this.#open,
      });
      element.dataset.state = state;
    }
    element.style.transform = `translateY(${index * HEIGHT}px)`;
    return element;
  }

  /** Put the rows in place of those that are there, and keep the focus where it is. */
  #place(drawn) {
    const focused = document.activeElement?.closest?.("li[data-id]");
    const wanted = focused && this.#rows.contains(focused) ? focused.dataset.id : "";
    const isLink = document.activeElement?.classList.contains("go");
    const elements = [...drawn.values()];
    const kept = new Set(elements);
    for (const child of [...this.#rows.children]) if (!kept.has(child)) child.remove();
    elements.forEach((element, place) => {
      if (this.#rows.children[place] !== element) this.#rows.insertBefore(element, this.#rows.children[place] ?? null);
    });
    if (wanted && isLink && !this.#rows.contains(document.activeElement)) {
      drawn.get(wanted)?.querySelector("a")?.focus({ preventScroll: true });
    }
  }

  #tell() {
    const count = this.#above;
    this.#arrived.hidden = !count;
    if (!count) return;
    const newest = this.#mails.at(0);
    this.#arrived.replaceChildren(
      make("strong", {}, `↑ ${words.number(count)} new`),
      newest ? make("span", {}, newest.Subject || words.person(newest.From)) : "",
    );
  }
}
