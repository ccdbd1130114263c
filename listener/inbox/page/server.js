// Asks the server. A refusal becomes an Error with the server's own words.

import { url } from "./place.js";

const zone = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "";

async function ask(path, { inbox, ...options } = {}) {
  let reply;
  try {
    reply = await fetch(url(path, inbox), { cache: "no-store", ...options });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer.");
  }
  if (!reply.ok) {
    const text = (await reply.text()).slice(0, 500).trim();
    const fault = new Error(text || `The server answers ${reply.status}.`);
    fault.status = reply.status;
    throw fault;
  }
  return reply;
}

const json = async (path, options) => (await ask(path, options)).json();

const change = (method, path, body) =>
  ask(path, { method, headers: { "Content-Type": "application/json" }, body: JSON.stringify(body ?? {}) });

const of = (id, rest = "") => `api/v1/message/${encodeURIComponent(id)}${rest}`;

const searched = (query) => `api/v1/search?${new URLSearchParams({ query, tz: zone })}`;

/** A page of the list, or of a search. */
export function list(query, start, limit, signal) {
  const path = query ? `${searched(query)}&` : "api/v1/messages?";
  return json(`${path}start=${start}&limit=${limit}`, { signal });
}

export const mail = (id, signal) => json(of(id), { signal });
export const about = (id, signal) => json(of(id, "/about"), { signal });
export const headers = (id, signal) => json(of(id, "/headers"), { signal });
export const deliveries = (id, signal) => json(of(id, "/deliveries"), { signal });
export const highlights = (ids) => json(`api/v1/highlights?${new URLSearchParams({ ids: ids.join(",") })}`);
export const inboxes = () => json("api/v1/inboxes", { inbox: "" });
export const settings = () => json("api/v1/webui");

/** The first bytes of a mail as it is stored, as text, and whether there are more. */
export async function raw(id, most, signal) {
  const reply = await ask(of(id, "/raw"), { signal });
  const reader = reply.body.getReader();
  const decoder = new TextDecoder();
  let text = "";
  let size = 0;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return { text: text + decoder.decode(), more: false };
    size += value.length;
    text += decoder.decode(value, { stream: true });
    if (size >= most) {
      await reader.cancel();
      return { text, more: true };
    }
  }
}

export const markRead = (ids, read) => change("PUT", "api/v1/messages", { IDs: ids, Read: read });
export const markAllRead = (query) =>
  change("PUT", `api/v1/messages?${new URLSearchParams({ tz: zone })}`, query ? { Read: true, Search: query } : { Read: true });
export const remove = (id) => change("DELETE", "api/v1/messages", { IDs: [id] });
export const removeAll = (query) => change("DELETE", query ? searched(query) : "api/v1/messages", {});
export const release = (id, recipients) => change("POST", of(id, "/release"), { To: recipients });

/** Try the delivery again. Raises an Error that names the command where the server has no such request. */
export async function retry(id) {
  try {
    await change("POST", of(id, "/retry"), {});
  } catch (error) {
    if (error.status !== 404 && error.status !== 405) throw error;
    throw new Error("This server retries by command alone: smtp-relay deadletter replay");
  }
}

export const addresses = {
  raw: (id) => url(of(id, "/raw?dl=1")),
  part: (id, part) => url(of(id, `/part/${encodeURIComponent(part)}`)),
  html: (id, options = "embed=1") => url(`view/${encodeURIComponent(id)}.html?${options}`),
};
