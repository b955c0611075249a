// The chosen file on its way to the API: its limits, its compression, and the requests that send it.

import { NoResponse, ApiError, upload } from "./api.js";
import { draft, save, start } from "./draft.js";
import { API, MAX_BYTES, parameter, SKIPS_EXISTING, uuid } from "./page.js";
import { size, suffixOf, t } from "./texts.js";

const MEDIA_TYPES = { json: "application/json", jsonl: "application/x-ndjson", ndjson: "application/x-ndjson" };
const COMPRESSED = new Set(["xlsx", "xlsm", "ods"]); // these files are ZIP archives already

// Makes the file the new draft. Returns why it cannot be imported, or "".
export async function choose(file) {
  if (!file.size) return t("empty_file");
  // The API also has this limit, but it closes the connection during the upload, and browsers do not report the reason.
  if (file.size > MAX_BYTES) return t("too_large", { limit: size(MAX_BYTES) });
  try {
    const content = await file.arrayBuffer(); // our own copy: the file may change after it was chosen
    const copy = new File([content], file.name);
    await start({ file: copy, name: file.name, body: await compress(copy), corrects: parameter("corrects") });
  } catch {
    return t("unreadable", { name: file.name });
  }
  return "";
}

// The name is percent-encoded, because a header may not contain every character (RFC 8187).
const encodedName = () => encodeURIComponent(draft.name).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);

const isCompressed = (name) => COMPRESSED.has(suffixOf(name)) || !globalThis.CompressionStream;

function compress(file) {
  if (isCompressed(file.name)) return file;
  return new Response(file.stream().pipeThrough(new CompressionStream("gzip"))).blob();
}

// Returns the query of a request with the draft's options and `more` parameters.
//
// Until the user has decided, what exists is skipped. So if another tab or user imports the same file after the check, the rows
// are unchanged instead of wrong.
function query(more) {
  const parameters = new URLSearchParams(more);
  const { on_existing: decided, mode, ...options } = draft.options;
  if (mode) options.mode = mode;
  else if (decided || SKIPS_EXISTING) Object.assign(options, { mode: "upsert", on_existing: decided || "skip" });
  for (const [name, value] of Object.entries(options)) {
    if (value && typeof value === "object") Object.keys(value).length && parameters.set(name, JSON.stringify(value));
    else if (value) parameters.set(name, value);
  }
  return parameters.toString();
}

// Returns the body and the headers that send the file: itself, or with its corrections in a form.
function content() {
  const type = MEDIA_TYPES[suffixOf(draft.name)] ?? "text/csv";
  if (!Object.keys(draft.corrections).length) {
    const headers = { "Content-Type": type, "Content-Disposition": `attachment; filename*=UTF-8''${encodedName()}` };
    if (!isCompressed(draft.name)) headers["Content-Encoding"] = "gzip";
    return { body: draft.body, headers };
  }
  const form = new FormData(); // the browser sets its Content-Type
  form.append("file", new File([draft.file], draft.name, { type }));
  form.append("corrections", new Blob([JSON.stringify({ rows: draft.corrections })]), "corrections.json");
  return { body: form, headers: {} };
}

// Sends the draft with these parameters, and returns the answer. Throws ApiError or NoResponse.
//
// Every attempt to send the same request has the same Idempotency-Key, so a repeated request creates no second import.
export async function send(more, { onProgress, signal, read } = {}) {
  if (draft.corrects && !more.dry_run) more = { ...more, corrects: draft.corrects };
  const sent = query(more);
  const { body, headers } = content();
  if (more.format) headers.Accept = "*/*"; // the API would refuse another format than the one that is accepted
  if (!more.dry_run) {
    headers["Idempotency-Key"] = draft.keys[sent] ??= uuid();
    await save();
  }
  try {
    const answer = await upload(`${API}?${sent}`, body, { headers, onProgress, signal, read });
    if (draft) delete draft.keys[sent];
    return answer;
  } catch (error) {
    if (draft && !isUnconfirmed(error)) delete draft.keys[sent];
    throw error;
  }
}

// Returns whether the server may have accepted the request. A 5xx may come from a proxy after the server accepted it, so it
// confirms as little as no response. A 429 is the answer to the last attempt only.
export const isUnconfirmed = (error) => !(error instanceof ApiError) || error.status >= 500 || error.status === 429;

// Returns an error with a message for the user.
export function explain(error, message) {
  if (error instanceof ApiError) return error;
  if (!(error instanceof NoResponse)) throw error;
  return { message: navigator.onLine ? message : `${t("offline")} ${message}` };
}
