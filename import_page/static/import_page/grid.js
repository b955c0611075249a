// The grid in which the user corrects the rows that were not created: one fix for all similar rows, find and replace, undo.
//
// The edits are kept for this tab (sessionStorage), so a reload loses none of them.

import { NoResponse } from "./api.js";
import { $, announce, button, fill, h, LOOKUP, show, showError, untrusted } from "./page.js";
import { t } from "./texts.js";

const MAX_ROWS = 2_000;
const PAGE_ROWS = 50;

let source = null; // see corrections.js
let rows = []; // [{index, line, errors, raw, cells, values}]; `values` are the new texts of the cells that were changed
let columns = [];
let first = 0; // position of the first row on this page of the grid
let done = []; // batches of changes, for undo: [[row, column, value before or undefined]]

const valueOf = (row, column) => row.values[column] ?? row.cells[column] ?? "";
const isChanged = (row) => Object.keys(row.values).length > 0;
const storageKey = () => `import-page edits ${source.key}`;

// Shows the rows of a source, after the view whose title gets the focus when the grid is closed.
export async function openGrid(shown, title) {
  source = shown;
  $("grid-close").onclick = () => {
    showGrid(false);
    $(title).focus();
  };
  showGrid(true);
  fill("grid-title", t("grid_loading"));
  for (const id of ["grid-note", "grid-groups", "grid-rows", "grid-pages", "find-result"]) fill(id); // those of another job
  [rows, first, done] = [[], 0, []];
  showState();
  showError("grid-trouble");
  let loaded;
  try {
    loaded = await source.load(MAX_ROWS);
  } catch (error) {
    return showError("grid-trouble", error instanceof NoResponse ? { message: t("not_done") } : error);
  }
  if (source !== shown) return; // the user has left in the meantime
  rows = loaded.filter(({ raw }) => raw.startsWith("{"));
  const edits = JSON.parse(sessionStorage.getItem(storageKey()) ?? "{}");
  for (const row of rows) row.values = edits[row.index] ?? {};
  const wrong = rows.flatMap(({ errors }) => errors.map(({ field }) => field)).filter(Boolean);
  columns = [...new Set([LOOKUP, ...wrong, ...rows.flatMap(({ cells }) => Object.keys(cells))].filter(Boolean))];
  fill("grid-title", t("grid_title", { count: rows.length }));
  fill("grid-note", source.total > rows.length ? t("grid_first", { shown: rows.length, count: source.total }) : "");
  fill("find-column", ...columns.map((name) => h("option", { value: name }, name)));
  fill("grid-send", t(source.isCheck ? "grid_check" : "grid_import"));
  showGroups();
  showRows();
  $("grid-title").focus();
  $("grid").scrollIntoView({ block: "start" });
}

function showGrid(isShown) {
  show("grid", isShown);
  document.querySelector("main").classList.toggle("is-fixing", isShown);
}

export function closeGrid() {
  showGrid(false);
  source = null;
}

// ---------------------------------------------------------------------------------------------------- changes

// Changes cells: [[row, column, value]]. All of them are undone together.
function change(changes) {
  const real = changes.filter(([row, column, value]) => valueOf(row, column) !== value);
  if (!real.length) return 0;
  done.push(real.map(([row, column]) => [row, column, row.values[column]]));
  for (const [row, column, value] of real) row.values[column] = value;
  changed();
  return real.length;
}

function undo() {
  for (const [row, column, value] of done.pop() ?? []) {
    if (value === undefined) delete row.values[column];
    else row.values[column] = value;
  }
  changed();
  announce(t("undone"));
}

function changed() {
  sessionStorage.setItem(storageKey(), JSON.stringify(Object.fromEntries(rows.filter(isChanged).map(({ index, values }) => [index, values]))));
  for (const input of $("grid-rows").querySelectorAll("input")) {
    input.value = valueOf(input.row, input.name);
    mark(input);
  }
  showState();
}

function mark(input) {
  const isWrong = input.row.errors.some(({ field }) => field === input.name);
  const isEdited = input.name in input.row.values;
  input.parentElement.className = isEdited ? "edited" : isWrong ? "wrong" : "";
  input.setAttribute("aria-invalid", String(isWrong && !isEdited));
}

function showState() {
  const count = rows.filter(isChanged).length;
  fill("grid-state", t("grid_changed", { count }));
  $("grid-undo").disabled = !done.length;
  $("grid-send").disabled = !count;
  for (const item of $("grid-groups").children) {
    const left = item.rows.filter(({ values }) => !(item.field in values)).length;
    item.querySelector(".count").textContent = t("rows", { count: left });
    item.classList.toggle("fixed", !left);
  }
}

// ---------------------------------------------------------------------------------------------------- similar rows

function showGroups() {
  const groups = new Map();
  for (const row of rows) {
    for (const { field, message } of row.errors) {
      const key = JSON.stringify([field, message]);
      if (!groups.has(key)) groups.set(key, { field, message, rows: [] });
      groups.get(key).rows.push(row);
    }
  }
  const sorted = [...groups.values()].sort((one, other) => other.rows.length - one.rows.length);
  fill("grid-groups", ...sorted.slice(0, 20).map(groupItem));
  showState();
}

function groupItem({ field, message, rows: similar }) {
  const count = similar.length;
  const text = h("span", {}, ...(field ? [h("strong", {}, untrusted(field, 60)), ": "] : []), untrusted(message, 200));
  const item = h("li", {}, h("span", { className: "count" }), text);
  Object.assign(item, { field, rows: similar });
  if (!field) return item;
  const input = h("input", { type: "text", autocomplete: "off" });
  input.setAttribute("aria-label", t("group_value", { count, field }));
  const form = h("form", {}, input, h("button", {}, t("group_apply", { count })));
  form.onsubmit = (event) => {
    event.preventDefault();
    announce(t("cells_changed", { count: change(similar.map((row) => [row, field, input.value])) }));
  };
  item.append(form);
  return item;
}

// ---------------------------------------------------------------------------------------------------- the table

function showRows() {
  const shown = rows.slice(first, first + PAGE_ROWS);
  const heads = [t("line_heading"), ...columns.map((name) => untrusted(name, 40)), t("reasons")];
  const table = h("table", {},
    h("thead", {}, h("tr", {}, ...heads.map((head) => h("th", { scope: "col" }, head)))),
    h("tbody", {}, ...shown.map(rowElement)),
  );
  fill("grid-rows", table);
  const isPaged = rows.length > PAGE_ROWS;
  const pages = isPaged ? [
    button(t("previous"), () => turn(-PAGE_ROWS)),
    h("span", {}, t("shown_rows", { first: first + 1, last: first + shown.length, count: rows.length })),
    button(t("next"), () => turn(PAGE_ROWS)),
  ] : [];
  fill("grid-pages", ...pages);
  if (isPaged) [pages[0].disabled, pages[2].disabled] = [first === 0, first + PAGE_ROWS >= rows.length];
}

function turn(by) {
  first += by;
  showRows();
  $("grid-rows").querySelector("input")?.focus();
}

function rowElement(row) {
  const where = String(row.line ?? row.index + 1);
  const cells = columns.map((name) => {
    const input = h("input", { type: "text", name, value: valueOf(row, name), autocomplete: "off" });
    input.row = row;
    input.setAttribute("aria-label", t("cell", { field: name, line: where }));
    const cell = h("td", {}, input);
    mark(input);
    return cell;
  });
  const reasons = row.errors.map(({ field, message }) => untrusted(field ? `${field}: ${message}` : message, 200));
  return h("tr", {}, h("th", { scope: "row" }, where), ...cells, h("td", { className: "reasons" }, ...reasons));
}

function move(input, by) {
  const inputs = [...$("grid-rows").querySelectorAll("input")].filter(({ name }) => name === input.name);
  inputs[inputs.indexOf(input) + by]?.focus();
}

$("grid-rows").oninput = () => ($("grid-send").disabled = false); // the change itself follows when the cell loses the focus
$("grid-rows").onchange = ({ target }) => change([[target.row, target.name, target.value]]);
$("grid").onkeydown = (event) => {
  const input = event.target;
  const isCell = Boolean(input.row);
  const isTyping = input.matches("input") && !(isCell && input.value === valueOf(input.row, input.name)); // undone by the browser
  if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey) && !isTyping) {
    event.preventDefault();
    undo();
  } else if (isCell && (event.key === "ArrowDown" || event.key === "Enter")) {
    event.preventDefault();
    move(input, 1);
  } else if (isCell && event.key === "ArrowUp") {
    event.preventDefault();
    move(input, -1);
  }
};
$("grid-undo").onclick = undo;
$("find").onsubmit = (event) => {
  event.preventDefault();
  const [column, text, other] = ["find-column", "find-text", "find-other"].map((id) => $(id).value);
  const found = rows.filter((row) => valueOf(row, column).includes(text));
  const count = change(found.map((row) => [row, column, valueOf(row, column).replaceAll(text, other)]));
  fill("find-result", t("cells_changed", { count }));
};
$("grid-send").onclick = async () => {
  $("grid-send").disabled = true;
  showError("grid-trouble");
  const key = storageKey();
  try {
    await source.send(rows.filter(isChanged));
    sessionStorage.removeItem(key);
  } catch (error) {
    showError("grid-trouble", error instanceof NoResponse ? { message: t("not_done") } : error);
    $("grid-trouble").scrollIntoView({ block: "nearest" });
    showState();
  }
};
