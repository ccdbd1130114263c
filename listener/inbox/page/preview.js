// A mail's HTML, as a phone and as a computer show it. The frames run nothing, and ask for nothing.

import { button, make } from "./elements.js";
import { addresses } from "./server.js";

const KEY = "smtp-relay-widths";
const PHONE = 375;
const DESKTOP = 800;
const WIDTHS = [
  ["both", "Side by side"],
  ["desktop", "Desktop"],
  ["phone", "Phone"],
];

/** The frames of a mail. */
export function preview(id, subject) {
  let chosen = stored();
  let images = false;
  const stage = make("div", { class: "stage" });
  const frames = { desktop: frame("desktop", `HTML of “${subject}”, desktop width`), phone: frame("phone", `HTML of “${subject}”, phone width`) };
  const choice = make("div", { class: "segments", role: "group", "aria-label": "Width" });
  const remote = button("Load images", () => {
    images = true;
    remote.disabled = true;
    remote.textContent = "Images are loaded";
    show(true);
  }, { class: "small", title: "The browser asks the servers that the mail names; they learn of it" });

  function show(again = false) {
    stage.className = `stage ${chosen}`;
    choice.replaceChildren(
      ...WIDTHS.map(([name, label]) =>
        button(label, () => {
          chosen = name;
          store(name);
          show();
        }, { "aria-pressed": String(chosen === name) }),
      ),
    );
    for (const [name, each] of Object.entries(frames)) {
      const isShown = chosen === "both" || chosen === name;
      each.box.hidden = !isShown;
      const url = addresses.html(id, images ? "embed=1&images=1" : "embed=1");
      if (isShown && (again || !each.inner.src)) each.inner.src = url;
    }
    fit();
  }

  function fit() {
    const { box, inner } = frames.desktop;
    const width = box.clientWidth;
    if (!width) return;
    const scale = Math.min(1, width / DESKTOP);
    inner.style.width = `${Math.max(width, DESKTOP)}px`;
    inner.style.height = `${100 / scale}%`;
    inner.style.transform = scale < 1 ? `scale(${scale})` : "";
    box.title = scale < 1 ? `${DESKTOP} pixels wide, shown at ${Math.round(scale * 100)} %` : "";
  }

  stage.append(frames.desktop.box, frames.phone.box);
  new ResizeObserver(fit).observe(frames.desktop.box);
  show();
  const alone = make("a", { class: "small", href: addresses.html(id, ""), target: "_blank", rel: "noreferrer noopener" }, "Open alone");
  return make("div", { class: "preview" }, make("div", { class: "preview-bar" }, choice, make("span", { class: "space" }), remote, alone), stage);
}

function frame(kind, title) {
  const inner = make("iframe", { title, sandbox: "allow-popups allow-popups-to-escape-sandbox", referrerpolicy: "no-referrer", loading: "eager", tabindex: "0" });
  if (kind === "phone") inner.style.width = `${PHONE}px`;
  return { inner, box: make("div", { class: `frame ${kind}` }, inner) };
}

function stored() {
  const fits = matchMedia("(min-width: 1180px)").matches ? "both" : matchMedia("(min-width: 860px)").matches ? "desktop" : "phone";
  try {
    const found = localStorage.getItem(KEY);
    return WIDTHS.some(([name]) => name === found) ? found : fits;
  } catch {
    return fits;
  }
}

function store(name) {
  try {
    localStorage.setItem(KEY, name);
  } catch {
    // Storage is switched off: the choice holds for this mail.
  }
}
