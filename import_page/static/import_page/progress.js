// Follows a job: asks for it until it ends, and measures its speed.

import { ApiError, call, NoResponse } from "./api.js";
import { TERMINAL_STATUSES } from "./steps.js";

const FIRST_WAIT_SECONDS = 1;
const MAX_POLL_SECONDS = 2; // while the page is visible, what it shows is hardly older
const START_SECONDS = 20; // so long after it was opened, the page asks every FIRST_WAIT_SECONDS, because the speed is still unknown
const MAX_WAIT_SECONDS = 30; // between two attempts while the server does not answer
const MAX_REQUEST_SECONDS = 30;
const RATE_SECONDS = 60; // the speed that is shown is that of the last minute
// The remaining time follows from a shorter time, because the speed changes when other imports begin and end. At the start of an
// import, it is the second half of the time so far: the workers begin slowly.
const LEFT_SECONDS = { min: 5, max: 10 };
const MAX_GAP_SECONDS = 5; // without a further finished row for longer than this, the import has become slower

// Polls a job until it ends. Returns a function that stops polling.
//   onJob(job)              after each successful request; job is null if the job has not changed
//   onRetry(error, seconds) after a temporary failure; the next request follows in `seconds`, or is null while offline
//   onError(error)          after a permanent error, such as 404; polling has stopped
//
// Requests carry the last ETag, so an unchanged job is a cheap 304. Polling pauses while the tab is hidden or the browser is
// offline, and continues immediately afterwards.
export function follow(url, { onJob, onRetry, onError }) {
  let timer = 0;
  let etag = "";
  let failedAttempts = 0;
  let pending = null;
  const startedAt = Date.now();

  const schedule = (seconds) => {
    clearTimeout(timer);
    timer = setTimeout(poll, seconds * 1000);
  };

  async function poll() {
    clearTimeout(timer);
    if (pending || document.hidden) return;
    if (!navigator.onLine) {
      onRetry(new NoResponse(), null);
      return;
    }
    const request = (pending = new AbortController());
    let isStopped = false;
    request.signal.onabort = () => (isStopped = request.signal.reason !== "late");
    const late = setTimeout(() => request.abort("late"), MAX_REQUEST_SECONDS * 1000);
    try {
      const response = await call(url, { headers: etag ? { "If-None-Match": etag } : {}, signal: request.signal });
      const job = response.status === 304 ? null : await response.json();
      if (isStopped) return;
      failedAttempts = 0;
      pending = null;
      if (job) etag = response.headers.get("ETag") ?? "";
      onJob(job);
      if (job && TERMINAL_STATUSES.has(job.status)) stop();
      else schedule(waitAfter(response));
    } catch (error) {
      if (isStopped) return;
      pending = null;
      if (error instanceof ApiError && error.status < 500 && error.status !== 429) {
        stop();
        onError(error);
        return;
      }
      // Exponential backoff. The random factor prevents all open pages from polling at the same moment after an outage.
      const backoff = Math.min(FIRST_WAIT_SECONDS * 2 ** failedAttempts++, MAX_WAIT_SECONDS) * (0.75 + Math.random() / 2);
      const seconds = Math.max(backoff, error.retryAfter ?? 0);
      schedule(seconds);
      onRetry(error, seconds);
    } finally {
      clearTimeout(late);
    }
  }

  function waitAfter(response) {
    if (Date.now() - startedAt < 1000 * START_SECONDS) return FIRST_WAIT_SECONDS;
    return Math.min(Number(response.headers.get("Retry-After")) || FIRST_WAIT_SECONDS, MAX_POLL_SECONDS);
  }

  function stop() {
    clearTimeout(timer);
    pending?.abort();
    document.removeEventListener("visibilitychange", poll);
    removeEventListener("online", poll);
    removeEventListener("offline", poll);
  }

  document.addEventListener("visibilitychange", poll);
  addEventListener("online", poll);
  addEventListener("offline", poll);
  poll();
  return stop;
}

// Measures the speed of the job. `measure(job)` returns {rate, secondsLeft}, each null if unknown. It may be called with the same
// job again later: the remaining time then has become shorter.
export function speedometer() {
  let seen = []; // [seconds, finished rows], whenever there were more finished rows
  return (job) => {
    const now = Date.now() / 1000;
    const finished = job.rows - job.counts.pending;
    if (job.status !== "processing") {
      seen = []; // the time in the queue or in a pause says nothing about the speed
      return { rate: job.rows_per_second, secondsLeft: job.eta_seconds };
    }
    if (seen.at(-1)?.[1] !== finished) seen.push([now, finished]);
    const [last] = seen.at(-1);
    while (seen.length > 2 && last - seen[1][0] > RATE_SECONDS) seen.shift();
    const span = Math.min(Math.max((last - seen[0][0]) / 2, LEFT_SECONDS.min), LEFT_SECONDS.max);
    const soon = speed(seen, span, now);
    const left = soon ? job.counts.pending / soon : job.eta_seconds;
    return { rate: speed(seen, RATE_SECONDS, now) ?? job.rows_per_second, secondsLeft: left && Math.max(1, left - (now - last)) };
  };
}

// Returns the finished rows per second in the last `span` seconds, or null if it is unknown. It counts from one increase to
// another one, because between two increases it is unknown how many rows are finished.
function speed(seen, span, now) {
  const [last, finished] = seen.at(-1);
  const position = seen.findLastIndex(([time]) => last - time >= span - 0.5);
  const [start, before] = seen[Math.max(position, 0)];
  if (last - start < LEFT_SECONDS.min - 0.5) return null;
  const gap = Math.max(MAX_GAP_SECONDS, 2 * (last - seen.at(-2)[0]));
  return (finished - before) / (Math.max(last, now - gap) - start);
}
