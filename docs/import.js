// Imports rows and follows the job until it ends. For browsers and Node 18 or newer; needs nothing else.
const ENDED = new Set(["succeeded", "partially_succeeded", "failed", "cancelled"]);
const sleep = (seconds) => new Promise((done) => setTimeout(done, seconds * 1000));

export class ImportRefused extends Error {
  constructor({ code, message, errors = [] }) {
    super(message);
    Object.assign(this, { code, errors });
  }
}

// fetch, again as long as the answer is 429 or 503; any other error is thrown as ImportRefused.
async function call(url, options) {
  for (let attempt = 1; ; attempt++) {
    const answer = await fetch(url, options);
    if (answer.ok || answer.status === 304) return answer;
    const error = await answer.json();
    if (![429, 503].includes(answer.status) || attempt === 10) throw new ImportRefused(error);
    await sleep(Number(answer.headers.get("Retry-After") ?? 1));
  }
}

export async function importRows(url, rows, { headers = {}, onProgress = () => {} } = {}) {
  let answer = await call(url, {
    method: "POST",
    // The key makes the repetitions in `call` harmless: the same request is the same job.
    headers: { ...headers, "Content-Type": "application/json", "Idempotency-Key": crypto.randomUUID() },
    body: JSON.stringify(rows),
  });
  let job = await answer.json();
  let etag = "";
  onProgress(job);
  while (!ENDED.has(job.status)) {
    await sleep(Number(answer.headers.get("Retry-After") ?? 1));
    answer = await call(job.links.self, { headers: { ...headers, "If-None-Match": etag }, cache: "no-store" });
    if (answer.status === 304) continue; // nothing has changed
    etag = answer.headers.get("ETag") ?? "";
    job = await answer.json();
    onProgress(job);
  }
  return job;
}
