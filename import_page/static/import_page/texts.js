// The texts of the page in the user's language, and the formats of numbers, times and sizes.

const TEXTS = JSON.parse(document.getElementById("texts").textContent);
const PAGE_LANGUAGE = document.documentElement.lang;
// A language such as English has several date formats. Use the browser's variant of the page's language, for example en-GB.
const LANGUAGE = navigator.languages.find((name) => name.toLowerCase().startsWith(PAGE_LANGUAGE)) ?? PAGE_LANGUAGE;
const PLURALS = new Intl.PluralRules(LANGUAGE);

export const LOCALE = LANGUAGE;
export const hasText = (key) => key in TEXTS;
export const number = (value) => new Intl.NumberFormat(LANGUAGE, { maximumFractionDigits: 1 }).format(value);
export const plainNumber = (value) => new Intl.NumberFormat(LANGUAGE, { useGrouping: false }).format(value);
export const percent = (part) => new Intl.NumberFormat(LANGUAGE, { style: "percent" }).format(part);
export const suffixOf = (name) => name.slice(name.lastIndexOf(".") + 1).toLowerCase();

const format = (style, value) => new Intl.DateTimeFormat(LANGUAGE, style).format(new Date(value));
export const dateTime = (value) => format({ dateStyle: "medium", timeStyle: "short" }, value);
export const time = (value) => format({ timeStyle: "medium" }, value);

// Returns a text with its {placeholders} replaced. If the text has singular and plural forms, `values.count` selects one.
export function t(key, values = {}) {
  const forms = TEXTS[key];
  const text = typeof forms === "string" ? forms : (forms[PLURALS.select(values.count)] ?? forms.other);
  return text.replace(/\{(\w+)\}/g, (_, name) =>
    typeof values[name] === "number" ? number(values[name]) : values[name],
  );
}

// Like most file managers, this counts 1,024 bytes as a kilobyte and 1,024 kilobytes as a megabyte.
export function size(bytes) {
  const [unit, factor] = bytes < 2 ** 10 ? ["byte", 1] : bytes < 2 ** 20 ? ["kilobyte", 2 ** 10] : ["megabyte", 2 ** 20];
  const style = { style: "unit", unit, unitDisplay: unit === "byte" ? "long" : "short", maximumFractionDigits: 1 };
  return new Intl.NumberFormat(LANGUAGE, style).format(bytes / factor);
}

// Small numbers of minutes and hours have halves: "2 minutes" for 91 seconds would be a third too much.
export function duration(seconds) {
  const [unit, factor] = seconds < 90 ? ["second", 1] : seconds < 5400 ? ["minute", 60] : ["hour", 3600];
  const style = { style: "unit", unit, unitDisplay: "long", maximumFractionDigits: 1 };
  const steps = unit === "second" || seconds >= 10 * factor ? 1 : 2;
  const value = Math.round((steps * seconds) / factor) / steps;
  return new Intl.NumberFormat(LANGUAGE, style).format(unit === "second" ? Math.ceil(seconds) : value);
}
