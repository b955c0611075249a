// Signing in again within the page, when the session has ended. What the user was doing continues afterwards.

import { $, announce, fill, show, SIGN_IN } from "./page.js";
import { t } from "./texts.js";

let waiting = null; // the promise of the dialog that is open

// Read the cookie first. It is newer than the page if the user signed in again, perhaps in another tab.
export function token() {
  const cookie = document.cookie.match(/(?:^|;\s*)csrftoken=([^;]+)/);
  return cookie ? cookie[1] : (document.querySelector("[name=csrfmiddlewaretoken]")?.value ?? "");
}

// Asks the user to sign in. The promise resolves when that has worked. All callers share one dialog.
export function signIn() {
  waiting ??= new Promise((resolve) => {
    const dialog = $("session");
    fill("session-trouble");
    $("session-password").value = "";
    dialog.oncancel = (event) => event.preventDefault(); // nothing works before the user has signed in
    $("session-form").onsubmit = async (event) => {
      event.preventDefault();
      $("session-button").disabled = true;
      const trouble = await send();
      $("session-button").disabled = false;
      fill("session-trouble", trouble ?? "");
      if (trouble !== null) return $("session-password").focus();
      dialog.close();
      announce(t("signed_in"));
      waiting = null;
      return resolve();
    };
    // After a sign-in in another window, for example with single sign-on, the call is repeated. It asks again if needed.
    $("session-other").onclick = () => {
      dialog.close();
      waiting = null;
      resolve();
    };
    dialog.showModal();
    announce(t("signed_out"));
  });
  return waiting;
}

// Sends the form to the site's sign-in page. Returns null if the user is signed in, and otherwise what went wrong.
async function send() {
  try {
    const form = await readForm();
    if (!form) {
      show("session-elsewhere", true);
      return t("sign_in_elsewhere");
    }
    const body = new URLSearchParams(form);
    body.set("username", $("session-name").value);
    body.set("password", $("session-password").value);
    const answer = await fetch(SIGN_IN, { method: "POST", body, redirect: "manual" });
    if (answer.type !== "opaqueredirect") return answer.ok ? t("sign_in_refused") : t("not_done");
    await readForm(location.href); // the sign-in has changed the token
    return null;
  } catch {
    return t("not_done");
  }
}

// Returns the fields of the sign-in page's form, with a fresh CSRF token; null if it does not ask for a password.
async function readForm(url = SIGN_IN) {
  const html = await (await fetch(url, { cache: "no-store" })).text();
  const page = new DOMParser().parseFromString(html, "text/html");
  const fresh = page.querySelector("[name=csrfmiddlewaretoken]");
  const own = document.querySelector("[name=csrfmiddlewaretoken]");
  if (fresh && own) own.value = fresh.value;
  const form = page.querySelector("[type=password]")?.form;
  return form ? [...new FormData(form)].filter(([, value]) => typeof value === "string") : null;
}
