// Light and dark: the system's choice, or that of the button.

import { byId } from "./elements.js";

const KEY = "smtp-relay-theme";
const NEXT = { "": "dark", dark: "light", light: "" };
const SIGN = { "": "◐", dark: "☾", light: "☀" };
const NAME = { "": "as the system", dark: "dark", light: "light" };

function show() {
  const chosen = document.documentElement.dataset.theme ?? "";
  const theme = byId("theme");
  theme.textContent = SIGN[chosen];
  theme.title = `Colours: ${NAME[chosen]}`;
  theme.setAttribute("aria-label", `Colours: ${NAME[chosen]}. Change`);
}

/** Make the button work. */
export function startTheme() {
  byId("theme").addEventListener("click", () => {
    const next = NEXT[document.documentElement.dataset.theme ?? ""];
    if (next) document.documentElement.dataset.theme = next;
    else delete document.documentElement.dataset.theme;
    try {
      localStorage.setItem(KEY, next);
    } catch {
      // Storage is switched off: the choice holds for this page.
    }
    show();
  });
  show();
}
