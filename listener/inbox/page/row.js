// One row of the list.

import { copyButton } from "./copy.js";
import { make } from "./elements.js";
import { icon } from "./icons.js";
import { mainLink, shortLink } from "./highlights.js";
import { link } from "./place.js";
import * as words from "./words.js";

/** The element of a mail, or of one that is not known yet. `open(id)` is called by a click. */
export function row(mail, { index, count, isOpen, isCursor, highlights, showsInbox, open }) {
  const place = { "aria-setsize": count, "aria-posinset": index + 1 };
  if (!mail) return make("li", { class: "row unknown", "aria-busy": "true", ...place }, make("span", {}, " "));
  const kind = ["row", mail.Read ? "" : "new", isOpen ? "open" : "", isCursor ? "cursor" : ""].filter(Boolean).join(" ");
  const from = words.person(mail.From) || "(no sender)";
  const others = [...(mail.To ?? []), ...(mail.Cc ?? []), ...(mail.Bcc ?? [])].map(words.person).join(", ");
  const element = make(
    "a",
    { href: link({ mail: mail.ID }), class: "go", "aria-current": isOpen ? "true" : false },
    make(
      "span",
      { class: "line" },
      make("span", { class: "from", title: mail.From?.Address ?? "" }, mail.Read ? "" : make("span", { class: "hidden" }, "Unread: "), from),
      others ? make("span", { class: "to", title: others }, `→ ${others}`) : "",
      mail.Attachments ? make("span", { class: "clip", title: words.counted(mail.Attachments, "attachment") }, icon("clip")) : "",
      make("time", { datetime: mail.Created, title: words.moment(mail.Created) }, words.when(mail.Created)),
    ),
    make("span", { class: "line" }, make("span", { class: "subject" }, mail.Subject || "(no subject)"), tags(mail, showsInbox ? highlights?.Inbox : "")),
    make("span", { class: "snippet" }, mail.Snippet || " "),
  );
  element.addEventListener("click", (event) => {
    if (event.metaKey || event.ctrlKey || event.shiftKey || event.button) return;
    event.preventDefault();
    open(mail.ID);
  });
  return make("li", { class: kind, data: { id: mail.ID }, ...place }, element, chips(highlights));
}

function tags(mail, inbox) {
  const found = (mail.Tags?.slice(0, 2) ?? []).map((tag) => make("span", { class: "tag" }, tag));
  if (inbox) found.unshift(make("span", { class: "tag inbox" }, inbox));
  return found;
}

function chips(highlights) {
  const found = [];
  for (const code of highlights?.Codes.slice(0, 2) ?? []) found.push(copyButton(code, code, { class: "copy code", title: `Copy the code ${code}` }));
  const main = mainLink(highlights?.Links ?? []);
  if (main) found.push(copyButton("Link", main, { class: "copy link", title: `Copy the link ${shortLink(main)}` }));
  return found.length ? make("div", { class: "chips" }, found) : "";
}
