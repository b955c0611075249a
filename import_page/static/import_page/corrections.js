// Sends the corrected cells of rows. Only they are sent, whatever the format of the file was; it is not uploaded again.

import { call } from "./api.js";
import { draft, save } from "./draft.js";
import { uuid } from "./page.js";

const keys = new Map(); // the Idempotency-Key by what is sent, so that a repeated attempt creates no second job

// Returns the new job. A rehearsal is rehearsed again with all of its rows. Of an import, the rows that were not created are
// imported. An emptied cell removes its field from the row, as in a spreadsheet.
export async function sendCorrections(job, rows) {
  const corrected = rows.map(({ index, values }) => [
    index,
    Object.fromEntries(Object.entries(values).map(([field, text]) => [field, text === "" ? null : text])),
  ]);
  const body = JSON.stringify({ rows: Object.fromEntries(corrected) });
  const url = `${job.links.self}/correct?on_invalid=skip${job.rehearsal ? "&rehearse=true" : ""}`;
  const sent = `${url} ${body}`;
  if (!keys.has(sent)) keys.set(sent, uuid());
  const headers = { "Content-Type": "application/json", "Idempotency-Key": keys.get(sent) };
  const next = await (await call(url, { method: "POST", headers, body })).json();
  if (draft?.rehearsal === job.id) await save({ rehearsal: next.id });
  return next;
}
