"""Checks of what the imports did to the categories. They compare each committed change with the ledger.

The ledger says what every row did, and its order is the order of the commits.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from tests.shop_client import TERMINAL
from tests.simulation.audited import audited_jobs
from tests.simulation.checks import Finding, check
from tests.simulation.writes import read_records, read_writes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.simulation.world import World


def _is_complete(world: World) -> bool:
    """Return whether the ledger still has all its records."""
    return not any(audited.is_expired for audited in world.audited)


@check
def each_change_has_its_record(world: World) -> Iterator[Finding]:
    """Each row is carried out once: there is one change for each record, and no other one, also not by a rehearsal."""
    if not _is_complete(world):
        return
    records = {record.id: record for record in read_records(world)}
    seen: set[int] = set()
    for write in read_writes(world):
        record = records.get(write.record)
        if write.is_edit:
            continue
        if record is None or (record.outcome, record.name) != (write.kind, write.name):
            yield Finding("misreported", f"{write} exists but has no ledger record")
        elif record.id in seen:
            yield Finding("duplicated", f"{write} was carried out twice")
        elif write.kind != "deleted" and write.value != record.value:
            yield Finding("misreported", f"{write} does not have the value of row {record.index}")
        else:
            seen.add(record.id)
    for record in records.values():
        if record.outcome != "unchanged" and record.id not in seen:
            yield Finding("lost", f"row {record.name} has a ledger record but does not exist as {record.outcome}")


@check
def nothing_newer_is_overwritten(world: World) -> Iterator[Finding]:
    """The value of an object is that of the last job that has written it. `unchanged` means that it was the same."""
    if not _is_complete(world):
        return
    writes, newest = read_writes(world), dict[str, tuple[str, str]]()
    for record in read_records(world):
        if record.outcome == "deleted":
            continue
        order = (record.audited.created_at, record.audited.hex_id)
        if record.outcome != "created" and order < newest.get(record.name, order):
            yield Finding("lost", f"{record.name} was {record.outcome} by a job that is older than its last one")
        newest[record.name] = max(order, newest.get(record.name, order))
        if record.outcome == "unchanged":
            before = [write.value for write in writes if write.name == record.name and write.record < record.id]
            value = before[-1] if before else world.plan.objects.get(record.name)
            if value != record.value:
                yield Finding("misreported", f"{record.name} is unchanged, but had the value {value}")


@check
def an_undo_deletes_only_what_its_job_created(world: World) -> Iterator[Finding]:
    if not _is_complete(world):
        return
    writes = read_writes(world)
    records = {record.id: record for record in read_records(world)}
    for place, write in enumerate(writes):
        if write.kind != "deleted" or write.record not in records:
            continue
        history = [earlier for earlier in writes[:place] if earlier.object_id == write.object_id]
        creator = records.get(history[0].record) if history and history[0].kind == "created" else None
        if creator is None or creator.audited.id != records[write.record].audited.undoes:
            yield Finding("lost", f"an undo deleted {write}, which another job created")
        elif history[-1].value != history[0].value:
            yield Finding("lost", f"an undo deleted {write}, which had changed")


@check
def a_forecast_comes_true(world: World) -> Iterator[Finding]:
    """A row has the outcome that its rehearsal had, unless somebody else has changed its object."""
    if not _is_complete(world):
        return
    by_id = {audited.id: audited for audited in world.audited}
    records = {record.id: record for record in read_records(world)}
    others: dict[str, set[str]] = {}
    for write in read_writes(world):
        by = records[write.record].audited.id if write.record in records and not write.is_edit else "somebody"
        others.setdefault(write.name, set()).add(by)
    for audited in world.audited:
        if not audited.runs:
            continue
        rehearsal = by_id[audited.runs]
        for index, outcome in audited.outcomes.items():
            forecast = rehearsal.outcomes.get(index, outcome)
            name = audited.job.rows[index].name
            if forecast != outcome and others.get(name, set()) <= {audited.id}:
                yield Finding("misreported", f"{name} is {outcome}, but its rehearsal said {forecast}")


@check
def results_agree(world: World) -> Iterator[Finding]:
    """The results in the API are the ledger and the failures."""
    for audited in audited_jobs(world):
        if audited.status not in TERMINAL or audited.job.user in world.people.changed_users:
            continue
        expected = {failure["index"]: failure["outcome"] for failure in audited.failures} | audited.outcomes
        results = [json.loads(line) for line in audited.get("/results").content.splitlines()]
        listed = {result["index"]: result["outcome"] for result in results}
        if listed != expected or len(results) != len(expected):
            yield Finding("misreported", f"the results of job {audited.job.number} are {listed}, not {expected}")
