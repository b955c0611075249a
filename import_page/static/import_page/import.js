// The import page: from a file to created rows. Plain JavaScript of today's browsers; no build step, no dependency.
//
// To lift it: the first half (texts, the API, sending, following, reading a file's start) knows nothing of the page and
// can be copied as it is. The second half shows things; it needs the elements of import.html. It reads from the page:
//   <main data-api="…" data-max-mebibytes="64">   where the API is, and how large a file it takes
//   <script type="application/json" id="texts">   the texts in the user's language
//   <input name="csrfmiddlewaretoken">            for the session's CSRF check, where the cookie cannot be read
//
// Two rules hold everywhere:
//   What comes from a file or from the API is shown as text (textContent), never as markup.
//   What was sent is sent again with the same Idempotency-Key, so that no doubt ends in two imports.

// ---------------------------------------------------------------------------------------------------- texts

const TEXTS = JSON.parse(document.getElementById("texts").textContent);
const PAGE_LANGUAGE = document.documentElement.lang;
// English has many ways to write a date: of the browser's languages, the one that is a kind of the page's.
const LANGUAGE = navigator.languages.find((name) => name.toLowerCase().startsWith(PAGE_LANGUAGE)) ?? PAGE_LANGUAGE;
const PLURALS = new Intl.PluralRules(LANGUAGE);
const number = (value) => new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 1 }).format(value);
const dateTime = (iso) => new Intl.DateTimeFormat(LANGUAGE, { dateStyle: "medium", timeStyle: "short" }).format(new Date(iso));

// A text with its {placeholders} filled in. One that has forms for one and many takes that of `count`.
export function t(key, values = {}) {
  const forms = TEXTS[key];
  const text = typeof forms === "string" ? forms : (forms[PLURALS.select(values.count)] ?? forms.other);
  return text.replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? number(values[name]) : values[name],
  );
}

function size(bytes) {
  const [unit, factor] = bytes < 1e3 ? ["byte", 1] : bytes < 1e6 ? ["kilobyte", 1e3] : ["megabyte", 1e6];
  const style = { style: "unit", unit, unitDisplay: bytes < 1e3 ? "long" : "short", maximumFractionDigits: 1 };
  return new Intl.NumberFormat(LANGUAGE, style).format(bytes / factor);
}

function duration(seconds) {
  const [unit, factor] = seconds < 90 ? ["second", 1] : seconds < 5400 ? ["minute", 60] : ["hour", 3600];
  const style = { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 0 };
  return new Intl.NumberFormat(LANGUAGE, style).format(Math.ceil(seconds / factor));
}

// ---------------------------------------------------------------------------------------------------- the API

// The API said no. Its errors have one shape: {code, message} and, where rows are to blame, errors and error_count.
export class Refused extends Error {
  constructor(status, body, retryAfter) {
    super(body.message);
    Object.assign(this, { status, retryAfter, code: body.code, errors: body.errors ?? [], count: body.error_count ?? 0 });
  }
}

// No answer: whether the request arrived, nobody knows.
export class NoAnswer extends Error {}

// An error page of something in between, such as a proxy, has no such shape.
function refusal(status, text, retryAfter) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    // told below
  }
  if (!body.code || !body.message) body = { code: `http_${status}`, message: t("odd_answer", { status: String(status) }) };
  return new Refused(status, body, Number(retryAfter) || null);
}

// The cookie is fresher than the page: signing in again, also in another tab, makes a new token.
function csrfToken() {
  const cookie = document.cookie.match(/(?:^|;\s*)csrftoken=([^;]+)/);
  return cookie ? cookie[1] : (document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "");
}

// Throws Refused and NoAnswer; a 304 is no error.
async function call(url, { method = "GET", headers = {}, signal } = {}) {
  if (method !== "GET") headers = { ...headers, "X-CSRFToken": csrfToken() };
  let answer, text;
  try {
    answer = await fetch(url, { method, signal, headers: { Accept: "application/json", ...headers }, cache: "no-store" });
    text = answer.ok ? null : await answer.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new NoAnswer();
  }
  if (!answer.ok && answer.status !== 304) throw refusal(answer.status, text, answer.headers.get("Retry-After"));
  return answer;
}

// POST a file, and tell how much of it is on its way: XMLHttpRequest, because fetch does not tell. Gives the document.
function upload(url, file, { headers, signal, onProgress = () => {} }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    for (const [name, value] of Object.entries({ ...headers, "X-CSRFToken": csrfToken() })) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = ({ loaded, total }) => onProgress(total ? loaded / total : 1);
    request.onerror = request.ontimeout = () => reject(new NoAnswer());
    request.onabort = () => reject(new DOMException("", "AbortError"));
    request.onload = () => {
      if (request.status < 200 || request.status > 299) {
        reject(refusal(request.status, request.responseText, request.getResponseHeader("Retry-After")));
        return;
      }
      try {
        resolve(JSON.parse(request.responseText));
      } catch {
        reject(new NoAnswer()); // it broke off
      }
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

// randomUUID is there on https and localhost only.
function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// ---------------------------------------------------------------------------------------------------- following a job

const ENDED = new Set(["succeeded", "partially_succeeded", "failed", "cancelled"]);
const FIRST_WAIT_SECONDS = 1;
const LONGEST_WAIT_SECONDS = 30;

// Asks for the job until it has ended. Calls onJob(job) when it has changed, onTrouble(error, seconds) when there was no
// answer and how long it waits now, onLost(error) when asking is of no use. Gives a function that stops it.
//
// It asks when the API says so (Retry-After) and with the last ETag, so that an unchanged job costs next to nothing. It
// rests while nobody looks (hidden tab) or nothing can be heard (offline), and asks at once when that is over.
export function follow(url, { onJob, onTrouble, onLost }) {
  let timer = 0;
  let etag = "";
  let fruitless = 0;
  let asking = null;

  const rest = (seconds) => {
    clearTimeout(timer);
    timer = setTimeout(ask, seconds * 1000);
  };

  async function ask() {
    clearTimeout(timer);
    if (asking || document.hidden) return;
    if (!navigator.onLine) {
      onTrouble(new NoAnswer(), null);
      return;
    }
    const mine = (asking = new AbortController());
    try {
      const answer = await call(url, { headers: etag ? { "If-None-Match": etag } : {}, signal: mine.signal });
      const job = answer.status === 304 ? null : await answer.json();
      if (mine.signal.aborted) return;
      fruitless = 0;
      asking = null;
      if (job) etag = answer.headers.get("ETag") ?? "";
      onJob(job);
      if (job && ENDED.has(job.status)) stop();
      else rest(Number(answer.headers.get("Retry-After")) || FIRST_WAIT_SECONDS);
    } catch (error) {
      if (mine.signal.aborted) return;
      asking = null;
      if (error instanceof Refused && error.status < 500 && error.status !== 429) {
        stop();
        onLost(error);
        return;
      }
      // Twice as long each time, and never in step with others who lost the same server.
      const wait = Math.min(FIRST_WAIT_SECONDS * 2 ** fruitless++, LONGEST_WAIT_SECONDS) * (0.75 + Math.random() / 2);
      const seconds = Math.max(wait, error.retryAfter ?? 0);
      rest(seconds);
      onTrouble(error, seconds);
    }
  }

  function stop() {
    clearTimeout(timer);
    asking?.abort();
    document.removeEventListener("visibilitychange", ask);
    removeEventListener("online", ask);
    removeEventListener("offline", ask);
  }

  document.addEventListener("visibilitychange", ask);
  addEventListener("online", ask);
  addEventListener("offline", ask);
  ask();
  return stop;
}

// ---------------------------------------------------------------------------------------------------- the start of a file

const FORMATS = {
  json: "application/json",
  jsonl: "application/x-ndjson",
  ndjson: "application/x-ndjson",
  csv: "text/csv",
};
const START_BYTES = 1024 * 1024; // read for the preview, however large the file is

export const suffixOf = (name) => name.slice(name.lastIndexOf(".") + 1).toLowerCase();

// The first rows, for people to look at: [{index, line, cells: {name: text}}]. What is right or wrong, the API says; here,
// reading simply ends where it cannot go on.
export async function readStart(file) {
  const bytes = await file.slice(0, START_BYTES).arrayBuffer();
  const isWhole = file.size <= START_BYTES;
  // `stream`: the slice may end within a character.
  const text = new TextDecoder().decode(bytes, { stream: !isWhole });
  const rows = [];
  const read = { json: readArray, csv: readTable }[suffixOf(file.name)] ?? readLines;
  for (const row of read(text, isWhole)) rows.push({ index: rows.length, ...row });
  return rows;
}

function* readArray(text) {
  const start = text.search(/\S/);
  if (text[start] !== "[") return;
  for (const part of parts(text, start)) {
    const cells = cellsOf(part);
    if (!cells) return;
    yield { line: null, cells };
  }
}

function* readLines(text, isWhole) {
  const lines = text.split("\n");
  if (!isWhole) lines.pop(); // cut off
  for (const [place, line] of lines.entries()) {
    if (!line.trim()) continue;
    const cells = cellsOf(line.trim());
    if (!cells) return;
    yield { line: place + 1, cells };
  }
}

function* readTable(text, isWhole) {
  let header = null;
  for (const { line, record } of records(text, isWhole)) {
    if (!record.some(Boolean)) continue;
    if (header) {
      yield { line, cells: Object.fromEntries(record.map((cell, place) => [header[place] ?? `+${place + 1}`, cell])) };
    } else {
      header = record.map((name) => name.trim());
    }
  }
}

// The records of a CSV. As the API does, takes whichever of , ; and tab is most frequent in the first line.
function* records(text, isWhole) {
  const [first] = text.match(/[^\r\n]+/) ?? [""];
  const count = (character) => first.split(character).length;
  const delimiter = [",", ";", "\t"].reduce((best, other) => (count(other) > count(best) ? other : best));
  let record = [];
  let cell = "";
  let quoted = false;
  let line = 1;
  let began = 1;
  for (let place = 0; place < text.length; place++) {
    const character = text[place];
    if (character === "\n" || (character === "\r" && text[place + 1] !== "\n")) line++;
    if (quoted) {
      if (character !== '"') cell += character;
      else if (text[place + 1] === '"') cell += text[++place];
      else quoted = false;
    } else if (character === '"' && !cell) {
      quoted = true;
    } else if (character === delimiter) {
      record.push(cell);
      cell = "";
    } else if (character === "\n" || character === "\r") {
      if (character === "\r" && text[place + 1] === "\n") continue;
      yield { line: began, record: [...record, cell] };
      [record, cell, began] = [[], "", line];
    } else {
      cell += character;
    }
  }
  if (isWhole && !quoted && (cell || record.length)) yield { line: began, record: [...record, cell] };
}

// What is between the commas of the array or object that begins at `start`, each as it is written; ends where the text does.
function* parts(text, start) {
  let depth = 0;
  let inString = false;
  let began = start + 1;
  for (let place = start; place < text.length; place++) {
    const character = text[place];
    if (inString) {
      if (character === "\\") place++;
      else if (character === '"') inString = false;
    } else if (character === '"') {
      inString = true;
    } else if (character === "[" || character === "{") {
      depth++;
    } else if ((character === "," && depth === 1) || ((character === "]" || character === "}") && --depth === 0)) {
      const part = text.slice(began, place).trim();
      if (part) yield part;
      began = place + 1;
      if (!depth) return;
    }
  }
}

// The cells of a row in JSON: texts without their quotes, all else as it is written; numbers must not change their looks on
// the way through a float. null where it is no JSON.
function cellsOf(raw) {
  try {
    JSON.parse(raw);
  } catch {
    return null;
  }
  if (raw[0] !== "{") return { "": raw };
  const cells = {};
  for (const part of parts(raw, 0)) {
    const [key] = part.match(/^"(?:[^"\\]|\\.)*"/);
    const value = part.slice(key.length).replace(/^\s*:\s*/, "");
    cells[JSON.parse(key)] = value[0] === '"' ? JSON.parse(value) : value;
  }
  return cells;
}

// ---------------------------------------------------------------------------------------------------- the page

const MAIN = document.querySelector("main");
const API = new URL(MAIN.dataset.api, location.href).href;
const MAX_BYTES = Number(MAIN.dataset.maxMebibytes) * 1024 * 1024;
const CHECK_BY_ITSELF_BYTES = 8e6; // a larger file is checked when it is asked for: that is a second upload
const SHOWN_ROWS = 10;
const SHOWN_COLUMNS = 30;
const SHOWN_CHARACTERS = 120; // of a cell
const SHOWN_FAILURES = 10;
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

const $ = (id) => document.getElementById(id);
const show = (id, isShown) => ($(id).hidden = !isShown);
const fill = (id, ...children) => $(id).replaceChildren(...children);
const say = (text) => ($("announcement").textContent = text); // to those who listen

// An element. Children that are texts become text nodes, whatever is in them.
function h(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

// Somebody else's text: isolated, so that its writing direction moves nothing around it, and cut to a bearable length.
function foreign(text, most = SHOWN_CHARACTERS) {
  const whole = String(text ?? "");
  const cut = [...whole.slice(0, 2 * most)].slice(0, most).join("");
  return h("bdi", {}, cut === whole ? whole : `${cut}…`);
}

function trouble(id, error, ...more) {
  if (!error) return fill(id);
  const lines = [h("p", {}, h("strong", {}, error.message), ...(error.code ? [" ", h("code", {}, error.code)] : []))];
  if (error.status === 401 || error.code === "not_authenticated") {
    lines.push(h("p", {}, h("a", { href: `?${query()}` }, t("sign_in_again"))));
  }
  if (error.retryAfter) lines.push(h("p", {}, t("try_after", { time: duration(error.retryAfter) })));
  fill(id, h("div", { className: "trouble" }, ...lines, ...more));
}

const query = () => location.search.slice(1);
const parameter = (name) => {
  const value = new URLSearchParams(location.search).get(name) ?? "";
  return UUID.test(value) ? value : null;
};

// Where a row is, in the words of the API: the line of a file that has lines, else the index, which counts from 0.
const place = ({ index, line }) => (line ? t("line", { number: String(line) }) : t("index", { number: String(index) }));

// A table of rows; each row that has errors is followed by them.
function rowsTable(rows, errors = new Map()) {
  // The fullest rows first: an empty cell of a CSV is a field left out, and must not move its column to the end.
  const keys = rows.map((row) => Object.keys(row.cells ?? {})).sort((one, other) => other.length - one.length);
  const names = [...new Set(keys.flat())];
  const columns = names.slice(0, SHOWN_COLUMNS);
  const hasLines = rows.some((row) => row.line);
  const heads = [t(hasLines ? "line_heading" : "index_heading"), ...columns.map((name) => foreign(name || t("value"), 40))];
  const body = h("tbody");
  for (const row of rows) {
    const wrong = errors.get(row.index) ?? [];
    const cells = columns.map((name) => {
      const cell = h("td", {}, foreign(row.cells?.[name]));
      if (wrong.some(({ field }) => field === name)) cell.className = "wrong";
      return cell;
    });
    const head = h("th", { scope: "row" }, String(row.line ?? row.index));
    body.append(h("tr", { className: wrong.length ? "has-errors" : "" }, head, ...cells));
    if (wrong.length) {
      // With the value: on a narrow screen its cell may be out of sight.
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
  const parts = field ? [h("strong", {}, foreign(field, 60)), ...(value ? [" “", foreign(value, 40), "”"] : []), ": "] : [];
  parts.push(foreign(message, 300));
  // Of the earlier row, the API tells the index only; the rows at hand may know its line.
  if (first !== undefined) {
    const earlier = choice?.rows[first];
    parts.push(" ", hasLines && earlier ? `(${place(earlier)})` : `(${place({ index: first })})`);
  }
  return parts;
}

// ---------------------------------------------------------------------------------------------------- choosing and checking

// The file that was chosen: {file, key, rows, check, verdict, sending, inDoubt}. The key is made here, once for each choice.
let choice = null;

async function choose(file) {
  if (choice?.sending) return;
  forget();
  const problem = await unfit(file);
  if (problem) {
    trouble("file-trouble", { message: problem });
    return;
  }
  const mine = (choice = { file, key: uuid(), rows: [], check: null, verdict: null, sending: false, inDoubt: false });
  const rows = await readStart(file);
  if (choice !== mine) return; // another file was faster
  choice.rows = rows;
  fill("chosen-title", foreign(file.name, 80));
  fill("chosen-facts", `${suffixOf(file.name).toUpperCase()} · ${size(file.size)}`);
  for (const id of ["verdict", "trouble"]) fill(id);
  for (const radio of policies()) radio.checked = radio.value === "reject";
  show("checking", false);
  show("chosen", true);
  for (const id of ["drop", "recent"]) show(id, false); // a file can still be dropped anywhere
  showRows();
  showSend();
  $("chosen-title").focus();
  if (file.size <= CHECK_BY_ITSELF_BYTES) check();
  else show("check", true);
}

// As if no file had been chosen.
function forget() {
  choice?.check?.abort();
  choice = null;
  show("chosen", false);
  show("drop", true);
  fill("file-trouble");
}

// Why this cannot be a file to import, or "".
async function unfit(file) {
  if (!FORMATS[suffixOf(file.name)]) return t("unknown_format", { name: file.name });
  if (!file.size) return t("empty_file", { name: file.name });
  // The API refuses it, too; but it would hang up in the middle of the upload, and no browser tells why.
  if (file.size > MAX_BYTES) return t("too_large", { size: size(file.size), limit: size(MAX_BYTES) });
  return (await isReadable(file)) ? "" : t("unreadable", { name: file.name });
}

// Browsers refuse to read a file that was changed since it was chosen.
async function isReadable(file) {
  try {
    await file.slice(0, 1).arrayBuffer();
    return true;
  } catch {
    return false;
  }
}

const mediaHeaders = (file) => ({ Accept: "application/json", "Content-Type": FORMATS[suffixOf(file.name)] });

// The dry run: the API judges every row and stores nothing.
async function check() {
  const mine = choice;
  mine.check?.abort();
  mine.check = new AbortController();
  fill("trouble");
  show("check", false);
  show("checking", true);
  fill("checking", t("checking"));
  showSend();
  try {
    mine.verdict = await upload(`${API}?dry_run=true`, mine.file, {
      headers: mediaHeaders(mine.file),
      signal: mine.check.signal,
      onProgress: (part) => choice === mine && part < 1 && fill("checking", t("checking_part", { percent: percent(part) })),
    });
    mine.check = null;
    if (choice === mine) showVerdict();
  } catch (error) {
    if (choice !== mine || error.name === "AbortError") return;
    mine.check = null;
    show("checking", false);
    show("check", true);
    showRefusal(await explained(error, mine.file, t("not_checked")));
  }
}

// NoAnswer with a message: the file may be to blame, or the connection.
async function explained(error, file, message) {
  if (error instanceof Refused) return error;
  if (!(error instanceof NoAnswer)) throw error;
  if (!(await isReadable(file))) return { message: t("unreadable", { name: file.name }) };
  return { message: navigator.onLine ? message : `${t("offline")} ${message}` };
}

function showVerdict() {
  const { rows, valid_rows: valid, invalid_rows: invalid } = choice.verdict;
  show("checking", false);
  const text = invalid ? t("some_wrong", { count: invalid, rows }) : t("all_right", { count: rows });
  fill("verdict", h("p", { className: invalid ? "wrong-rows" : "right-rows" }, text));
  say(text);
  if (!valid) for (const radio of policies()) radio.checked = radio.value === "reject";
  showRows();
  showSend();
}

// An error of the API may name rows; then the table shows them.
function showRefusal(error) {
  trouble("trouble", error);
  if (error.errors?.length) showRows(error);
  showSend();
  $("trouble").scrollIntoView({ block: "nearest" });
}

// The rows with errors, or else the first ones.
function showRows({ errors = choice.verdict?.errors ?? [], count = choice.verdict?.error_count ?? 0 } = {}) {
  const byRow = new Map();
  for (const error of errors) {
    if (error.index === undefined) continue; // a parameter
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
    fill("rows-note", rows.length ? t("first_rows_note", { count: Math.min(SHOWN_ROWS, rows.length) }) : t("no_preview"));
    fill("rows", ...(rows.length ? rowsTable(rows.slice(0, SHOWN_ROWS)) : []));
  }
  show("rows", byRow.size || rows.length);
}

// ---------------------------------------------------------------------------------------------------- sending

const policies = () => $("send").elements.on_invalid;
const percent = (part) => new Intl.NumberFormat(LANGUAGE, { style: "percent" }).format(part);

function showSend() {
  const { verdict, sending, inDoubt } = choice;
  const skips = policies().value === "skip";
  const invalid = verdict?.invalid_rows ?? 0;
  const mendFirst = invalid > 0 && !(skips && verdict.valid_rows);
  show("send", !choice.check); // first what the check says, then the question
  show("policy", !verdict || invalid > 0);
  // While it is in doubt whether the import arrived, only the very same may be sent again: other parameters make it another
  // request, and the key stands for one.
  $("policy").disabled = sending || inDoubt;
  for (const radio of policies()) if (radio.value === "skip") radio.disabled = verdict !== null && !verdict.valid_rows;
  show("advice", mendFirst);
  fill("advice", mendFirst ? t(verdict.valid_rows ? "mend_or_skip" : "mend_all") : "");
  show("import", !mendFirst);
  show("choose-mended", mendFirst);
  $("import").disabled = sending;
  fill("import", importLabel(verdict, skips, inDoubt));
  $("choose-other").disabled = sending;
  show("uploading", sending);
}

function importLabel(verdict, skips, inDoubt) {
  if (inDoubt) return t("send_again");
  if (!verdict) return t("import");
  if (skips && verdict.invalid_rows) return t("import_valid", { count: verdict.valid_rows, skipped: verdict.invalid_rows });
  return t("import_all", { count: verdict.rows });
}

async function send() {
  const mine = choice;
  if (!mine || mine.sending) return; // a double click is one import; the key would see to that, too
  mine.sending = true;
  $("upload").value = 0;
  fill("trouble");
  showSend();
  const parameters = new URLSearchParams({ on_invalid: policies().value });
  if (parameter("corrects")) parameters.set("corrects", parameter("corrects"));
  try {
    const job = await upload(`${API}?${parameters}`, mine.file, {
      headers: { ...mediaHeaders(mine.file), "Idempotency-Key": mine.key },
      onProgress: (part) => ($("upload").value = part),
    });
    forget();
    history.pushState(null, "", `?job=${job.id}`);
    openJob(job.id, job);
  } catch (error) {
    mine.sending = false;
    if (choice !== mine) return; // the page was left for a job
    // A Refused of 5xx comes from somewhere in between, or from a server in trouble: as much in doubt as no answer.
    mine.inDoubt = !(error instanceof Refused) || error.status >= 500 || (mine.inDoubt && error.status === 429);
    showRefusal(await explained(error, mine.file, t("not_sent")));
  }
}

// ---------------------------------------------------------------------------------------------------- a job

let stopFollowing = () => {};
let shownJob = null;

function openJob(id, job = null) {
  stopFollowing();
  shownJob = null;
  show("start", false);
  show("job", true);
  for (const name of ["problems", "failures", "connection", "stay"]) show(name, false);
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
    onTrouble: (error, seconds) => {
      const text = seconds === null ? t("offline") : t("no_connection", { time: duration(seconds) });
      if ($("connection").textContent !== text) fill("connection", text);
      show("connection", true);
    },
    onLost: (error) => {
      if (!shownJob) fill("job-title", t("not_opened"));
      trouble("job-trouble", error);
    },
  });
}

function showJob(job) {
  const before = shownJob;
  shownJob = job;
  const ended = ENDED.has(job.status);
  const done = 1 - job.counts.pending / job.rows;
  $("job-status").dataset.status = job.status;
  fill("job-status", t(`status_${job.status}`));
  fill("job-title", t(ended ? `title_${job.status}` : "title_running", { count: job.rows }));
  fill("job-message", foreign(job.message, 1000));
  document.title = ended ? t(`status_${job.status}`) : `${percent(done)} · ${t("title")}`;
  showBar(job, done);
  const outcomes = Object.keys(job.counts).filter((outcome) => job.counts[outcome] || outcome === "created");
  fill("counts", ...outcomes.map((outcome) => countOf(outcome, job.counts[outcome])));
  fill("pace", pace(job, ended));
  show("stay", !ended);
  showActions(job);
  showFacts(job);
  showProblems(job);
  show("failures", ended && job.counts.created < job.rows);
  if (ended && job.counts.created < job.rows) showFailures(job);
  if (!before || before.status !== job.status || Math.floor(4 * done) > Math.floor(4 * (1 - before.counts.pending / before.rows))) {
    say(ended || job.status === "paused" ? job.message : t("heard_progress", { percent: percent(done), status: t(`status_${job.status}`) }));
  }
}

function showBar(job, done) {
  const bar = $("bar");
  bar.setAttribute("aria-valuenow", String(Math.floor(100 * done)));
  bar.setAttribute("aria-valuetext", percent(done));
  const segments = Object.entries(job.counts).filter(([outcome, rows]) => outcome !== "pending" && rows);
  fill("bar", ...segments.map(([outcome, rows]) => {
    const segment = h("span");
    segment.dataset.outcome = outcome;
    segment.style.width = `${(100 * rows) / job.rows}%`; // a script may, under a policy that forbids style attributes
    return segment;
  }));
}

function countOf(outcome, rows) {
  const count = h("div", {}, h("dt", {}, t(`outcome_${outcome}`)), h("dd", {}, number(rows)));
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

// A button for each thing that can be done now. The API says which: a link that is null cannot be followed.
function showActions({ links }) {
  const wanted = ["cancel", "retry"].filter((action) => links[action]);
  const present = [...$("job-actions").children].map((button) => button.value);
  if (wanted.join() === present.join()) return; // keep them, and the focus
  fill("job-actions", ...wanted.map((action) => {
    const button = h("button", { value: action }, t(`action_${action}`));
    button.onclick = () => (action === "cancel" ? askToCancel() : act(action));
    return button;
  }));
}

function showFacts(job) {
  const facts = [t("accepted_at", { time: dateTime(job.created_at) })];
  const { corrects } = job;
  fill("job-facts", facts.join(" · "), ...(corrects ? [" · ", h("a", { href: `?job=${corrects}` }, t("corrects_that"))] : []));
}

function showProblems({ problems }) {
  show("problems", problems.length > 0);
  fill("problem-list", ...problems.map((problem) => h("li", {},
    h("span", { className: "count" }, t("rows", { count: problem.count })),
    h("span", {}, ...reason({ field: problem.field, message: problem.message }),
      " ", h("small", {}, t("first_at", { number: String(problem.first_index) }))),
  )));
}

function askToCancel() {
  const dialog = $("confirm-cancel");
  dialog.returnValue = "no"; // what closing it with Escape means
  dialog.onclose = () => dialog.returnValue === "yes" && act("cancel");
  dialog.showModal();
}

async function act(action) {
  const job = shownJob;
  for (const button of $("job-actions").children) button.disabled = true;
  fill("job-trouble");
  try {
    const answer = await call(job.links[action], { method: action === "cancel" ? "DELETE" : "POST" });
    const document = await answer.json();
    stopFollowing();
    fill("job-actions"); // the buttons of the job as it is now
    showJob(document);
    $("job-title").focus();
    followJob(job.id);
  } catch (error) {
    trouble("job-trouble", error instanceof NoAnswer ? { message: t("not_done") } : error);
    for (const button of $("job-actions").children) button.disabled = false;
  }
}

// The first rows that were not created, with their reasons. The stream is left as soon as there are enough of them.
async function showFailures(job) {
  $("failures-csv").href = `${job.links.failures}?format=csv`;
  $("failures-rows").href = `${job.links.failures}?part=rows`;
  const failed = job.rows - job.counts.created;
  const leave = new AbortController();
  let text = "";
  try {
    const answer = await call(job.links.failures, { headers: { Accept: "application/x-ndjson" }, signal: leave.signal });
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let lines = 0; lines <= SHOWN_FAILURES; lines = text.split("\n").length) {
      const { done, value } = await reader.read();
      if (done) break;
      text += value;
    }
    leave.abort();
  } catch {
    if (!text) return; // the downloads are there, and say what is wrong
  }
  if (shownJob !== job) return;
  const failures = text.split("\n").slice(0, -1).slice(0, SHOWN_FAILURES).map((line) => {
    const row = [...parts(line, 0)].find((part) => /^"row"\s*:/.test(part));
    return { ...JSON.parse(line), cells: cellsOf(row.replace(/^"row"\s*:\s*/, "")), line: null };
  });
  fill("failed-rows-note", failed > failures.length ? t("first_failures", { shown: failures.length, count: failed }) : t("index_explained"));
  fill("failed-rows", ...rowsTable(failures, new Map(failures.map(({ index, errors }) => [index, errors]))));
}

// ---------------------------------------------------------------------------------------------------- the start

function openStart() {
  stopFollowing();
  shownJob = null;
  document.title = t("title");
  show("job", false);
  show("start", true);
  forget();
  const corrects = parameter("corrects");
  show("corrects", corrects);
  if (corrects) fill("corrects", t("corrects_note"), " ", h("a", { href: `?job=${corrects}` }, t("corrects_that")));
  showRecent();
}

async function showRecent() {
  let jobs = [];
  try {
    jobs = (await (await call(`${API}?page_size=5`)).json()).results;
  } catch {
    // It is only a help; what is wrong is told when a file is chosen.
  }
  fill("recent-jobs", ...jobs.map((job) => {
    const badge = h("span", { className: "badge" }, t(`status_${job.status}`));
    badge.dataset.status = job.status;
    const facts = `${t("rows", { count: job.rows })} · ${dateTime(job.created_at)}`;
    return h("li", {}, h("a", { href: `?job=${job.id}` }, facts), badge);
  }));
  show("recent", jobs.length && !choice);
}

// The address says what is shown, so that a reload, a bookmark and the way back all work.
function open() {
  const id = parameter("job");
  if (id) openJob(id);
  else openStart();
}

// Links within the page change the address only.
document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[href^='?']");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  if (link.getAttribute("href") === `?${query()}`) return; // a reload is wanted, to sign in again
  event.preventDefault();
  history.pushState(null, "", link.getAttribute("href") === "?" ? location.pathname : link.href);
  open();
  (shownJob || parameter("job") ? $("job-title") : $("start-title")).focus();
});
addEventListener("popstate", open);

$("file").onchange = ({ target }) => {
  const [file] = target.files;
  target.value = ""; // so that the same file, mended, can be chosen again
  if (file) choose(file);
};
for (const id of ["choose-other", "choose-mended"]) $(id).onclick = () => $("file").click();
$("check").onclick = check;
$("correct").onclick = () => {
  history.pushState(null, "", `?corrects=${shownJob.id}`);
  open();
  $("start-title").focus();
};
$("send").onsubmit = (event) => {
  event.preventDefault();
  send();
};
$("send").onchange = showSend;

// A file dropped anywhere is meant for us; the browser would open it and leave the page.
for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
  addEventListener(name, (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    $("drop").classList.toggle("over", name === "dragover" || name === "dragenter");
    if (name === "drop" && !$("start").hidden && event.dataTransfer.files[0]) choose(event.dataTransfer.files[0]);
  });
}

addEventListener("beforeunload", (event) => choice?.sending && event.preventDefault());

open();
