// Codes and links of the mails that the list shows, asked for once for each.

import * as server from "./server.js";

const MOST = 2_000;
const AT_ONCE = 50;

const known = new Map();
const wanted = new Set();
const watchers = new Set();
let timer = 0;

/** `{Inbox, Codes, Links}` of a mail, or undefined until the server answered. */
export function highlightsOf(id) {
  const found = known.get(id);
  if (found === undefined && !wanted.has(id)) {
    wanted.add(id);
    if (!timer) timer = setTimeout(fetchAll, 60);
  }
  return found;
}

/** Call `watch(ids)` when some are known. */
export function followHighlights(watch) {
  watchers.add(watch);
}

async function fetchAll() {
  // Only the last that were asked for are still in sight.
  const ids = [...wanted].slice(-AT_ONCE);
  wanted.clear();
  timer = 0;
  let found;
  try {
    found = await server.highlights(ids);
  } catch {
    return;
  }
  for (const id of ids) known.set(id, found[id] ?? { Inbox: "", Codes: [], Links: [] });
  while (known.size > MOST) known.delete(known.keys().next().value);
  for (const watch of watchers) watch(ids);
}

const TELLING = /confirm|verif|activat|reset|password|login|log-in|signin|sign-in|magic|token|invit|unlock|otp/i;

/** The link that a reader most likely wants. */
export const mainLink = (links) => links.find((one) => TELLING.test(one)) ?? links[0] ?? "";

/** A link without what all links have. */
export function shortLink(link) {
  const bare = link.replace(/^https?:\/\/(www\.)?/i, "");
  return bare.length > 40 ? `${bare.slice(0, 39)}…` : bare;
}
