// Where the grid gets its rows from, and where the corrected cells go. The file is not chosen again.
//
// The rows are those of a job, or of the dry run that has checked the draft. A source has
//   key          for the edits that are kept in the browser
//   total        the number of rows with errors
//   isCheck      whether the corrected rows are checked again, and not imported
//   load(max)    returns the first rows: [{index, line, errors, raw, cells}]
//   send(rows)   sends the corrected rows, and shows the answer

import { call } from "./api.js";
import { draft, save } from "./draft.js";
import { loadFailures } from "./failures.js";
import { uuid } from "./page.js";
import { readCells } from "./preview.js";
import { go } from "./steps.js";

const keys = new Map(); // the Idempotency-Key by what is sent, so that a repeated attempt creates no second job

// An emptied cell removes its field from the row, as in a spreadsheet.
const asChanges = (rows) => rows.map(({ index, values }) => [
  index,
  Object.fromEntries(Object.entries(values).map(([field, text]) => [field, text === "" ? null : text])),
]);

// A rehearsal is rehearsed again with all of its rows. Of an import, the rows that were not created are imported.
export function jobSource(job) {
  const { created, updated, unchanged } = job.counts;
  return {
    key: job.id,
    total: job.rows - created - updated - unchanged,
    isCheck: job.rehearsal,
    load: (max) => loadFailures(job, max),
    async send(rows) {
      const body = JSON.stringify({ rows: Object.fromEntries(asChanges(rows)) });
      const url = `${job.links.self}/correct?on_invalid=skip${job.rehearsal ? "&rehearse=true" : ""}`;
      const sent = `${url} ${body}`;
      if (!keys.has(sent)) keys.set(sent, uuid());
      const headers = { "Content-Type": "application/json", "Idempotency-Key": keys.get(sent) };
      const next = await (await call(url, { method: "POST", headers, body })).json();
      if (draft?.rehearsal === job.id) await save({ rehearsal: next.id });
      go(`?job=${next.id}`);
    },
  };
}

// The draft keeps the corrections, and every request sends them with the file. `readAgain` checks the file again.
export function draftSource(readAgain) {
  return {
    key: draft.id,
    total: draft.result.invalid_rows,
    isCheck: true,
    async load(max) {
      const errors = Map.groupBy(draft.result.errors, ({ index }) => index);
      return draft.listed.slice(0, max).map(({ index, line, row }) => {
        const raw = JSON.stringify(row);
        return { index, line, errors: errors.get(index) ?? [], raw, cells: readCells(raw) };
      });
    },
    async send(rows) {
      const corrections = { ...draft.corrections };
      for (const [index, changes] of asChanges(rows)) corrections[index] = { ...corrections[index], ...changes };
      await save({ corrections, rehearsal: null, keys: {} }); // other rows are another request
      await readAgain();
    },
  };
}
