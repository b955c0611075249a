"""Runs: each imports some rows while things go wrong, and is held to account when they have calmed down."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import UUID

import httpx

from tests.chaos.audit import TERMINAL, Findings, audit
from tests.chaos.plan import AWAY, STORM_SECONDS, Event, Plan, Submission, Weather
from tests.chaos.shop import USER, Shop, resume
from tests.chaos.stale_worker import StaleWorker, chunk_message

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

SETTLE_SECONDS = 60.0
"""A job that has not ended so long after the last fault never will: its open rows are lost."""

PAUSE_SECONDS = 0.05


@dataclass
class Run:
    """What became of one seed."""

    plan: Plan
    faults: Counter[str] = field(default_factory=Counter)
    findings: Findings = field(default_factory=Findings)
    jobs: list[tuple[Submission, UUID]] = field(default_factory=list)
    failed_rows: int = 0  # good rows that met more faults than they have tries, and are reported so
    dead_chunks: int = 0  # ended in the dead-letter queue, and redriven
    seconds: float = 0.0
    log: str = ""

    @property
    def rows(self) -> int:
        return sum(len(submission.rows) for submission in self.plan.submissions)

    def line(self) -> str:
        kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(self.faults.items()))
        verdict = "RED" if self.findings else "ok"
        return (
            f"seed {self.plan.seed:<6} {self.plan.profile_name:<8} rows {self.rows:<4}"
            f" faults {self.faults.total():<4} {self.seconds:5.1f} s  {verdict:<4}"
            f"{f' failed {self.failed_rows}' if self.failed_rows else ''}"
            f"{f' redriven {self.dead_chunks}' if self.dead_chunks else ''} ({kinds})"
        )


class _Storm:
    """One run under way."""

    def __init__(self, shop: Shop, plan: Plan, settle_seconds: float) -> None:
        self._shop = shop
        self._settle_seconds = settle_seconds
        self._run = Run(plan)
        self._weather = Weather(plan)
        self._began_at = time.monotonic()
        self._paused: list[tuple[float, subprocess.Popen[bytes]]] = []
        self._is_over = threading.Event()

    def run(self) -> Run:
        plan, run = self._run.plan, self._run
        log_size = self._shop.log.stat().st_size
        self._shop.let_loose(self._weather)
        with ThreadPoolExecutor() as threads:
            submitting = [threads.submit(self._submit, submission) for submission in plan.submissions]
            sleepers: list[Future[list[str]]] = []
            try:
                for event in plan.events:
                    self._wait(event.at)
                    if event.kind == "stale worker":
                        sleepers.append(threads.submit(self._be_stale, event))
                    else:
                        self._cause(event)
                self._wait(STORM_SECONDS)
            finally:
                self._shop.calm_down()
                self._resume(float("inf"))
            for submitted in submitting:
                submitted.result()
            self._await_end()
            self._is_over.set()
            for sleeper in sleepers:
                run.findings.misreported += sleeper.result()
        run.faults += self._weather.dealt
        self._shop.check_alive()
        self._audit()
        while self._redrive() and not run.findings:
            self._await_end()
            self._audit()
        run.failed_rows = self._failed_rows()
        run.seconds = time.monotonic() - self._began_at
        if run.findings:
            with self._shop.log.open(errors="replace") as log:
                log.seek(log_size)
                run.log = log.read()
        return run

    def _submit(self, submission: Submission) -> None:
        """POST the rows, as a client does: with a key, and again until the answer is a 202."""
        time.sleep(submission.at)
        rows = [row.body for row in submission.rows]
        give_up_at = time.monotonic() + STORM_SECONDS + self._settle_seconds
        while time.monotonic() < give_up_at:
            try:
                answer = httpx.post(
                    f"{self._shop.proxy_url}/products/bulk?on_invalid=skip",
                    auth=USER,
                    headers={"Idempotency-Key": submission.key},
                    json=rows,
                    timeout=20,
                    trust_env=False,
                )
                if answer.status_code == httpx.codes.ACCEPTED:
                    self._run.jobs.append((submission, UUID(answer.json()["id"])))
                    return
                if answer.status_code not in {429, 500, 502, 503}:
                    raise RuntimeError(f"POST was answered {answer.status_code}: {answer.text[:500]}")
            except httpx.TransportError:
                pass
            time.sleep(0.2)
        raise RuntimeError("The rows could not be submitted.")

    def _wait(self, until: float) -> None:
        """Wait for that second of the run; wake up pollers meanwhile."""
        while (left := self._began_at + until - time.monotonic()) > 0:
            self._resume(time.monotonic())
            time.sleep(min(left, PAUSE_SECONDS))

    def _resume(self, until: float) -> None:
        for wake_at, poller in [pair for pair in self._paused if pair[0] <= until]:
            resume(poller)
            self._paused.remove((wake_at, poller))

    def _cause(self, event: Event) -> None:
        """Let it happen, and count it if it could."""
        shop, which = self._shop, event.which
        causes: dict[str, Callable[[], object]] = {
            "kill poller": lambda: shop.kill_poller(which),
            "kill monolith": lambda: shop.kill_monolith(which),
            "kill relay": shop.kill_relay,
            "kill dead-letter poller": shop.kill_dead_letter_poller,
            "pause poller": lambda: self._pause_poller(event),
            "copy message": lambda: self._send_copies(event, shop.queue_url, copies=1 + which % 3),
            "dead letter": lambda: self._send_copies(event, shop.dead_letter_url, copies=1),
            **dict.fromkeys(AWAY, lambda: None),  # those are the weather's
        }
        if causes[event.kind]() is not False:
            self._run.faults[event.kind] += 1

    def _pause_poller(self, event: Event) -> None:
        self._paused.append((time.monotonic() + event.seconds, self._shop.pause_poller(event.which)))

    def _send_copies(self, event: Event, queue_url: str, copies: int) -> bool:
        """Put copies of a chunk's message on a queue; returns whether there was a chunk that had been sent."""
        chunks = self._shop.sql.execute(
            "SELECT id FROM bulk_import_importchunk WHERE job_id = ANY(%s) AND status <> 'pending'"
            " ORDER BY job_id, number",
            [self._job_ids],
        ).fetchall()
        if not chunks:
            return False
        message = chunk_message(self._shop.sql, chunks[event.which % len(chunks)][0])
        for _ in range(copies):
            self._shop.sqs.send_message(
                QueueUrl=queue_url, MessageBody=message.encode(), DelaySeconds=round(event.seconds)
            )
        return True

    def _be_stale(self, event: Event) -> list[str]:
        """Claim a chunk, fall asleep, speak up when another has it, and once more when all is over."""
        worker = None
        while worker is None and time.monotonic() < self._began_at + STORM_SECONDS:
            worker = StaleWorker.claim_one(self._shop, self._job_ids, event.which)
            time.sleep(PAUSE_SECONDS)
        if worker is None or not worker.sleep():
            return []
        self._run.faults[event.kind] += 1
        rows = next(s.rows for s, job_id in self._run.jobs if str(job_id) == worker.message.job_id)
        first = worker.message.first_index
        index = next((n for n in range(first, first + worker.message.row_count) if rows[n].is_good), first)
        let_through = worker.speak(rows[index], index)
        self._is_over.wait()
        return let_through + worker.speak(rows[index], index)

    @property
    def _job_ids(self) -> list[UUID]:
        return [job_id for _, job_id in self._run.jobs]

    def _await_end(self) -> None:
        give_up_at = time.monotonic() + self._settle_seconds
        while time.monotonic() < give_up_at:
            statuses = self._shop.sql.execute(
                "SELECT status FROM bulk_import_importjob WHERE id = ANY(%s)", [self._job_ids]
            ).fetchall()
            if all(status in TERMINAL for (status,) in statuses):
                return
            time.sleep(PAUSE_SECONDS)

    def _audit(self) -> None:
        for submission, job_id in self._run.jobs:
            self._run.findings += audit(self._shop, submission, job_id)

    def _redrive(self) -> bool:
        """Run the dead chunks again, now that it is calm; returns whether there are any."""
        dead = self._shop.sql.execute(
            "SELECT job_id, count(*) FROM bulk_import_importchunk WHERE job_id = ANY(%s) AND status = 'dead'"
            " GROUP BY job_id",
            [self._job_ids],
        ).fetchall()
        for job_id, count in dead:
            self._run.dead_chunks += count
            url = f"{self._shop.url}/products/bulk/{job_id}/redrive"
            answers = [httpx.post(url, auth=USER, timeout=30, trust_env=False).status_code for _ in range(2)]
            if answers[0] != httpx.codes.ACCEPTED:
                self._run.findings.misreported.append(f"{job_id} has {count} dead chunks: redrive said {answers}")
        return bool(dead)

    def _failed_rows(self) -> int:
        row = self._shop.sql.execute(
            "SELECT coalesce(sum(failed), 0) FROM bulk_import_importchunk WHERE job_id = ANY(%s)", [self._job_ids]
        ).fetchone()
        return int(row[0]) if row else 0


def run_seed(shop: Shop, seed: int, *, profile: str = "", settle_seconds: float = SETTLE_SECONDS) -> Run:
    """One run. The profile is the seed's choice unless named."""
    plan = Plan(seed, profile, prefix=f"{time.time_ns():x}-")  # a sku of its own, also if a seed comes again
    return _Storm(shop, plan, settle_seconds).run()


def audit_again(shop: Shop, runs: list[Run]) -> Findings:
    """Whether anything changed after it had been found in order: no late message, no late call may do that."""
    findings = Findings()
    for run in runs:
        if not run.findings:
            for submission, job_id in run.jobs:
                findings += audit(shop, submission, job_id)
    return findings
