// The rows of a job that were not created, with their reasons, and the groups of equal reasons.

import { call } from "./api.js";
import { h, LOOKUP, positionOf, untrusted } from "./page.js";
import { readCells, splitMembers } from "./preview.js";
import { t } from "./texts.js";

const MAX_SHOWN_COLUMNS = 30;

// Reads the JSON documents of a response with one document in each line, until there are `max`. Returns the lines.
export async function readLines(url, max) {
  const abort = new AbortController();
  const response = await call(url, { headers: { Accept: "application/x-ndjson" }, signal: abort.signal });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  const lines = [];
  let rest = "";
  while (lines.length < max) {
    const { done, value } = await reader.read();
    if (done) break;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    lines.push(...parts.filter(Boolean));
  }
  abort.abort(); // the page does not need the rest
  return lines.slice(0, max);
}

// Returns the first rows that were not created: [{index, line, errors, raw, cells}]. `raw` is the JSON of the row as it was
// sent, and `cells` are the texts of its values.
export async function loadFailures(job, max) {
  const lines = await readLines(job.links.failures, max);
  return lines.map((text) => {
    const member = [...splitMembers(text, 0)].find((part) => /^"row"\s*:/.test(part));
    const raw = member.replace(/^"row"\s*:\s*/, "");
    const { index, line, errors } = JSON.parse(text);
    return { index, line, errors, raw, cells: readCells(raw) ?? {} };
  });
}

// Groups errors of rows like the problems of a job: [{field, code, message, count, first_index, first_line}], most frequent first.
export function groupErrors(errors) {
  const groups = new Map();
  for (const { field, code, message, index, line } of errors) {
    const key = JSON.stringify([field, code, message]);
    if (!groups.has(key)) groups.set(key, { field, code, message, count: 0, first_index: index, first_line: line });
    groups.get(key).count++;
  }
  return [...groups.values()].sort((one, other) => other.count - one.count);
}

// Returns how many rows describe an object that exists already.
export const existingRows = (problems) =>
  problems.filter(({ field, code }) => LOOKUP && field === LOOKUP && code === "unique").reduce((sum, { count }) => sum + count, 0);

// Returns how the first value of each column was interpreted, if it was not taken over as it is.
export const interpretation = ({ values = [] }) =>
  values.flatMap(({ field, from, to }, position) => [position ? " · " : "", untrusted(`${field}: ${t("read_as", { from, to })}`, 80)]);

export function problemItems(problems) {
  return problems.map((problem) => h("li", {},
    h("span", { className: "count" }, t("rows", { count: problem.count })),
    h("span", {}, ...reason(problem), " ", h("small", {}, t("first_at", { position: positionOf({ index: problem.first_index, line: problem.first_line }) }))),
  ));
}

// Returns the parts of a reason. `value` is what the row has in the field; many messages contain it already.
export function reason({ field, message, first_index: first, first_line: line, index }, value = "") {
  const isRepeated = !value || message.includes(value);
  const parts = field ? [h("strong", {}, untrusted(field, 60)), ...(isRepeated ? [] : [" “", untrusted(value, 40), "”"]), ": "] : [];
  parts.push(untrusted(message, 300));
  if (first !== undefined && index !== undefined) parts.push(` (${positionOf({ index: first, line })})`); // an earlier row with the same value
  return parts;
}

// Builds a table of rows with their errors, which follow each row in a table row of their own.
export function rowsTable(rows) {
  // Start with the rows that have most fields. An empty CSV cell is a missing field, whose column would otherwise come last.
  const keys = rows.map((row) => Object.keys(row.cells)).sort((one, other) => other.length - one.length);
  const names = [...new Set(keys.flat())];
  const columns = names.slice(0, MAX_SHOWN_COLUMNS);
  const body = h("tbody");
  for (const row of rows) {
    const cells = columns.map((name) => {
      const isWrong = row.errors.some(({ field }) => field === name);
      return h("td", { className: isWrong ? "wrong" : "" }, untrusted(row.cells[name]));
    });
    body.append(h("tr", { className: "has-errors" }, h("th", { scope: "row" }, String(row.line ?? row.index + 1)), ...cells));
    // Repeat the value, because on a narrow screen its cell may be scrolled out of view.
    const list = h("ul", {}, ...row.errors.map((error) => h("li", {}, ...reason(error, row.cells[error.field]))));
    body.append(h("tr", { className: "errors" }, h("td", { colSpan: columns.length + 1 }, list)));
  }
  const first = t(rows.some(({ line }) => line) ? "line_heading" : "row_heading");
  const heads = [first, ...columns.map((name) => untrusted(name || t("value"), 40))];
  const table = h("table", {}, h("thead", {}, h("tr", {}, ...heads.map((name) => h("th", { scope: "col" }, name)))), body);
  const more = names.length - columns.length;
  return more > 0 ? [table, h("p", { className: "hint" }, t("more_columns", { count: more }))] : [table];
}
