// Keeps the pages of imports fresh while one is open, and sends a confirmation once.
"use strict";

const REFRESH_MS = 3000;

async function refresh() {
  if (document.hidden || !document.querySelector("[data-open]")) return;
  const answer = await fetch(location.href, { credentials: "same-origin" });
  if (!answer.ok || answer.redirected) return; // logged out, or the server is away: what is there stays
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const part of document.querySelectorAll("[data-refresh], #result_list tbody, .object-tools")) {
    const selector = part.id ? `#${CSS.escape(part.id)}` : part.matches("tbody") ? "#result_list tbody" : ".object-tools";
    const replacement = fresh.querySelector(selector);
    if (replacement && !part.contains(document.activeElement)) part.replaceWith(replacement);
  }
}

async function keepFresh() {
  try {
    await refresh();
  } catch {
    // The next turn asks again.
  }
  setTimeout(keepFresh, REFRESH_MS);
}

for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}

setTimeout(keepFresh, REFRESH_MS);
