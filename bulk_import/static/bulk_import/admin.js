// Refreshes the admin pages while an import is open, and makes sure that a confirmation is sent only once.
"use strict";

// Pause between two refreshes.
const REFRESH_MS = 3000;

async function refresh() {
  if (document.hidden || !document.querySelector("[data-open]")) return;
  const response = await fetch(location.href, { credentials: "same-origin" });
  // The user was signed out, or the server failed. The page stays as it is.
  if (!response.ok || response.redirected) return;
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  for (const part of document.querySelectorAll("[data-refresh], #result_list tbody, .object-tools")) {
    const selector = part.id ? `#${CSS.escape(part.id)}` : part.matches("tbody") ? "#result_list tbody" : ".object-tools";
    const replacement = fresh.querySelector(selector);
    // A part that shows the focus is not replaced, so that keyboard users keep their place on the page.
    if (replacement && !part.querySelector(":focus-visible")) part.replaceWith(replacement);
  }
}

async function keepRefreshing() {
  try {
    await refresh();
  } catch {
    // The network failed. The next refresh tries again.
  }
  setTimeout(keepRefreshing, REFRESH_MS);
}

for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}

setTimeout(keepRefreshing, REFRESH_MS);
