// The mail that is read.

import { copyButton, copy } from "./copy.js";
import { summary, table } from "./deliveries.js";
import { byId, button, make } from "./elements.js";
import { mainLink, shortLink } from "./highlights.js";
import { icon } from "./icons.js";
import { attachments, tree } from "./parts.js";
import { link } from "./place.js";
import { preview } from "./preview.js";
import { rights } from "./rights.js";
import * as server from "./server.js";
import { Tabs } from "./tabs.js";
import { badges } from "./verdicts.js";
import * as words from "./words.js";

const MOST_RAW = 1_048_576;
const MOST_CHIPS = 6;

/** Shows one mail. `actions` has `close`, `unread`, `release`, `remove`. */
export class Reader {
  mail = null;
  #actions;
  #element = byId("reader");
  #abort = new AbortController();
  #tabs = null;
  #states = [];

  constructor(actions) {
    this.#actions = actions;
  }

  get tabs() {
    return this.#tabs;
  }

  /** Show that no mail is open. */
  clear() {
    this.#begin();
    this.#element.replaceChildren(
      make("div", { class: "nothing" }, make("p", {}, "No mail is open."), make("p", { class: "hint" }, make("kbd", {}, "j"), " and ", make("kbd", {}, "k"), " move, ", make("kbd", {}, "Enter"), " opens, ", make("kbd", {}, "?"), " shows all keys.")),
    );
    document.body.classList.remove("reading");
  }

  /** Show a mail. */
  async open(id) {
    const signal = this.#begin();
    document.body.classList.add("reading");
    const late = setTimeout(() => this.#element.replaceChildren(make("p", { class: "nothing", "aria-busy": "true" }, "Loading…")), 150);
    const quietly = (work, otherwise) => work.catch((error) => (error.name === "AbortError" ? Promise.reject(error) : otherwise));
    try {
      const [mail, about, headers, states] = await Promise.all([
        server.mail(id, signal),
        quietly(server.about(id, signal), null),
        quietly(server.headers(id, signal), {}),
        quietly(server.deliveries(id, signal), null),
      ]);
      if (signal.aborted) return;
      this.mail = mail;
      this.#states = states ?? [];
      this.#show(mail, about, headers, states !== null);
    } catch (error) {
      if (error.name === "AbortError" || signal.aborted) return;
      this.#element.replaceChildren(
        make("div", { class: "nothing" }, make("p", {}, error.status === 404 ? "This mail does not exist, or was deleted." : error.message), button("Back to the list", () => this.#actions.close())),
      );
    } finally {
      clearTimeout(late);
    }
  }

  /** The mail that is read is gone: what is read stays. */
  gone(id) {
    if (this.mail?.ID !== id) return;
    this.#element.querySelector(".toolbar")?.setAttribute("hidden", "");
    if (!this.#element.querySelector(".banner.gone")) {
      this.#element.prepend(make("p", { class: "banner gone", role: "status" }, "This mail was deleted. ", button("Close", () => this.#actions.close())));
    }
  }

  #begin() {
    this.#abort.abort();
    this.#abort = new AbortController();
    this.mail = null;
    this.#tabs = null;
    this.#element.scrollTop = 0;
    return this.#abort.signal;
  }

  #show(mail, about, headers, isKnown) {
    const signal = this.#abort.signal;
    const banner = make("div", { class: "banners" });
    const delivery = make("div", {});
    const drawStates = () => {
      const again = async () => {
        this.#states = await server.deliveries(mail.ID, signal);
        drawStates();
      };
      const line = summary(this.#states, mail.ID, rights, again);
      banner.replaceChildren(...(line ? [line] : []));
      delivery.replaceChildren(isKnown ? table(this.#states, mail.ID, rights, again) : make("p", { class: "none" }, "The spool cannot be read, so the state is not known."));
    };
    drawStates();
    this.#tabs = new Tabs([
      mail.HTML ? ["html", "HTML", () => preview(mail.ID, mail.Subject)] : null,
      ["text", "Text", () => pre(mail.Text || "The mail has no text.", "Text of the mail")],
      ["links", `Links${about?.Links.length ? ` ${about.Links.length}` : ""}`, () => linkList(about)],
      ["parts", "Parts", () => (about ? tree(mail.ID, about.Structure, mail) : make("p", { class: "none" }, "The structure cannot be read."))],
      ["header", "Header", () => headerTable(headers)],
      ["raw", "Raw", () => rawView(mail, signal)],
      ["delivery", "Delivery", () => make("div", { class: "about" }, delivery, envelope(mail, about))],
    ].filter(Boolean));
    this.#element.replaceChildren(this.#toolbar(mail), banner, head(mail, about, headers), this.#tabs.element);
    document.title = mail.Subject || "(no subject)";
  }

  #toolbar(mail) {
    const actions = this.#actions;
    const tool = (name, sign, click, given = {}) =>
      make("button", { type: "button", class: "tool", title: name, "aria-label": name, on: { click }, ...given }, icon(sign), make("span", { class: "label" }, name));
    return make(
      "div",
      { class: "toolbar", role: "toolbar", "aria-label": "Actions" },
      tool("Back", "back", () => actions.close(), { class: "tool back" }),
      make("span", { class: "space" }),
      tool("Mark as unread", "unread", () => actions.unread(mail.ID)),
      tool("Copy link", "link", () => copy(link({ mail: mail.ID, query: "" }))),
      make("a", { class: "tool", href: server.addresses.raw(mail.ID), download: `${mail.ID}.eml`, title: "Download" }, icon("download"), make("span", { class: "label" }, "Download")),
      rights.release ? tool("Release…", "release", () => actions.release(mail)) : "",
      rights.delete ? tool("Delete", "remove", () => actions.remove(mail.ID), { class: "tool danger" }) : "",
    );
  }
}

function head(mail, about, headers) {
  const from = words.person(mail.From) || "(no sender)";
  const date = mail.Date;
  return make(
    "header",
    { class: "mail" },
    make("h2", {}, mail.Subject || "(no subject)"),
    make(
      "div",
      { class: "author" },
      make("span", { class: "face", "aria-hidden": "true" }, words.initial(from)),
      make(
        "div",
        { class: "who" },
        make("p", {}, make("strong", {}, from), mail.From?.Name ? make("span", { class: "address" }, ` <${mail.From.Address}>`) : ""),
        make("dl", { class: "people" }, people("To", mail.To), people("Cc", mail.Cc), people("Bcc", mail.Bcc), people("Reply to", mail.ReplyTo)),
      ),
      make("div", { class: "when" }, make("time", { datetime: date, title: date }, words.moment(date)), make("span", { class: "size" }, words.size(mail.Size))),
    ),
    together("marks", badges(headers), mail.Tags?.length ? make("p", { class: "tags" }, mail.Tags.map((one) => make("span", { class: "tag" }, one))) : null),
    together("finds", highlights(about), attachments(mail)),
  );
}

function together(kind, ...elements) {
  const found = elements.filter(Boolean);
  return found.length ? make("div", { class: kind }, found) : null;
}

function people(name, all) {
  if (!all?.length) return [];
  const text = (one) => (one.Name ? `${one.Name} <${one.Address}>` : one.Address);
  const shown = all.slice(0, 20).map(text).join(", ");
  const more = all.length > 20 ? ` and ${words.number(all.length - 20)} more` : "";
  return make("div", {}, make("dt", {}, name), make("dd", {}, shown + more));
}

function highlights(about) {
  const codes = about?.Codes.slice(0, MOST_CHIPS) ?? [];
  const main = mainLink(about?.Links ?? []);
  if (!codes.length && !main) return null;
  return make(
    "div",
    { class: "highlights" },
    codes.map((one) => copyButton(one, one, { class: "copy code", title: `Copy the code ${one}` })),
    main ? copyButton(shortLink(main), main, { class: "copy link", title: main }) : "",
  );
}

function linkList(about) {
  const links = about?.Links ?? [];
  if (!links.length) return make("p", { class: "none" }, "The mail has no links.");
  return make(
    "ul",
    { class: "links" },
    links.map((one) => make("li", {}, copyButton("Copy", one), make("a", { href: one, target: "_blank", rel: "noreferrer noopener" }, one))),
  );
}

function headerTable(headers) {
  const rows = Object.entries(headers).flatMap(([name, values]) => values.map((value) => make("tr", {}, make("th", { scope: "row" }, name), make("td", {}, value))));
  if (!rows.length) return make("p", { class: "none" }, "The mail has no header.");
  return make("div", { class: "scroller", tabindex: "0", role: "region", "aria-label": "Header of the mail" }, make("table", { class: "fields" }, make("tbody", {}, rows)));
}

function rawView(mail, signal) {
  const holder = make("div", { class: "raw" }, make("p", { class: "none" }, "Loading…"));
  server.raw(mail.ID, MOST_RAW, signal).then(
    ({ text, more }) => {
      const rest = more ? make("p", { class: "none" }, `This is the beginning of ${words.size(mail.Size)}. `, make("a", { href: server.addresses.raw(mail.ID) }, "Download all")) : "";
      holder.replaceChildren(...[rest, pre(text, "Raw mail")].filter(Boolean));
    },
    (error) => error.name !== "AbortError" && holder.replaceChildren(make("p", { class: "none" }, error.message)),
  );
  return holder;
}

function pre(text, name) {
  return make("pre", { tabindex: "0", role: "region", "aria-label": name }, text);
}

function envelope(mail, about) {
  const found = about?.Envelope;
  const entries = found
    ? [["From", `<${found.ReversePath}>`], ...found.Recipients.map((one) => ["To", `<${one}>`]), ["Login", found.User || "none"], ["Client", found.Client], ["Greeting", found.Helo], ["Id in the log", about.MailID]]
    : [["Envelope", "The file does not begin with one, so none is known."]];
  if (about?.Inbox) entries.push(["Inbox", about.Inbox]);
  if (mail.MessageID) entries.push(["Message-ID", mail.MessageID]);
  return make("section", { class: "envelope", "aria-label": "Envelope" }, make("h3", {}, "Envelope"), make("dl", {}, entries.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))));
}
