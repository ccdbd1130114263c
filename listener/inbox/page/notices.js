// Short messages at the foot of the page, and questions.

import { byId, button, make } from "./elements.js";

const LASTS = 5_000;

/** Say something; a failure stays longer. */
export function say(text, { failed = false } = {}) {
  const notice = make("p", { class: failed ? "notice failed" : "notice" }, text);
  byId("notices").replaceChildren(notice);
  setTimeout(() => notice.remove(), failed ? LASTS * 2 : LASTS);
}

/** Do something, and say what the server has against it. Returns true if it was done. */
export async function attempt(work, done = "") {
  try {
    await work();
  } catch (error) {
    say(error.message, { failed: true });
    return false;
  }
  if (done) say(done);
  return true;
}

/** A dialog with a title, content and one thing to do; resolves to true if that was chosen. */
export function question(title, content, { action, danger = false }) {
  return new Promise((resolve) => {
    const dialog = make("dialog", { class: "dialog", "aria-labelledby": "dialog-title" });
    const form = make(
      "form",
      { method: "dialog" },
      make("h2", { id: "dialog-title" }, title),
      content,
      make(
        "div",
        { class: "actions" },
        button(action ? "Cancel" : "Close", () => dialog.close("")),
        action ? make("button", { type: "submit", value: "yes", class: danger ? "danger solid" : "solid" }, action) : "",
      ),
    );
    // The page's policy allows no form to be sent, so the dialog is closed here.
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      dialog.close("yes");
    });
    dialog.append(form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    dialog.addEventListener("click", (event) => event.target === dialog && dialog.close(""));
    document.body.append(dialog);
    dialog.showModal();
  });
}
