"""Compares the database after a run with what the shop reports to its users about each job."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

import httpx

from tests.chaos.audit_products import audit_products, find_wrong_forecasts, find_wrong_reasons
from tests.chaos.findings import Findings
from tests.chaos.history import History
from tests.chaos.jobs import read_jobs
from tests.chaos.plan import OUTAGE, SHARED_PRODUCTS
from tests.chaos.shop import USER
from tests.shop_client import TERMINAL

if TYPE_CHECKING:
    from uuid import UUID

    from tests.chaos.jobs import Job
    from tests.chaos.plan import Plan, Submission
    from tests.chaos.shop import Shop

DONE = ("created", "updated", "unchanged", "deleted")
NOT_DONE = ("rejected", "failed", "unprocessed")
MANY_ROWS = 5
"""More valid rows of one job than may meet more faults than they have retries, all of them."""

CHUNKS = f"SELECT status, row_count, {', '.join(DONE + NOT_DONE)} FROM bulk_import_importchunk WHERE job_id = %s"  # noqa: S608 - constants

UNEXPECTED_ERROR = re.compile(r"Internal Server Error: (?=/products/bulk|/bulk-import/)(\S+)")
"""What Django logs when one of our own views raises an exception that nobody thought of."""


def find_unexpected_errors(log: str) -> list[str]:
    """Return a sentence for each request that one of our views answered 500. If something is away, they answer 503."""
    return [f"{path} was answered 500" for path in UNEXPECTED_ERROR.findall(log)]


def audit_run(shop: Shop, submitted: list[tuple[Submission, UUID]], plan: Plan) -> Findings:
    """Check all jobs of a run and all products of its plan, and return what is wrong."""
    jobs = read_jobs(shop, submitted)
    history = History(shop, jobs, plan.prefix)
    findings = audit_products(history, shop, plan.prefix)
    outcomes = {}
    for job in jobs:
        audited = JobAudit(shop, job, history, plan)
        findings += audited.findings
        outcomes[job.id] = audited.outcomes
    findings.misreported += find_wrong_forecasts(history, outcomes)
    return findings


class JobAudit:
    """Checks everything about one job. `outcomes` has the outcome of each of its rows, if the job has ended."""

    def __init__(self, shop: Shop, job: Job, history: History, plan: Plan) -> None:
        self.findings = Findings()
        self._shop = shop
        self._job = job
        self._rows = job.rows
        self._history = history
        self._plan = plan
        self._read_database()
        self.outcomes = {record.index: record.outcome for record in history.records_of(job)}
        if self._status in TERMINAL:
            self._read_reports()
            self._check_counts()
            self._check_failures()
            self._check_broken_rows()
            if OUTAGE in plan.kinds:
                self._check_outage()
            self._check_emails()
        else:
            open_rows = len(self._rows) - sum(self._counts.values())
            self.findings.lost += [f"{job.id} is {self._status}: row open"] * max(open_rows, 1)

    def _read_database(self) -> None:
        execute = self._shop.sql.execute
        job = execute("SELECT status, rows, problems FROM bulk_import_importjob WHERE id = %s", [self._job.id])
        self._status, self._row_count, self._problems = job.fetchone() or ("missing", 0, [])
        self._chunks = execute(CHUNKS, [self._job.id]).fetchall()
        sums = [sum(column) for column in list(zip(*self._chunks, strict=True))[2:]]
        self._counts = dict(zip(DONE + NOT_DONE, sums, strict=True))

    def _read_reports(self) -> None:
        url = f"{self._shop.url}/products/bulk/{self._job.id}"
        self._document: dict[str, Any] = _get(url).json()
        self._failures = [json.loads(line) for line in _get(f"{url}/failures").text.splitlines()]

    def _check_counts(self) -> None:
        done = Counter(self.outcomes.values())
        exists = any(problem["code"] in {"unique", "exists"} for problem in self._problems)
        some = "partially_succeeded" if done or exists else "failed"
        expected_status = "succeeded" if done.total() == len(self._rows) else some
        outcomes = Counter(failure["outcome"] for failure in self._failures)
        errors = sum(len(failure["errors"]) for failure in self._failures)
        has_dead_chunks = any(chunk[0] == "dead" for chunk in self._chunks)
        has_problem = any(problem["code"] in {"dead_letter", "paused_too_long"} for problem in self._problems)
        unprocessed = sum(chunk[-1] for chunk in self._chunks if chunk[0] == "dead")
        self._expect("a problem for dead letters", has_problem, has_dead_chunks and unprocessed > 0)
        self._expect("unprocessed rows, which only dead letters cause", self._counts["unprocessed"], unprocessed)
        self._expect("rows of the job", self._row_count, len(self._rows))
        self._expect("status", self._status, expected_status)
        self._expect("sum of the outcomes", sum(self._counts.values()), len(self._rows))
        for outcome in DONE:
            self._expect(f"{outcome} by the chunks", self._counts[outcome], done[outcome])
        for status, rows, *counts in self._chunks:
            self._expect("status of a chunk", status in {"done", "dead"}, True)
            self._expect("sum of the outcomes of a chunk", sum(counts), rows)
        self._expect("status in the API", self._document["status"], self._status)
        self._expect("counts in the API", self._document["counts"], {**self._counts, "pending": 0})
        self._expect("problems in the API", self._document["problems"], self._problems)
        self._expect("rows in the problems", sum(problem["count"] for problem in self._problems), errors)
        for outcome in NOT_DONE:
            self._expect(f"{outcome} in the failures", outcomes[outcome], self._counts[outcome])

    def _check_failures(self) -> None:
        """Check that the failures are exactly the rows that are not done, in order and unchanged, with true reasons."""
        listed = [failure["index"] for failure in self._failures]
        self._expect("rows in the failures", listed, [n for n in range(len(self._rows)) if n not in self.outcomes])
        codes = {}
        for failure in self._failures:
            index = failure["index"]
            self._expect(f"row {index} in the failures", failure["row"], self._rows[index].body)
            if failure["outcome"] == "rejected":
                codes[index] = failure["errors"][0]["code"]
        self.findings.misreported += find_wrong_reasons(self._job, codes, self._history, self._plan.existing_skus)
        self.outcomes |= {failure["index"]: failure["outcome"] for failure in self._failures}
        valid = [self.outcomes[index] for index, row in enumerate(self._rows) if row.is_valid]
        if len(valid) > MANY_ROWS and set(valid) == {"failed"}:
            self.findings.lost.append(f"{self._job.id}: every valid row has failed, which no fault explains")

    def _check_broken_rows(self) -> None:
        """Check that rows that the endpoint answers 500 each time have failed, and that most of them say so.

        The last answer of a few of them may have been that of another fault.
        """
        codes: Counter[str] = Counter()
        for failure in self._failures:
            if self._rows[failure["index"]].is_broken and failure["outcome"] != "unprocessed":
                self._expect(f"outcome of broken row {failure['index']}", failure["outcome"], "failed")
                codes[failure["errors"][0]["code"]] += 1
        if codes:
            self._expect("reason of the broken rows", codes.most_common(1)[0][0], "http_500")

    def _check_outage(self) -> None:
        """Check that the rows that were left when the endpoint went away for good say so.

        In the few seconds of these functions, a job of few rows makes too few calls to tell an outage from bad rows.
        """
        expected = {"paused_too_long"} if len(self._rows) > SHARED_PRODUCTS else {"paused_too_long", "dead_letter"}
        reasons = {f["errors"][0]["code"] for f in self._failures if f["outcome"] == "unprocessed"}
        self._expect("reasons of the unprocessed rows in an outage", reasons - expected, set())

    def _check_emails(self) -> None:
        """Check that every email was sent that is not pending. A later end or redrive cancels earlier emails."""
        events = self._shop.sql.execute(
            "SELECT id::text, kind FROM bulk_import_importevent event"
            " WHERE job_id = %(job)s AND kind IN ('ended', 'dead_lettered') AND NOT EXISTS ("
            "SELECT FROM bulk_import_delivery WHERE event_id = event.id AND channel = 'email') AND NOT EXISTS ("
            "SELECT FROM bulk_import_importevent later WHERE later.job_id = event.job_id AND later.at > event.at"
            " AND later.kind IN ('redriven', 'ended'))",
            {"job": self._job.id},
        ).fetchall()
        for event_id, kind in events:
            if event_id not in self._shop.emailed_events():
                self.findings.misreported.append(f"{self._job.id}: no email was sent about {kind} {event_id}")

    def _expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.findings.misreported.append(f"{self._job.id}: {what}: {found} instead of {expected}")


def _get(url: str) -> httpx.Response:
    answer = httpx.get(url, auth=USER, timeout=30, trust_env=False)
    answer.raise_for_status()
    return answer
