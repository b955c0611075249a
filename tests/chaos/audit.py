"""Compares the database after a run with what the shop reports to its users."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import httpx

from tests.chaos.shop import USER

if TYPE_CHECKING:
    from uuid import UUID

    from tests.chaos.plan import Submission
    from tests.chaos.shop import Shop

OUTCOMES = ("created", "rejected", "failed", "unprocessed")
TERMINAL = {"succeeded", "partially_succeeded", "failed", "cancelled"}


@dataclass
class Findings:
    """One sentence for each row or report that is wrong."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    misreported: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lost or self.duplicated or self.misreported)

    def __iadd__(self, other: Findings) -> Self:
        self.lost += other.lost
        self.duplicated += other.duplicated
        self.misreported += other.misreported
        return self

    def sentences(self) -> list[str]:
        kinds = {"lost": self.lost, "duplicated": self.duplicated, "misreported": self.misreported}
        return [f"{kind}: {text} ({n} times)" for kind, texts in kinds.items() for text, n in Counter(texts).items()]


def audit(shop: Shop, submission: Submission, job_id: UUID, *, has_outage: bool = False) -> Findings:
    """Check everything about one job, and return what is wrong.

    `has_outage` says that the endpoint went away for good, so that the rows that were left are unprocessed.
    """
    return _Audit(shop, submission, job_id, has_outage=has_outage).findings


class _Audit:
    def __init__(self, shop: Shop, submission: Submission, job_id: UUID, *, has_outage: bool) -> None:
        self.findings = Findings()
        self._shop = shop
        self._rows = submission.rows
        self._job_id = job_id
        self._read_database()
        self._check_products()
        if self._status in TERMINAL:
            self._read_reports()
            self._check_counts()
            self._check_failures()
            self._check_broken_rows()
            if has_outage:
                self._check_outage()
            self._check_emails()
        else:
            open_rows = len(self._rows) - sum(self._counts.values())
            self.findings.lost += [f"{job_id} is {self._status}: row open"] * max(open_rows, 1)

    def _read_database(self) -> None:
        execute = self._shop.sql.execute
        job = execute("SELECT status, rows, problems FROM bulk_import_importjob WHERE id = %s", [self._job_id])
        self._status, self._row_count, self._problems = job.fetchone() or ("missing", 0, [])
        self._chunks = execute(
            "SELECT status, row_count, created, rejected, failed, unprocessed FROM bulk_import_importchunk"
            " WHERE job_id = %s ORDER BY number",
            [self._job_id],
        ).fetchall()
        sums = [sum(chunk[column] for chunk in self._chunks) for column in range(2, 6)]
        self._counts = dict(zip(OUTCOMES, sums, strict=True))
        self._ledger = execute(
            'SELECT "index", object_id FROM bulk_import_importedrow WHERE job_id = %s', [self._job_id]
        ).fetchall()
        skus = [row.body["sku"] for row in self._rows]
        products = execute("SELECT sku, id::text FROM products_product WHERE sku = ANY(%s)", [skus]).fetchall()
        self._products: dict[str, list[str]] = {}
        for sku, product_id in products:
            self._products.setdefault(sku, []).append(product_id)

    def _check_products(self) -> None:
        """Check that each ledger record has exactly one product, and each product exactly one record."""
        times = Counter(index for index, _ in self._ledger)
        for index, count in times.items():
            if count > 1:
                self.findings.duplicated.append(f"{self._job_id}:{index} has {count} ledger records")
        record_of: dict[int, str] = dict(self._ledger)
        for index, row in enumerate(self._rows):
            name = f"{self._job_id}:{index} {row.body['sku']}"
            products = self._products.get(row.body["sku"], []) if row.has_own_sku else []
            self.findings.duplicated += [f"{name} has an additional product"] * (len(products) - 1)
            if not row.is_valid and (products or index in record_of):
                self.findings.misreported.append(f"{name} was created although it is invalid")
            elif products and index not in record_of:
                self.findings.misreported.append(f"{name} has a product but no ledger record")
            elif index in record_of and not products:
                self.findings.lost.append(f"{name} has a ledger record but no product")
            elif products and record_of[index] not in products:
                self.findings.misreported.append(f"{name}: the ledger record has the ID of another product")

    def _read_reports(self) -> None:
        url = f"{self._shop.url}/products/bulk/{self._job_id}"
        self._document: dict[str, Any] = _get(url).json()
        self._failures = [json.loads(line) for line in _get(f"{url}/failures").text.splitlines()]

    def _check_counts(self) -> None:
        created = len({index for index, _ in self._ledger})
        expected_status = "succeeded" if created == len(self._rows) else "partially_succeeded" if created else "failed"
        outcomes = Counter(failure["outcome"] for failure in self._failures)
        errors = sum(len(failure["errors"]) for failure in self._failures)
        has_dead_chunks = any(chunk[0] == "dead" for chunk in self._chunks)
        has_problem = any(problem["code"] in {"dead_letter", "paused_too_long"} for problem in self._problems)
        unprocessed = sum(chunk[5] for chunk in self._chunks if chunk[0] == "dead")
        self._expect("a problem for dead letters", has_problem, has_dead_chunks and unprocessed > 0)
        self._expect("unprocessed rows, which only dead letters cause", self._counts["unprocessed"], unprocessed)
        self._expect("rows of the job", self._row_count, len(self._rows))
        self._expect("status", self._status, expected_status)
        self._expect("sum of the outcomes", sum(self._counts.values()), len(self._rows))
        self._expect("created by the chunks", self._counts["created"], created)
        for status, rows, *counts in self._chunks:
            self._expect("status of a chunk", status in {"done", "dead"}, True)
            self._expect("sum of the outcomes of a chunk", sum(counts), rows)
        self._expect("status in the API", self._document["status"], self._status)
        expected = {**dict.fromkeys(["updated", "unchanged", "deleted", "pending"], 0), **self._counts}
        self._expect("counts in the API", self._document["counts"], expected)
        self._expect("problems in the API", self._document["problems"], self._problems)
        self._expect("rows in the problems", sum(problem["count"] for problem in self._problems), errors)
        for outcome in OUTCOMES[1:]:
            self._expect(f"{outcome} in the failures", outcomes[outcome], self._counts[outcome])

    def _check_failures(self) -> None:
        """Check that the failures are exactly the rows that were not created, in order and unchanged."""
        created = {index for index, _ in self._ledger}
        listed = [failure["index"] for failure in self._failures]
        self._expect("rows in the failures", listed, [n for n in range(len(self._rows)) if n not in created])
        for failure in self._failures:
            row = self._rows[failure["index"]]
            self._expect(f"row {failure['index']} in the failures", failure["row"], row.body)
            if row.is_valid and failure["outcome"] == "rejected":
                self.findings.misreported.append(f"{self._job_id}:{failure['index']} was rejected although it is valid")

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
        """Check that the rows that were left when the endpoint went away for good say so."""
        reasons = {f["errors"][0]["code"] for f in self._failures if f["outcome"] == "unprocessed"}
        self._expect("reasons of the unprocessed rows in an outage", reasons - {"paused_too_long"}, set())

    def _check_emails(self) -> None:
        """Check that every email was sent that is not pending. A later end or redrive cancels earlier emails."""
        events = self._shop.sql.execute(
            "SELECT id::text, kind FROM bulk_import_importevent event"
            " WHERE job_id = %(job)s AND kind IN ('ended', 'dead_lettered') AND NOT EXISTS ("
            "SELECT FROM bulk_import_delivery WHERE event_id = event.id AND channel = 'email') AND NOT EXISTS ("
            "SELECT FROM bulk_import_importevent later WHERE later.job_id = event.job_id AND later.at > event.at"
            " AND later.kind IN ('redriven', 'ended'))",
            {"job": self._job_id},
        ).fetchall()
        for event_id, kind in events:
            if event_id not in self._shop.emailed_events():
                self.findings.misreported.append(f"{self._job_id}: no email was sent about {kind} {event_id}")

    def _expect(self, what: str, found: object, expected: object) -> None:
        if found != expected:
            self.findings.misreported.append(f"{self._job_id}: {what}: {found} instead of {expected}")


def _get(url: str) -> httpx.Response:
    answer = httpx.get(url, auth=USER, timeout=30, trust_env=False)
    answer.raise_for_status()
    return answer
