// The page's elements: finding, filling and creating them, and what the server has written into <main>.
//
// Values from a file or from the API are shown as text (textContent), never as markup. This prevents script injection.

import { duration, t } from "./texts.js";

const MAIN = document.querySelector("main");
const MAX_SHOWN_CHARACTERS = 120; // in one cell
const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/i;

export const API = new URL(MAIN.dataset.api, location.href).href; // the URL of the API of this target
export const SIGN_IN = MAIN.dataset.signIn; // the site's sign-in page
export const USER = MAIN.dataset.user; // who has signed in
export const LOOKUP = MAIN.dataset.lookup; // the field that identifies an object, such as the SKU; "" if there is none
export const CAN_REHEARSE = "rehearse" in MAIN.dataset;
export const MAX_BYTES = Number(MAIN.dataset.maxBytes);
export const FIELDS = JSON.parse(document.getElementById("fields").textContent); // [{name, label, required}]

const lookupField = FIELDS.find(({ name }) => name === LOOKUP);
export const SKIPS_EXISTING = Boolean(lookupField?.required); // an import can leave alone what exists, if each row says what it is about

export const $ = (id) => document.getElementById(id);
export const show = (id, isShown) => ($(id).hidden = !isShown);
export const fill = (id, ...children) => $(id).replaceChildren(...children);
export const announce = (text) => ($("announcement").textContent = text); // for screen readers

// Creates an element. Strings among the children become text nodes, so markup in them has no effect.
export function h(name, properties = {}, ...children) {
  const element = Object.assign(document.createElement(name), properties);
  element.append(...children);
  return element;
}

export function button(text, onclick, className = "") {
  return h("button", { type: "button", onclick, className }, text);
}

// Returns an element for text from a file or the API. <bdi> isolates its writing direction from the surrounding text, and
// long text is shortened.
export function untrusted(text, maxCharacters = MAX_SHOWN_CHARACTERS) {
  const whole = String(text ?? "");
  const cut = [...whole.slice(0, 2 * maxCharacters)].slice(0, maxCharacters).join("");
  return h("bdi", {}, cut === whole ? whole : `${cut}…`);
}

// Shows an error of the API, or {message}, in the element. Without an error, it removes the one that is shown.
export function showError(id, error = null, ...more) {
  if (!error) return fill(id);
  const lines = [h("p", {}, h("strong", {}, error.message))];
  if (error.retryAfter) lines.push(h("p", {}, t("try_after", { time: duration(error.retryAfter) })));
  return fill(id, h("div", { className: "trouble" }, ...lines, ...more));
}

// Returns the ID of a job in the address, or null.
export function parameter(name) {
  const value = new URLSearchParams(location.search).get(name) ?? "";
  return UUID.test(value) ? value : null;
}

// Returns where a row is: its line in the file. JSON has no lines, so its rows are counted, starting at 1.
export const positionOf = ({ index, line }) =>
  line ? t("line", { number: String(line) }) : t("row_number", { number: String(index + 1) });

// Browsers provide randomUUID on HTTPS and on localhost only.
export function uuid() {
  if (crypto.randomUUID) return crypto.randomUUID();
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

// Offers a text as a file to download.
export function download(text, name) {
  const url = URL.createObjectURL(new Blob([text], { type: "text/csv" }));
  h("a", { href: url, download: name }).click();
  URL.revokeObjectURL(url);
}
