// The five steps of an import, and which of them the page shows.
//
//   choose ──▶ columns ──▶ check ──▶ import ──▶ result
//
// The address and the draft decide on the step, so a reload, a bookmark and the back button lead to the right one:
//   ?job=ID of a rehearsal       check: what would become of each row
//   ?job=ID of an import         import while it runs, then result
//   otherwise                    the step of the draft, or choose without a draft

import { draft } from "./draft.js";
import { $, show } from "./page.js";
import { t } from "./texts.js";

export const STEPS = ["choose", "columns", "check", "import", "result"];
export const TERMINAL_STATUSES = new Set(["succeeded", "partially_succeeded", "failed", "cancelled"]);

const VIEWS = { choose: "choose", columns: "columns", check: "check", import: "job", result: "job" }; // by step
let render = () => {};
let shown = "";

export function stepOf(job) {
  if (job) return job.rehearsal ? "check" : TERMINAL_STATUSES.has(job.status) ? "result" : "import";
  return draft?.step ?? "choose";
}

// Shows the view of a step and marks the step in the list. `view` is "job" for a rehearsal, which belongs to the check.
export function showStep(step, view = VIEWS[step]) {
  for (const name of new Set([...Object.values(VIEWS)])) show(name, name === view);
  show("history", view === "choose");
  const position = STEPS.indexOf(step);
  for (const [number, item] of [...$("steps").children].entries()) {
    item.dataset.state = number < position ? "done" : number === position ? "now" : "";
    if (number === position) item.setAttribute("aria-current", "step");
    else item.removeAttribute("aria-current");
  }
  if (view !== "job") document.title = `${t(`step_${step}`)} · ${t("title")}`;
  if (shown !== view) scrollTo(0, 0);
  shown = view;
}

// Calls `show` now and whenever the address changes. It gets `true` if the user has moved within the page.
export function onAddress(show) {
  render = show;
  addEventListener("popstate", () => show(true));
  // Links within the page change the address without loading the page again.
  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[href^='?']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(link.getAttribute("href"));
  });
  show(false);
}

// Goes to an address of the page, such as "?job=…", or "?" for the draft.
export function go(address) {
  history.pushState(null, "", address === "?" ? location.pathname : address);
  render(true);
}
