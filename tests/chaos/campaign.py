"""A run imports rows while faults are injected. When the faults have ended, it waits for the jobs and audits them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from tests.chaos.audit import audit_run, find_unexpected_errors
from tests.chaos.faults import AWAY, HANGING, Faults
from tests.chaos.findings import Findings
from tests.chaos.jobs import read_jobs
from tests.chaos.plan import EDIT, FAULT_SECONDS, STAFF_PAUSE, Event, Plan, Submission
from tests.chaos.shop import USER, Shop, resume
from tests.chaos.staff import Staff
from tests.chaos.stale_worker import StaleWorker, chunk_message
from tests.chaos.users import Users, create_shared_products
from tests.shop_client import TERMINAL

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from uuid import UUID

WAIT_SECONDS = 60.0
"""How long we wait for a job after the last fault. If it has not ended by then, its open rows count as lost."""

MAX_THREADS = 32
"""More than the submissions, pauses and stale workers of any plan, so that none of them waits for another one."""

PAUSE_SECONDS = 0.05
OPEN = ["queued", "processing"]
"""Statuses of a chunk whose message was sent and that has not ended."""


@dataclass
class Run:
    """The result of one seed."""

    plan: Plan
    faults: Counter[str] = field(default_factory=Counter)
    findings: Findings = field(default_factory=Findings)
    jobs: list[tuple[Submission, UUID]] = field(default_factory=list)
    failed_rows: int = 0  # valid rows that met more faults than they have retries
    dead_chunks: int = 0  # chunks that became dead and were redriven
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


class _Chaos:
    """Executes one run: submits the rows, injects the faults, waits, and audits."""

    def __init__(self, shop: Shop, plan: Plan, wait_seconds: float) -> None:
        self._shop = shop
        self._wait_seconds = wait_seconds
        self._run = Run(plan)
        self._faults = Faults(plan)
        self._began_at = time.monotonic()
        self._paused: list[tuple[float, subprocess.Popen[bytes]]] = []
        self._is_over = threading.Event()
        self._staff = Staff(shop)
        self._users = Users(shop, self._run, wait_seconds)

    def run(self) -> Run:
        plan, run = self._run.plan, self._run
        log_size = self._shop.log.stat().st_size
        create_shared_products(self._shop, plan)
        self._shop.start_faults(self._faults)
        with ThreadPoolExecutor(max_workers=MAX_THREADS) as threads:
            users = [threads.submit(self._users.import_rows, submission) for submission in plan.submissions]
            stale_workers: list[Future[list[str]]] = []
            staff: list[Future[None]] = []
            try:
                for event in plan.events:
                    self._wait(event.at)
                    if event.kind == "stale worker":
                        stale_workers.append(threads.submit(self._run_stale_worker, event))
                    elif event.kind == STAFF_PAUSE:
                        staff.append(threads.submit(self._pause_by_staff, event))
                    else:
                        self._inject(event)
                self._wait(FAULT_SECONDS)
            finally:
                self._shop.stop_faults(self._faults.outage_fate)
                self._resume(float("inf"))
            for future in (*users, *staff):
                future.result()
            self._await_end()
            self._is_over.set()
            for stale_worker in stale_workers:
                run.findings.misreported += stale_worker.result()
        run.faults += self._faults.injected
        self._shop.check_alive()
        run.findings.misreported += self._staff.find_creates_during_pauses()
        self._audit()
        self._shop.stop_faults()
        while self._redrive() and not run.findings:
            self._await_end()
            self._audit()
        run.failed_rows = self._failed_rows()
        run.seconds = time.monotonic() - self._began_at
        with self._shop.log.open(errors="replace") as log:
            log.seek(log_size)
            run.log = log.read()
        run.findings.misreported += find_unexpected_errors(run.log)
        if not run.findings:
            run.log = ""
        return run

    def _wait(self, until: float) -> None:
        """Wait until the given second of the run. Meanwhile resume paused pollers that are due."""
        while (left := self._began_at + until - time.monotonic()) > 0:
            self._resume(time.monotonic())
            time.sleep(min(left, PAUSE_SECONDS))

    def _resume(self, until: float) -> None:
        for wake_at, poller in [pair for pair in self._paused if pair[0] <= until]:
            resume(poller)
            self._paused.remove((wake_at, poller))

    def _inject(self, event: Event) -> None:
        """Inject the fault of an event, and count it if it was possible."""
        shop, which = self._shop, event.which
        faults: dict[str, Callable[[], object]] = {
            "kill poller": lambda: shop.kill_poller(which),
            "kill monolith": lambda: shop.kill_monolith(which),
            "kill relay": shop.kill_relay,
            "kill dead-letter poller": shop.kill_dead_letter_poller,
            "pause poller": lambda: self._pause_poller(event),
            EDIT: lambda: self._users.edit(which),
            "copy message": lambda: self._send_copies(event, shop.queue_url, [*OPEN, "done"], copies=1 + which % 3),
            "dead letter": lambda: self._send_copies(event, shop.dead_letter_url, OPEN, copies=1),
            **dict.fromkeys([*AWAY, *HANGING], lambda: None),  # the class Faults injects these
        }
        if faults[event.kind]() is not False:
            self._run.faults[event.kind] += 1

    def _pause_poller(self, event: Event) -> None:
        self._paused.append((time.monotonic() + event.seconds, self._shop.pause_poller(event.which)))

    def _pause_by_staff(self, event: Event) -> None:
        """Pause one of the jobs as soon as there is one, and resume it."""
        while not self._run.jobs and time.monotonic() < self._began_at + FAULT_SECONDS:
            time.sleep(PAUSE_SECONDS)
        if self._run.jobs and self._staff.pause_for(self._job_ids[event.which % len(self._job_ids)], event.seconds):
            self._run.faults[event.kind] += 1

    def _send_copies(self, event: Event, queue_url: str, statuses: list[str], copies: int) -> bool:
        """Send copies of a chunk's message to a queue. Returns False if no chunk has one of these statuses."""
        chunks = self._shop.sql.execute(
            "SELECT id FROM bulk_import_importchunk WHERE job_id = ANY(%s) AND status = ANY(%s)"
            " ORDER BY job_id, number",
            [self._job_ids, statuses],
        ).fetchall()
        if not chunks:
            return False
        message = chunk_message(self._shop.sql, chunks[event.which % len(chunks)][0])
        for _ in range(copies):
            self._shop.sqs.send_message(
                QueueUrl=queue_url, MessageBody=message.encode(), DelaySeconds=round(event.seconds)
            )
        return True

    def _run_stale_worker(self, event: Event) -> list[str]:
        """Claim a chunk, sleep until another worker has it, then send stale calls, and again after the end of the jobs.

        Returns a sentence for each stale call that the monolith accepted.
        """
        worker = None
        while worker is None and time.monotonic() < self._began_at + FAULT_SECONDS:
            worker = StaleWorker.claim_one(self._shop, self._job_ids, event.which)
            time.sleep(PAUSE_SECONDS)
        if worker is None or not worker.sleep():
            return []
        self._run.faults[event.kind] += 1
        jobs = read_jobs(self._shop, self._run.jobs)
        rows = next(job.rows for job in jobs if str(job.id) == worker.message.job_id)
        first = worker.message.first_index
        index = next((n for n in range(first, first + worker.message.row_count) if rows[n].is_valid), first)
        accepted = worker.send_stale_calls(rows[index], index)
        self._is_over.wait()
        return accepted + worker.send_stale_calls(rows[index], index)

    @property
    def _job_ids(self) -> list[UUID]:
        return [job.id for job in read_jobs(self._shop, self._run.jobs)]

    def _await_end(self) -> None:
        give_up_at = time.monotonic() + self._wait_seconds
        while time.monotonic() < give_up_at:
            statuses = self._shop.sql.execute(
                "SELECT status FROM bulk_import_importjob WHERE id = ANY(%s)", [self._job_ids]
            ).fetchall()
            if all(status in TERMINAL for (status,) in statuses):
                return
            time.sleep(PAUSE_SECONDS)

    def _audit(self) -> None:
        self._run.findings += audit_run(self._shop, self._run.jobs, self._run.plan)
        if any(submission.is_broken for submission, _ in self._run.jobs):
            self._run.faults["persistent 500"] = 1

    def _redrive(self) -> bool:
        """Redrive the dead chunks, without faults. Returns whether there were any."""
        dead = self._shop.sql.execute(
            "SELECT job_id, count(*) FROM bulk_import_importchunk WHERE job_id = ANY(%s) AND status = 'dead'"
            # A rehearsal whose rows were imported stays as it is.
            " AND job_id NOT IN (SELECT runs_id FROM bulk_import_importjob WHERE runs_id IS NOT NULL)"
            " GROUP BY job_id",
            [self._job_ids],
        ).fetchall()
        for job_id, count in dead:
            self._run.dead_chunks += count
            url = f"{self._shop.url}/products/bulk/{job_id}/redrive"
            answers = [httpx.post(url, auth=USER, timeout=30, trust_env=False).status_code for _ in range(2)]
            if answers[0] != httpx.codes.ACCEPTED:
                self._run.findings.misreported.append(f"{job_id} has {count} dead chunks: redrive answered {answers}")
        return bool(dead)

    def _failed_rows(self) -> int:
        row = self._shop.sql.execute(
            "SELECT coalesce(sum(failed), 0) FROM bulk_import_importchunk WHERE job_id = ANY(%s)", [self._job_ids]
        ).fetchone()
        return int(row[0]) if row else 0


def run_seed(shop: Shop, seed: int, *, profile: str = "", wait_seconds: float = WAIT_SECONDS) -> Run:
    """Execute one run. The seed selects the profile, unless one is given."""
    plan = Plan(seed, profile, prefix=f"{time.time_ns():x}-")  # unique SKUs, even if a seed is used twice
    return _Chaos(shop, plan, wait_seconds).run()


def audit_again(shop: Shop, runs: list[Run]) -> Findings:
    """Audit all runs again that had no findings. No late message and no late call may have changed anything."""
    findings = Findings()
    for run in runs:
        if not run.findings:
            findings += audit_run(shop, run.jobs, run.plan)
    return findings
