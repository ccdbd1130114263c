// Makes elements. Texts become text nodes: nothing of a mail is ever read as HTML.

/** An element. `given` are attributes; `on` is an object of listeners, `data` one of data attributes. */
export function make(tag, given = {}, ...children) {
  const element = document.createElement(tag);
  const { on = {}, data = {}, ...attributes } = given;
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value === null || value === undefined) continue;
    element.setAttribute(name, value === true ? "" : String(value));
  }
  Object.assign(element.dataset, data);
  for (const [name, listener] of Object.entries(on)) element.addEventListener(name, listener);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== ""));
  return element;
}

export const byId = (id) => document.getElementById(id);

export const button = (text, click, given = {}) => make("button", { type: "button", on: { click }, ...given }, text);
