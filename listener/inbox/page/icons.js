// The signs on buttons: strokes in a square of 20.

const STROKES = {
  back: "M12.5 4.5 7 10l5.5 5.5",
  clip: "m16 9.5-6.2 6.2a3.8 3.8 0 0 1-5.4-5.4l6.9-6.9a2.5 2.5 0 0 1 3.6 3.6l-6.8 6.8a1.3 1.3 0 0 1-1.8-1.8l6-6",
  download: "M10 3.5v9m-3.8-3.6L10 12.7l3.8-3.8M4 16.5h12",
  link: "M8.3 11.7a3.2 3.2 0 0 0 4.6 0l2.7-2.7a3.2 3.2 0 0 0-4.6-4.6l-.9.9m1.6 3a3.2 3.2 0 0 0-4.6 0l-2.7 2.7a3.2 3.2 0 0 0 4.6 4.6l.9-.9",
  more: "M4.5 10h.01M10 10h.01M15.5 10h.01",
  release: "M17 3 9.3 10.7M17 3l-4.8 14-2.9-6.3L3 7.8z",
  remove: "M4 5.5h12m-7.5-2.5h3M5.5 5.5l.7 11h7.6l.7-11M8.5 8.5v5m3-5v5",
  unread: "M3 8.5v6.5h14V8.5M3 8.5l7 4.5 7-4.5M3 8.5 10 4l7 4.5",
};

const SPACE = "http://www.w3.org/2000/svg";

/** A sign, by its name. It says nothing to those who do not see it. */
export function icon(name) {
  const drawing = document.createElementNS(SPACE, "svg");
  drawing.setAttribute("viewBox", "0 0 20 20");
  drawing.setAttribute("class", "icon");
  drawing.setAttribute("aria-hidden", "true");
  const path = document.createElementNS(SPACE, "path");
  path.setAttribute("d", STROKES[name]);
  drawing.append(path);
  return drawing;
}
