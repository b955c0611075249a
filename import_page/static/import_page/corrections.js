// Sends corrected rows. Only the rows that were changed are sent; the file is not uploaded again.

import { call } from "./api.js";
import { draft, save } from "./draft.js";
import { API, uuid } from "./page.js";
import { splitMembers } from "./preview.js";

const keys = new Map(); // the Idempotency-Key by what is sent, so that a repeated attempt creates no second job

// Returns the JSON of a corrected row. Values that were not changed stay as they are written, because parsing would change
// numbers. An emptied cell leaves its field out, as in a spreadsheet.
export function toJson({ raw, values }) {
  const members = new Map([...splitMembers(raw, 0)].map((part) => {
    const [key] = part.match(/^"(?:[^"\\]|\\.)*"/);
    return [JSON.parse(key), part.slice(key.length).replace(/^\s*:\s*/, "")];
  }));
  for (const [field, text] of Object.entries(values)) {
    if (text === "") members.delete(field);
    else members.set(field, JSON.stringify(text));
  }
  return `{${[...members].map(([field, value]) => `${JSON.stringify(field)}:${value}`).join(",")}}`;
}

// Sends the corrected rows of an import that has ended as a new import, and returns the new job.
export async function sendCorrections(job, rows) {
  const body = `[${rows.map(toJson).join(",")}]`;
  const parameters = new URLSearchParams({ corrects: job.id, on_invalid: "skip" });
  if (job.mode !== "create") parameters.set("mode", job.mode);
  if (job.on_existing && job.on_existing !== "update") parameters.set("on_existing", job.on_existing);
  const url = `${API}?${parameters}`;
  const sent = `${url} ${body}`;
  if (!keys.has(sent)) keys.set(sent, uuid());
  const headers = { "Content-Type": "application/json", "Idempotency-Key": keys.get(sent) };
  const response = await call(url, { method: "POST", headers, body });
  const next = await response.json();
  if (draft?.rehearsal === job.id) await save({ rehearsal: next.id });
  return next;
}
