// The step "check": what would become of the rows, before anything is imported.
//
// If the target allows it and the file is small enough to wait for, the check is a rehearsal: every row is tried and rolled
// back. job.js shows it. Otherwise, the check is the answer to the dry run, and says what it cannot know.

import { draftSource } from "./corrections.js";
import { clear, draft, save } from "./draft.js";
import { existingRows, groupErrors, interpretation, problemItems } from "./failures.js";
import { closeGrid, openGrid } from "./grid.js";
import { $, announce, CAN_REHEARSE, download, fill, h, show, showError, SKIPS_EXISTING, untrusted } from "./page.js";
import { go, showStep } from "./steps.js";
import { t } from "./texts.js";
import { explain, isUnconfirmed, send } from "./upload.js";

const MAX_WAITED_ROWS = 5_000; // a rehearsal of so many rows takes less than half a minute in a shop that creates 200 a second

let isSending = false;

export const isBusy = () => isSending;

// Checks the draft after its columns are decided.
export async function check() {
  await save({ step: "check" });
  if (!CAN_REHEARSE || draft.result.rows > MAX_WAITED_ROWS || draft.unconfirmed || existing()) return showCheck();
  return draft.rehearsal ? go(`?job=${draft.rehearsal}`) : rehearse();
}

const isDecided = () => Boolean(draft.options.on_existing || draft.options.mode);

// Returns how many rows describe an object that exists, if the user has not decided yet what should happen with them.
function existing() {
  if (isDecided()) return 0;
  return draft.result.existing_rows || existingRows(groupErrors(draft.result.errors));
}

// The same for a rehearsal of the draft.
export function existingIn(job) {
  if (draft?.rehearsal !== job.id || isDecided()) return 0;
  return job.on_existing === "skip" ? job.counts.unchanged : existingRows(job.problems);
}

export function showCheck() {
  closeGrid();
  showStep("check");
  const { rows, valid_rows: valid, invalid_rows: invalid, errors, error_count: count } = draft.result;
  const problems = groupErrors(errors);
  fill("check-title", untrusted(draft.name, 80));
  const summary = invalid ? t("some_wrong", { count: invalid, rows }) : t("all_right", { count: rows });
  fill("check-result", h("p", { className: invalid ? "wrong-rows" : "right-rows" }, summary));
  fill("check-reading", ...interpretation(draft.result.reading));
  fill("check-problems", ...problemItems(problems));
  for (const id of ["check-errors", "check-errors-csv"]) show(id, invalid > 0);
  fill("check-note", count > errors.length ? t("first_errors", { shown: errors.length, count }) : "");
  const { compared_with_database: compared = [], left_to_endpoint: left = [] } = draft.result;
  const unknown = left.map(({ field, rule }) => (field ? `${field} (${rule})` : rule)).join(", ");
  fill("check-limits", compared.length ? t("compared", { fields: compared.join(", ") }) : "", " ", unknown ? t("cannot_know", { rules: unknown }) : "");
  const found = existing();
  showExisting("check", found, check);
  const isOpen = Boolean(draft.unconfirmed);
  show("check-import", isOpen || (valid > 0 && !found));
  fill("check-import", isOpen ? t("send_again") : invalid ? t("import_valid", { count: valid, skipped: invalid }) : t("import_all", { count: rows }));
  show("check-rehearse", CAN_REHEARSE && !isOpen && !found);
  const canFix = invalid > 0 && !isOpen && !found && draft.listed?.length > 0;
  show("check-fix", canFix);
  show("check-advice", invalid > 0 && !isOpen && !found);
  fill("check-advice", t(valid ? "fix_or_skip" : "fix_all"));
  for (const id of ["check-columns", "check-other"]) $(id).disabled = isOpen;
  showError("check-trouble");
  show("uploading", false);
  announce(summary);
  $("check-title").focus();
}

// Asks once for the whole file what should happen with rows whose objects exist. `proceed` is called if they are skipped, which
// the check has done already.
export function showExisting(prefix, count, proceed) {
  const id = `${prefix}-existing`;
  show(id, count > 0 && draft);
  if (!count) return fill(id);
  const answers = ["skip", "update", "stop"].map((answer) => {
    const radio = h("input", { type: "radio", name: id, value: answer });
    return h("label", {}, radio, h("span", {}, t(`existing_${answer}`)));
  });
  fill(id, h("legend", {}, t("existing_question", { count })), ...answers);
  $(id).onchange = async ({ target }) => {
    if (target.value === "stop") return showError(`${prefix}-trouble`, { message: t("existing_stopped") });
    const isChecked = target.value === "skip" && SKIPS_EXISTING;
    await save({ options: { ...draft.options, on_existing: target.value }, rehearsal: isChecked ? draft.rehearsal : null });
    return isChecked ? proceed() : rehearseOrRead();
  };
}

let readAgain = () => {};
export const onReadAgain = (read) => (readAgain = read);
const rehearseOrRead = () => (CAN_REHEARSE && draft.result.rows <= MAX_WAITED_ROWS ? rehearse() : readAgain());

export const rehearse = () => submit({ rehearse: true, on_invalid: "skip" });

function importRows() {
  return submit({ on_invalid: draft.result.invalid_rows ? "skip" : "reject" });
}

async function submit(parameters) {
  if (isSending) return; // ignore the second click of a double click
  isSending = true;
  showStep("check");
  const isImport = !parameters.rehearse;
  const actions = [...$("check-actions").querySelectorAll("button")];
  if (!isImport) prepare();
  for (const one of actions) one.disabled = true;
  showError("check-trouble");
  $("upload").value = 0;
  show("uploading", true);
  try {
    const job = await send(draft.unconfirmed ?? parameters, { onProgress: (part) => ($("upload").value = part) });
    if (isImport) await clear();
    else await save({ rehearsal: job.id });
    isSending = false;
    go(`?job=${job.id}`);
  } catch (error) {
    isSending = false;
    if (isImport) await save({ unconfirmed: isUnconfirmed(error) ? (draft.unconfirmed ?? parameters) : null });
    showCheck();
    showError("check-trouble", explain(error, t(isImport ? "not_sent" : "not_checked")));
    $("check-trouble").scrollIntoView({ block: "nearest" });
  } finally {
    for (const one of actions) one.disabled = false;
    if (draft?.unconfirmed) for (const id of ["check-columns", "check-other"]) $(id).disabled = true;
  }
}

// Empties the view while a rehearsal is sent.
function prepare() {
  fill("check-title", untrusted(draft.name, 80));
  fill("check-result", h("p", {}, t("checking")));
  for (const id of ["check-errors", "check-errors-csv", "check-existing", "check-import", "check-rehearse", "check-fix", "check-advice"]) show(id, false);
  for (const id of ["check-limits", "check-reading"]) fill(id);
}

// Sends the file once more, because the answer to the dry run lacks the wrong values.
async function downloadErrors() {
  showError("check-trouble");
  try {
    download(await send({ dry_run: true, format: "csv" }, { read: (csv) => csv }), `${draft.name}-errors.csv`);
  } catch (error) {
    showError("check-trouble", explain(error, t("not_checked")));
  }
}

$("check-fix").onclick = () => openGrid(draftSource(() => readAgain()), "check-title");
$("check-errors-csv").onclick = downloadErrors;
$("check-import").onclick = importRows;
$("check-rehearse").onclick = rehearse;
