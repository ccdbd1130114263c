// Puts the page together: the list, the mail that is read, the search, the events of the server.

import { copy } from "./copy.js";
import { byId, make } from "./elements.js";
import { highlightsOf, mainLink } from "./highlights.js";
import { startKeyboard } from "./keyboard.js";
import { List } from "./list.js";
import { Mails } from "./mails.js";
import { attempt, question, say } from "./notices.js";
import { follow, go, here, link, url } from "./place.js";
import { Reader } from "./reader.js";
import { release } from "./release.js";
import { learnRights, rights } from "./rights.js";
import * as server from "./server.js";
import { Stream } from "./stream.js";
import { startTheme } from "./theme.js";
import * as words from "./words.js";

const TYPING = 120;

const query = byId("query");
const list = new List((id) => go({ mail: id }));
const mails = new Mails((kind, value) => {
  list.changed(kind, value);
  if (kind === "reset") revealOpened();
  describe();
});
list.show(mails);
const reader = new Reader({ close, unread, release, remove });
const stream = new Stream(event, (isLive, isFirst) => {
  byId("live").className = isLive ? "live on" : "live off";
  byId("live").title = isLive ? "Mails appear as they arrive" : "The connection is lost; it comes back by itself";
  byId("live").textContent = isLive ? "Live" : "Offline";
  // What happened before the connection began is not told.
  if (isLive) mails.refreshSoon();
  if (isLive && !isFirst) showInboxes();
});

// -- what the address bar says is shown --------------------------------------------------------

function show(place, before) {
  if (!before || place.inbox !== before.inbox) {
    stream.open();
    showInboxes();
    byId("home").href = url("");
  }
  if (!before || place.inbox !== before.inbox || place.query !== before.query) {
    if (document.activeElement !== query) query.value = place.query;
    mails.search(place.query);
  }
  if (!before || place.mail !== before.mail || place.inbox !== before.inbox) {
    list.opened = place.mail;
    if (place.mail) {
      list.cursor = place.mail;
      mails.reading = place.mail;
      reader.open(place.mail).then(() => {
        if (reader.mail?.ID === place.mail) mails.marked(place.mail, true);
        describe();
      });
      revealOpened();
    } else {
      mails.reading = "";
      reader.clear();
    }
    list.redraw();
  }
  describe();
}

function revealOpened() {
  const index = mails.indexOf(list.opened);
  if (index >= 0) list.reveal(index);
}

function describe() {
  const { query: text, inbox } = here();
  byId("heading").textContent = text ? "Found" : inbox || "All mails";
  const isUnread = /^(.*\s)?is:unread$/.test(text);
  byId("unread").setAttribute("aria-pressed", String(isUnread));
  byId("count").textContent = text
    ? `${words.counted(mails.length, "mail")} of ${words.number(mails.total)}`
    : `${words.counted(mails.length, "mail")}, ${words.number(mails.unread)} unread`;
  if (!mails.isLoaded) byId("count").textContent = "…";
  byId("read-all").textContent = text ? "Mark the found as read" : "Mark all as read";
  byId("delete-all").textContent = text ? "Delete the found…" : "Delete all…";
  byId("delete-all").hidden = !rights.delete || !rights.all;
  const empty = byId("empty");
  empty.hidden = !(mails.fault || (mails.isLoaded && !mails.length));
  if (!empty.hidden) empty.replaceChildren(...emptyText(text));
  if (!here().mail) document.title = `${mails.unread ? `(${words.number(mails.unread)}) ` : ""}${inbox || "Inbox"}`;
}

function emptyText(text) {
  if (mails.fault) return [make("p", {}, mails.fault)];
  if (text) return [make("p", {}, "No mail matches."), make("p", { class: "hint" }, "Words are found inside words; ", make("code", {}, "-word"), " excludes.")];
  return [make("p", {}, "No mail yet."), make("p", { class: "hint" }, "The next one appears here as it arrives.")];
}

async function showInboxes() {
  let names;
  try {
    names = await server.inboxes();
  } catch {
    return;
  }
  const { inbox } = here();
  if (inbox && !names.includes(inbox)) names.push(inbox);
  const select = byId("inbox");
  select.replaceChildren(make("option", { value: "" }, "All inboxes"), ...names.sort().map((name) => make("option", { value: name }, name)));
  select.value = inbox;
  byId("inboxes").hidden = names.length < 2 && !inbox;
  const isMixed = names.length > 1 && !inbox;
  if (list.showsInboxes !== isMixed) {
    list.showsInboxes = isMixed;
    list.redraw();
  }
}

// -- events of the server ----------------------------------------------------------------------

let known = 0;

function event(kind, data) {
  if (kind === "new") mails.arrived(data);
  else if (kind === "update" && typeof data?.Read === "boolean") mails.marked(data.ID, data.Read);
  else if (kind === "delete") {
    mails.gone(data.ID);
    reader.gone(data.ID);
  } else if (kind === "stats") {
    mails.counted(data.Total, data.Unread);
    clearTimeout(known);
    known = setTimeout(showInboxes, 500);
  } else if (kind === "prune" || kind === "truncate") mails.refreshSoon();
}

// -- actions -----------------------------------------------------------------------------------

function close() {
  go({ mail: "" });
  byId("scroll").focus({ preventScroll: true });
}

async function unread(id) {
  const one = mails.at(mails.indexOf(id));
  const read = one ? !one.Read : false;
  if (!read) mails.reading = "";
  if (await attempt(() => server.markRead([id], read))) {
    mails.marked(id, read);
    say(read ? "Marked as read" : "Marked as unread");
  }
}

async function remove(id) {
  const index = mails.indexOf(id);
  if (!(await attempt(() => server.remove(id), "Deleted"))) return;
  if (mails.indexOf(id) >= 0) mails.gone(id);
  // The mail below takes its place, as in other mail programs.
  const next = index >= 0 ? (mails.at(index) ?? mails.at(index - 1)) : undefined;
  if (list.cursor === id) list.cursor = next?.ID ?? "";
  if (here().mail === id) go({ mail: next?.ID ?? "" }, { replace: true });
  list.redraw();
}

function move(step) {
  if (!mails.length) return;
  const at = mails.indexOf(list.cursor);
  const index = at < 0 ? (step > 0 ? list.first : 0) : Math.min(Math.max(at + step, 0), mails.length - 1);
  const mail = mails.at(index);
  list.reveal(index);
  if (!mail) return;
  list.cursor = mail.ID;
  if (here().mail) go({ mail: mail.ID }, { replace: true });
  list.redraw();
}

const chosen = () => here().mail || list.cursor;

startKeyboard({
  move,
  remove: () => chosen() && rights.delete && remove(chosen()),
  unread: () => chosen() && unread(chosen()),
  release: () => reader.mail && rights.release && release(reader.mail),
  enter() {
    if (!list.cursor) move(1);
    if (list.cursor) go({ mail: list.cursor });
  },
  escape() {
    if (document.activeElement === query) {
      query.blur();
      if (query.value) clearSearch();
    } else if (here().mail) {
      close();
    } else if (here().query) {
      clearSearch();
    } else {
      list.cursor = "";
      list.redraw();
    }
  },
  search() {
    query.focus();
    query.select();
  },
  leaveSearch() {
    query.blur();
    search();
    if (!list.cursor) move(1);
  },
  copy() {
    const found = chosen() && highlightsOf(chosen());
    const text = found?.Codes[0] ?? mainLink(found?.Links ?? []);
    if (text) copy(text);
    else if (found) say("The mail has no code and no link.");
  },
  link: () => chosen() && copy(link({ mail: chosen(), query: "" })),
  newest() {
    list.toTop();
    if (mails.at(0)) list.cursor = mails.at(0).ID;
    list.redraw();
  },
  view: (number) => reader.tabs?.chooseNumber(number),
});

// -- search ------------------------------------------------------------------------------------

let typing = 0;

function search() {
  clearTimeout(typing);
  const text = query.value.trim();
  if (text === here().query) return;
  list.cursor = here().mail;
  go({ query: text }, { replace: Boolean(here().query && text) });
}

function clearSearch() {
  query.value = "";
  search();
}

query.addEventListener("input", () => {
  clearTimeout(typing);
  typing = setTimeout(search, TYPING);
});

byId("unread").addEventListener("click", () => {
  const words = query.value.split(/\s+/).filter(Boolean);
  const others = words.filter((one) => one !== "is:unread");
  query.value = (others.length < words.length ? others : [...others, "is:unread"]).join(" ");
  search();
});

byId("inbox").addEventListener("change", (changed) => {
  list.cursor = "";
  go({ inbox: changed.target.value, mail: "", query: here().query });
});

byId("home").addEventListener("click", (clicked) => {
  if (clicked.metaKey || clicked.ctrlKey) return;
  clicked.preventDefault();
  query.value = "";
  go({ mail: "", query: "" });
  list.toTop();
});

const menu = byId("menu");
addEventListener("click", (clicked) => {
  if (menu.open && !menu.querySelector("summary").contains(clicked.target)) menu.open = false;
});

byId("read-all").addEventListener("click", () => attempt(() => server.markAllRead(here().query).then(() => mails.refresh()), "Marked as read"));

byId("delete-all").addEventListener("click", async () => {
  const { query: text, inbox } = here();
  const what = `${words.counted(mails.length, "mail")}${text ? ` that match “${text}”` : inbox ? ` of ${inbox}` : ""}`;
  const content = make("p", {}, `${what} are deleted, with their files.`);
  if (!(await question("Delete?", content, { action: "Delete", danger: true }))) return;
  if (await attempt(() => server.removeAll(text), "Deleted")) {
    if (reader.mail) close();
    mails.refresh();
  }
});

startTheme();
follow(show);
learnRights().catch(() => {}).finally(() => show(here(), null));
