// What a job is and how far it is: its kind, its status for people, its bar, its counts and its speed.

import { $, fill, h, show } from "./page.js";
import { TERMINAL_STATUSES } from "./steps.js";
import { duration, hasText, number, percent, t } from "./texts.js";

// What a job is: "import", "undo", "import_rehearsal" or "undo_rehearsal". Many texts exist once for each of them, because a
// rehearsal must never look like an import.
export const kindOf = ({ mode, rehearsal }) => (mode === "undo" ? "undo" : "import") + (rehearsal ? "_rehearsal" : "");

// Returns the status for people. A rehearsal with failed rows is done, too: its result is a forecast.
export function statusOf(job) {
  const isForecast = job.rehearsal && TERMINAL_STATUSES.has(job.status) && job.status !== "cancelled";
  return t(`badge_${kindOf(job)}`, { status: t(`status_${isForecast ? "succeeded" : job.status}`) });
}

export const doneRows = ({ counts: { created, updated, unchanged, deleted } }) => created + updated + unchanged + deleted;
export const failedRows = (job) => job.rows - doneRows(job) - job.counts.pending;

export function showBar(job, done) {
  const bar = $("bar");
  show("bar", true);
  bar.setAttribute("aria-valuenow", String(Math.floor(100 * done)));
  bar.setAttribute("aria-valuetext", percent(done));
  const segments = Object.entries(job.counts).filter(([outcome, rows]) => outcome !== "pending" && rows);
  fill("bar", ...segments.map(([outcome, rows]) => {
    const segment = h("span");
    segment.dataset.outcome = outcome;
    segment.style.width = `${(100 * rows) / job.rows}%`; // the Content-Security-Policy forbids style attributes, not this
    return segment;
  }));
}

export function countOf(outcome, rows, kind) {
  const special = `outcome_${kind}_${outcome}`; // such as "would be created" in a rehearsal
  const count = h("div", {}, h("dt", {}, t(hasText(special) ? special : `outcome_${outcome}`)), h("dd", {}, number(rows)));
  count.dataset.outcome = outcome;
  return count;
}

export function pace(job, ended, measure) {
  const texts = [];
  const { rate, secondsLeft } = ended ? { rate: job.rows_per_second } : measure(job);
  if (!ended && job.imports_ahead) texts.push(t("ahead", { count: job.imports_ahead }));
  if (rate) texts.push(t("pace", { rate: rate < 10 ? rate : Math.round(rate) }));
  if (!ended && job.status !== "paused" && secondsLeft) texts.push(t("time_left", { time: duration(secondsLeft) }));
  if (ended && job.started_at) texts.push(t("took", { time: duration((new Date(job.finished_at) - new Date(job.started_at)) / 1000) }));
  return texts.join(" · ");
}
