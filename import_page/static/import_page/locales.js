// How numbers, dates and truth values are written in each locale, to find out which one a file uses. Plain functions
// without access to the page.

const WORDS = {
  "de-DE": [["ja", "wahr"], ["nein", "falsch"]],
  "en-GB": [["yes"], ["no"]],
  "en-US": [["yes"], ["no"]],
  "es-ES": [["sí", "si", "verdadero"], ["no", "falso"]],
  "fr-FR": [["oui", "vrai"], ["non", "faux"]],
  "ja-JP": [["はい", "真"], ["いいえ", "偽"]],
  "pt-BR": [["sim", "verdadeiro"], ["não", "nao", "falso"]],
};
const CURRENCIES = { "de-DE": "€", "en-GB": "£", "en-US": "$", "es-ES": "€", "fr-FR": "€", "ja-JP": "¥￥円", "pt-BR": "R$" };
const DATE_ORDERS = { "en-US": "mdy", "ja-JP": "ymd" }; // in the others, the day comes first
const WITH_COMMA = new Set(["de-DE", "es-ES", "fr-FR", "pt-BR"]); // the others have a decimal point
const DATE = /^(\d{1,4})([./-])(\d{1,2})\2(\d{1,4})$/;

export const LOCALES = Object.keys(WORDS);

// Returns what a text means in a locale: a number, a date or a truth value as the API expects it; null if it means nothing.
function meaningIn(locale, text) {
  const word = text.toLowerCase();
  const truth = WORDS[locale].findIndex((words) => words.includes(word));
  return truth >= 0 ? String(!truth) : (numberIn(locale, text) ?? dateIn(locale, text));
}

function numberIn(locale, text) {
  const sign = CURRENCIES[locale];
  const bare = (sign.length > 2 ? text.replace(new RegExp(`[${sign}]`), "") : text.replace(sign, "")).trim();
  const [separator, thousands] = WITH_COMMA.has(locale) ? [",", "\\."] : ["\\.", ","];
  const pattern = new RegExp(`^-?(\\d+|[1-9]\\d{0,2}(${thousands}\\d{3})+|[1-9]\\d{0,2}([ \u00a0\u202f\u2009]\\d{3})+)(${separator}\\d+)?$`);
  if (!pattern.test(bare)) return null;
  const [whole, fraction] = bare.split(separator.at(-1));
  return whole.replace(/[^\d-]/g, "") + (fraction ? `.${fraction}` : "");
}

function dateIn(locale, text) {
  const [, first, , second, third] = DATE.exec(text) ?? [];
  if (!first) return null;
  const order = first.length === 4 ? "ymd" : (DATE_ORDERS[locale] ?? "dmy");
  const part = (name) => Number([first, second, third][order.indexOf(name)]);
  const date = new Date(Date.UTC(part("y"), part("m") - 1, part("d")));
  const isReal = date.getUTCMonth() === part("m") - 1 && date.getUTCDate() === part("d");
  return isReal && part("y") > 999 ? date.toISOString().slice(0, 10) : null;
}

// Returns whether the API may have refused a text only because it is written as in some locale.
export const isLocalized = (text) => LOCALES.some((locale) => ![null, text].includes(meaningIn(locale, text)));

// Returns the locale in which these texts are written, or "" if they can mean different things. Locales in which all texts mean
// the same are equally good; `preferred` is taken if it is one of them.
export function findLocale(texts, preferred) {
  const meanings = LOCALES.map((locale) => texts.map((text) => meaningIn(locale, text)));
  const fitting = LOCALES.filter((_, position) => !meanings[position].includes(null));
  const different = new Set(fitting.map((locale) => JSON.stringify(meanings[LOCALES.indexOf(locale)])));
  if (different.size !== 1) return "";
  return fitting.includes(preferred) ? preferred : fitting[0];
}
