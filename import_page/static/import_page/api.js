// Calls of the API. A call whose session has ended waits until the user has signed in again, and is then repeated.

import { fill } from "./page.js";
import { signIn, token } from "./session.js";
import { t } from "./texts.js";

// A request without an answer for so long makes the page say that the shop does not answer. Reading a large file takes longer.
const SLOW_SECONDS = { call: 4, upload: 7 };

// The API returned an error. All errors have the same shape: {code, message}; `body` has the rest of it.
export class ApiError extends Error {
  constructor(status, body, retryAfter) {
    super(body.message);
    Object.assign(this, { status, retryAfter, body, code: body.code });
  }
}

// There was no response, so we do not know whether the server received the request.
export class NoResponse extends Error {}

const isSignedOut = (error) => error.status === 401 || error.code === "not_authenticated";

// Converts an error response to an ApiError. The error page of a proxy in between is not JSON and gets a text of our own.
function readError(status, text, retryAfter) {
  let body = {};
  try {
    body = JSON.parse(text);
  } catch {
    // The message below replaces it.
  }
  if (!body?.code || !body.message) body = { code: `http_${status}`, message: t("odd_answer", { status: String(status) }) };
  return new ApiError(status, body, Number(retryAfter) || null);
}

let slowRequests = 0;

// Says that the shop does not answer, if that takes longer than this. Returns a function to call with the answer.
function waitForAnswer(seconds) {
  let isSlow = false;
  const setSlow = (value) => {
    slowRequests += Number(value) - Number(isSlow);
    isSlow = value;
    fill("slow", slowRequests ? t("slow") : "");
  };
  const timer = setTimeout(setSlow, seconds * 1000, true);
  return () => {
    clearTimeout(timer);
    setSlow(false);
  };
}

async function withSession(send) {
  for (;;) {
    try {
      return await send();
    } catch (error) {
      if (!isSignedOut(error)) throw error;
      await signIn();
    }
  }
}

// Calls the API. Throws ApiError or NoResponse. A 304 (not modified) is not an error.
export function call(url, options = {}) {
  return withSession(() => callOnce(url, options));
}

async function callOnce(url, { method = "GET", headers = {}, body, signal }) {
  if (method !== "GET") headers = { ...headers, "X-CSRFToken": token() };
  const answered = waitForAnswer(SLOW_SECONDS.call);
  let response, text;
  try {
    const all = { Accept: "application/json", ...headers };
    response = await fetch(url, { method, signal, body, headers: all, cache: "no-store" });
    text = response.ok ? null : await response.text();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new NoResponse();
  } finally {
    answered();
  }
  if (!response.ok && response.status !== 304) throw readError(response.status, text, response.headers.get("Retry-After"));
  return response;
}

// Uploads a file and returns the JSON response, or what `read` makes of its text. Throws ApiError or NoResponse. Calls
// onProgress with a fraction from 0 to 1.
// It uses XMLHttpRequest, because fetch does not report upload progress.
export function upload(url, file, options) {
  return withSession(() => uploadOnce(url, file, options));
}

function uploadOnce(url, file, { headers, signal, onProgress = () => {}, read = JSON.parse }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", url);
    for (const [name, value] of Object.entries({ Accept: "application/json", ...headers, "X-CSRFToken": token() })) {
      request.setRequestHeader(name, value);
    }
    let answered = waitForAnswer(SLOW_SECONDS.upload);
    request.upload.onprogress = ({ loaded, total }) => {
      answered();
      answered = waitForAnswer(SLOW_SECONDS.upload);
      onProgress(total ? loaded / total : 1);
    };
    request.onloadend = () => answered();
    request.onerror = request.ontimeout = () => reject(new NoResponse());
    request.onabort = () => reject(new DOMException("", "AbortError"));
    request.onload = () => {
      if (request.status < 200 || request.status > 299) {
        reject(readError(request.status, request.responseText, request.getResponseHeader("Retry-After")));
        return;
      }
      try {
        resolve(read(request.responseText));
      } catch {
        reject(new NoResponse()); // the connection was closed within the response
      }
    };
    signal?.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}
