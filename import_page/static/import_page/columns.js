// The step "columns": which column is read as which field, and the questions that a file leaves open.
//
// Nothing is imported while a column is neither a field nor deliberately ignored. Decisions are remembered in the browser for
// files with the same columns.

import { ApiError } from "./api.js";
import { draft, save } from "./draft.js";
import { closeGrid } from "./grid.js";
import { findLocale, isLocalized, LOCALES } from "./locales.js";
import { $, API, announce, FIELDS, fill, h, LOOKUP, show, showError, untrusted, uuid } from "./page.js";
import { readFirstRows } from "./preview.js";
import { showStep } from "./steps.js";
import { LOCALE, percent, plainNumber, size, suffixOf, t } from "./texts.js";
import { explain, send } from "./upload.js";

const QUESTIONS = new Set(["choose_sheet", "unknown_encoding", "wrong_encoding", "ambiguous_column"]);
const IGNORE = "\0"; // value of the choice to ignore a column; no field has this name
const MINE = LOCALES.find((name) => name === LOCALE) ?? LOCALES.find((name) => name.startsWith(LOCALE.slice(0, 2)));

let next = () => {}; // called when the columns are decided
let samples = [];

const undecided = () => (draft.result?.reading?.ignored ?? []).filter((name) => !(name in columns()));
const columns = () => draft.decided ?? {}; // the decisions: the field of each column, or null to ignore it
const fileFacts = () => `${suffixOf(draft.name).toUpperCase()} · ${size(draft.file.size)}`;
const isTable = () => draft.result?.reading?.format !== "json";

// Reads the file with a dry run. Then it calls `onDecided`, or shows the questions first.
export async function read(onDecided) {
  next = onDecided;
  closeGrid();
  showStep("columns");
  fill("columns-title", untrusted(draft.name, 80));
  fill("columns-facts", fileFacts());
  for (const name of ["columns-form", "columns-again"]) show(name, false);
  showError("columns-trouble");
  show("columns-busy", true);
  fill("columns-busy", t("checking"));
  try {
    const { listed_rows: listed, ...result } = await send({ dry_run: true, rows: true }, { // the answer has every error then
      onProgress: (part) => part < 1 && fill("columns-busy", t("checking_part", { percent: percent(part) })),
    });
    await save({ result, listed, step: "columns" });
  } catch (error) {
    show("columns-busy", false);
    if (error instanceof ApiError && QUESTIONS.has(error.code)) return ask(error.body);
    show("columns-again", true);
    showError("columns-trouble", explain(error, t("not_checked")));
    return $("columns-title").focus();
  }
  show("columns-busy", false);
  if (applyMemory()) return read(onDecided);
  samples = await readFirstRows(draft.file, draft.result.reading);
  if (await takeOverLocale()) return read(onDecided);
  if (undecided().length || missing().length || needsLocale() || ambiguous().length) return showColumns();
  return next();
}

// Shows the columns with all decisions, which can be changed.
export async function showColumns(onDecided = next) {
  next = onDecided;
  samples = await readFirstRows(draft.file, draft.result.reading);
  showStep("columns");
  for (const name of ["columns-busy", "columns-again", "question"]) show(name, false);
  show("columns-form", true);
  for (const name of ["columns-table", "columns-mode", "columns-locale", "columns-decimal"]) show(name, true);
  fill("columns-title", untrusted(draft.name, 80));
  fill("columns-facts", `${fileFacts()} · ${t("rows", { count: draft.result.rows })}`);
  const { columns: read = [], ignored = [] } = draft.result.reading;
  const open = new Set(undecided());
  const names = [...open, ...read.map(({ column }) => column), ...ignored.filter((name) => !open.has(name))];
  fill("columns-body", ...names.map((name) => rowOf(name, read.find(({ column }) => column === name)?.field ?? null)));
  show("columns-table", names.length);
  showLocale();
  showDecimal();
  for (const radio of $("columns-form").elements.mode) radio.checked = radio.value === (draft.options.mode || "create");
  show("columns-mode", LOOKUP);
  showState();
  announce($("columns-state").textContent);
  $("columns-title").focus();
}

function rowOf(name, field) {
  const id = uuid();
  const select = h("select", { id, onchange: showState });
  select.dataset.column = name;
  const choices = isTable() ? FIELDS.map(({ name: value, label }) => h("option", { value }, label === value ? label : `${label} (${value})`)) : [];
  select.append(h("option", { value: "" }, t("choose_field")), h("option", { value: IGNORE }, t("ignore_column")), ...choices);
  select.value = field ?? (undecided().includes(name) ? "" : IGNORE);
  const value = draft.result.reading.values?.find((one) => one.field === field);
  const example = value ? t("read_as", { from: value.from, to: value.to }) : samples.map(({ cells }) => cells[name]).find(Boolean);
  return h("tr", {},
    h("th", { scope: "row" }, h("label", { htmlFor: id }, untrusted(name, 60))),
    h("td", { className: "example" }, untrusted(example, 40)),
    h("td", {}, select),
  );
}

const selects = () => [...document.querySelectorAll("#columns-body select")];
const chosenMode = () => $("columns-form").elements.mode.value;

// Returns the fields that need a column. Changes need only the field that finds the object.
const requiredFields = (mode) => FIELDS.filter(({ name, required }) => (mode === "update" ? name === LOOKUP : required));

// Returns the required fields without a column.
function missing() {
  if (!isTable()) return [];
  const used = new Set(draft.result.reading.columns.map(({ field }) => field));
  return requiredFields(draft.options.mode).filter(({ name }) => !used.has(name));
}

// Shows what is still to be decided. The button works only if nothing is.
function showState() {
  const open = selects().filter((select) => !select.value);
  const used = selects().map((select) => select.value).filter((value) => value && value !== IGNORE);
  const twice = used.find((value, position) => used.indexOf(value) !== position);
  const absent = isTable() ? requiredFields(chosenMode()).filter(({ name }) => !used.includes(name)) : [];
  for (const select of selects()) select.closest("tr").classList.toggle("open", !select.value);
  const list = (fields) => fields.map(({ name, label }) => (label === name ? name : `${label} (${name})`)).join(", ");
  const texts = [];
  if (open.length) texts.push(t("columns_open", { count: open.length }));
  if (twice) texts.push(t("columns_twice", { field: list(FIELDS.filter(({ name }) => name === twice)) }));
  if (absent.length) texts.push(t("columns_missing", { fields: list(absent) }));
  const isLocaleOpen = needsLocale() && !$("locale").value;
  if (isLocaleOpen) texts.push(t("locale_open"));
  const questions = [...$("columns-decimal").children];
  if (questions.some((one) => !one.querySelector("input:checked"))) texts.push(t("decimal_open"));
  fill("columns-state", texts.join(" ") || t("columns_decided"));
  $("columns-state").classList.toggle("wrong-rows", texts.length > 0);
  $("columns-next").disabled = texts.length > 0;
}

// Returns the values of the file that were refused and that mean something in a locale, such as 12,50 or VERDADEIRO.
function localizedValues() {
  if (draft.options.locale || draft.result.reading.format !== "csv") return [];
  const columnOf = Object.fromEntries(draft.result.reading.columns.map(({ column, field }) => [field, column]));
  const rows = new Map(samples.map((row) => [row.line, row]));
  const texts = draft.result.errors.map(({ line, field }) => rows.get(line)?.cells[columnOf[field]]?.trim() ?? "");
  return [...new Set(texts)].filter(isLocalized);
}

const needsLocale = () => localizedValues().length > 0;

// Takes over the locale of the file if its values can be read in one way only: 12,50 has a decimal comma. The check shows how
// they were read. Returns whether the file has to be read again.
async function takeOverLocale() {
  const locale = findLocale(localizedValues(), MINE);
  if (!needsLocale() || !locale) return false;
  await save({ options: { ...draft.options, locale } });
  return true;
}

function showLocale() {
  const names = new Intl.DisplayNames(LOCALE, { type: "language" });
  const example = (name) => `${new Intl.NumberFormat(name).format(1234.5)}, ${new Intl.DateTimeFormat(name).format(new Date(2026, 11, 31))}`;
  const others = LOCALES.filter((name) => name !== MINE);
  const choices = [MINE, ...others].filter(Boolean).map((name) => h("option", { value: name }, `${names.of(name)}: ${example(name)}`));
  fill("locale", h("option", { value: "" }, t(needsLocale() ? "choose_field" : "locale_none")), ...choices);
  $("locale").value = draft.options.locale ?? "";
  show("columns-locale", draft.result.reading.format !== "json");
}

// Returns the fields with numbers that can mean two things, such as 1.200.
const ambiguous = () => [...new Set(draft.result.errors.filter(({ code }) => code === "ambiguous_number").map(({ field }) => field))];
const chosenDecimal = () => {
  const chosen = [...$("columns-decimal").querySelectorAll("input:checked")];
  return Object.fromEntries(chosen.flatMap(({ fields, value }) => fields.map((field) => [field, value])));
};

// Returns the first value of a field that can mean two things.
function ambiguousValue(field) {
  const { column } = draft.result.reading.columns.find((one) => one.field === field) ?? {};
  return samples.map(({ cells }) => cells[column]?.trim()).find((cell) => /^-?\d{1,3}[.,]\d{3}$/.test(cell)) ?? "1.200";
}

// Asks once what such numbers mean, for all fields that write them in the same way. The answer is their decimal separator.
function showDecimal() {
  const fields = [...new Set([...ambiguous(), ...Object.keys(draft.options.decimal ?? {})])];
  const groups = Object.values(Object.groupBy(fields, (field) => (ambiguousValue(field).includes(".") ? "." : ",")));
  fill("columns-decimal", ...groups.map((group) => {
    const [value, decided] = [ambiguousValue(group[0]), draft.options.decimal?.[group[0]]];
    const choices = [",", "."].map((decimal) => {
      const meaning = Number(value.replace(decimal === "," ? "." : ",", "").replace(",", "."));
      const radio = h("input", { type: "radio", name: `decimal ${group[0]}`, value: decimal, checked: decided === decimal });
      radio.fields = group;
      return h("label", {}, radio, h("span", {}, plainNumber(meaning)));
    });
    return h("fieldset", {}, h("legend", {}, t("decimal_question", { value, field: group.join(", ") })), ...choices);
  }));
}

// Asks a question of the API, whose answer lists the choices.
function ask({ code, message, sheets, encodings, ambiguous }) {
  show("columns-form", true);
  for (const name of ["columns-table", "columns-mode", "columns-locale", "columns-decimal"]) show(name, false);
  show("question", true);
  fill("question-text", t(`question_${code}`), " ", code === "wrong_encoding" ? untrusted(message, 300) : "");
  let choices = [];
  if (sheets) choices = sheets.map((name) => [name, name, { sheet: name }]);
  if (encodings) choices = encodings.map(({ encoding, sample }) => [encoding, `${sample} (${encoding})`, { encoding }]);
  if (ambiguous) {
    const only = (name) => Object.fromEntries(ambiguous.columns.map((other) => [other, other === name ? ambiguous.field : null]));
    choices = ambiguous.columns.map((name) => [name, name, { columns: only(name) }]);
  }
  fill("question-choices", ...choices.map(([value, label, options], position) => {
    const radio = h("input", { type: "radio", name: "answer", value, required: true, checked: position === 0 });
    radio.answer = options;
    return h("label", {}, radio, untrusted(label, 80));
  }));
  if (!choices.length) showError("columns-trouble", { message });
  fill("columns-state");
  $("columns-next").disabled = !choices.length;
  announce($("question-text").textContent);
  $("question-choices").querySelector("input")?.focus();
}

async function decide(event) {
  event.preventDefault();
  const answer = $("question").hidden ? null : $("columns-form").querySelector("[name=answer]:checked")?.answer;
  if (answer) {
    if (answer.columns) answer.columns = draft.decided = { ...columns(), ...answer.columns };
    await save({ options: { ...draft.options, ...answer } });
    return read(next);
  }
  const found = Object.fromEntries(draft.result.reading.columns?.map(({ column, field }) => [column, field]) ?? []);
  const chosen = { ...columns() };
  for (const { dataset: { column }, value } of selects()) {
    const field = value === IGNORE ? null : value;
    if (column in chosen || (found[column] ?? null) !== field || field === null) chosen[column] = field;
  }
  const options = { ...draft.options, columns: isTable() ? chosen : {}, locale: $("locale").value, decimal: chosenDecimal() };
  options.mode = chosenMode() === "create" ? "" : chosenMode();
  const isChanged = JSON.stringify(options) !== JSON.stringify(draft.options);
  remember(chosen);
  await save({ options, decided: chosen, rehearsal: isChanged ? null : draft.rehearsal });
  if (!isChanged) return next();
  return read(next);
}

// The decisions about earlier files with the same columns.
const memoryKey = () => {
  const { columns: read = [], ignored = [] } = draft.result.reading;
  return `import-page ${API} ${JSON.stringify([...read.map(({ column }) => column), ...ignored].sort())}`;
};

function remember(chosen) {
  try {
    if (Object.keys(chosen).length) localStorage.setItem(memoryKey(), JSON.stringify(chosen));
  } catch {
    // Without storage, the page asks again.
  }
}

// Takes over the earlier decisions. Returns whether there are any.
function applyMemory() {
  if (!isTable() || Object.keys(columns()).length || !undecided().length) return false;
  let found = null;
  try {
    found = JSON.parse(localStorage.getItem(memoryKey()));
  } catch {
    return false;
  }
  if (!found) return false;
  draft.options.columns = draft.decided = found;
  return true;
}

$("columns-form").onsubmit = decide;
$("columns-form").onchange = showStateIfTable;
$("columns-again").onclick = () => read(next);

function showStateIfTable() {
  if ($("question").hidden) showState();
}
