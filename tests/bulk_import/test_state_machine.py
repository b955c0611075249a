"""Random sequences of everything that can happen to a job. After each step, all guarantees are checked.

Hypothesis calls the rules of `JobMachine` in random order with random arguments. Each rule does one thing that a
worker, a user or the relay can do at any time, such as a late finish of a stale worker, and checks whether it was
accepted or refused. The invariant at the end is checked after every rule.

With STATE_MACHINE_EXAMPLES=3000, this runs that many sequences instead of a hundred, also on PostgreSQL.
"""

from __future__ import annotations

import json
import os
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock, patch

import pytest
from django.conf import settings as django_settings
from django.db import IntegrityError, connections, transaction
from django.db.models import F
from django.db.models.functions import Now
from django.test import override_settings
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from bulk_import.conf import conf
from bulk_import.exceptions import BadImport, ChunkClosed, ClaimError, JobPaused, LeaseHeld, LedgerDisagrees, StaleEpoch
from bulk_import.intake.run import create_run, find_run
from bulk_import.intake.undo import undo
from bulk_import.models import (
    TERMINAL_CHUNK_STATUSES,
    ChunkStatus,
    EventKind,
    ImportChunk,
    ImportedRow,
    ImportJob,
    JobMode,
    JobStatus,
    LockedChunk,
    database,
)
from bulk_import.models.lease import MAX_DELIVERIES
from bulk_import.models.pause import MAX_PAUSE_SECONDS
from bulk_import.models.status import OUTSTANDING_CHUNK_STATUSES, PAUSES_UNTIL_RESUMED
from bulk_import.models.window import reserve_chunks
from bulk_import_wire.contract import LEDGER_OUTCOMES, Finish, Outcome, PauseCode
from bulk_import_wire.problems import problem
from tests.examples import examples

if TYPE_CHECKING:
    from collections.abc import Callable

    from bulk_import.intake.payload import Payload

LEASE_SECONDS = 3600
"""Longer than any test takes, so a lease expires only by the rule `expire_lease`."""

EXAMPLES = int(os.environ.get("STATE_MACHINE_EXAMPLES", examples(100)))

numbers = st.integers(0, 2)


def outcome_of(index: int) -> str:
    """Return the outcome of a row that is done. The rules do not depend on it, so all of them occur."""
    return LEDGER_OUTCOMES[index % len(LEDGER_OUTCOMES)].value


OTHER_OUTCOMES = [outcome for outcome in Outcome if outcome not in LEDGER_OUTCOMES]
claimants = st.sampled_from(["one", "two", "three"])


class JobMachine(RuleBasedStateMachine):
    """One job with up to three chunks, and workers that act on it.

    `granted_claims` has (chunk number, epoch) of every claim that was ever granted. A worker may use any of them, also
    one that is stale by now. `job`, `chunks` and `ledger` (for each chunk, the set of indexes with a ledger record) are
    the state after the last rule.
    """

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.granted_claims: list[tuple[int, int]] = []
        self.highest_epochs = [0, 0, 0]
        self.undone: set[int] = set()  # indexes of the rows whose objects an undo has deleted
        self.undo_lines: list[bytes] = []
        self.waiting_before = len(connections[database()].run_on_commit)

    @initialize(
        sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3),
        mode=st.sampled_from(JobMode),
        rehearsal=st.booleans(),
    )
    def submit(self, sizes: list[int], mode: JobMode, rehearsal: bool) -> None:
        self.job = ImportJob.objects.create(
            target="products", rows=sum(sizes), request_sha256=b"", mode=mode, rehearsal=rehearsal
        )
        for number, size in enumerate(sizes):
            first = sum(sizes[:number])
            ImportChunk.objects.create(
                job=self.job, number=number, first_index=first, row_count=size, first_byte=0, byte_count=1
            )
        self.reload()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    def reload(self) -> None:
        self.job = ImportJob.objects.get(pk=self.job.pk)
        self.chunks: list[ImportChunk] = list(ImportChunk.objects.filter(job=self.job).order_by("number"))
        indexes = list(self.job.imported_rows.values_list("index", flat=True))
        assert len(indexes) == len(set(indexes))
        locked_chunks = [LockedChunk.lock(chunk.pk, 0) for chunk in self.chunks]
        self.ledger = [{index for index in indexes if chunk.contains_index(index)} for chunk in locked_chunks]
        for outcome in Outcome:
            setattr(self.job, f"{outcome}_count", sum(getattr(chunk, outcome) for chunk in self.chunks))

    def attempt(self, number: int, act: Callable[[ImportChunk], None], *refusals: type[ClaimError]) -> Any:
        """Call `act` with the locked chunk, in a transaction as a request does. Returns the error that refuses it."""
        try:
            with transaction.atomic():
                act(ImportChunk.objects.locked(self.chunks[number].pk))
        except refusals as refusal:
            return refusal
        return None

    def draw_claim(self, data: st.DataObject) -> tuple[int, int]:
        """Draw a claim. Current ones are preferred, so that the job also reaches its end in a good part of the runs."""
        current = [claim for claim in self.granted_claims if not self.is_stale(*claim)]
        return data.draw(st.sampled_from(4 * current + self.granted_claims))

    def is_stale(self, number: int, epoch: int) -> bool:
        return self.chunks[number].epoch != epoch or self.chunks[number].status != ChunkStatus.PROCESSING

    def has_new_rows(self, number: int) -> bool:
        return len(self.ledger[number]) > self.chunks[number].done

    def stays_paused(self, number: int) -> bool:
        """Return whether the job stays paused when the worker of this chunk reports. A created row ends a pause."""
        return self.job.is_paused_by_staff or (self.job.status == JobStatus.PAUSED and not self.has_new_rows(number))

    def is_paused(self) -> bool:
        return ImportJob.objects.filter(pk=self.job.pk, status=JobStatus.PAUSED).exists()

    # --- rules: the relay, users and staff

    @rule(number=numbers)
    def send(self, number: int) -> None:
        """The chunk has a place in the window, SQS accepts its message, and the relay notes it."""
        self.job.chunks.filter(number=number, status=ChunkStatus.RESERVED).update(status=ChunkStatus.QUEUED)
        self.job.mark_queued()

    @rule(places=st.integers(1, 3))
    def reserve(self, places: int) -> None:
        """Pending chunks get the free places of a window. While a worker pauses the job, one of them probes."""
        statuses = [chunk.status for chunk in self.chunks]
        leased = self.job.chunks.filter(status=ChunkStatus.PROCESSING, lease_expires_at__gt=Now()).count()
        failed = sum(chunk.failed_deliveries > 0 for chunk in self.chunks if chunk.status == ChunkStatus.QUEUED)
        in_flight = leased + statuses.count(ChunkStatus.RESERVED) + statuses.count(ChunkStatus.QUEUED) - failed
        expected = min(max(places - in_flight, 0), statuses.count(ChunkStatus.PENDING))
        if self.is_paused():
            is_probed = self.job.is_paused_by_staff or OUTSTANDING_CHUNK_STATUSES.intersection(statuses)
            expected = 0 if is_probed else min(1, statuses.count(ChunkStatus.PENDING))
        window = {**django_settings.BULK_IMPORT, "CHUNKS_IN_FLIGHT": places}
        with override_settings(BULK_IMPORT=window), transaction.atomic():
            assert len(reserve_chunks(self.job.target)) == expected

    @rule()
    def redrive(self) -> None:
        """A redrive opens every dead chunk, but none of a rehearsal that was run. A second redrive has no effect."""
        dead = 0 if find_run(self.job) else sum(chunk.status == ChunkStatus.DEAD for chunk in self.chunks)
        with transaction.atomic():
            assert self.job.redrive() == dead
            assert self.job.redrive() == 0

    @rule()
    def retry(self) -> None:
        """A retry of a job that has ended opens every chunk with missing rows. A second retry has no effect."""
        with_rows_left = sum(chunk.done < chunk.row_count for chunk in self.chunks)
        with transaction.atomic():
            assert self.job.retry() == (with_rows_left if self.job.is_terminal and not find_run(self.job) else 0)
            assert self.job.retry() == 0

    @rule()
    def cancel(self) -> None:
        self.change_twice(self.job.cancel, can=self.job.can_be_cancelled)

    @rule()
    def pause_by_staff(self) -> None:
        self.change_twice(self.job.pause_by_staff, can=self.job.can_be_cancelled and not self.job.is_paused_by_staff)

    @rule()
    def resume_by_staff(self) -> None:
        self.change_twice(self.job.resume_by_staff, can=self.job.status == JobStatus.PAUSED)

    def change_twice(self, change: Callable[[Any], bool], *, can: bool) -> None:
        """The first call succeeds if the job allows it, and the second call has no effect."""
        with transaction.atomic():
            assert [change(None), change(None)] == [can, False]
        self.job.chunks.return_to_pending()

    @precondition(lambda self: self.job.rehearsal and self.job.is_terminal and not find_run(self.job))
    @rule()
    def run_the_rehearsal(self) -> None:
        """The import of a rehearsal has the same rows, and starts from the beginning."""
        job = ImportJob.objects.get(pk=create_run(self.job, ""))
        assert (job.runs_id, job.rehearsal, job.mode, job.rows) == (self.job.pk, False, self.job.mode, self.job.rows)
        chunks = list(job.chunks.order_by("number").values_list("first_index", "row_count", "created", "epoch"))
        assert chunks == [(chunk.first_index, chunk.row_count, 0, 0) for chunk in self.chunks]
        assert self.job.events.filter(kind=EventKind.RUN).count() == 1
        job.chunks.update(status=ChunkStatus.DONE)  # it takes no place in the window of the rehearsal

    @rule(rehearsal=st.booleans())
    def undo(self, rehearsal: bool) -> None:
        """An undo lists what the job has created and no undo has deleted. While it runs, it is the only one."""
        created = sorted(i for indexes in self.ledger for i in indexes - self.undone if outcome_of(i) == "created")
        others = sorted(i for indexes in self.ledger for i in indexes if outcome_of(i) in {"updated", "deleted"})
        refusal = "" if created else "nothing_to_undo"
        if self.job.rehearsal or self.job.mode == JobMode.UNDO:
            refusal = "nothing_to_undo"
        elif not self.job.is_terminal:
            refusal = "import_not_ended"

        def start() -> Any:
            return undo(conf().target("products"), self.job, rehearsal=rehearsal)

        quotas = {"check_open_job_quota": Mock(), "check_row_quota": Mock()}  # the job has no submitter
        with patch.multiple("bulk_import.intake.undo", submit=self.store_undo, **quotas):
            if refusal:
                with pytest.raises(BadImport) as refused:
                    start()
                assert refused.value.code == refusal
                return
            job = ImportJob.objects.get(pk=start())
            assert start() == job.pk
        assert (job.mode, job.undoes_id, job.rehearsal) == (JobMode.UNDO, self.job.pk, rehearsal)
        listed = [json.loads(line.rpartition(b"\t")[2])["index"] for line in self.undo_lines]
        assert listed == sorted([*created, *others])
        assert sum(line.startswith(b"!") for line in self.undo_lines) == len(
            [index for index in others if outcome_of(index) == "updated"]
        )
        for number, index in enumerate(created):
            ImportedRow.objects.create(job=job, index=number, body_sha256=b"", outcome="deleted", object_id=index)
        self.undone |= set() if rehearsal else set(created)
        ImportJob.objects.filter(pk=job.pk).update(status=JobStatus.SUCCEEDED, finished_at=Now())

    def store_undo(self, _target: Any, submitter: Any, payload: Payload, **columns: Any) -> Any:
        """Create the job of an undo, without a payload in S3."""
        self.undo_lines = payload.open().read().splitlines()
        names = ("mode", "rehearsal", "undoes", "idempotency_key", "request_sha256")
        fields = {name: columns[name] for name in names}
        return ImportJob.objects.create(target="products", submitter=submitter, rows=len(self.undo_lines), **fields)

    # --- rules: time passes

    @rule(number=numbers)
    def expire_lease(self, number: int) -> None:
        leased = self.job.chunks.filter(number=number, lease_expires_at__isnull=False)
        leased.update(lease_expires_at=Now() - timedelta(seconds=1))

    @rule()
    def let_the_pause_end(self) -> None:
        passed = timedelta(seconds=MAX_PAUSE_SECONDS)
        paused = ImportJob.objects.filter(pk=self.job.pk, paused_until__isnull=False)
        paused.update(paused_at=F("paused_at") - passed, paused_until=Now() - timedelta(seconds=1))

    # --- rules: workers

    @rule(number=numbers, claimant=claimants)
    def claim(self, number: int, claimant: str) -> None:
        """A message of any chunk is delivered at any time, also a late copy. At most one worker gets the chunk."""
        number %= len(self.chunks)
        before = ImportChunk.objects.locked(self.chunks[number].pk)
        has_live_lease = before.lease_left is not None and before.lease_left > timedelta(0)
        pause_not_over = ImportJob.objects.filter(pk=self.job.pk, status=JobStatus.PAUSED, paused_until__gt=Now())
        failed_deliveries = before.failed_deliveries + (before.lease_left is not None)
        is_given_up = failed_deliveries >= MAX_DELIVERIES and not self.job.is_paused_by_staff
        is_too_early = pause_not_over.exists() or self.job.is_paused_by_staff

        def claim(chunk: ImportChunk) -> None:
            chunk.claim(claimant, LEASE_SECONDS)
            assert chunk.epoch == before.epoch + (not has_live_lease)
            self.granted_claims.append((number, chunk.epoch))

        refusal = self.attempt(number, claim, ChunkClosed, LeaseHeld, JobPaused)

        if before.status in TERMINAL_CHUNK_STATUSES or self.job.is_terminal:
            assert isinstance(refusal, ChunkClosed)
        elif has_live_lease:
            assert isinstance(refusal, LeaseHeld) == (claimant != before.claimant)
        elif is_given_up and not self.job.cancel_requested_at:
            assert refusal is None
        elif is_too_early:
            assert isinstance(refusal, JobPaused)
        else:
            assert refusal is None
            # If the job is paused, this claim is the probe, and all others have to wait again.
            assert pause_not_over.exists() == self.job.is_paused

    @precondition(lambda self: not (self.job.is_terminal or self.job.is_paused or self.job.cancel_requested_at))
    @rule()
    def process_the_rest(self) -> None:
        """A healthy worker creates every row that is left, so that the job ends in a good part of the runs."""
        for number in range(len(self.chunks)):
            self.expire_lease(number)
            chunk = ImportChunk.objects.locked(self.chunks[number].pk)
            if chunk.status in TERMINAL_CHUNK_STATUSES or chunk.failed_deliveries >= MAX_DELIVERIES:
                continue
            chunk.claim("healthy", LEASE_SECONDS)
            self.granted_claims.append((number, chunk.epoch))
            for index in set(range(chunk.first_index, chunk.first_index + chunk.row_count)) - self.ledger[number]:
                self.write_record(index)
            chunk.finish(Finish(epoch=chunk.epoch, rejected=0, failed=0, unprocessed=0, failures_key=""))

    def write_record(self, index: int) -> None:
        outcome = outcome_of(index)
        ImportedRow.objects.create(
            job=self.job, index=index, body_sha256=b"", outcome=outcome, object_id=index, object_hash=b"hash"
        )

    @precondition(lambda self: self.granted_claims)
    @rule(data=st.data(), offset=st.integers(0, 3))
    def create_row(self, data: st.DataObject, offset: int) -> None:
        """A create call locks the chunk and writes a record. A stale worker cannot, and no row gets two records."""
        number, epoch = self.draw_claim(data)
        index = self.chunks[number].first_index + offset
        chunk = LockedChunk.lock(self.chunks[number].pk, index)
        assert chunk.has_epoch(epoch) != self.is_stale(number, epoch)
        if not chunk.contains_index(index) or not chunk.has_epoch(epoch) or self.job.cancel_requested_at:
            return
        if index in self.ledger[number]:
            with pytest.raises(IntegrityError), transaction.atomic():
                self.write_record(index)
        else:
            self.write_record(index)

    @precondition(lambda self: self.granted_claims)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        """A heartbeat of a stale worker is refused. One with new rows ends a pause that a worker began."""
        number, epoch = self.draw_claim(data)
        is_stale = self.is_stale(number, epoch)
        refusal = self.attempt(number, lambda chunk: chunk.heartbeat(epoch, LEASE_SECONDS), StaleEpoch)
        assert (refusal is not None) == is_stale
        if not is_stale:
            assert self.is_paused() == self.stays_paused(number)

    @precondition(lambda self: self.granted_claims)
    @rule(data=st.data(), code=st.none() | st.sampled_from(PauseCode), asked=st.integers(-1, 1000))
    def release(self, data: st.DataObject, code: PauseCode | None, asked: int) -> None:
        """A release ends the lease, and with a code it pauses the job. A release of a stale worker is refused.

        A repeated release has no effect on the chunk.
        """
        number, epoch = self.draw_claim(data)
        waits = {ChunkStatus.PENDING, ChunkStatus.RESERVED, ChunkStatus.QUEUED}
        is_repeated = self.chunks[number].epoch == epoch and self.chunks[number].status in waits
        is_stale = self.is_stale(number, epoch) and not is_repeated
        stays_paused = self.is_paused() if is_repeated else self.stays_paused(number)
        can_pause = code not in {None, *PAUSES_UNTIL_RESUMED} and not self.job.cancel_requested_at

        def release_and_pause(chunk: ImportChunk) -> None:
            chunk.release(epoch, "")
            if code:
                seconds = chunk.job.pause_by_worker(code, asked, first_seconds=30)
                at_least = min(max(30, asked), MAX_PAUSE_SECONDS) if can_pause else 0
                assert at_least <= seconds <= MAX_PAUSE_SECONDS

        assert (self.attempt(number, release_and_pause, StaleEpoch) is not None) == is_stale
        if not is_stale:
            lease_left = ImportChunk.objects.locked(self.chunks[number].pk).lease_left
            assert lease_left is None
            assert self.is_paused() == (stays_paused or can_pause)

    @precondition(lambda self: self.granted_claims)
    @rule(data=st.data(), wrong=st.sampled_from([0, 0, 0, 0, -2, -1, 1]), outcome=st.sampled_from(OTHER_OUTCOMES))
    def finish(self, data: st.DataObject, wrong: int, outcome: Outcome) -> None:
        """A worker reports that every row of its chunk has an outcome."""
        self.end(data, wrong, outcome, is_dead=False)

    @precondition(lambda self: self.granted_claims)
    @rule(data=st.data(), wrong=st.sampled_from([0, 0, 0, 0, -1, 1]))
    def report_dead(self, data: st.DataObject, wrong: int) -> None:
        """The dead-letter function reports that the chunk's message ran out of deliveries."""
        self.end(data, wrong, Outcome.UNPROCESSED, is_dead=True)

    def end(self, data: st.DataObject, wrong: int, outcome: Outcome, *, is_dead: bool) -> None:
        """End the chunk. Every row without a ledger record has this outcome, and the report has `wrong` rows too many.

        A late report of a stale worker is refused, as is one that does not add up. A repeated report has no effect.
        """
        number, epoch = self.draw_claim(data)
        before = self.chunks[number]
        missing = before.row_count - len(self.ledger[number])
        counts: dict[str, Any] = {str(one): missing + wrong if one == outcome else 0 for one in OTHER_OUTCOMES}
        problems = [{**problem(None, "x", "x", before.first_index), "count": missing}] if missing else []
        report = Finish(epoch=epoch, **counts, failures_key="", problems=problems)
        is_repeated = before.status in TERMINAL_CHUNK_STATUSES and before.epoch == epoch

        def end(chunk: ImportChunk) -> None:
            chunk.finish(report, is_dead=is_dead)

        refusal = self.attempt(number, end, StaleEpoch, LedgerDisagrees)

        status = ImportChunk.objects.get(pk=before.pk).status
        if is_repeated:
            assert (refusal, status) == (None, before.status)
        elif self.is_stale(number, epoch):
            assert (type(refusal), status) == (StaleEpoch, before.status)
        elif wrong:
            assert (type(refusal), status) == (LedgerDisagrees, before.status)
        else:
            assert (refusal, status) == (None, ChunkStatus.DEAD if is_dead else ChunkStatus.DONE)

    # --- the guarantees, checked after every rule

    @invariant()
    def every_guarantee_is_kept(self) -> None:
        self.reload()
        self.check_that_every_row_is_counted_once()
        self.check_that_the_job_ends_with_its_last_chunk()
        self.check_that_only_a_paused_job_has_the_columns_of_a_pause()
        self.check_that_each_chunk_has_at_most_one_worker()
        self.check_that_only_imports_send_job_finished()

    def check_that_every_row_is_counted_once(self) -> None:
        counts = self.job.counts
        assert sum(counts.values()) == self.job.rows
        assert min(counts.values()) >= 0
        for chunk, indexes in zip(self.chunks, self.ledger, strict=True):
            if chunk.status in TERMINAL_CHUNK_STATUSES:
                assert chunk.done == len(indexes)
            else:
                assert chunk.done <= len(indexes)
                assert (chunk.rejected, chunk.failed, chunk.unprocessed, chunk.problems) == (0, 0, 0, [])

    def check_that_the_job_ends_with_its_last_chunk(self) -> None:
        assert self.job.is_terminal == all(chunk.status in TERMINAL_CHUNK_STATUSES for chunk in self.chunks)
        assert self.job.is_terminal == (self.job.finished_at is not None)
        if self.job.is_terminal:
            created = sum(map(len, self.ledger))
            end = {0: JobStatus.FAILED, self.job.rows: JobStatus.SUCCEEDED}.get(created, JobStatus.PARTIALLY_SUCCEEDED)
            # A worker leaves rows in a chunk that is done only because of a cancel, which may be one before a redrive.
            left = any(chunk.status == ChunkStatus.DONE and chunk.unprocessed for chunk in self.chunks)
            if left or (self.job.cancel_requested_at and self.job.counts["unprocessed"]):
                end = JobStatus.CANCELLED
            assert self.job.counts["pending"] == 0
            assert self.job.status == end
            assert sum(entry["count"] for entry in self.job.problems) == self.job.rows - created

    def check_that_only_imports_send_job_finished(self) -> None:
        """The signal is sent after a commit, so the functions that wait for the commit are counted."""
        waiting = connections[database()].run_on_commit
        ends = self.job.events.filter(kind=EventKind.ENDED).count()
        assert len(waiting) == self.waiting_before + (0 if self.job.rehearsal else ends)

    def check_that_only_a_paused_job_has_the_columns_of_a_pause(self) -> None:
        parts = [bool(self.job.pause_code), self.job.paused_at is not None]
        assert parts == [self.job.status == JobStatus.PAUSED] * 2
        assert (self.job.paused_until is not None) == (
            self.job.status == JobStatus.PAUSED and not self.job.is_paused_by_staff
        )

    def check_that_each_chunk_has_at_most_one_worker(self) -> None:
        """An epoch never decreases, and exactly one granted claim is current while a chunk is being processed."""
        for chunk in self.chunks:
            assert chunk.epoch >= self.highest_epochs[chunk.number]
            self.highest_epochs[chunk.number] = chunk.epoch
            granted = {epoch for number, epoch in self.granted_claims if number == chunk.number}
            workers = sum(not self.is_stale(chunk.number, epoch) for epoch in granted)
            assert workers == (chunk.status == ChunkStatus.PROCESSING)


@pytest.mark.django_db
@pytest.mark.timeout(120 + EXAMPLES)
def test_no_row_is_lost_doubled_or_miscounted_in_any_sequence_of_events() -> None:
    run_state_machine_as_test(
        JobMachine,
        settings=settings(max_examples=EXAMPLES, stateful_step_count=30, suppress_health_check=list(HealthCheck)),
    )
