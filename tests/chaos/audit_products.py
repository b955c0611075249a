"""Checks what the jobs of a run did to the products, with each committed change and its ledger record."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tests.chaos.findings import Findings
from tests.chaos.history import KINDS, History, Record, Write

if TYPE_CHECKING:
    from tests.chaos.jobs import Job
    from tests.chaos.shop import Shop

COMPARED = ("sku", "name", "price", "currency", "stock")
"""The fields of a row that are columns of the product as well."""

WRITTEN = {"created", "updated", "unchanged"}
"""The outcomes after which a product has the values of the row."""


def audit_products(history: History, shop: Shop, prefix: str) -> Findings:
    """Check all changes of the products whose SKUs begin with the prefix, and return what is wrong."""
    findings = Findings()
    findings += check_each_record(history)
    findings += check_each_write(history)
    findings += check_products(history, shop, prefix)
    findings += check_order(history)
    findings += check_last_values(history)
    findings += check_undos(history)
    return findings


def check_each_record(history: History) -> Findings:
    """Each row that is done has exactly the changes that its outcome says, and a rehearsed row has none."""
    findings, seen = Findings(), set[tuple[UUID, int]]()
    for record in history.records:
        if (record.job.id, record.index) in seen:
            findings.duplicated.append(f"{record.name} has two ledger records")
        seen.add((record.job.id, record.index))
        writes = record.product_writes
        if record.job.is_rehearsal:
            if record.writes:
                findings.misreported.append(f"{record.name} is rehearsed, but changed {record.writes[0].table}")
        elif record.outcome == "unchanged":
            if record.writes:
                findings.misreported.append(f"{record.name} changed {record.writes[0].table}")
        elif not writes:
            findings.lost.append(f"{record.name} has a ledger record, but changed no product")
        elif len(writes) > 1:
            findings.duplicated.append(f"{record.name} changed {len(writes)} products")
        else:
            findings += check_content(record, writes[0])
    return findings


def check_content(record: Record, write: Write) -> Findings:
    """The change is that of the row."""
    findings, row = Findings(), record.job.rows[record.index]
    if not row.is_valid:
        findings.misreported.append(f"{record.name} was carried out although its row is invalid")
    if (KINDS[write.kind], write.object_id) != (record.outcome, record.object_id):
        findings.misreported.append(f"{record.name} {write.kind} the product {write.object_id}, not {record.object_id}")
    if record.job.mode == "undo":
        if record.object_id != row.body["id"]:
            findings.wrong_undos.append(f"{record.name} deleted {record.object_id} instead of {row.body['id']}")
    elif wrong := differences(row.body, write.content):
        findings.misreported.append(f"{record.name} does not have the values of its row: {wrong}")
    return findings


def differences(body: dict[str, Any], product: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the row that the product has not, with the product's values."""

    def same(name: str) -> bool:
        return Decimal(body[name]) == Decimal(str(product[name])) if name == "price" else body[name] == product[name]

    return {name: product[name] for name in COMPARED if name in body and not same(name)}


def check_each_write(history: History) -> Findings:
    """Each change has a ledger record of its own transaction, unless a person made it."""
    findings = Findings()
    recorded = {write.number for record in history.records for write in record.writes}
    for write in history.writes:
        if write.number not in recorded and not write.is_edit:
            findings.misreported.append(f"{write.kind} of {write.sku} ({write.object_id}) has no ledger record")
    return findings


def check_products(history: History, shop: Shop, prefix: str) -> Findings:
    """No product exists twice, and each one is as its last change left it."""
    findings, left = Findings(), dict[str, dict[str, Any]]()
    for write in history.writes:
        if write.after is None:
            left.pop(write.object_id, None)
            continue
        if write.kind == "INSERT" and any(product["sku"] == write.sku for product in left.values()):
            findings.duplicated.append(f"{write.sku} has an additional product")
        left[write.object_id] = write.after
    query = "SELECT id::text, to_jsonb(product) FROM products_product product WHERE sku LIKE %s"
    stored: dict[str, dict[str, Any]] = dict(shop.sql.execute(query, [prefix + "-%"]).fetchall())
    for object_id in left.keys() | stored.keys():
        if left.get(object_id) != stored.get(object_id):
            findings.lost.append(f"product {object_id} is {stored.get(object_id)} instead of {left.get(object_id)}")
    return findings


def written_by_sku(history: History) -> dict[str, list[Record]]:
    """Return the records that wrote each product, or found it unchanged, in the order of their commits."""
    written: dict[str, list[Record]] = {}
    for record in history.records:
        if record.outcome in WRITTEN and not record.job.is_rehearsal:
            written.setdefault(record.lookup, []).append(record)
    return written


def check_order(history: History) -> Findings:
    """No job changes a product that a later job has written."""
    findings = Findings()
    for records in written_by_sku(history).values():
        newest = records[0]
        for record in records[1:]:
            if record.job.order < newest.job.order and record.outcome != "created":
                findings.lost_updates.append(f"{record.name} came after {newest.name} of a later job")
            newest = max(newest, record, key=lambda one: one.job.order)
    return findings


def check_last_values(history: History) -> Findings:
    """Each field of a product has the value of the latest job that wrote it.

    This uses neither the order of the commits nor the changes, only the jobs, their rows and the products. Products
    that people changed and those that an undo deleted are left out.
    """
    findings = Findings()
    left_out = {write.sku for write in history.writes if write.kind == "DELETE"} | edited_skus(history)
    last = {write.sku: write.content for write in history.writes}
    for sku, records in written_by_sku(history).items():
        if sku in left_out or sku not in last:
            continue
        expected: dict[str, Any] = {}
        for record in sorted(records, key=lambda one: one.job.order):
            expected |= record.job.rows[record.index].body
        if wrong := differences(expected, last[sku]):
            findings.lost_updates.append(f"{sku} has {wrong} instead of the values of {records[-1].name}: {expected}")
    return findings


def check_undos(history: History) -> Findings:
    """An undo deletes only what its import created, and only if it is as it was then."""
    findings = Findings()
    created = {write.object_id: write for write in history.writes if write.kind == "INSERT"}
    creators = {write.number: record.job for record in history.records for write in record.product_writes}
    for record in history.records:
        if record.job.mode != "undo" or record.job.is_rehearsal or not record.product_writes:
            continue
        deleted = record.product_writes[0]
        creation = created.get(deleted.object_id)
        creator = creators.get(creation.number) if creation else None
        if creation is None or creator is None or creator.id != record.job.undoes:
            findings.wrong_undos.append(f"{record.name} deleted a product that its import did not create")
        elif creation.after != deleted.before:
            findings.wrong_undos.append(f"{record.name} deleted a product that had changed")
    return findings


def find_wrong_forecasts(history: History, outcomes: dict[UUID, dict[int, str]]) -> list[str]:
    """Return a sentence for each row with another outcome than in its rehearsal, although nobody changed its product.

    `outcomes` has the outcome of each row of each job that has ended.
    """
    writers: dict[str, set[UUID]] = {}
    for record in history.records:
        if not record.job.is_rehearsal:
            writers.setdefault(record.lookup, set()).add(record.job.id)
    edited, found = edited_skus(history), []
    for job in history.jobs.values():
        if not job.runs:
            continue
        for index, outcome in outcomes.get(job.id, {}).items():
            forecast = outcomes.get(job.runs, {}).get(index, outcome)
            sku = job.rows[index].body.get("sku") or job.rows[index].body["lookup"]
            is_own = sku not in edited and writers.get(sku, set()) <= {job.id, job.undoes}
            if is_own and forecast != outcome and not {forecast, outcome} & {"failed", "unprocessed"}:
                found.append(f"{job.mode} {job.id}:{index} is {outcome}, but its rehearsal said {forecast}")
    return found


def edited_skus(history: History) -> set[str]:
    """Return the SKUs of the products that people changed without an import."""
    return {write.sku for write in history.writes if write.is_edit and write.kind == "UPDATE"}


def find_wrong_reasons(job: Job, codes: dict[int, str], history: History, existing: list[str]) -> list[str]:
    """Return a sentence for each valid row of a job that was rejected with a code that is not true."""
    return [
        f"{job.mode} {job.id}:{index} was rejected with {code}, which is not true"
        for index, code in codes.items()
        if job.rows[index].is_valid and not is_true(job, index, code, history, existing)
    ]


def is_true(job: Job, index: int, code: str, history: History, existing: list[str]) -> bool:
    """Return whether a valid row of the job may have been rejected with this code."""
    body = job.rows[index].body
    if job.mode == "undo" and code == "superseded" and job.undoes:
        written = written_by_sku(history).get(body["lookup"], [])
        return any(record.job.order > history.jobs[job.undoes].order for record in written)
    if job.mode == "undo":
        kind = {"not_found": "DELETE", "changed_since": "UPDATE"}.get(code)
        return any(write.kind == kind for write in history.writes if write.object_id == body["id"])
    sku = body["sku"]
    if code == "superseded" and job.mode != "create":
        written = written_by_sku(history).get(sku, [])
        return any(record.job.order > job.order for record in written)
    if code == "not_found" and job.mode == "update":
        return sku not in existing or any(write.kind == "DELETE" for write in history.writes if write.sku == sku)
    return False
