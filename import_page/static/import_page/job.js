// A job: a rehearsal (the step "check"), an import (the steps "import" and "result") or an undo.

import { ApiError, call, NoResponse } from "./api.js";
import { existingIn, showExisting } from "./check.js";
import { jobSource } from "./corrections.js";
import { clear, draft } from "./draft.js";
import { interpretation, loadFailures, problemItems, rowsTable } from "./failures.js";
import { closeGrid, openGrid } from "./grid.js";
import { showCreated } from "./history.js";
import { $, announce, API, button, CAN_REHEARSE, fill, h, show, showError, untrusted } from "./page.js";
import { countOf, doneRows, failedRows, kindOf, pace, showBar, statusOf } from "./job_parts.js";
import { follow, speedometer } from "./progress.js";
import { go, showStep, stepOf, TERMINAL_STATUSES } from "./steps.js";
import { dateTime, duration, percent, t, time } from "./texts.js";

const MAX_SHOWN_FAILURES = 10;
const PARTS = ["problems", "failures", "connection", "stay", "bar", "results", "created", "job-existing"];
const TEXTS = ["job-trouble", "job-reading", "job-actions", "job-facts", "job-status", "job-message", "counts", "pace", "bar", "updated"];

const isEnded = ({ status }) => TERMINAL_STATUSES.has(status);

let stopFollowing = () => {};
let shownJob = null;
let measure = speedometer();

export function openJob(id) {
  closeJob();
  showStep(draft?.rehearsal === id ? "check" : "import", "job");
  for (const name of PARTS) show(name, false);
  for (const name of TEXTS) fill(name);
  fill("job-title", t("opening"));
  $("job-title").focus();
  followJob(id);
}

export function closeJob() {
  stopFollowing();
  closeGrid();
  shownJob = null;
  measure = speedometer();
}

function followJob(id) {
  // The remaining time becomes shorter each second, also between two answers.
  const clock = setInterval(() => shownJob && $("connection").hidden && fill("pace", pace(shownJob, false, measure)), 1000);
  const stop = follow(`${API}/${id}`, {
    onJob: (job) => {
      show("connection", false);
      fill("updated", t("updated", { time: time(Date.now()) }));
      if (job) showJob(job);
      if (job && isEnded(job)) clearInterval(clock);
    },
    onRetry: (error, seconds) => {
      const text = seconds === null ? t("offline_job") : t("no_connection", { time: duration(seconds) });
      if ($("connection").textContent !== text) fill("connection", text);
      show("connection", true);
    },
    onError: (error) => {
      if (!shownJob) fill("job-title", t("not_opened"));
      showError("job-trouble", error.status === 404 ? { message: t("not_found") } : error);
    },
  });
  stopFollowing = () => {
    clearInterval(clock);
    stop();
  };
}

function showJob(job) {
  const before = shownJob;
  shownJob = job;
  const ended = isEnded(job);
  const done = 1 - job.counts.pending / job.rows;
  const kind = kindOf(job);
  showStep(stepOf(job), "job");
  $("job").classList.toggle("is-rehearsal", job.rehearsal);
  $("job-status").dataset.status = job.rehearsal ? "" : job.status;
  fill("job-status", statusOf(job));
  const isStopping = job.cancel_requested_at && !ended;
  fill("job-title", isStopping ? t("cancelling") : titleOf(job));
  fill("job-message", untrusted(job.message, 1000));
  document.title = ended ? statusOf(job) : `${percent(done)} · ${t("title")}`;
  showBar(job, done);
  const outcomes = Object.keys(job.counts).filter((outcome) => job.counts[outcome] || (outcome === "created" && job.mode === "create"));
  fill("counts", ...outcomes.map((outcome) => countOf(outcome, job.counts[outcome], kind)));
  fill("job-reading", ...(job.rehearsal ? interpretation(job.reading) : []));
  fill("pace", pace(job, ended, measure));
  show("updated", !ended);
  show("stay", !ended);
  fill("stay", t(`may_close_${kind}`));
  show("results", ended && job.links.results);
  $("results-csv").href = `${job.links.results}?format=csv`;
  const existing = job.rehearsal && ended ? existingIn(job) : 0;
  if (!before || before.status !== job.status) showExisting("job", existing, () => openJob(job.id));
  showActions(job, existing);
  showFacts(job);
  showProblems(job);
  if (ended) showCreated(job);
  const failed = failedRows(job);
  show("failures", ended && failed > 0 && job.links.failures);
  if (ended && failed > 0 && job.links.failures) showFailures(job);
  if (!before || before.status !== job.status || Math.floor(4 * done) > Math.floor(4 * (1 - before.counts.pending / before.rows))) {
    announce(ended || job.status === "paused" ? job.message : t("heard_progress", { percent: percent(done), status: statusOf(job) }));
  }
}

function titleOf(job) {
  const isNothingNew = job.on_existing === "skip" && !job.rehearsal && job.counts.unchanged === job.rows;
  if (isNothingNew) return t("title_existed");
  return t(`title_${kindOf(job)}_${isEnded(job) ? job.status : "running"}`, { count: job.rows });
}

// Actions that delete something, and those after which rows are missing, are confirmed first. Returns the text of the question:
// [title, text, yes, no], or null if there is nothing to ask.
function question(action, job) {
  const kind = kindOf(job);
  if (action === "cancel" && !job.rehearsal) {
    return [t(`cancel_title_${kind}`), t(`cancel_explained_${kind}`), t(`action_cancel_${kind}`), t(`cancel_no_${kind}`)];
  }
  if (action === "run" && job.mode === "undo") {
    const explained = `${t("delete_explained", { count: doneRows(job) })} ${t("delete_kept", { count: failedRows(job) })}`;
    return [t("delete_title"), explained, actionLabel(action, job), t("delete_no")];
  }
  if (action === "undo" && !CAN_REHEARSE) return [t("delete_title"), t("undo_explained"), t("action_undo"), t("delete_no")];
  return null;
}

function actionLabel(action, job) {
  if (action === "cancel") return t(`action_cancel_${kindOf(job)}`);
  if (action === "retry" && !job.counts.failed) return t("action_retry_unprocessed", { count: failedRows(job) });
  if (action !== "run") return t(`action_${action}`);
  if (job.status === "cancelled") return t("action_run_untried", { count: job.rows });
  return t(`action_run_${job.mode === "undo" ? "undo" : "import"}`, { count: doneRows(job) });
}

// A retry helps only if rows failed for a reason that is not in the rows.
const canRetryHelp = ({ counts }) => counts.failed + counts.unprocessed > 0;

// Shows a button for each action that is possible now. The API sets the link of an impossible action to null.
function showActions(job, existing) {
  const { links } = job;
  const actions = job.rehearsal ? ["run", "fix", "resume", "cancel"] : ["fix", "resume", "cancel", "retry", "undo"];
  const possible = {
    ...links,
    run: links.run && !existing && (doneRows(job) || (job.status === "cancelled" && job.mode !== "undo")),
    fix: isEnded(job) && job.mode !== "undo" && links.failures && !existing && job.counts.rejected,
    retry: links.retry && canRetryHelp(job),
  };
  const wanted = actions.filter((action) => possible[action]);
  const present = [...$("job-actions").children].map((one) => one.value);
  if (wanted.join() === present.join()) return; // keep the buttons, so that they do not lose the keyboard focus
  fill("job-actions", ...wanted.map((action) => {
    const one = button(actionLabel(action, job), () => confirmAndPerform(action, shownJob));
    one.value = action;
    if (action === "run") one.className = job.mode === "undo" ? "danger" : "primary";
    return one;
  }));
}

function showFacts(job) {
  const name = job.file_name;
  const facts = [...(name ? [untrusted(name, 80), " · "] : []), t("accepted_at", { time: dateTime(job.created_at) })];
  for (const relation of ["corrects", "corrected_by", "runs", "run_by", "undoes", "undone_by"]) {
    for (const id of [job[relation] ?? []].flat()) facts.push(" · ", h("a", { href: `?job=${id}` }, t(`see_${relation}`)));
  }
  if (job.rehearsal && draft?.rehearsal === job.id) facts.push(" · ", h("a", { href: "?" }, t("change_columns")));
  fill("job-facts", ...facts);
}

function showProblems(job) {
  show("problems", job.problems.length > 0);
  fill("problems-title", t(`problems_${kindOf(job)}`));
  fill("problem-list", ...problemItems(job.problems));
}

function confirmAndPerform(action, job) {
  if (action === "fix") return openGrid(jobSource(job), "job-title");
  const texts = question(action, job);
  if (!texts) return performAction(action);
  const dialog = $("confirm");
  ["title", "text", "yes", "no"].forEach((part, position) => fill(`confirm-${part}`, texts[position]));
  dialog.returnValue = "no"; // the answer if the user closes the dialog with Escape
  dialog.onclose = () => dialog.returnValue === "yes" && performAction(action);
  return dialog.showModal();
}

async function performAction(action) {
  const job = shownJob;
  for (const one of $("job-actions").children) one.disabled = true;
  fill("job-trouble");
  const title = $("job-title").textContent;
  if (action === "cancel") fill("job-title", t("cancelling"));
  try {
    const url = action === "undo" && CAN_REHEARSE ? `${job.links.undo}?rehearse=true` : job.links[action];
    const response = await call(url, { method: action === "cancel" ? "DELETE" : "POST" });
    const updated = await response.json();
    if (shownJob?.id !== job.id) return; // the user has opened another page in the meantime
    if (updated.id !== job.id) {
      if (action === "run" && draft?.rehearsal === job.id) await clear();
      go(`?job=${updated.id}`); // a run and an undo are jobs of their own
      return;
    }
    stopFollowing();
    fill("job-actions"); // remove the disabled buttons, so that showJob creates new ones
    showJob(updated);
    $("job-title").focus();
    followJob(job.id);
  } catch (error) {
    fill("job-title", title);
    showError("job-trouble", error instanceof NoResponse ? { message: t("not_done") } : error);
    for (const one of $("job-actions").children) one.disabled = false;
    if (!(error instanceof ApiError || error instanceof NoResponse)) throw error;
  }
}

// Shows the first rows that were not created, with their reasons and their lines in the file.
async function showFailures(job) {
  $("failures-csv").href = `${job.links.failures}?format=csv`;
  $("failures-rows").href = `${job.links.failures}?part=rows`;
  const failed = failedRows(job);
  const kind = kindOf(job);
  fill("failures-title", t(`failures_${kind}`));
  fill("failures-how", t(`failures_how_${kind}`));
  show("correct", job.mode !== "undo");
  let failures = [];
  try {
    failures = await loadFailures(job, MAX_SHOWN_FAILURES);
  } catch {
    return; // the download links remain, and report the error when they are used
  }
  if (shownJob !== job) return;
  if (job.mode === "undo") for (const { cells } of failures) delete cells.index; // that of the row in the import that is undone
  fill("failed-rows-note", failed > failures.length ? t("first_failures", { shown: failures.length, count: failed }) : "");
  fill("failed-rows", ...rowsTable(failures));
}

// After a rehearsal, no row is in the shop, so the corrected file is a new import of all rows.
$("correct").onclick = () => go(shownJob.rehearsal ? "?choose" : `?corrects=${shownJob.id}`);
$("another").onclick = () => go("?choose");
