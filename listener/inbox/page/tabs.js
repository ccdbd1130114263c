// The views of a mail, of which one is shown. The choice stays for the next mail.

import { make } from "./elements.js";

let preferred = "";

/** `views` are `[name, label, content]`; `content()` makes a view when it is first shown. */
export class Tabs {
  element;
  #views;
  #tabs;
  #panel = make("div", { class: "view", role: "tabpanel", id: "view", "aria-labelledby": "" });
  #made = new Map();
  #shown = "";

  constructor(views) {
    this.#views = views;
    this.#tabs = views.map(([name, label]) =>
      make("button", { type: "button", role: "tab", id: `tab-${name}`, "aria-controls": "view", on: { click: () => this.choose(name) } }, label),
    );
    const list = make("div", { class: "tabs", role: "tablist", "aria-label": "Views of the mail", on: { keydown: (event) => this.#key(event) } }, this.#tabs);
    this.element = make("div", { class: "views" }, list, this.#panel);
    this.#show(views.some(([name]) => name === preferred) ? preferred : views[0][0]);
  }

  /** Show a view, by its name. */
  choose(name) {
    preferred = name;
    this.#show(name);
  }

  /** Show the view with that number, from 1. */
  chooseNumber(number) {
    const view = this.#views[number - 1];
    if (view) this.choose(view[0]);
  }

  #show(name) {
    this.#shown = name;
    this.#tabs.forEach((tab, index) => {
      const isShown = this.#views[index][0] === name;
      tab.setAttribute("aria-selected", String(isShown));
      tab.tabIndex = isShown ? 0 : -1;
    });
    this.#panel.setAttribute("aria-labelledby", `tab-${name}`);
    this.#panel.dataset.view = name;
    if (!this.#made.has(name)) this.#made.set(name, this.#views.find(([each]) => each === name)[2]());
    this.#panel.replaceChildren(this.#made.get(name));
  }

  #key(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const now = this.#views.findIndex(([name]) => name === this.#shown);
    const next = (now + step + this.#views.length) % this.#views.length;
    this.choose(this.#views[next][0]);
    this.#tabs[next].focus();
  }
}
