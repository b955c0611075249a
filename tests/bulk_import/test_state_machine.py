"""One job under whatever may happen to it, in any order; after each step everything that must hold is looked at."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.models import F
from django.db.models.functions import Now
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from bulk_import.exceptions import ChunkClosed, ClaimError, JobPaused, LeaseHeld, LedgerDisagrees, StaleEpoch
from bulk_import.models import (
    ENDED,
    MAX_PAUSE_SECONDS,
    ChunkStatus,
    ImportChunk,
    ImportedRow,
    ImportJob,
    JobStatus,
)
from lambda_worker.contract import Finish, Outcome, PauseCode
from lambda_worker.problems import problem

LEASE_SECONDS = 3600
"""Longer than any test: time passes by a rule only."""

numbers = st.integers(0, 2)
claimants = st.sampled_from(["one", "two", "three"])


class JobMachine(RuleBasedStateMachine):
    """`epochs` is what the workers believe: (chunk number, epoch) of every claim that was ever granted."""

    def __init__(self) -> None:
        super().__init__()
        self.atomic = transaction.atomic()
        self.atomic.__enter__()
        self.epochs: list[tuple[int, int]] = []
        self.seen: dict[int, int] = {}
        self.settled: set[tuple[int, int]] = set()
        sizes = [3, 1, 2]
        self.job = ImportJob.objects.create(target="products", rows=sum(sizes), request_sha256=b"")
        for number, size in enumerate(sizes):
            first = sum(sizes[:number])
            ImportChunk.objects.create(
                job=self.job, number=number, first_index=first, row_count=size, first_byte=0, byte_count=1
            )

    def teardown(self) -> None:
        transaction.set_rollback(True)
        self.atomic.__exit__(None, None, None)

    def fresh_job(self) -> ImportJob:
        job: ImportJob = ImportJob.objects.with_counts().get(pk=self.job.pk)
        return job

    def chunk(self, number: int) -> ImportChunk:
        return ImportChunk.objects.locked(self.job.chunks.get(number=number).pk)

    def chunks(self) -> list[ImportChunk]:
        return list(self.job.chunks.order_by("number"))

    def attempt(self, act: Any, *refusals: type[ClaimError]) -> ClaimError | None:
        """What the act was refused with; in a transaction of its own, as a request."""
        try:
            with transaction.atomic():
                act()
        except refusals as refusal:
            return refusal
        return None

    # --- the monolith's own side

    @rule(number=numbers)
    def send(self, number: int) -> None:
        """As the relay does once SQS took the message."""
        self.job.chunks.filter(number=number, status=ChunkStatus.PENDING).update(status=ChunkStatus.QUEUED)
        self.job.mark_queued()

    @rule()
    def redrive(self) -> None:
        dead = self.job.chunks.filter(status=ChunkStatus.DEAD).count()
        events = self.job.events.filter(kind="redriven").count()
        with transaction.atomic():
            assert self.job.redrive() == dead
            assert self.job.redrive() == 0
        assert self.job.events.filter(kind="redriven").count() == events + bool(dead)

    # --- time

    @rule(number=numbers)
    def expire_lease(self, number: int) -> None:
        held = self.job.chunks.filter(number=number, lease_expires_at__isnull=False)
        held.update(lease_expires_at=Now() - timedelta(seconds=1))

    @rule()
    def end_pause(self) -> None:
        passed = timedelta(seconds=MAX_PAUSE_SECONDS)
        paused = ImportJob.objects.filter(pk=self.job.pk, status=JobStatus.PAUSED)
        paused.update(paused_at=F("paused_at") - passed, paused_until=Now() - timedelta(seconds=1))

    # --- workers

    @rule(number=numbers, claimant=claimants)
    def claim(self, number: int, claimant: str) -> None:
        """Any delivery, also a late copy, of any chunk at any time."""
        job, chunk = self.fresh_job(), self.chunk(number)
        is_held = chunk.lease_left is not None and chunk.lease_left > timedelta(0)
        is_paused = ImportJob.objects.filter(pk=job.pk, status=JobStatus.PAUSED, paused_until__gt=Now()).exists()
        refusal = self.attempt(lambda: chunk.claim(claimant, LEASE_SECONDS), ChunkClosed, LeaseHeld, JobPaused)

        if chunk.status in ENDED or job.is_terminal:
            assert isinstance(refusal, ChunkClosed)
        elif is_held and chunk.claimant != claimant:
            assert isinstance(refusal, LeaseHeld)
        elif is_paused and not is_held:
            assert isinstance(refusal, JobPaused)
        else:
            assert refusal is None
            self.epochs.append((number, chunk.epoch))
            if job.status == JobStatus.PAUSED and not is_held:  # the one that is let through; nobody is, now
                assert ImportJob.objects.filter(pk=job.pk, status=JobStatus.PAUSED, paused_until__gt=Now()).exists()

    def is_stale(self, number: int, epoch: int) -> bool:
        chunk = self.job.chunks.get(number=number)
        return chunk.epoch != epoch or chunk.status != ChunkStatus.PROCESSING

    @precondition(lambda self: self.epochs)
    @rule(data=st.data(), offset=st.integers(0, 2))
    def create_row(self, data: st.DataObject, offset: int) -> None:
        """As the ledger does: hold the chunk, write the record."""
        number, epoch = data.draw(st.sampled_from(self.epochs))
        chunk = ImportChunk.objects.shared(self.job.chunks.get(number=number).pk)
        index = chunk.first_index + offset
        if not chunk.holds_index(index) or not chunk.is_held_by(epoch):
            assert offset >= chunk.row_count or self.is_stale(number, epoch)
            return
        assert not self.is_stale(number, epoch)
        if chunk.imported_rows().filter(index=index).exists():
            with pytest.raises(IntegrityError), transaction.atomic():
                ImportedRow.objects.create(job=self.job, index=index, body_sha256=b"")
        else:
            ImportedRow.objects.create(job=self.job, index=index, body_sha256=b"")

    @precondition(lambda self: self.epochs)
    @rule(data=st.data())
    def heartbeat(self, data: st.DataObject) -> None:
        number, epoch = data.draw(st.sampled_from(self.epochs))
        is_stale = self.is_stale(number, epoch)
        grew = self.grew(number)
        refusal = self.attempt(lambda: self.chunk(number).heartbeat(epoch, LEASE_SECONDS), StaleEpoch)
        assert (refusal is not None) == is_stale
        assert not (grew and not is_stale and self.fresh_job().status == JobStatus.PAUSED)

    def grew(self, number: int) -> bool:
        chunk = self.job.chunks.get(number=number)
        return chunk.imported_rows().count() > chunk.created

    @precondition(lambda self: self.epochs)
    @rule(data=st.data(), code=st.none() | st.sampled_from(PauseCode), asked=st.integers(-1, 1000))
    def release(self, data: st.DataObject, code: PauseCode | None, asked: int) -> None:
        number, epoch = data.draw(st.sampled_from(self.epochs))
        is_stale, grew = self.is_stale(number, epoch), self.grew(number)

        def hand_back() -> None:
            chunk = self.chunk(number)
            chunk.release(epoch, "")
            if code:
                seconds = chunk.job.pause(code, asked, first_seconds=30)
                assert max(30, min(asked, MAX_PAUSE_SECONDS)) <= seconds <= MAX_PAUSE_SECONDS

        assert (self.attempt(hand_back, StaleEpoch) is not None) == is_stale
        if not is_stale:
            lease_left = self.chunk(number).lease_left
            assert lease_left is not None
            assert lease_left <= timedelta(0)
            job = self.fresh_job()
            assert job.status == JobStatus.PAUSED or not code
            assert job.status != JobStatus.PAUSED or code or not grew

    @precondition(lambda self: self.epochs)
    @rule(data=st.data(), wrong=st.sampled_from([0, 0, 0, 0, -2, -1, 1]), outcome=st.sampled_from(Outcome))
    def finish(self, data: st.DataObject, wrong: int, outcome: Outcome) -> None:
        self.end(data, wrong, outcome, is_dead=False)

    @precondition(lambda self: self.epochs)
    @rule(data=st.data(), wrong=st.sampled_from([0, 0, 0, 0, -1, 1]))
    def die(self, data: st.DataObject, wrong: int) -> None:
        self.end(data, wrong, Outcome.UNPROCESSED, is_dead=True)

    def end(self, data: st.DataObject, wrong: int, outcome: Outcome, *, is_dead: bool) -> None:
        """Every row that is not in the ledger has this outcome, `wrong` too many; all created says nothing."""
        number, epoch = data.draw(st.sampled_from(self.epochs))
        chunk = self.chunk(number)
        before = self.job.chunks.values().get(number=number)
        is_again = chunk.status in ENDED and chunk.epoch == epoch
        is_stale = self.is_stale(number, epoch)
        counts = {str(one): 0 for one in Outcome if one != Outcome.CREATED}
        left = chunk.row_count - chunk.imported_rows().count()
        counts["failed" if outcome == Outcome.CREATED else str(outcome)] = left + wrong
        problems = [{**problem(None, "x", "x", chunk.first_index), "count": left}] if left else []
        report = Finish(epoch=epoch, **counts, failures_key="", problems=problems)

        refusal = self.attempt(lambda: chunk.finish(report, is_dead=is_dead), StaleEpoch, LedgerDisagrees)

        after = self.job.chunks.values().get(number=number)
        if is_again or is_stale or wrong:
            assert after == before
        if is_again:
            assert refusal is None
        elif is_stale:
            assert isinstance(refusal, StaleEpoch)
        elif wrong:
            assert isinstance(refusal, LedgerDisagrees)
        else:
            assert refusal is None
            assert after["status"] == (ChunkStatus.DEAD if is_dead else ChunkStatus.DONE)

    # --- what must always hold

    @invariant()
    def every_row_is_counted_once(self) -> None:
        counts = self.fresh_job().counts
        assert sum(counts.values()) == self.job.rows
        assert min(counts.values()) >= 0

    @invariant()
    def created_is_what_the_ledger_holds(self) -> None:
        for chunk in self.chunks():
            in_ledger = chunk.imported_rows().count()
            assert chunk.created == in_ledger if chunk.status in ENDED else chunk.created <= in_ledger
        assert self.job.imported_rows.count() == self.job.imported_rows.values("index").distinct().count()

    @invariant()
    def the_job_ends_when_every_chunk_has_and_not_before(self) -> None:
        job = self.fresh_job()
        assert job.is_terminal == all(chunk.status in ENDED for chunk in self.chunks())
        assert job.is_terminal == (job.finished_at is not None)
        if job.is_terminal:
            created = self.job.imported_rows.count()
            expected = {0: JobStatus.FAILED, job.rows: JobStatus.SUCCEEDED}
            assert job.counts["pending"] == 0
            assert job.status == expected.get(created, JobStatus.PARTIALLY_SUCCEEDED)
            assert sum(entry["count"] for entry in job.problems) == job.rows - created

    @invariant()
    def a_pause_has_all_its_parts_or_none(self) -> None:
        job = self.fresh_job()
        parts = [bool(job.pause_code), job.paused_at is not None, job.paused_until is not None]
        assert parts == [job.status == JobStatus.PAUSED] * 3

    @invariant()
    def an_epoch_never_falls(self) -> None:
        for chunk in self.chunks():
            assert chunk.epoch >= self.seen.get(chunk.number, 0)
            self.seen[chunk.number] = chunk.epoch

    @invariant()
    def at_most_one_claim_of_a_chunk_may_create(self) -> None:
        for chunk in self.chunks():
            granted = {epoch for number, epoch in self.epochs if number == chunk.number}
            assert sum(chunk.is_held_by(epoch) for epoch in granted) <= 1
            assert not (chunk.status in ENDED and any(chunk.is_held_by(epoch) for epoch in granted))


@pytest.mark.django_db
@pytest.mark.timeout(300)
def test_whatever_happens_in_whatever_order_nothing_is_lost_doubled_or_misreported() -> None:
    run_state_machine_as_test(
        JobMachine,
        settings=settings(
            max_examples=300, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
