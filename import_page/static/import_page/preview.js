// Reads the first rows of a file in the browser, to show examples of its values. Plain functions without access to the page.

import { suffixOf } from "./texts.js";

// The encodings that browsers know by another name. They do not know IBM 850 at all.
const ENCODINGS = { "utf-16-le": "utf-16le", "utf-16-be": "utf-16be" };
const PREVIEW_BYTES = 1024 * 1024; // how much of the file the preview reads; the preview needs only a few rows

// Returns the first rows: [{index, line, cells: {name: text}}]. They are not validated, because the API does that. The list
// ends at the first row that cannot be read, and is empty for a workbook. `reading` is what the API has found out about a
// table: {encoding, delimiter, header_line}.
export async function readFirstRows(file, reading = {}) {
  const bytes = await file.slice(0, PREVIEW_BYTES).arrayBuffer();
  const isWhole = file.size <= PREVIEW_BYTES;
  // With `stream`, a character that the slice cuts in half is left out instead of replaced by a placeholder.
  const text = decode(new Uint8Array(bytes), reading.encoding ?? "utf-8", !isWhole);
  if (text.startsWith("PK\u0003") || reading.format === "spreadsheet") return [];
  const rows = [];
  const isTable = reading.format ? reading.format === "csv" : !["json", "jsonl", "ndjson"].includes(suffixOf(file.name));
  const read = isTable ? readTable : /^\s*\[/.test(text) ? readArray : readLines;
  for (const row of read(text, isWhole, reading)) rows.push({ index: rows.length, ...row });
  return rows;
}

function decode(bytes, encoding, isCut) {
  if (encoding === "utf-16" && bytes[0] === 0xfe) encoding = "utf-16be"; // the byte order mark says so
  try {
    return new TextDecoder(ENCODINGS[encoding] ?? encoding).decode(bytes, { stream: isCut });
  } catch {
    return ""; // a browser that does not know the encoding shows no examples
  }
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

function* readTable(text, isWhole, { delimiter, header_line: headerLine = 1 }) {
  let header = null;
  for (const { line, record } of records(text, isWhole, delimiter)) {
    if (line < headerLine || !record.some(Boolean)) continue;
    if (header) {
      yield { line, cells: Object.fromEntries(record.map((cell, position) => [header[position] ?? `+${position + 1}`, cell])) };
    } else {
      header = record.map((name) => name.trim());
    }
  }
}

// Yields the records of a CSV. Without a delimiter, it uses the most frequent of comma, semicolon and tab in the first line.
function* records(text, isWhole, delimiter = mostFrequentDelimiter(text)) {
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

function mostFrequentDelimiter(text) {
  const [first] = text.match(/[^\r\n]+/) ?? [""];
  const count = (character) => first.split(character).length;
  return [",", ";", "\t"].reduce((best, other) => (count(other) > count(best) ? other : best));
}

// Yields the members of the JSON array or object that starts at `start`, as they are written, until the text ends.
export function* splitMembers(text, start) {
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
export function readCells(raw) {
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
