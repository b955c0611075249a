// The user's earlier imports, with the names of their files, and the objects that an import created.

import { call } from "./api.js";
import { readLines } from "./failures.js";
import { $, API, fill, h, show, untrusted, USER } from "./page.js";
import { statusOf } from "./job_parts.js";
import { dateTime, t } from "./texts.js";

const PAGE_ROWS = 10;
const MAX_SHOWN_OBJECTS = 5;

// Shows links to the first objects that an import created.
export async function showCreated(job) {
  show("created", false);
  if (job.rehearsal || !job.counts.created || !job.links.results) return;
  const lines = await readLines(`${job.links.results}?outcome=created`, MAX_SHOWN_OBJECTS).catch(() => []);
  const found = lines.map((line) => JSON.parse(line)).filter(({ url }) => url);
  const links = found.map(({ url, id, lookup }) => h("a", { href: url }, untrusted(lookup || id, 60)));
  fill("created", t("created_objects"), ...links.flatMap((link, position) => [position ? ", " : " ", link]), job.counts.created > found.length ? ", …" : "");
  show("created", found.length > 0);
}

let shown = []; // all jobs of the pages that were read
let nextPage = null;

export async function showHistory() {
  shown = [];
  await readPage(`${API}?page_size=${PAGE_ROWS}`);
}

async function readPage(url) {
  try {
    const { results, next } = await (await call(url)).json();
    shown.push(...results);
    nextPage = next;
  } catch {
    // The list is optional. A lasting problem is reported when the user chooses a file.
  }
  const tried = new Set(shown.map(({ runs }) => runs));
  const corrections = new Map(shown.filter(({ corrects }) => corrects).map((job) => [job.corrects, job]).reverse());
  // A rehearsal that was imported, or corrected and rehearsed again, needs no line of its own.
  const isPassed = ({ id, rehearsal }) => tried.has(id) || (rehearsal && corrections.has(id));
  fill("history-jobs", ...shown.filter((job) => !isPassed(job)).map((job) => lineOf(job, corrections.get(job.id))));
  show("history-list", shown.length > 0);
  show("history-more", nextPage);
}

function lineOf(job, correction) {
  const badge = h("span", { className: "badge" }, statusOf(job));
  badge.dataset.status = job.rehearsal ? "" : job.status;
  const facts = `${t("rows", { count: job.rows })} · ${dateTime(job.created_at)} · ${USER}`;
  const name = job.file_name;
  const link = h("a", { href: `?job=${job.id}` }, ...(name ? [untrusted(name, 60), " · "] : []), facts);
  const isResolved = correction && !correction.rehearsal && correction.status === "succeeded";
  const relation = isResolved ? "see_corrected_by" : "see_partly_corrected_by";
  const chain = correction ? [" ", h("a", { href: `?job=${correction.id}`, className: "hint" }, t(relation))] : [];
  const origin = job.corrects ? [" ", h("a", { href: `?job=${job.corrects}`, className: "hint" }, t("see_corrects"))] : [];
  const undone = job.undone_by ? [" ", h("a", { href: `?job=${job.undone_by}`, className: "hint" }, t("see_undone_by"))] : [];
  return h("li", {}, h("span", {}, link, ...chain, ...origin, ...undone), badge);
}

$("history-more").onclick = () => readPage(nextPage);
