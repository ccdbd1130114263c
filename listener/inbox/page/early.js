// Runs before the page is painted, so that it never shows the wrong colours.
try {
  const chosen = localStorage.getItem("smtp-relay-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // Storage is switched off: the system's colours stay.
}
