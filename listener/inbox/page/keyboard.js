// The keys of the page, and the dialog that shows them.

import { byId, make } from "./elements.js";
import { question } from "./notices.js";

const SHOWN = [
  [["j", "↓"], "The next mail"],
  [["k", "↑"], "The mail before"],
  [["Enter", "o"], "Open the mail"],
  [["Esc"], "Close the mail; empty the search"],
  [["/"], "Search"],
  [["#", "Delete"], "Delete the mail"],
  [["u"], "Mark as unread, or as read"],
  [["r"], "Release the mail"],
  [["c"], "Copy the first code, else the first link"],
  [["y"], "Copy the mail's permanent link"],
  [["g", "."], "To the newest mail"],
  [["1 … 7"], "Views of the mail: HTML, text, links …"],
  [["?"], "These keys"],
];

/** Call the action of each key. `actions` are functions by name. */
export function startKeyboard(actions) {
  const keys = {
    j: () => actions.move(1),
    ArrowDown: () => actions.move(1),
    k: () => actions.move(-1),
    ArrowUp: () => actions.move(-1),
    o: actions.enter,
    Enter: actions.enter,
    Escape: actions.escape,
    "/": actions.search,
    "#": actions.remove,
    Delete: actions.remove,
    u: actions.unread,
    r: actions.release,
    c: actions.copy,
    y: actions.link,
    g: actions.newest,
    ".": actions.newest,
    Home: actions.newest,
    "?": showKeys,
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || document.querySelector("dialog[open]")) return;
    const at = event.target instanceof Element ? event.target : document.body;
    if (at.matches("input, textarea, select, [contenteditable]")) {
      if (event.key === "Escape" && at.id === "query") actions.escape();
      if ((event.key === "ArrowDown" || event.key === "Enter") && at.id === "query") {
        event.preventDefault();
        actions.leaveSearch();
      }
      return;
    }
    // A button that has the focus answers to Enter itself, and what scrolls does so by the arrow keys.
    if (event.key === "Enter" && at.closest("button, a, summary")) return;
    if (event.key.startsWith("Arrow") && at.closest("pre, .scroller, [role=tablist], .menu")) return;
    const action = keys[event.key] ?? (/^[1-9]$/.test(event.key) ? () => actions.view(Number(event.key)) : null);
    if (!action) return;
    event.preventDefault();
    action();
  });
  byId("help").addEventListener("click", showKeys);
}

function showKeys() {
  const rows = SHOWN.map(([keys, text]) => make("div", {}, make("dt", {}, keys.flatMap((key, index) => [index ? " " : "", make("kbd", {}, key)])), make("dd", {}, text)));
  question("Keyboard", make("dl", { class: "keys" }, rows), { action: "" });
}
