// Buttons that copy a text.

import { make } from "./elements.js";
import { say } from "./notices.js";

/** A button that shows `label` and copies `text`. */
export function copyButton(label, text, given = {}) {
  // What is read aloud holds what is seen, for those who speak to their computer.
  const name = `Copy ${text}`.includes(label) ? `Copy ${text}` : `${label}: copy ${text}`;
  const element = make(
    "button",
    { type: "button", class: "copy", title: `Copy ${text}`, "aria-label": name, ...given },
    make("span", { class: "label" }, label),
    make("span", { class: "sign", "aria-hidden": "true" }),
  );
  element.addEventListener("click", async (event) => {
    event.stopPropagation();
    if (!(await copy(text))) return;
    element.classList.add("done");
    setTimeout(() => element.classList.remove("done"), 1_500);
  });
  return element;
}

/** Copy a text, and say so. */
export async function copy(text) {
  try {
    await write(text);
  } catch {
    say("The browser does not allow copying.", { failed: true });
    return false;
  }
  say(`Copied ${text.length > 80 ? `${text.slice(0, 80)}…` : text}`);
  return true;
}

async function write(text) {
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  // Only pages over HTTPS and of this computer have a clipboard.
  const area = make("textarea", { class: "hidden", readonly: true });
  area.value = text;
  document.body.append(area);
  area.select();
  const done = document.execCommand("copy");
  area.remove();
  if (!done) throw new Error("not copied");
  return undefined;
}
