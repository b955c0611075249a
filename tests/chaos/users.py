"""The users of a run: they send imports, run their rehearsals, undo imports, and change products by hand."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx

from tests.chaos.plan import FAULT_SECONDS, shared_product
from tests.chaos.shop import USER
from tests.shop_client import TERMINAL

if TYPE_CHECKING:
    from tests.chaos.campaign import Run
    from tests.chaos.plan import Plan, Submission
    from tests.chaos.shop import Shop

SUBMIT_TIMEOUT_SECONDS = 20
"""How long we wait for the answer to a POST. Even if S3 hangs, a 503 comes within half of this time."""

RETRY_SECONDS = 0.2

EDIT = """
UPDATE products_product SET stock = stock + 1000 WHERE id = (
  SELECT id FROM products_product WHERE sku LIKE %s ORDER BY md5(sku || %s) LIMIT 1
)
"""

CREATE_SHARED = """
INSERT INTO products_product
  (sku, name, description, price, currency, stock, category_id, color, size, is_active, created_at)
SELECT %(sku)s, %(name)s, '', %(price)s, %(currency)s, %(stock)s, id, '', '', true, now()
FROM products_category WHERE slug = %(category)s
"""


class Users:
    """Sends the submissions of a plan through the proxy, and adds the jobs to the run."""

    def __init__(self, shop: Shop, run: Run, wait_seconds: float) -> None:
        self._shop = shop
        self._run = run
        self._give_up_at = time.monotonic() + FAULT_SECONDS + wait_seconds

    def import_rows(self, submission: Submission) -> None:
        """POST the rows with an Idempotency-Key. Then make the calls that the user has planned for the job."""
        time.sleep(submission.at)
        query = f"on_invalid=skip&mode={submission.mode}" + "&rehearse=true" * submission.is_rehearsal
        job_id = self._post(
            f"/products/bulk?{query}",
            headers={"Idempotency-Key": submission.key},
            json=[row.body for row in submission.rows],
        )
        if job_id is None:
            self._run.findings.lost.append(f"{submission.key}: the rows could not be submitted")
            return
        self._run.jobs.append((submission, job_id))
        for call in submission.then:
            if not self._has_ended(job_id):
                return
            job_id = self._post(f"/products/bulk/{job_id}/{call}")
            if job_id is None:
                return
            self._run.faults[call.partition("?")[0]] += 1

    def edit(self, which: int) -> bool:
        """Change one of the products of the run. Returns False if there is none."""
        return bool(self._shop.sql.execute(EDIT, [f"{self._run.plan.prefix}-%", str(which)]).rowcount)

    def _post(self, path: str, **content: Any) -> UUID | None:
        """Repeat a POST until it is answered 202, and return the ID of the job; None if there is no job to start."""
        while time.monotonic() < self._give_up_at:
            try:
                answer = httpx.post(
                    self._shop.proxy_url + path,
                    auth=USER,
                    timeout=SUBMIT_TIMEOUT_SECONDS,
                    trust_env=False,
                    **content,
                )
                if answer.status_code == httpx.codes.ACCEPTED:
                    return UUID(answer.json()["id"])
                if answer.status_code == httpx.codes.CONFLICT and not content:
                    return None  # for example, the job has created nothing that could be undone
                if answer.status_code not in {429, 500, 502, 503}:
                    raise RuntimeError(f"POST {path} was answered {answer.status_code}: {answer.text[:500]}")
            except httpx.ReadTimeout:
                self._run.findings.misreported.append(f"A POST was not answered within {SUBMIT_TIMEOUT_SECONDS} s.")
            except httpx.TransportError:
                pass
            time.sleep(RETRY_SECONDS)
        return None

    def _has_ended(self, job_id: UUID) -> bool:
        """Wait until the job has ended. Returns False if that takes too long, which the audit reports."""
        query = "SELECT status = ANY(%s) FROM bulk_import_importjob WHERE id = %s"
        while time.monotonic() < self._give_up_at:
            row = self._shop.sql.execute(query, [list(TERMINAL), job_id]).fetchone()
            if row and row[0]:
                return True
            time.sleep(RETRY_SECONDS)
        return False


def create_shared_products(shop: Shop, plan: Plan) -> None:
    """Create the products that exist before the run."""
    for sku in plan.existing_skus:
        shop.sql.execute(CREATE_SHARED, shared_product(sku))
