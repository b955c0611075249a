// The user's earlier imports, with the names of their files, and the objects that an import created.

import { call } from "./api.js";
import { readLines } from "./failures.js";
import { $, API, fill, h, show, untrusted, USER } from "./page.js";
import { statusOf } from "./job_parts.js";
import { dateTime, t } from "./texts.js";

const MAX_SHOWN_JOBS = 8;
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

export async function showHistory() {
  let jobs = [];
  try {
    jobs = (await (await call(`${API}?page_size=20`)).json()).results;
  } catch {
    // The list is optional. A lasting problem is reported when the user chooses a file.
  }
  const tried = new Set(jobs.map(({ runs }) => runs));
  const corrected = new Map(jobs.filter(({ corrects }) => corrects).map((job) => [job.corrects, job.id]));
  // A rehearsal that was imported, or corrected and rehearsed again, needs no line of its own.
  const isPassed = ({ id, rehearsal }) => tried.has(id) || (rehearsal && corrected.has(id));
  const shown = jobs.filter((job) => !isPassed(job)).slice(0, MAX_SHOWN_JOBS);
  fill("history-jobs", ...shown.map((job) => {
    const badge = h("span", { className: "badge" }, statusOf(job));
    badge.dataset.status = job.rehearsal ? "" : job.status;
    const facts = `${t("rows", { count: job.rows })} · ${dateTime(job.created_at)} · ${USER}`;
    const name = job.file_name;
    const link = h("a", { href: `?job=${job.id}` }, ...(name ? [untrusted(name, 60), " · "] : []), facts);
    const chain = corrected.has(job.id) ? [h("a", { href: `?job=${corrected.get(job.id)}`, className: "hint" }, t("see_corrected_by"))] : [];
    return h("li", {}, h("span", {}, link, " ", ...chain), badge);
  }));
  show("history-list", shown.length > 0);
}
