// The address of the page: which inbox, which mail, which search. Every state has a permanent link.

const root = new URL("../../", import.meta.url);
const watchers = new Set();

/** What the address bar says: `inbox` and `mail` are "" for none. */
export function here() {
  let rest = location.pathname.slice(root.pathname.length);
  let inbox = "";
  const named = rest.match(/^inbox\/([^/]+)\/?/);
  if (named) {
    inbox = plain(named[1]);
    rest = rest.slice(named[0].length);
  }
  const viewed = rest.match(/^view\/([^/]+)$/);
  return { inbox, mail: viewed ? plain(viewed[1]) : "", query: new URLSearchParams(location.search).get("q") ?? "" };
}

/** The address of the API or page below the current inbox. */
export function url(path, inbox = here().inbox) {
  return new URL((inbox ? `inbox/${encodeURIComponent(inbox)}/` : "") + path, root).href;
}

/** The permanent link of a place. */
export function link(place) {
  const { inbox, mail, query } = { ...here(), ...place };
  const path = mail ? `view/${encodeURIComponent(mail)}` : query ? "search" : "";
  return url(path, inbox) + (query ? `?q=${encodeURIComponent(query)}` : "");
}

/** Go to a place: a new entry in the browser's history, or the same one. */
export function go(place, { replace = false } = {}) {
  const before = here();
  const target = link(place);
  if (target === location.href) return;
  history[replace ? "replaceState" : "pushState"](null, "", target);
  tell(before);
}

/** Call `watch(now, before)` after each change of the place. */
export function follow(watch) {
  watchers.add(watch);
}

let last = here();

function tell(before) {
  last = here();
  for (const watch of watchers) watch(last, before);
}

addEventListener("popstate", () => tell(last));

function plain(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
