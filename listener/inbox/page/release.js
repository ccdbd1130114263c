// Releases a mail to real recipients: those that the configuration allows.

import { make } from "./elements.js";
import { attempt, question } from "./notices.js";
import { rights } from "./rights.js";
import * as server from "./server.js";

/** Ask for recipients, and release the mail to them. */
export async function release(mail) {
  const proposed = (mail.To ?? []).map((one) => one.Address).join(", ");
  const field = make("textarea", { id: "release-to", rows: "3", required: true, autocomplete: "off", spellcheck: "false", autofocus: true });
  field.value = proposed;
  const content = make(
    "div",
    { class: "field" },
    make("p", {}, `“${mail.Subject || "(no subject)"}” is sent on as it is, to these recipients alone.`),
    make("label", { for: "release-to" }, "Recipients, separated by commas"),
    field,
    rights.recipients ? make("p", { class: "hint" }, "Allowed: ", make("code", {}, rights.recipients)) : "",
  );
  if (!(await question("Release this mail", content, { action: "Release" }))) return;
  const to = field.value.split(/[\s,;]+/).filter(Boolean);
  await attempt(() => server.release(mail.ID, to), `Released to ${to.join(", ")}`);
}
