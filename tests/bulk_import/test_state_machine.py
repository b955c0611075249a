"""One job under whatever may happen to it, in any order; after each step everything that must hold is looked at."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now
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

from bulk_import.exceptions import ChunkClosed, ClaimError, JobPaused, LeaseHeld, LedgerDisagrees, StaleEpoch
from bulk_import.models import (
    TERMINAL_CHUNK_STATUSES,
    ChunkStatus,
    ImportChunk,
    ImportedRow,
    ImportJob,
    JobStatus,
    LockedChunk,
)
from bulk_import.models.pause import MAX_PAUSE_SECONDS
from bulk_import_wire.contract import Finish, Outcome, PauseCode
from bulk_import_wire.problems import problem

if TYPE_CHECKING:
    from collections.abc import Callable

LEASE_SECONDS = 3600
"""Longer than any test: time passes by a rule only."""

numbers = st.integers(0, 2)
LEFT = [outcome for outcome in Outcome if outcome != Outcome.CREATED]
claimants = st.sampled_from(["one", "two", "three"])


class JobMachine(RuleBasedStateMachine):
    """`epochs` is what the workers believe: (chunk number, epoch) of every claim that was ever granted.

    `job`, `chunks` and `ledger`, the indexes of each chunk's records, are as they were after the last step.
    """

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.epochs: list[tuple[int, int]] = []
        self.highest = [0, 0, 0]

    @initialize(sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3))
    def submit(self, sizes: list[int]) -> None:
        self.job = ImportJob.objects.create(target="products", rows=sum(sizes), request_sha256=b"")
        for number, size in enumerate(sizes):
            first = sum(sizes[:number])
            ImportChunk.objects.create(
                job=self.job, number=number, first_index=first, row_count=size, first_byte=0, byte_count=1
            )
        self.look()

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    def look(self) -> None:
        self.job = ImportJob.objects.get(pk=self.job.pk)
        self.chunks: list[ImportChunk] = list(ImportChunk.objects.filter(job=self.job).order_by("number"))
        indexes = list(self.job.imported_rows.values_list("index", flat=True))
        assert len(indexes) == len(set(indexes))
        held = [LockedChunk.lock(chunk.pk) for chunk in self.chunks]
        self.ledger = [{index for index in indexes if chunk.contains_index(index)} for chunk in held]
        for outcome in Outcome:
            setattr(self.job, f"{outcome}_count", sum(getattr(chunk, outcome) for chunk in self.chunks))

    def attempt(self, number: int, act: Callable[[ImportChunk], None], *refusals: type[ClaimError]) -> Any:
        """What the act on the chunk is refused with; in a transaction of its own, as a request is."""
        try:
            with transaction.atomic():
                act(ImportChunk.objects.locked(self.chunks[number].pk))
        except refusals as refusal:
            return refusal
        return None

    def draw_claim(self, data: st.DataObject) -> tuple[int, int]:
        """Mostly one that is good still: the job must come to its end, too."""
        good = [claim for claim in self.epochs if not self.is_stale(*claim)]
        return data.draw(st.sampled_from(4 * good + self.epochs))

    def is_stale(self, number: int, epoch: int) -> bool:
        return self.chunks[number].epoch != epoch or self.chunks[number].status != ChunkStatus.PROCESSING

    def has_new_rows(self, number: int) -> bool:
        return len(self.ledger[number]) > self.chunks[number].created

    def stays_paused(self, number: int) -> bool:
        """Whether the job is paused still when it is known what the chunk's worker has created."""
        return self.job.is_paused_by_staff or (self.job.status == JobStatus.PAUSED and not self.has_new_rows(number))

    def is_paused(self) -> bool:
        return ImportJob.objects.filter(pk=self.job.pk, status=JobStatus.PAUSED).exists()

    # --- the monolith's own side

    @rule(number=numbers)
    def send(self, number: int) -> None:
        """As the relay does once SQS took the message."""
        self.job.chunks.filter(number=number, status=ChunkStatus.PENDING).update(status=ChunkStatus.QUEUED)
        self.job.mark_queued()

    @rule()
    def redrive(self) -> None:
        dead = sum(chunk.status == ChunkStatus.DEAD for chunk in self.chunks)
        with transaction.atomic():
            assert self.job.redrive() == dead
            assert self.job.redrive() == 0

    @rule()
    def retry(self) -> None:
        with_rows_left = sum(chunk.created < chunk.row_count for chunk in self.chunks)
        with transaction.atomic():
            assert self.job.retry() == (with_rows_left if self.job.is_terminal else 0)
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
        with transaction.atomic():
            assert [change(None), change(None)] == [can, False]
        self.job.chunks.mark_unsent()

    # --- time

    @rule(number=numbers)
    def expire_lease(self, number: int) -> None:
        held = self.job.chunks.filter(number=number, lease_expires_at__isnull=False)
        held.update(lease_expires_at=Now() - timedelta(seconds=1))

    @rule()
    def end_pause(self) -> None:
        passed = timedelta(seconds=MAX_PAUSE_SECONDS)
        paused = ImportJob.objects.filter(pk=self.job.pk, paused_until__isnull=False)
        paused.update(paused_at=F("paused_at") - passed, paused_until=Now() - timedelta(seconds=1))

    # --- workers

    @rule(number=numbers, claimant=claimants)
    def claim(self, number: int, claimant: str) -> None:
        """Any delivery, also a late copy, of any chunk at any time."""
        number %= len(self.chunks)
        before = ImportChunk.objects.locked(self.chunks[number].pk)
        is_paused_by_staff = before.lease_left is not None and before.lease_left > timedelta(0)
        waits = ImportJob.objects.filter(pk=self.job.pk, status=JobStatus.PAUSED, paused_until__gt=Now())
        is_too_early = waits.exists() or self.job.is_paused_by_staff

        def claim(chunk: ImportChunk) -> None:
            chunk.claim(claimant, LEASE_SECONDS)
            assert chunk.epoch == before.epoch + (not is_paused_by_staff)
            self.epochs.append((number, chunk.epoch))

        refusal = self.attempt(number, claim, ChunkClosed, LeaseHeld, JobPaused)

        if before.status in TERMINAL_CHUNK_STATUSES or self.job.is_terminal:
            assert isinstance(refusal, ChunkClosed)
        elif is_paused_by_staff:
            assert isinstance(refusal, LeaseHeld) == (claimant != before.claimant)
        elif is_too_early:
            assert isinstance(refusal, JobPaused)
        else:
            assert refusal is None
            assert waits.exists() == (self.job.status == JobStatus.PAUSED)  # the others wait for this one

    @precondition(lambda self: self.epochs)
    @rule(data=st.data(), offset=st.integers(0, 3))
    def create_row(self, data: st.DataObject, offset: int) -> None:
        """As the ledger does: hold the chunk, write the record."""
        number, epoch = self.draw_claim(data)
        chunk = LockedChunk.lock(self.chunks[number].pk)
        index = chunk.first_index + offset
        assert chunk.has_epoch(epoch) != self.is_stale(number, epoch)
        if not chunk.contains_index(index) or not chunk.has_epoch(epoch) or self.job.cancel_requested_at:
            return
        if index in self.ledger[number]:
            with pytest.raises(IntegrityError), transaction.atomic():
                ImportedRow.objects.create(job=self.job, index=index, body_sha256=b"")
        else:
            ImportedRow.objects.create(job=self.job, index=index, body_sha256=b"")

    @precondition(lambda self: self.epochs)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        number, epoch = self.draw_claim(data)
        is_stale = self.is_stale(number, epoch)
        refusal = self.attempt(number, lambda chunk: chunk.heartbeat(epoch, LEASE_SECONDS), StaleEpoch)
        assert (refusal is not None) == is_stale
        if not is_stale:
            assert self.is_paused() == self.stays_paused(number)

    @precondition(lambda self: self.epochs)
    @rule(data=st.data(), code=st.none() | st.sampled_from(PauseCode), asked=st.integers(-1, 1000))
    def release(self, data: st.DataObject, code: PauseCode | None, asked: int) -> None:
        number, epoch = self.draw_claim(data)
        is_stale = self.is_stale(number, epoch)
        can_pause = code not in {None, PauseCode.STAFF} and not self.job.cancel_requested_at

        def hand_back(chunk: ImportChunk) -> None:
            chunk.release(epoch, "")
            if code:
                seconds, _lasted = chunk.job.pause_by_worker(code, asked, first_seconds=30)
                at_least = min(max(30, asked), MAX_PAUSE_SECONDS) if can_pause else 0
                assert at_least <= seconds <= MAX_PAUSE_SECONDS

        assert (self.attempt(number, hand_back, StaleEpoch) is not None) == is_stale
        if not is_stale:
            lease_left = ImportChunk.objects.locked(self.chunks[number].pk).lease_left
            assert lease_left is not None
            assert lease_left <= timedelta(0)
            assert self.is_paused() == (self.stays_paused(number) or can_pause)

    @precondition(lambda self: self.epochs)
    @rule(data=st.data(), wrong=st.sampled_from([0, 0, 0, 0, -2, -1, 1]), outcome=st.sampled_from(LEFT))
    def finish(self, data: st.DataObject, wrong: int, outcome: Outcome) -> None:
        self.end(data, wrong, outcome, is_dead=False)

    @precondition(lambda self: self.epochs)
    @rule(data=st.data(), wrong=st.sampled_from([0, 0, 0, 0, -1, 1]))
    def die(self, data: st.DataObject, wrong: int) -> None:
        self.end(data, wrong, Outcome.UNPROCESSED, is_dead=True)

    def end(self, data: st.DataObject, wrong: int, outcome: Outcome, *, is_dead: bool) -> None:
        """Every row that is not in the ledger has this outcome, and `wrong` more are said to."""
        number, epoch = self.draw_claim(data)
        before = self.chunks[number]
        left = before.row_count - len(self.ledger[number])
        counts = {str(one): left + wrong if one == outcome else 0 for one in LEFT}
        problems = [{**problem(None, "x", "x", before.first_index), "count": left}] if left else []
        report = Finish(epoch=epoch, **counts, failures_key="", problems=problems)
        is_again = before.status in TERMINAL_CHUNK_STATUSES and before.epoch == epoch

        def end(chunk: ImportChunk) -> None:
            chunk.finish(report, is_dead=is_dead)

        refusal = self.attempt(number, end, StaleEpoch, LedgerDisagrees)

        status = ImportChunk.objects.get(pk=before.pk).status
        if is_again:
            assert (refusal, status) == (None, before.status)
        elif self.is_stale(number, epoch):
            assert (type(refusal), status) == (StaleEpoch, before.status)
        elif wrong:
            assert (type(refusal), status) == (LedgerDisagrees, before.status)
        else:
            assert (refusal, status) == (None, ChunkStatus.DEAD if is_dead else ChunkStatus.DONE)

    # --- what must always hold

    @invariant()
    def what_must_always_hold_does(self) -> None:
        self.look()
        self.expect_every_row_counted_once()
        self.expect_an_end_when_every_chunk_has_ended()
        self.expect_a_pause_with_all_its_parts_or_none()
        self.expect_one_worker_a_chunk()

    def expect_every_row_counted_once(self) -> None:
        counts = self.job.counts
        assert sum(counts.values()) == self.job.rows
        assert min(counts.values()) >= 0
        for chunk, indexes in zip(self.chunks, self.ledger, strict=True):
            if chunk.status in TERMINAL_CHUNK_STATUSES:
                assert chunk.created == len(indexes)
            else:
                assert chunk.created <= len(indexes)
                assert (chunk.rejected, chunk.failed, chunk.unprocessed, chunk.problems) == (0, 0, 0, [])

    def expect_an_end_when_every_chunk_has_ended(self) -> None:
        assert self.job.is_terminal == all(chunk.status in TERMINAL_CHUNK_STATUSES for chunk in self.chunks)
        assert self.job.is_terminal == (self.job.finished_at is not None)
        if self.job.is_terminal:
            created = sum(map(len, self.ledger))
            end = {0: JobStatus.FAILED, self.job.rows: JobStatus.SUCCEEDED}.get(created, JobStatus.PARTIALLY_SUCCEEDED)
            if self.job.cancel_requested_at and self.job.counts["unprocessed"]:
                end = JobStatus.CANCELLED
            assert self.job.counts["pending"] == 0
            assert self.job.status == end
            assert sum(entry["count"] for entry in self.job.problems) == self.job.rows - created

    def expect_a_pause_with_all_its_parts_or_none(self) -> None:
        parts = [bool(self.job.pause_code), self.job.paused_at is not None]
        assert parts == [self.job.status == JobStatus.PAUSED] * 2
        assert (self.job.paused_until is not None) == (
            self.job.status == JobStatus.PAUSED and not self.job.is_paused_by_staff
        )

    def expect_one_worker_a_chunk(self) -> None:
        for chunk in self.chunks:
            assert chunk.epoch >= self.highest[chunk.number]
            self.highest[chunk.number] = chunk.epoch
            granted = {epoch for number, epoch in self.epochs if number == chunk.number}
            holders = sum(not self.is_stale(chunk.number, epoch) for epoch in granted)
            assert holders == (chunk.status == ChunkStatus.PROCESSING)


@pytest.mark.django_db
@pytest.mark.timeout(300)
def test_whatever_happens_in_whatever_order_nothing_is_lost_doubled_or_misreported() -> None:
    run_state_machine_as_test(
        JobMachine,
        settings=settings(
            max_examples=300, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
