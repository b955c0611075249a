// The import page. It is plain JavaScript for current browsers, without a build step or dependency, and uses only the public API.
//
//   steps.js      which step is shown          draft.js       what the user prepares, kept in the browser
//   upload.js     the file and its requests    columns.js     the step "columns"
//   check.js      the step "check"             job.js         rehearsals, imports and undos, with job_parts.js
//   progress.js   polls a job                  failures.js    rows that were not created, and groups of reasons
//   grid.js       corrects them                corrections.js where its rows come from and go to
//   history.js    earlier imports              session.js     signing in again
//   locales.js    how numbers and dates are written
//   api.js        calls of the API             page.js, texts.js, preview.js   elements, texts, first rows of a file
//
// The template import.html contains all elements. The server writes into <main> what the modules have to know: see page.js.

import { call } from "./api.js";
import { check, isBusy, onReadAgain, showCheck } from "./check.js";
import { read, showColumns } from "./columns.js";
import { clear, draft, load } from "./draft.js";
import { showHistory } from "./history.js";
import { closeJob, openJob } from "./job.js";
import { $, API, fill, h, parameter, show, showError } from "./page.js";
import { go, onAddress, showStep } from "./steps.js";
import { t } from "./texts.js";
import { choose } from "./upload.js";

async function chooseFile(file) {
  if (isBusy()) return;
  showError("file-trouble");
  const problem = await choose(file);
  if (problem) {
    showChoose();
    return showError("file-trouble", { message: problem });
  }
  closeJob();
  if (location.search) history.pushState(null, "", location.pathname);
  return read(check);
}

function showChoose() {
  showStep("choose");
  const corrects = parameter("corrects");
  show("corrects", corrects);
  if (corrects) fill("corrects", t("corrects_note"), " ", h("a", { href: `?job=${corrects}` }, t("see_corrects")));
  showHistory();
}

// Shows what the address and the draft say. `isMove` means that the user has moved within the page.
function showCurrent(isMove) {
  closeJob();
  const id = parameter("job");
  if (id) return openJob(id);
  const isNew = parameter("corrects") || location.search === "?choose";
  if (!draft || isNew) {
    showChoose();
    return isMove && $("choose-title").focus();
  }
  if (!draft.result) return read(check);
  return draft.step === "check" && !isMove ? check() : draft.unconfirmed ? showCheck() : showColumns(check);
}

$("file").onchange = ({ target }) => {
  const [file] = target.files;
  target.value = ""; // without this, choosing the same file again after correcting it would have no effect
  if (file) chooseFile(file);
};
for (const id of ["columns-other", "check-other"]) {
  $(id).onclick = async () => {
    await clear();
    go("?choose");
  };
}
$("check-columns").onclick = () => showColumns(check);
onReadAgain(() => read(check));

// A download cannot ask the user to sign in again, so a call of the API before it does.
document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("a[download]");
  if (!link?.href.startsWith(API) || link.isReady) return;
  event.preventDefault();
  await call(`${API}?page_size=1`).catch(() => null); // the download itself shows any other error
  link.isReady = true;
  link.click();
  link.isReady = false;
});

// Accept a file that is dropped anywhere. The browser's default would be to open it and leave this page.
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover" || name === "dragenter");
    if (name === "drop" && $("job").hidden && event.dataTransfer.files[0]) chooseFile(event.dataTransfer.files[0]);
  });
}

addEventListener("beforeunload", (event) => isBusy() && event.preventDefault());

await load();
onAddress(showCurrent);
