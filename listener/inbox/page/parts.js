// The parts of a mail: the tree of its structure, and its attachments.

import { make } from "./elements.js";
import { icon } from "./icons.js";
import { addresses } from "./server.js";
import * as words from "./words.js";

/** The attachments as links that download them. Null if there are none. */
export function attachments(mail) {
  const found = [...(mail.Attachments ?? []), ...(mail.Inline ?? [])];
  if (!found.length) return null;
  return make(
    "ul",
    { class: "attachments", "aria-label": "Attachments" },
    found.map((one) =>
      make(
        "li",
        {},
        make(
          "a",
          { href: addresses.part(mail.ID, one.PartID), download: one.FileName || "part", title: `${one.ContentType}\nSHA-256 ${one.Checksums?.SHA256 ?? ""}` },
          icon("clip"),
          make("span", { class: "name" }, one.FileName || one.ContentID || "unnamed"),
          make("span", { class: "size" }, words.size(one.Size)),
        ),
      ),
    ),
  );
}

/** The tree of all parts. */
export function tree(id, structure, mail) {
  const shown = new Set([...(mail.Attachments ?? []), ...(mail.Inline ?? [])].map((one) => one.PartID));
  const root = { below: [] };
  const opened = new Map([["", root]]);
  for (const leaf of structure) {
    const steps = leaf.PartID === "0" && !leaf.Above.length ? [] : leaf.PartID.split(".");
    leaf.Above.forEach((type, depth) => {
      const key = steps.slice(0, depth).join(".");
      const name = `${depth}:${key}`;
      if (!opened.has(name)) {
        const branch = { type, below: [] };
        parentOf(opened, depth, steps).below.push(branch);
        opened.set(name, branch);
      }
    });
    parentOf(opened, leaf.Above.length, steps).below.push({ leaf });
  }
  return make("div", { class: "structure" }, branches(id, root.below, shown));
}

function parentOf(opened, depth, steps) {
  return depth === 0 ? opened.get("") : opened.get(`${depth - 1}:${steps.slice(0, depth - 1).join(".")}`);
}

function branches(id, nodes, shown) {
  return make(
    "ul",
    { class: "tree" },
    nodes.map((node) =>
      node.leaf
        ? make("li", {}, leafLine(id, node.leaf, shown))
        : make("li", {}, make("span", { class: "node" }, make("code", {}, node.type), make("span", { class: "more" }, words.counted(node.below.length, "part"))), branches(id, node.below, shown)),
    ),
  );
}

function leafLine(id, leaf, shown) {
  const about = [leaf.Charset, leaf.Encoding, leaf.Disposition, words.size(leaf.Size)].filter(Boolean).join(" · ");
  const name = leaf.FileName || (leaf.ContentID ? `cid:${leaf.ContentID}` : "");
  return make(
    "span",
    { class: "node" },
    make("code", {}, leaf.ContentType),
    name ? make("span", { class: "name" }, name) : "",
    make("span", { class: "more" }, about),
    shown.has(leaf.PartID) ? make("a", { href: addresses.part(id, leaf.PartID), download: leaf.FileName || "part", "aria-label": `Download ${name || leaf.ContentType}` }, "Download") : "",
  );
}
