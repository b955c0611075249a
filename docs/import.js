// Imports rows and follows the job until it ends. Works in browsers and Node 18 or newer, without dependencies.
const ENDED = new Set(["succeeded", "partially_succeeded", "failed", "cancelled"]);
const MAX_ATTEMPTS = 10;
const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

export class ImportRefused extends Error {
  constructor({ code, message, errors = [] }) {
    super(message);
    Object.assign(this, { code, errors });
  }
}

// Calls fetch and retries after a 429 or 503. Throws ImportRefused for every other error.
async function call(url, options) {
  for (let attempt = 1; ; attempt++) {
    const response = await fetch(url, options);
    if (response.ok || response.status === 304) return response;
    const error = await response.json();
    if (![429, 503].includes(response.status) || attempt === MAX_ATTEMPTS) throw new ImportRefused(error);
    await sleep(Number(response.headers.get("Retry-After") ?? 1));
  }
}

export async function importRows(url, rows, { headers = {}, onProgress = () => {} } = {}) {
  let response = await call(url, {
    method: "POST",
    // With the same key, a retry returns the job that the first attempt created.
    headers: { ...headers, "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID() },
    body: JSON.stringify(rows),
  });
  let job = await response.json();
  let etag = "";
  onProgress(job);
  while (!ENDED.has(job.status)) {
    await sleep(Number(response.headers.get("Retry-After") ?? 1));
    response = await call(job.links.self, { headers: { ...headers, "If-None-Match": etag }, cache: "no-store" });
    if (response.status === 304) continue; // nothing has changed
    etag = response.headers.get("ETag") ?? "";
    job = await response.json();
    onProgress(job);
  }
  return job;
}
