// What the viewer may do. What it may not is not offered; the server refuses it anyway.

import * as server from "./server.js";

export const rights = { delete: true, retry: true, all: false, release: false, recipients: "" };

/** Ask the server. */
export async function learnRights() {
  const found = await server.settings();
  const given = found.Rights;
  const may = (name) => !Array.isArray(given) || given.includes(name);
  rights.delete = may("delete");
  rights.retry = may("retry");
  rights.release = Boolean(found.MessageRelay?.Enabled) && may("release");
  rights.recipients = found.MessageRelay?.AllowedRecipients ?? "";
  rights.all = !found.HideDeleteAllButton;
}
