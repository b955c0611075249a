// The import page: from a file to created rows. Plain JavaScript for current browsers, without a build step or dependency.
//
// How to reuse it: the first half (texts, API calls, following a job, reading the first rows of a file) does not depend on
// this page and can be copied as it is. The second half updates the elements of import.html. The script reads from the page:
//   <main data-api="…" data-max-mebibytes="64">   the URL of the API and the maximum size of a file
//   <main data-rehearse>                          the target has "rehearse": True, so users can try an import or an undo
//   <script type="application/json" id="texts">   the texts in the user's language
//   <input name="csrfmiddlewaretoken">            the CSRF token, for sites whose CSRF cookie is not readable
//
// Two rules apply to the whole file:
//   Values from a file or from the API are shown as text (textContent), never as markup. This prevents script injection.
//   Every attempt to send an import uses the same Idempotency-Key, so that a repeated request cannot create a second import.

// ---------------------------------------------------------------------------------------------------- texts

const TEXTS = JSON.parse(document.getElementById("texts").textContent);
const PAGE_LANGUAGE = document.documentElement.lang;
// A language such as English has several date formats. Use the browser's variant of the page's language, for example en-GB.
const LANGUAGE = navigator.languages.find((name) => name.toLowerCase().startsWith(PAGE_LANGUAGE)) ?? PAGE_LANGUAGE;
const PLURALS = new Intl.PluralRules(LANGUAGE);
const number = (value) => new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 1 }).format(value);
const dateTime = (iso) => new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));

// Returns a text with its {placeholders} replaced. If the text has singular and plural forms, `values.count` selects one.
export function t(key, values = {}) {
  const forms = TEXTS[key];
  const text = typeof forms === "string" ? forms : (forms[PLURALS.select(values.count)] ?? forms.other);
  return text.replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? number(values[name]) : values[name],
  );
}

// Like most file managers, this counts 1,024 bytes as a kilobyte and 1,024 kilobytes as a megabyte.
function size(bytes) {
  const [unit, factor] = bytes < 2 ** 10 ? ["byte", 1] : bytes < 2 ** 20 ? ["kilobyte", 2 ** 10] : ["megabyte", 2 ** 20];
  const style = { style: "unit", unit, unitDisplay: unit === "byte" ? "long" : "short", maximumFractionDigits: 1 };
  return new Intl.NumberFormat(LANGUAGE, style).format(bytes / factor);
}

function duration(seconds) {
  const [unit, factor] = seconds < 90 ? ["second", 1] : seconds < 5400 ? ["minute", 60] : ["hour", 3600];
  const style = { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 0 };
  return new Intl.NumberFormat(LANGUAGE, style).format(Math.ceil(seconds / factor));
}

// ---------------------------------------------------------------------------------------------------- the API

// The API returned an error. All errors have the same shape: {code, message}. If rows caused it, there are also errors and
// error_count.
export class ApiError extends Error {
  constructor(status, body, retryAfter) {
    super(body.message);
    Object.assign(this, { status, retryAfter, code: body.code, errors: body.errors ?? [], count: body.error_count ?? 0 });
  }
}

// There was no response, so we do not know whether the server received the request.
export class NoResponse extends Error {}

// Converts an error response to an ApiError. The error page of a proxy in between is not JSON and gets a text of our own.
function readError(status, text, retryAfter) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    // The message below replaces it.
  }
  if (!body.code || !body.message) body = { code: `http_${status}`, message: t("odd_answer", { status: String(status) }) };
  return new ApiError(status, body, Number(retryAfter) || null);
}

// Read the cookie first. It is newer than the page if the user signed in again, perhaps in another tab.
function csrfToken() {
  const cookie = document.cookie.match(/(?:^|;\s*)csrftoken=([^;]+)/);
  return cookie ? cookie[1] : (document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "");
}

// Calls the API. Throws ApiError or NoResponse. A 304 (not modified) is not an error.
async function call(url, { method = "GET", headers = {}, signal } = {}) {
  if (method !== "GET") headers = { ...headers, "X-CSRFToken": csrfToken() };
  let response, text;
  try {
    response = await fetch(url, { method, signal, headers: { Accept: "application/json", ...headers }, cache: "no-store" });
    text = response.ok ? null : await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new NoResponse();
  }
  if (!response.ok && response.status !== 304) throw readError(response.status, text, response.headers.get("Retry-After"));
  return response;
}

// Uploads a file and returns the JSON response. Throws ApiError or NoResponse. Calls onProgress with a fraction from 0 to 1.
// It uses XMLHttpRequest, because fetch does not report upload progress.
function upload(url, file, { headers, signal, onProgress = () => {} }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    for (const [name, value] of Object.entries({ ...headers, "X-CSRFToken": csrfToken() })) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = ({ loaded, total }) => onProgress(total ? loaded / total : 1);
    request.onerror = request.ontimeout = () => reject(new NoResponse());
    request.onabort = () => reject(new DOMException("", "AbortError"));
    request.onload = () => {
      if (request.status < 200 || request.status > 299) {
        reject(readError(request.status, request.responseText, request.getResponseHeader("Retry-After")));
        return;
      }
      try {
        resolve(JSON.parse(request.responseText));
      } catch {
        reject(new NoResponse()); // the connection was closed within the response
      }
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

// Browsers provide randomUUID on HTTPS and on localhost only.
function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ---------------------------------------------------------------------------------------------------- following a job

const TERMINAL_STATUSES = new Set(["succeeded", "partially_succeeded", "failed", "cancelled"]);
const FIRST_WAIT_SECONDS = 1;
const MAX_WAIT_SECONDS = 30;

// Polls a job until it ends. Returns a function that stops polling.
//   onJob(job)              after each successful request; job is null if the job has not changed
//   onRetry(error, seconds) after a temporary failure; the next request follows in `seconds`, or is null while offline
//   onError(error)          after a permanent error, such as 404; polling has stopped
//
// The API says in Retry-After when to ask again. Requests carry the last ETag, so an unchanged job is a cheap 304. Polling
// pauses while the tab is hidden or the browser is offline, and continues immediately afterwards.
export function follow(url, { onJob, onRetry, onError }) {
  let timer = 0;
  let etag = "";
  let failedAttempts = 0;
  let pending = null;

  const schedule = (seconds) => {
    clearTimeout(timer);
    timer = setTimeout(poll, seconds * 1000);
  };

  async function poll() {
    clearTimeout(timer);
    if (pending || document.hidden) return;
    if (!navigator.onLine) {
      onRetry(new NoResponse(), null);
      return;
    }
    const request = (pending = new AbortController());
    try {
      const response = await call(url, { headers: etag ? { "If-None-Match": etag } : {}, signal: request.signal });
      const job = response.status === 304 ? null : await response.json();
      if (request.signal.aborted) return;
      failedAttempts = 0;
      pending = null;
      if (job) etag = response.headers.get("ETag") ?? "";
      onJob(job);
      if (job && TERMINAL_STATUSES.has(job.status)) stop();
      else schedule(Number(response.headers.get("Retry-After")) || FIRST_WAIT_SECONDS);
    } catch (error) {
      if (request.signal.aborted) return;
      pending = null;
      if (error instanceof ApiError && error.status < 500 && error.status !== 429) {
        stop();
        onError(error);
        return;
      }
      // Exponential backoff. The random factor prevents all open pages from polling at the same moment after an outage.
      const backoff = Math.min(FIRST_WAIT_SECONDS * 2 ** failedAttempts++, MAX_WAIT_SECONDS) * (0.75 + Math.random() / 2);
      const seconds = Math.max(backoff, error.retryAfter ?? 0);
      schedule(seconds);
      onRetry(error, seconds);
    }
  }

  function stop() {
    clearTimeout(timer);
    pending?.abort();
    document.removeEventListener("visibilitychange", poll);
    removeEventListener("online", poll);
    removeEventListener("offline", poll);
  }

  document.addEventListener("visibilitychange", poll);
  addEventListener("online", poll);
  addEventListener("offline", poll);
  poll();
  return stop;
}

// ---------------------------------------------------------------------------------------------------- the first rows of a file

const FORMATS = {
  json: "application/json",
  jsonl: "application/x-ndjson",
  ndjson: "application/x-ndjson",
  csv: "text/csv",
};
const PREVIEW_BYTES = 1024 * 1024; // how much of the file the preview reads; the preview needs only a few rows

export const suffixOf = (name) => name.slice(name.lastIndexOf(".") + 1).toLowerCase();

// Returns the first rows for the preview: [{index, line, cells: {name: text}}]. The preview does not validate, because the
// API does. It ends at the first row that it cannot read.
export async function readFirstRows(file) {
  const bytes = await file.slice(0, PREVIEW_BYTES).arrayBuffer();
  const isWhole = file.size <= PREVIEW_BYTES;
  // With `stream`, a character that the slice cuts in half is left out instead of replaced by a placeholder.
  const text = new TextDecoder().decode(bytes, { stream: !isWhole });
  const rows = [];
  const read = { json: readArray, csv: readTable }[suffixOf(file.name)] ?? readLines;
  for (const row of read(text, isWhole)) rows.push({ index: rows.length, ...row });
  return rows;
}

function* readArray(text) {
  const start = text.search(/\S/);
  if (text[start] !== "[") return;
  for (const part of splitMembers(text, start)) {
    const cells = readCells(part);
    if (!cells) return;
    yield { line: null, cells };
  }
}

function* readLines(text, isWhole) {
  const lines = text.split("\n");
  if (!isWhole) lines.pop(); // the slice may have cut this line
  for (const [position, line] of lines.entries()) {
    if (!line.trim()) continue;
    const cells = readCells(line.trim());
    if (!cells) return;
    yield { line: position + 1, cells };
  }
}

function* readTable(text, isWhole) {
  let header = null;
  for (const { line, record } of records(text, isWhole)) {
    if (!record.some(Boolean)) continue;
    if (header) {
      yield { line, cells: Object.fromEntries(record.map((cell, position) => [header[position] ?? `+${position + 1}`, cell])) };
    } else {
      header = record.map((name) => name.trim());
    }
  }
}

// Yields the records of a CSV. Like the API, it uses the most frequent of comma, semicolon and tab in the first line.
function* records(text, isWhole) {
  const [first] = text.match(/[^\r\n]+/) ?? [""];
  const count = (character) => first.split(character).length;
  const delimiter = [",", ";", "\t"].reduce((best, other) => (count(other) > count(best) ? other : best));
  let record = [];
  let cell = "";
  let quoted = false;
  let line = 1;
  let startLine = 1;
  for (let position = 0; position < text.length; position++) {
    const character = text[position];
    if (character === "\n" || (character === "\r" && text[position + 1] !== "\n")) line++;
    if (quoted) {
      if (character !== '"') cell += character;
      else if (text[position + 1] === '"') cell += text[++position];
      else quoted = false;
    } else if (character === '"' && !cell) {
      quoted = true;
    } else if (character === delimiter) {
      record.push(cell);
      cell = "";
    } else if (character === "\n" || character === "\r") {
      if (character === "\r" && text[position + 1] === "\n") continue;
      yield { line: startLine, record: [...record, cell] };
      [record, cell, startLine] = [[], "", line];
    } else {
      cell += character;
    }
  }
  if (isWhole && !quoted && (cell || record.length)) yield { line: startLine, record: [...record, cell] };
}

// Yields the members of the JSON array or object that starts at `start`, as they are written, until the text ends.
function* splitMembers(text, start) {
  let depth = 0;
  let inString = false;
  let startOfMember = start + 1;
  for (let position = start; position < text.length; position++) {
    const character = text[position];
    if (inString) {
      if (character === "\\") position++;
      else if (character === '"') inString = false;
    } else if (character === '"') {
      inString = true;
    } else if (character === "[" || character === "{") {
      depth++;
    } else if ((character === "," && depth === 1) || ((character === "]" || character === "}") && --depth === 0)) {
      const part = text.slice(startOfMember, position).trim();
      if (part) yield part;
      startOfMember = position + 1;
      if (!depth) return;
    }
  }
}

// Returns the cells of a JSON row, or null if it is not valid JSON. Strings lose their quotes. Other values stay as they are
// written, because parsing would change numbers: 9.50 would become 9.5, and long integers would lose digits.
function readCells(raw) {
  try {
    JSON.parse(raw);
  } catch {
    return null;
  }
  if (raw[0] !== "{") return { "": raw };
  const cells = {};
  for (const part of splitMembers(raw, 0)) {
    const [key] = part.match(/^"(?:[^"\\]|\\.)*"/);
    const value = part.slice(key.length).replace(/^\s*:\s*/, "");
    cells[JSON.parse(key)] = value[0] === '"' ? JSON.parse(value) : value;
  }
  return cells;
}

// ---------------------------------------------------------------------------------------------------- the page

const MAIN = document.querySelector("main");
const API = new URL(MAIN.dataset.api, location.href).href;
const CAN_REHEARSE = "rehearse" in MAIN.dataset;
const MAX_BYTES = Number(MAIN.dataset.maxMebibytes) * 1024 * 1024;
const AUTOMATIC_CHECK_BYTES = 8e6; // the check uploads the file once more, so larger files are checked on request only
const MAX_SHOWN_ROWS = 10;
const MAX_SHOWN_COLUMNS = 30;
const MAX_SHOWN_CHARACTERS = 120; // in one cell
const MAX_SHOWN_FAILURES = 10;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

const $ = (id) => document.getElementById(id);
const show = (id, isShown) => ($(id).hidden = !isShown);
const fill = (id, ...children) => $(id).replaceChildren(...children);
const announce = (text) => ($("announcement").textContent = text); // for screen readers

// Creates an element. Strings among the children become text nodes, so markup in them has no effect.
function h(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// Returns an element for text from a file or the API. <bdi> isolates its writing direction from the surrounding text, and
// long text is shortened.
function untrusted(text, maxCharacters = MAX_SHOWN_CHARACTERS) {
  const whole = String(text ?? "");
  const cut = [...whole.slice(0, 2 * maxCharacters)].slice(0, maxCharacters).join("");
  return h("bdi", {}, cut === whole ? whole : `${cut}…`);
}

// Shows an error message. If the session has ended, it offers to sign in again.
function showError(id, error) {
  const isSignedOut = error.status === 401 || error.code === "not_authenticated";
  const message = isSignedOut ? t(parameter("job") ? "signed_out_job" : "signed_out") : error.message;
  const lines = [h("p", {}, h("strong", {}, message))];
  if (isSignedOut) lines.push(h("p", {}, h("a", { href: `?${query()}` }, t("sign_in_again"))));
  if (error.retryAfter) lines.push(h("p", {}, t("try_after", { time: duration(error.retryAfter) })));
  fill(id, h("div", { className: "trouble" }, ...lines));
}

const query = () => location.search.slice(1);
const parameter = (name) => {
  const value = new URLSearchParams(location.search).get(name) ?? "";
  return UUID.test(value) ? value : null;
};

// Returns where a row is: the line if the format has lines, otherwise the index, which starts at 0.
const positionOf = ({ index, line }) => (line ? t("line", { number: String(line) }) : t("index", { number: String(index) }));

// Builds a table of rows. The errors of a row follow it in a table row of their own.
function rowsTable(rows, errors = new Map()) {
  // Start with the rows that have most fields. An empty CSV cell is a missing field, whose column would otherwise come last.
  const keys = rows.map((row) => Object.keys(row.cells ?? {})).sort((one, other) => other.length - one.length);
  const names = [...new Set(keys.flat())];
  const columns = names.slice(0, MAX_SHOWN_COLUMNS);
  const hasLines = rows.some((row) => row.line);
  const heads = [t(hasLines ? "line_heading" : "index_heading"), ...columns.map((name) => untrusted(name || t("value"), 40))];
  const body = h("tbody");
  for (const row of rows) {
    const wrong = errors.get(row.index) ?? [];
    const cells = columns.map((name) => {
      const cell = h("td", {}, untrusted(row.cells?.[name]));
      if (wrong.some(({ field }) => field === name)) cell.className = "wrong";
      return cell;
    });
    const head = h("th", { scope: "row" }, String(row.line ?? row.index));
    body.append(h("tr", { className: wrong.length ? "has-errors" : "" }, head, ...cells));
    if (wrong.length) {
      // Repeat the value, because on a narrow screen its cell may be scrolled out of view.
      const reasons = wrong.map((error) => h("li", {}, ...reason(error, hasLines, row.cells?.[error.field])));
      const list = h("ul", {}, ...reasons);
      body.append(h("tr", { className: "errors" }, h("td", { colSpan: columns.length + 1 }, list)));
    }
  }
  const headRow = h("tr", {}, ...heads.map((name) => h("th", { scope: "col" }, name)));
  const table = h("table", {}, h("thead", {}, headRow), body);
  const more = names.length - columns.length;
  return more > 0 ? [table, h("p", { className: "hint" }, t("more_columns", { count: more }))] : [table];
}

function reason({ field, message, first_index: first }, hasLines = false, value = "") {
  const isRepeated = !value || message.includes(value); // many messages contain the value already
  const parts = field ? [h("strong", {}, untrusted(field, 60)), ...(isRepeated ? [] : [" “", untrusted(value, 40), "”"]), ": "] : [];
  parts.push(untrusted(message, 300));
  // A duplicate error has only the index of the earlier row. If that row is in the preview, show its line instead.
  if (first !== undefined) {
    const earlier = choice?.rows[first];
    parts.push(" ", hasLines && earlier ? `(${positionOf(earlier)})` : `(${positionOf({ index: first })})`);
  }
  return parts;
}

// ---------------------------------------------------------------------------------------------------- choosing and checking

// The chosen file: {file, key, rows, check, result, sending, isUnconfirmed, isRehearsal}. `key` is its Idempotency-Key and is created once
// per choice. `check` aborts a running check, and `result` is the API's answer to it. `isUnconfirmed` means that the import
// was sent without a clear response, and `isRehearsal` that it was sent as a rehearsal.
let choice = null;

async function choose(file) {
  if (choice?.sending) return;
  clearChoice();
  const problem = await fileProblem(file);
  if (problem) {
    showError("file-trouble", { message: problem });
    return;
  }
  const selected = (choice = { file, key: uuid(), rows: [], check: null, result: null, sending: false, isUnconfirmed: false });
  const rows = await readFirstRows(file);
  if (choice !== selected) return; // the user has chosen another file in the meantime
  choice.rows = rows;
  fill("chosen-title", untrusted(file.name, 80));
  fill("chosen-facts", `${suffixOf(file.name).toUpperCase()} · ${size(file.size)}`);
  for (const id of ["check-result", "trouble"]) fill(id);
  for (const radio of policies()) radio.checked = radio.value === "reject";
  for (const radio of modes()) radio.checked = radio.value === "create";
  show("checking", false);
  show("chosen", true);
  for (const id of ["drop", "recent"]) show(id, false); // the user can still drop a file anywhere on the page
  showRows();
  showSend();
  $("chosen-title").focus();
  if (file.size <= AUTOMATIC_CHECK_BYTES) check();
  else show("check", true);
}

// Returns to the state before a file was chosen.
function clearChoice() {
  choice?.check?.abort();
  choice = null;
  show("chosen", false);
  show("drop", true);
  fill("file-trouble");
}

// Returns why this file cannot be imported, or "".
async function fileProblem(file) {
  if (!FORMATS[suffixOf(file.name)]) return t("unknown_format", { name: file.name });
  if (!file.size) return t("empty_file");
  // The API also has this limit, but it closes the connection during the upload, and browsers do not report the reason.
  if (file.size > MAX_BYTES) return t("too_large", { limit: size(MAX_BYTES) });
  return (await isReadable(file)) ? "" : t("unreadable", { name: file.name });
}

// Browsers refuse to read a file that changed after the user chose it.
async function isReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

// The name is percent-encoded, because a header may not contain every character (RFC 8187).
const encodedName = (file) => encodeURIComponent(file.name).replace(/['()*]/g, (c) => `%${c.charCodeAt(0).toString(16)}`);
const mediaHeaders = (file) => ({
  Accept: "application/json",
  "Content-Type": FORMATS[suffixOf(file.name)],
  "Content-Disposition": `attachment; filename*=UTF-8''${encodedName(file)}`,
});

// Checks the file with a dry run: the API validates every row and stores nothing.
async function check() {
  const selected = choice;
  selected.check?.abort();
  selected.check = new AbortController();
  fill("trouble");
  show("check", false);
  show("checking", true);
  fill("checking", t("checking"));
  showSend();
  try {
    selected.result = await upload(`${API}?${new URLSearchParams({ dry_run: true, ...mode() })}`, selected.file, {
      headers: mediaHeaders(selected.file),
      signal: selected.check.signal,
      onProgress: (part) => choice === selected && part < 1 && fill("checking", t("checking_part", { percent: percent(part) })),
    });
    selected.check = null;
    if (choice === selected) showCheckResult();
  } catch (error) {
    if (choice !== selected || error.name === "AbortError") return;
    selected.check = null;
    show("checking", false);
    show("check", true);
    showSubmissionError(await explainNoResponse(error, selected.file, t("not_checked")));
  }
}

// Returns an error with a message for the user. If there was no response, the cause may be the file or the connection.
async function explainNoResponse(error, file, message) {
  if (error instanceof ApiError) return error;
  if (!(error instanceof NoResponse)) throw error;
  if (!(await isReadable(file))) return { message: t("unreadable", { name: file.name }) };
  return { message: navigator.onLine ? message : `${t("offline")} ${message}` };
}

function showCheckResult() {
  const { rows, valid_rows: valid, invalid_rows: invalid } = choice.result;
  show("checking", false);
  const text = invalid ? t("some_wrong", { count: invalid, rows }) : t("all_right", { count: rows });
  fill("check-result", h("p", { className: invalid ? "wrong-rows" : "right-rows" }, text));
  announce(text);
  if (!valid) for (const radio of policies()) radio.checked = radio.value === "reject";
  showRows();
  showSend();
}

// Shows an API error. If it names rows, the table shows these rows.
function showSubmissionError(error) {
  showError("trouble", error);
  if (error.errors?.length) showRows(error);
  showSend();
  $("trouble").scrollIntoView({ block: "nearest" });
}

// Shows the rows that have errors, or the first rows if there are no errors.
function showRows({ errors = choice.result?.errors ?? [], count = choice.result?.error_count ?? 0 } = {}) {
  const byRow = new Map();
  for (const error of errors) {
    if (error.index === undefined) continue; // an error in a parameter, not in a row
    if (!byRow.has(error.index)) byRow.set(error.index, []);
    byRow.get(error.index).push(error);
  }
  const { rows } = choice;
  if (byRow.size) {
    const wrong = [...byRow].map(([index, [{ line }]]) => rows[index] ?? { index, line, cells: null });
    fill("rows-title", t("wrong_rows"));
    fill("rows-note", count > errors.length ? t("first_errors", { shown: errors.length, count }) : t("wrong_rows_note"));
    fill("rows", ...rowsTable(wrong, byRow));
  } else {
    fill("rows-title", t("first_rows"));
    fill("rows-note", rows.length ? t("first_rows_note", { count: Math.min(MAX_SHOWN_ROWS, rows.length) }) : t("no_preview"));
    fill("rows", ...(rows.length ? rowsTable(rows.slice(0, MAX_SHOWN_ROWS)) : []));
  }
  show("rows", byRow.size || rows.length);
}

// ---------------------------------------------------------------------------------------------------- sending

const policies = () => $("send").elements.on_invalid;
const modes = () => $("send").elements.mode;
const mode = () => (modes().value === "create" ? {} : { mode: modes().value });
const percent = (part) => new Intl.NumberFormat(LANGUAGE, { style: "percent" }).format(part);

function showSend() {
  const { result, sending, isUnconfirmed } = choice;
  const skips = policies().value === "skip";
  const invalid = result?.invalid_rows ?? 0;
  const mustFix = invalid > 0 && !(skips && result.valid_rows);
  show("send", !choice.check); // the form appears when the check is complete
  show("policy", !result || invalid > 0);
  // While the import is unconfirmed, only the identical request may be sent again. The Idempotency-Key belongs to these
  // parameters: the API refuses the same key with other parameters.
  for (const id of ["policy", "mode"]) $(id).disabled = sending || isUnconfirmed;
  for (const radio of policies()) if (radio.value === "skip") radio.disabled = result !== null && !result.valid_rows;
  show("advice", mustFix);
  fill("advice", mustFix ? t(result.valid_rows ? "fix_or_skip" : "fix_all") : "");
  show("import", !mustFix && !(isUnconfirmed && choice.isRehearsal));
  const canRehearse = CAN_REHEARSE && !mustFix && (!isUnconfirmed || choice.isRehearsal);
  for (const id of ["rehearse", "rehearse-hint"]) show(id, canRehearse);
  $("rehearse").disabled = sending;
  fill("rehearse", t(isUnconfirmed ? "send_again" : "rehearse"));
  show("choose-corrected", mustFix);
  $("import").disabled = sending;
  fill("import", importLabel(result, skips, isUnconfirmed));
  $("choose-other").disabled = sending;
  show("uploading", sending);
}

function importLabel(result, skips, isUnconfirmed) {
  if (isUnconfirmed) return t("send_again");
  if (!result) return t("import");
  if (skips && result.invalid_rows) return t("import_valid", { count: result.valid_rows, skipped: result.invalid_rows });
  return t("import_all", { count: result.rows });
}

async function send(isRehearsal) {
  const selected = choice;
  if (!selected || selected.sending) return; // ignore the second click of a double click
  selected.sending = true;
  selected.isRehearsal = isRehearsal;
  $("upload").value = 0;
  fill("trouble");
  showSend();
  const parameters = new URLSearchParams({ on_invalid: policies().value, ...mode() });
  if (isRehearsal) parameters.set("rehearse", true);
  if (parameter("corrects")) parameters.set("corrects", parameter("corrects"));
  try {
    const job = await upload(`${API}?${parameters}`, selected.file, {
      headers: { ...mediaHeaders(selected.file), "Idempotency-Key": selected.key },
      onProgress: (part) => ($("upload").value = part),
    });
    clearChoice();
    goToJob(job);
  } catch (error) {
    selected.sending = false;
    if (choice !== selected) return; // the user has opened a job in the meantime
    // A 5xx may come from a proxy after the server accepted the import, so it confirms as little as no response. A 429 is
    // the answer to this attempt only, so an earlier attempt stays unconfirmed.
    selected.isUnconfirmed = !(error instanceof ApiError) || error.status >= 500 || (selected.isUnconfirmed && error.status === 429);
    showSubmissionError(await explainNoResponse(error, selected.file, t("not_sent")));
  }
}

// ---------------------------------------------------------------------------------------------------- a job

let stopFollowing = () => {};
let shownJob = null;

// What a job is: "import", "undo", "import_rehearsal" or "undo_rehearsal". Many texts exist once for each of them, because a
// rehearsal must never look like an import.
const kindOf = ({ mode, rehearsal }) => (mode === "undo" ? "undo" : "import") + (rehearsal ? "_rehearsal" : "");

// Returns the status for people. A rehearsal with failed rows is done, too: its result is a forecast.
function statusOf(job) {
  const isForecast = job.rehearsal && TERMINAL_STATUSES.has(job.status) && job.status !== "cancelled";
  return t(`badge_${kindOf(job)}`, { status: t(`status_${isForecast ? "succeeded" : job.status}`) });
}

function goToJob(job) {
  history.pushState(null, "", `?job=${job.id}`);
  openJob(job.id, job);
}

function openJob(id, job = null) {
  stopFollowing();
  shownJob = null;
  show("start", false);
  show("job", true);
  for (const name of ["problems", "failures", "connection", "stay", "bar", "results"]) show(name, false);
  for (const name of ["job-trouble", "job-actions", "job-facts", "job-status", "job-message", "counts", "pace", "bar"]) fill(name);
  fill("job-title", t("opening"));
  if (job) showJob(job);
  $("job-title").focus();
  followJob(id);
}

function followJob(id) {
  stopFollowing = follow(`${API}/${id}`, {
    onJob: (job) => {
      show("connection", false);
      if (job) showJob(job);
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
}

function showJob(job) {
  const before = shownJob;
  shownJob = job;
  const ended = TERMINAL_STATUSES.has(job.status);
  const done = 1 - job.counts.pending / job.rows;
  const kind = kindOf(job);
  $("job").classList.toggle("is-rehearsal", job.rehearsal);
  $("job-status").dataset.status = job.rehearsal ? "" : job.status;
  fill("job-status", statusOf(job));
  fill("job-title", t(`title_${kind}_${ended ? job.status : "running"}`, { count: job.rows }));
  fill("job-message", untrusted(job.message, 1000));
  document.title = ended ? statusOf(job) : `${percent(done)} · ${t("title")}`;
  showBar(job, done);
  const outcomes = Object.keys(job.counts).filter((outcome) => job.counts[outcome] || (outcome === "created" && job.mode === "create"));
  fill("counts", ...outcomes.map((outcome) => countOf(outcome, job.counts[outcome], kind)));
  fill("pace", pace(job, ended));
  show("stay", !ended);
  fill("stay", t(`may_close_${kind}`));
  show("results", ended && job.links.results);
  $("results-csv").href = `${job.links.results}?format=csv`;
  showActions(job);
  showFacts(job);
  showProblems(job);
  const failed = failedRows(job);
  show("failures", ended && failed > 0);
  if (ended && failed > 0) showFailures(job);
  if (!before || before.status !== job.status || Math.floor(4 * done) > Math.floor(4 * (1 - before.counts.pending / before.rows))) {
    announce(ended || job.status === "paused" ? job.message : t("heard_progress", { percent: percent(done), status: statusOf(job) }));
  }
}

function showBar(job, done) {
  const bar = $("bar");
  show("bar", true);
  bar.setAttribute("aria-valuenow", String(Math.floor(100 * done)));
  bar.setAttribute("aria-valuetext", percent(done));
  const segments = Object.entries(job.counts).filter(([outcome, rows]) => outcome !== "pending" && rows);
  fill("bar", ...segments.map(([outcome, rows]) => {
    const segment = h("span");
    segment.dataset.outcome = outcome;
    segment.style.width = `${(100 * rows) / job.rows}%`; // the Content-Security-Policy forbids style attributes, not this
    return segment;
  }));
}

function doneRows({ counts: { created, updated, unchanged, deleted } }) {
  return created + updated + unchanged + deleted;
}

const failedRows = (job) => job.rows - doneRows(job) - job.counts.pending;

function countOf(outcome, rows, kind) {
  const special = `outcome_${kind}_${outcome}`; // such as "would be created" in a rehearsal
  const count = h("div", {}, h("dt", {}, t(special in TEXTS ? special : `outcome_${outcome}`)), h("dd", {}, number(rows)));
  count.dataset.outcome = outcome;
  return count;
}

function pace(job, ended) {
  const texts = [];
  if (job.rows_per_second) texts.push(t("pace", { rate: job.rows_per_second < 10 ? job.rows_per_second : Math.round(job.rows_per_second) }));
  if (!ended && job.status !== "paused" && job.eta_seconds) texts.push(t("time_left", { time: duration(job.eta_seconds) }));
  if (ended && job.started_at) texts.push(t("took", { time: duration((new Date(job.finished_at) - new Date(job.started_at)) / 1000) }));
  return texts.join(" · ");
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
  return action === "run" ? t(`action_run_${job.mode === "undo" ? "undo" : "import"}`, { count: doneRows(job) }) : t(`action_${action}`);
}

// Shows a button for each action that is possible now. The API sets the link of an impossible action to null.
function showActions(job) {
  const { links } = job;
  const actions = job.rehearsal ? ["run", "resume", "cancel"] : ["resume", "cancel", "retry", "undo"];
  const wanted = actions.filter((action) => links[action]);
  if (wanted[0] === "run" && !doneRows(job)) wanted.shift(); // it would do nothing
  const present = [...$("job-actions").children].map((button) => button.value);
  if (wanted.join() === present.join()) return; // keep the buttons, so that they do not lose the keyboard focus
  fill("job-actions", ...wanted.map((action) => {
    const button = h("button", { value: action }, actionLabel(action, job));
    if (action === "run") button.className = job.mode === "undo" ? "danger" : "primary";
    button.onclick = () => confirmAndPerform(action, job);
    return button;
  }));
}

function showFacts(job) {
  const facts = [t("accepted_at", { time: dateTime(job.created_at) })];
  const links = ["corrects", "runs", "undoes", "undone_by"].filter((relation) => job[relation]);
  const parts = links.flatMap((relation) => [" · ", h("a", { href: `?job=${job[relation]}` }, t(`see_${relation}`))]);
  fill("job-facts", facts.join(" · "), ...parts);
}

function showProblems({ problems, ...job }) {
  show("problems", problems.length > 0);
  fill("problems-title", t(`problems_${kindOf(job)}`));
  fill("problem-list", ...problems.map((problem) => h("li", {},
    h("span", { className: "count" }, t("rows", { count: problem.count })),
    h("span", {}, ...reason({ field: problem.field, message: problem.message }),
      " ", h("small", {}, t("first_at", { number: String(problem.first_index) }))),
  )));
}

function confirmAndPerform(action, job) {
  const texts = question(action, job);
  if (!texts) {
    performAction(action);
    return;
  }
  const dialog = $("confirm");
  ["title", "text", "yes", "no"].forEach((part, position) => fill(`confirm-${part}`, texts[position]));
  dialog.returnValue = "no"; // the answer if the user closes the dialog with Escape
  dialog.onclose = () => dialog.returnValue === "yes" && performAction(action);
  dialog.showModal();
}

async function performAction(action) {
  const job = shownJob;
  for (const button of $("job-actions").children) button.disabled = true;
  fill("job-trouble");
  try {
    const url = action === "undo" && CAN_REHEARSE ? `${job.links.undo}?rehearse=true` : job.links[action];
    const response = await call(url, { method: action === "cancel" ? "DELETE" : "POST" });
    const updated = await response.json();
    if (shownJob?.id !== job.id) return; // the user has opened another page in the meantime
    if (updated.id !== job.id) {
      goToJob(updated); // a run and an undo are jobs of their own
      return;
    }
    stopFollowing();
    fill("job-actions"); // remove the disabled buttons, so that showJob creates new ones
    showJob(updated);
    $("job-title").focus();
    followJob(job.id);
  } catch (error) {
    showError("job-trouble", error instanceof NoResponse ? { message: t("not_done") } : error);
    for (const button of $("job-actions").children) button.disabled = false;
  }
}

// Shows the first rows that were not created, with their reasons. It stops reading the response when it has enough rows.
async function showFailures(job) {
  $("failures-csv").href = `${job.links.failures}?format=csv`;
  $("failures-rows").href = `${job.links.failures}?part=rows`;
  const failed = failedRows(job);
  const kind = kindOf(job);
  fill("failures-title", t(`failures_${kind}`));
  fill("failures-how", t(`failures_how_${kind}`));
  show("correct", job.mode !== "undo");
  const abort = new AbortController();
  let text = "";
  try {
    const response = await call(job.links.failures, { headers: { Accept: "application/x-ndjson" }, signal: abort.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let lines = 0; lines <= MAX_SHOWN_FAILURES; lines = text.split("\n").length) {
      const { done, value } = await reader.read();
      if (done) break;
      text += value;
    }
    abort.abort();
  } catch {
    if (!text) return; // the download links remain, and report the error when they are used
  }
  if (shownJob !== job) return;
  const failures = text.split("\n").slice(0, -1).slice(0, MAX_SHOWN_FAILURES).map((line) => {
    const row = [...splitMembers(line, 0)].find((part) => /^"row"\s*:/.test(part));
    const cells = readCells(row.replace(/^"row"\s*:\s*/, ""));
    if (job.mode === "undo") delete cells.index; // the index of the row in the import that is undone
    return { ...JSON.parse(line), cells, line: null };
  });
  show("failed-rows-note", job.mode !== "undo"); // an undo has no file
  fill("failed-rows-note", failed > failures.length ? t("first_failures", { shown: failures.length, count: failed }) : t("index_explained"));
  fill("failed-rows", ...rowsTable(failures, new Map(failures.map(({ index, errors }) => [index, errors]))));
}

// ---------------------------------------------------------------------------------------------------- the start

function showStart() {
  stopFollowing();
  shownJob = null;
  document.title = t("title");
  show("job", false);
  show("start", true);
  clearChoice();
  const corrects = parameter("corrects");
  show("corrects", corrects);
  if (corrects) fill("corrects", t("corrects_note"), " ", h("a", { href: `?job=${corrects}` }, t("see_corrects")));
  showRecent();
}

async function showRecent() {
  let jobs = [];
  try {
    jobs = (await (await call(`${API}?page_size=5`)).json()).results;
  } catch {
    // The list of recent imports is optional. A lasting problem is reported when the user chooses a file.
  }
  fill("recent-jobs", ...jobs.map((job) => {
    const badge = h("span", { className: "badge" }, statusOf(job));
    badge.dataset.status = job.rehearsal ? "" : job.status;
    const facts = `${t("rows", { count: job.rows })} · ${dateTime(job.created_at)}`;
    return h("li", {}, h("a", { href: `?job=${job.id}` }, facts), badge);
  }));
  show("recent", jobs.length && !choice);
}

// The address determines what the page shows, so reload, bookmarks and the back button work.
function showCurrentPage() {
  const id = parameter("job");
  if (id) openJob(id);
  else showStart();
}

// Links within the page change the address without loading the page again.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='?']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (link.getAttribute("href") === `?${query()}`) return; // the link to sign in again has to reload the page
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href") === "?" ? location.pathname : link.href);
  showCurrentPage();
  (shownJob || parameter("job") ? $("job-title") : $("start-title")).focus();
});
addEventListener("popstate", showCurrentPage);

$("file").onchange = ({ target }) => {
  const [file] = target.files;
  target.value = ""; // without this, choosing the same file again after correcting it would have no effect
  if (file) choose(file);
};
for (const id of ["choose-other", "choose-corrected"]) $(id).onclick = () => $("file").click();
$("check").onclick = check;
$("correct").onclick = () => {
  // After a rehearsal, no row is in the shop, so the corrected file is a new import of all rows.
  history.pushState(null, "", shownJob.rehearsal ? location.pathname : `?corrects=${shownJob.id}`);
  showCurrentPage();
  $("start-title").focus();
};
$("send").onsubmit = (event) => {
  event.preventDefault();
  send(event.submitter?.value === "rehearse");
};
$("send").onchange = ({ target }) => {
  if (target.name !== "mode") return showSend();
  // Rows that are valid in one mode may be wrong in another one. An Idempotency-Key belongs to one mode, too.
  choice.key = uuid();
  choice.result = null;
  fill("check-result");
  if (choice.file.size <= AUTOMATIC_CHECK_BYTES) check();
  else show("check", true);
  showSend();
};

// Accept a file that is dropped anywhere. The browser's default would be to open it and leave this page.
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover" || name === "dragenter");
    if (name === "drop" && !$("start").hidden && event.dataTransfer.files[0]) choose(event.dataTransfer.files[0]);
  });
}

addEventListener("beforeunload", (event) => choice?.sending && event.preventDefault());

showCurrentPage();
