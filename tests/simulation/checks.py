"""What must be true after every run.

A check is a function that takes the finished world and yields findings. To add one, write a function with `@check`.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.shop_client import TERMINAL
from tests.simulation.audited import DONE, NOT_DONE, OUTCOMES, Audited, audited_jobs, read_jobs
from tests.simulation.endpoint import EndpointFault
from tests.simulation.faults_of_people import Concurrency, UserChange
from tests.simulation.monolith import MAX_STEPS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.simulation.world import World

    Check = Callable[[World], Iterator["Finding"]]


@dataclass(frozen=True)
class Finding:
    """Something that must not happen. The kind is lost, duplicated, misreported or stuck."""

    kind: str
    text: str


CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Register a check."""
    CHECKS.append(function)
    return function


def audit(world: World) -> list[Finding]:
    """Return what all checks find."""
    world.audited = list(read_jobs(world))
    return [finding for function in CHECKS for finding in function(world)]


@check
def every_job_ends(world: World) -> Iterator[Finding]:
    if world.has_failed:
        return  # so the run was stopped
    for audited in world.audited:
        if audited.status not in TERMINAL:
            yield Finding("stuck", f"job {audited.job.number} is {audited.status}: {world.stuck}")
    if world.stuck and all(audited.status in TERMINAL for audited in world.audited):
        yield Finding("stuck", f"all jobs have ended, but the run is {world.stuck}")
    for text in world.people.refused:
        yield Finding("misreported", f"a user got {text}")
    for job in world.plan.jobs:
        is_concerned = any(fault.concerns(job) for fault in world.plan.faults if fault.hits)
        if job.number not in world.people.accepted and not is_concerned:
            yield Finding("lost", f"job {job.number} was not accepted")
    for number, job_id in world.people.accepted.items():
        if job_id not in {audited.id for audited in world.audited if audited.job.number == number}:
            yield Finding("lost", f"job {number} was accepted but does not exist")


@check
def no_error_is_unexpected(world: World) -> Iterator[Finding]:
    """Our views answer 503 if something does not work. A 500 means an exception that nobody thought of."""
    for text in world.network.errors:
        yield Finding("misreported", f"{text} was answered with 500")


@check
def a_process_can_die_at_each_step(world: World) -> Iterator[Finding]:
    """The deaths that the faults draw reach the last step of each process of the monolith."""
    if world.monolith.most_steps > MAX_STEPS:
        yield Finding("misreported", f"a process had {world.monolith.most_steps} steps, more than MAX_STEPS")


@check
def each_row_exists_once(world: World) -> Iterator[Finding]:
    existing = Counter(sku for (sku,) in world.sql("SELECT sku FROM products_product"))
    for audited in world.audited:
        records = world.sql('SELECT "index" FROM bulk_import_importedrow WHERE job_id = ?', audited.hex_id)
        for (index,), count in Counter(records).items():
            if count > 1:
                yield Finding("duplicated", f"row {index} of job {audited.job.number} has {count} ledger records")
        for index, row in enumerate(audited.job.rows if audited.job.target == "products" else []):
            count, is_recorded = existing.pop(row.name, 0), index in audited.ledger
            if count > 1:
                yield Finding("duplicated", f"row {row.name} was created {count} times")
            if is_recorded and not count:
                yield Finding("lost", f"row {row.name} has a ledger record but does not exist")
            if count and not is_recorded and not audited.is_expired:
                yield Finding("misreported", f"row {row.name} exists but has no ledger record")


@check
def nothing_is_left_of_expired_jobs(world: World) -> Iterator[Finding]:
    for audited in world.audited:
        if audited.is_expired:
            yield from _check_counts(audited)
            objects = [key for _bucket, key in world.s3.objects if audited.id in key]
            if audited.ledger or objects:
                yield Finding("misreported", f"{objects} and {len(audited.ledger)} records are left of an expired job")


@check
def each_row_has_one_outcome(world: World) -> Iterator[Finding]:
    for audited in audited_jobs(world):
        if audited.status not in TERMINAL:
            continue
        yield from _check_counts(audited)
        missing = [index for index in range(len(audited.job.rows)) if index not in audited.ledger]
        listed = [failure["index"] for failure in audited.failures]
        if listed != missing:
            kind = "lost" if set(missing) - set(listed) else "misreported"
            yield Finding(kind, f"the failures of job {audited.job.number} list {listed} instead of {missing}")
        for failure in audited.failures:
            if failure["row"] != audited.job.rows[failure["index"]].body:
                yield Finding("misreported", f"row {failure['index']} is changed in the failures")
        outcomes = Counter(failure["outcome"] for failure in audited.failures)
        if any(outcomes[name] != audited.counts[name] for name in NOT_DONE):
            yield Finding("misreported", f"the failures have {outcomes}, and the chunks {audited.counts}")


def _check_counts(audited: Audited) -> Iterator[Finding]:
    number, counts, rows = audited.job.number, audited.counts, len(audited.job.rows)
    if sum(counts.values()) != rows:
        yield Finding("lost", f"job {number} has {counts} of {rows} rows")
    done = sum(counts[outcome] for outcome in DONE)
    if done != len(audited.ledger) and not audited.is_expired:
        yield Finding("misreported", f"job {number} reports {counts}, the ledger has {len(audited.ledger)} rows")
    for chunk in audited.chunks:
        if chunk["status"] not in {"done", "dead"} or sum(chunk[name] for name in OUTCOMES) != chunk["row_count"]:
            yield Finding("misreported", f"job {number} has ended with the chunk {chunk}")
    expected = "partially_succeeded" if done else "failed"
    # A redrive of a cancelled job runs only the dead chunks. The others keep the rows that the cancel left.
    left_by_cancel = any(chunk["status"] == "done" and chunk["unprocessed"] for chunk in audited.chunks)
    if done == rows:
        expected = "succeeded"
    elif counts["unprocessed"] and (audited.is_cancelled or left_by_cancel):
        expected = "cancelled"
    if audited.status != expected:
        yield Finding("misreported", f"job {number} is {audited.status} with {counts}")


@check
def each_outcome_has_a_reason(world: World) -> Iterator[Finding]:
    """Without a fault that explains it, a row must have been created."""
    hits = [fault for fault in world.plan.faults if fault.hits]
    endpoint = [fault for fault in hits if isinstance(fault, EndpointFault)]
    for audited in audited_jobs(world):
        number = audited.job.number
        is_cancelled = any(fault.cancels(audited.job) for fault in hits)
        is_dead = any(chunk["status"] == "dead" for chunk in audited.chunks)
        user_changed = any(isinstance(fault, UserChange) and fault.user == audited.job.user for fault in hits)
        if audited.is_cancelled and not is_cancelled:
            yield Finding("misreported", f"job {number} is cancelled, but nobody cancelled it")
        if audited.status in TERMINAL and is_dead and not hits:
            yield Finding("misreported", f"job {number} has dead chunks without a fault")
        for failure in audited.failures if audited.status in TERMINAL else []:
            name, key = audited.job.rows[failure["index"]].name, f"{audited.id}:{failure['index']}"
            refusals = [fault for fault in endpoint if fault.name in {"", name} and fault.status in {400, 403}]
            codes = {error["code"] for error in failure["errors"]}
            outcome = failure["outcome"]
            has_reason = {
                "rejected": bool(refusals) or user_changed or bool(codes & audited.refusals),
                "failed": world.loads.failed_calls_of_row[key] > 0,
                "unprocessed": is_cancelled or is_dead,
            }[outcome]
            if failure["attempts"] > world.loads.calls_of_row[key]:
                yield Finding("misreported", f"row {name} reports {failure['attempts']} attempts")
            if not has_reason:
                yield Finding("misreported", f"row {name} is {outcome} without a reason: {failure['errors']}")


@check
def other_jobs_are_not_affected(world: World) -> Iterator[Finding]:
    """A job that no fault concerns succeeds."""
    for audited in audited_jobs(world):
        is_concerned = any(fault.concerns(audited.job) for fault in world.plan.faults if fault.hits)
        is_independent = audited.job in world.plan.jobs and audited.job.mode == "create"
        if is_independent and not is_concerned and audited.status != "succeeded":
            yield Finding("misreported", f"job {audited.job.number} is {audited.status} because of another job")


@check
def reports_agree(world: World) -> Iterator[Finding]:
    """The API shows the same as the database."""
    for audited in audited_jobs(world):
        if audited.status not in TERMINAL or audited.job.user in world.people.changed_users:
            continue
        document = json.loads(audited.get().content)
        expected = {**audited.counts, "pending": 0}
        if (document["status"], document["counts"]) != (audited.status, expected):
            yield Finding("misreported", f"the API shows {document['status']} {document['counts']}, not {expected}")
        problems = sum(problem["count"] for problem in document["problems"])
        errors = sum(len(failure["errors"]) for failure in audited.failures)
        are_omitted = any(chunk["id"] in world.releases.reported_chunks for chunk in audited.chunks)
        if problems > errors or (problems < errors and not are_omitted):
            yield Finding("misreported", f"the problems of job {audited.job.number} count {problems} errors")
        if not audited.failures:
            continue
        listed = [json.loads(line) for line in audited.get("/failures").content.splitlines()]
        if listed != [{"line": None, **failure} for failure in audited.failures]:  # JSON has no line numbers
            yield Finding("misreported", f"the API lists {len(listed)} failures, not {len(audited.failures)}")


@check
def notifications_agree(world: World) -> Iterator[Finding]:
    """The last end of each job was reported by an email and by a webhook with the final counts."""
    emails = Counter(world.receivers.emails)
    webhooks = dict(world.receivers.webhooks)
    for audited in audited_jobs(world):
        events = world.sql(
            "SELECT id, kind FROM bulk_import_importevent WHERE job_id = ? ORDER BY rowid", audited.hex_id
        )
        ends = [f"{i[:8]}-{i[8:12]}-{i[12:16]}-{i[16:20]}-{i[20:]}" for i, kind in events if kind == "ended"]
        if audited.status not in TERMINAL or world.stuck:
            continue
        if not ends:
            yield Finding("misreported", f"job {audited.job.number} has ended without an event")
            continue
        address = f"{audited.job.user}@shop.example"
        if audited.job.user not in world.people.changed_users and (ends[-1], address) not in emails:
            yield Finding("misreported", f"no email reports the end of job {audited.job.number}")
        body = webhooks.get(ends[-1])
        if body is None:
            yield Finding("misreported", f"no webhook reports the end of job {audited.job.number}")
        elif body["data"]["counts"] != {**audited.counts, "pending": 0} or body["data"]["status"] != audited.status:
            yield Finding("misreported", f"the webhook of job {audited.job.number} reports {body['data']['counts']}")
    if not any(fault.hits for fault in world.plan.faults):
        for email, count in emails.items():
            if count > 1:
                yield Finding("misreported", f"{count} copies of the email {email}")


@check
def workers_stay_within_their_limits(world: World) -> Iterator[Finding]:
    limits = [fault.limit for fault in world.plan.faults if isinstance(fault, Concurrency)]
    if world.loads.max_in_flight > max([world.plan.concurrency, *limits]):
        yield Finding("misreported", f"{world.loads.max_in_flight} create calls of a worker were in flight")
    for calls in world.loads.chunks.values():
        retries = calls.calls - len(calls.rows)
        seconds = calls.ended_at - calls.claimed_at
        if retries > len(calls.rows) / 10 + 4 + seconds + 1:
            yield Finding("misreported", f"{retries} retries for {len(calls.rows)} rows in {seconds:.1f} s")


MAX_CLAIMS_PER_HOUR = 120
"""Most claims in an hour, per message of a chunk that existed at the same time.

While the worker API is away, a message causes about 75. If SQS delivers it twice, each delivery goes on with a copy, so
two are always expected.
"""


@check
def an_outage_causes_few_calls(world: World) -> Iterator[Finding]:
    messages: Counter[str] = Counter()
    for queue in (world.queue, world.dead_letters):  # their workers make the same calls
        for body, count in queue.most.items():
            messages[json.loads(body)["chunk_id"]] += count
    for (chunk_id, hour), claims in world.loads.claims.items():
        if claims > MAX_CLAIMS_PER_HOUR * max(messages[chunk_id], 2):
            yield Finding(
                "misreported", f"{messages[chunk_id]} messages of a chunk at once caused {claims} claims in hour {hour}"
            )


@check
def no_stale_call_is_accepted(world: World) -> Iterator[Finding]:
    for text in world.loads.wrongly_accepted:
        yield Finding("misreported", text)


@check
def places_are_given_in_turn(world: World) -> Iterator[Finding]:
    """No place of a window was given away twice, or to a user who already had more than another one who waited."""
    for text in world.windows.findings:
        yield Finding("misreported", text)


@check
def lost_messages_are_replaced_in_time(world: World) -> Iterator[Finding]:
    """A lost message is replaced, whatever else is on the queue, before its chunk has waited too long."""
    for text in world.lost_messages.findings:
        yield Finding("stuck", text)
