// What became of a mail at each output of its flow, and why.

import { button, make } from "./elements.js";
import { attempt } from "./notices.js";
import * as server from "./server.js";
import * as words from "./words.js";

const SIGNS = { delivered: "✓", waiting: "…", dead: "✕" };
const NAMES = { delivered: "Delivered", waiting: "Waiting", dead: "Not delivered" };

/** Why a mail is not delivered at an output, in one sentence. */
function sentence(one) {
  if (one.Sentence) return one.Sentence;
  const reason = (one.Reason || "").replace(/\s+/g, " ").trim().replace(/\.$/, "");
  if (one.State === "delivered") return `Delivered to ${one.Output}.`;
  if (one.State === "dead") return `${one.Output} gave up: ${reason || "no reason is known"}.`;
  const next = one.Next ? `the next attempt is at ${words.moment(one.Next)}` : "its first attempt is under way";
  return reason ? `${one.Output} is not done: ${reason}; ${next}.` : `${one.Output} is not done: ${next}.`;
}

/** The state that counts most: what is dead, then what waits. */
const worst = (states) => ["dead", "waiting", "delivered"].find((state) => states.some((one) => one.State === state)) ?? "";

/** One line about all outputs, to show above the mail. Null if all is well or nothing is known. */
export function summary(states, id, rights, again) {
  const state = worst(states);
  if (state !== "dead" && state !== "waiting") return null;
  const first = states.find((one) => one.State === state);
  return make(
    "div",
    { class: `banner ${state}` },
    make("p", {}, make("strong", {}, "Why not delivered? "), sentence(first)),
    retryButton(states, id, rights, again),
  );
}

/** All outputs. */
export function table(states, id, rights, again) {
  if (!states.length) return make("p", { class: "none" }, "The flow of this mail has no outputs.");
  return make(
    "div",
    { class: "deliveries" },
    make(
      "ul",
      {},
      states.map((one) =>
        make(
          "li",
          { class: one.State },
          make("span", { class: "sign", "aria-hidden": "true" }, SIGNS[one.State] ?? "?"),
          make("div", {}, make("strong", {}, one.Output), make("span", { class: "state" }, NAMES[one.State] ?? one.State), make("p", {}, sentence(one))),
        ),
      ),
    ),
    retryButton(states, id, rights, again),
  );
}

function retryButton(states, id, rights, again) {
  if (!rights.retry || !states.some((one) => one.State === "dead" || one.State === "waiting")) return "";
  const element = button("Retry now", async () => {
    element.disabled = true;
    if (await attempt(() => server.retry(id), "The delivery is tried again.")) await again();
    element.disabled = false;
  });
  return element;
}
