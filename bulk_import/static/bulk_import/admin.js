// Keeps the admin pages up to date, and makes sure that a confirmation is sent only once.
"use strict";

// Pause between two refreshes.
const REFRESH_MS = 3000;

let shownAt = new Date();

// Shows that the page is out of date ("unreachable", "signedOut" or "forbidden"), or hides this message ("").
function showConnection(problem) {
  const note = document.getElementById("bi-connection");
  if (!note) return;
  if (!problem) shownAt = new Date();
  const text = problem && `${note.dataset[problem]} ${shownAt.toLocaleTimeString()}.`;
  if (note.textContent !== text) note.textContent = text;
  note.hidden = !problem;
}

// Replaces the table of the list, unless somebody has selected rows in it.
function refreshList(fresh) {
  const form = document.getElementById("changelist-form");
  const replacement = fresh.getElementById("changelist-form");
  if (!form || !replacement || form.querySelector(".action-select:checked, :focus-visible")) return;
  const content = (part) => part.querySelector(".results")?.innerHTML;
  if (content(form) === content(replacement)) return;
  form.replaceWith(replacement);
  // Django's script that selects all rows has to know the new rows.
  const boxes = replacement.querySelectorAll("tr input.action-select");
  if (boxes.length && window.Actions) window.Actions(boxes);
}

async function refresh() {
  if (document.hidden || !document.querySelector("[data-open]")) return;
  const response = await fetch(location.href, { credentials: "same-origin" });
  if (response.redirected) return showConnection("signedOut");
  if (response.status === 403) return showConnection("forbidden");
  if (!response.ok) return showConnection("unreachable");
  const fresh = new DOMParser().parseFromString(await response.text(), "text/html");
  showConnection("");
  for (const part of document.querySelectorAll("[data-refresh], .object-tools")) {
    const replacement = fresh.querySelector(part.id ? `#${CSS.escape(part.id)}` : ".object-tools");
    // A part that has the focus is not replaced, so that nobody loses their place on the page, or what they typed.
    if (replacement && !part.querySelector(":focus-visible")) part.replaceWith(replacement);
  }
  refreshList(fresh);
}

async function keepRefreshing() {
  try {
    await refresh();
  } catch {
    showConnection("unreachable");
  }
  setTimeout(keepRefreshing, REFRESH_MS);
}

// The listener belongs to the document, because the forms do not exist yet when this script runs.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || !("once" in form.dataset)) return;
  if (form.dataset.sent) event.preventDefault();
  form.dataset.sent = "yes";
});

// A user who goes back to a confirmation can send it again, although the browser shows the page as it was.
window.addEventListener("pageshow", (event) => {
  if (!event.persisted) return;
  for (const form of document.querySelectorAll("form[data-once]")) delete form.dataset.sent;
});

setTimeout(keepRefreshing, REFRESH_MS);
