// What mail authentication says of a mail: Authentication-Results (RFC 8601), as badges.

import { make } from "./elements.js";

const METHODS = { spf: "SPF", dkim: "DKIM", dmarc: "DMARC", arc: "ARC", iprev: "rDNS", bimi: "BIMI", auth: "Login" };
const GOOD = new Set(["pass", "bestguesspass"]);
const BAD = new Set(["fail", "hardfail", "permerror", "policy"]);

/** `{by, results: [{method, verdict, remark, about}]}` of one field's value. */
function read(value) {
  const [head, ...rest] = split(value, ";");
  const results = [];
  for (const one of rest) {
    const remarks = [];
    const bare = one.replace(/\(((?:[^()\\]|\\.)*)\)/g, (_, remark) => {
      remarks.push(remark.trim());
      return " ";
    });
    const found = bare.trim().match(/^([A-Za-z0-9-]+)(?:\/\d+)?\s*=\s*([A-Za-z]+)\s*(.*)$/s);
    if (found) {
      results.push({ method: found[1].toLowerCase(), verdict: found[2].toLowerCase(), remark: remarks.join("; "), about: found[3].replace(/\s+/g, " ").trim() });
    }
  }
  return { by: head.trim().split(/\s/)[0], results };
}

/** Split at a mark that stands neither in quotes nor in a comment. */
function split(text, mark) {
  const found = [""];
  let depth = 0;
  let quoted = false;
  for (let index = 0; index < text.length; index += 1) {
    const one = text[index];
    if (one === "\\") {
      found[found.length - 1] += one + (text[(index += 1)] ?? "");
      continue;
    }
    if (one === '"' && !depth) quoted = !quoted;
    else if (one === "(" && !quoted) depth += 1;
    else if (one === ")" && !quoted && depth) depth -= 1;
    if (one === mark && !quoted && !depth) found.push("");
    else found[found.length - 1] += one;
  }
  return found;
}

/** The badges of the topmost field of a header; null if there is none. */
export function badges(headers) {
  const value = headers["Authentication-Results"]?.[0];
  if (!value) return null;
  const { by, results } = read(value.slice(0, 20_000));
  if (!results.length) return null;
  return make(
    "ul",
    { class: "badges", "aria-label": `Authentication, checked by ${by}` },
    results.slice(0, 20).map((one) => {
      const kind = GOOD.has(one.verdict) ? "good" : BAD.has(one.verdict) ? "bad" : "neutral";
      const more = [`checked by ${by}`, one.remark, one.about].filter(Boolean).join("\n");
      return make("li", { class: `badge ${kind}`, title: more }, make("span", {}, METHODS[one.method] ?? one.method), " ", make("b", {}, one.verdict));
    }),
  );
}
