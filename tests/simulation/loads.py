"""Watches the calls of the workers while the run lasts: what each process may do, and how much."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bulk_import.models.status import PAUSES_UNTIL_RESUMED
from lambda_worker.retries import MAX_TRIES
from tests.simulation.batches import Answered, created_rows
from tests.simulation.virtual_time import Process, clock, database_time

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tests.simulation.monolith import Response
    from tests.simulation.network import Call
    from tests.simulation.queue import Message
    from tests.simulation.world import World


FAILURES = {500, 504}
"""The statuses of the simulated endpoint after which a row is tried again, at most MAX_TRIES times."""


@dataclass
class ChunkCalls:
    """The create calls of one process for one delivery of a chunk."""

    claimed_at: float
    calls: int = 0
    rows: set[int] = field(default_factory=set)
    ended_at: float = 0.0


class Loads:
    """Counts the create calls of each process, and notes every call that the monolith should have refused."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.wrongly_accepted: list[str] = []
        self.max_in_flight = 0
        self.claims: Counter[tuple[str, int]] = Counter()  # by chunk and hour
        self.chunks: dict[tuple[Process, int, str, int], ChunkCalls] = {}  # by process, number of its claim, and chunk
        self.calls_of_row: Counter[str] = Counter()
        self.failed_calls_of_row: Counter[str] = Counter()
        self._tries: Counter[tuple[Process, int, str]] = Counter()  # by process, number of its claim, and row
        self._claims: Counter[Process] = Counter()
        self._claimed_at: dict[Process, float] = {}  # the time of the last claim
        self._lost_answers: set[Process] = set()  # processes that do not know what became of one of their calls
        self._in_flight: dict[Process, int] = defaultdict(int)
        self._epochs: dict[tuple[Process, str], int] = {}
        self._finished: set[tuple[str, int]] = set()

    def begin(self, process: Process) -> None:
        """Count a create call or a batch call that starts."""
        self._in_flight[process] += 1
        self.max_in_flight = max(self.max_in_flight, self._in_flight[process])

    def end(self, process: Process, called: Iterable[Answered]) -> None:
        """Count the rows of a call that has ended."""
        self._in_flight[process] -= 1
        for key, verdict, status in called:
            self._count(process, key)
            if verdict is None:
                self._lost_answers.add(process)
            if verdict == "not-created" and status in FAILURES:
                self._count_try(process, key)
            self.failed_calls_of_row[key] += verdict not in {"created", "replayed"}

    def _count_try(self, process: Process, key: str) -> None:
        tried = process, self._claims[process], key
        self._tries[tried] += 1
        if self._tries[tried] == MAX_TRIES + 1:
            self.wrongly_accepted.append(f"row {key} was tried more than {MAX_TRIES} times in one delivery")

    def _count(self, process: Process, key: str) -> None:
        job_id, _, index = key.partition(":")
        place = (process, self._claims[process], job_id, int(index) // self._world.plan.chunk_rows)
        counted = self.chunks.setdefault(place, ChunkCalls(self._claimed_at[process]))
        counted.calls += 1
        counted.rows.add(int(index))
        counted.ended_at = clock.now
        self.calls_of_row[key] += 1

    def count_claim(self, chunk_id: str) -> None:
        self.claims[chunk_id, int(clock.now // 3600)] += 1

    def check_call(self, call: Call, response: Response) -> None:
        """Check that the monolith was right to accept a call of a worker."""
        sender, request = call.sender, call.request
        if sender is None:
            return
        if call.point == "create":
            for key in created_rows(self._world, request, response):
                self._check_create(sender, key)
            return
        chunk_id, verb = request.path.replace("-", "").split("/")[-2:]
        if b"ledger_disagrees" in response.content and sender not in self._lost_answers and not self._has_copies():
            self.wrongly_accepted.append("the report of a worker that lost no answer does not add up")
        if response.status != 200:
            return
        if verb == "claim":
            epoch = json.loads(response.content)["epoch"]
            if epoch != self._epochs.get((sender, chunk_id)):  # otherwise it is a copy of an earlier claim
                self._claims[sender] += 1
                self._claimed_at[sender] = clock.now
            self._epochs[sender, chunk_id] = epoch
            return
        epoch = json.loads(request.content)["epoch"]
        current = self._world.sql("SELECT epoch FROM bulk_import_importchunk WHERE id = ?", chunk_id)
        if current[0][0] != epoch:
            self.wrongly_accepted.append(f"{verb} of epoch {epoch} in epoch {current[0][0]}")
        if verb == "finish" and (chunk_id, epoch) not in self._finished:  # a repeated finish changes nothing
            self._finished.add((chunk_id, epoch))
            self._check_pause(chunk_id)

    def check_acknowledgement(self, message: Message, sent_before: int) -> None:
        """Check that a chunk has ended, or waits for another worker or message, when a worker deletes its message.

        `sent_before` is the number of messages that had been sent when the worker got it.
        """
        world, chunk_id = self._world, json.loads(message.body)["chunk_id"].replace("-", "")
        is_open = world.sql(
            "SELECT 1 FROM bulk_import_importchunk WHERE id = ? AND"
            " (status = 'queued' OR status = 'processing' AND lease_expires_at < ?)",
            chunk_id,
            database_time(),
        )
        others = [*world.queue.messages, *world.dead_letters.messages, *world.queue.sent[sent_before:]]
        has_copy = any(other.body == message.body and other is not message for other in others)
        if is_open and not has_copy and not any(fault.loses_messages and fault.hits for fault in world.plan.faults):
            self.wrongly_accepted.append("a worker deleted the only message of a chunk that has not ended")

    def _has_copies(self) -> bool:
        """Return whether a call was sent twice. The endpoint may refuse a row, and accept a copy that arrives later."""
        return any(fault.hits and getattr(fault, "kind", "") == "twice" for fault in self._world.plan.faults)

    def note_death(self, call: Call) -> None:
        """Note a finish that was committed although its answer was lost, so that its repetition counts as one."""
        if call.point != "finish":
            return
        chunk_id = call.request.path.replace("-", "").split("/")[-2]
        (status,), *_ = self._world.sql("SELECT status FROM bulk_import_importchunk WHERE id = ?", chunk_id)
        if status in {"done", "dead"}:
            self._finished.add((chunk_id, json.loads(call.request.content)["epoch"]))

    def _check_create(self, sender: Process, key: str) -> None:
        job_id, _, index = key.partition(":")
        (chunk_id, epoch, is_cancelled, pause_code), *_ = self._world.sql(
            "SELECT chunk.id, chunk.epoch, job.cancel_requested_at IS NOT NULL, job.pause_code"
            " FROM bulk_import_importchunk chunk JOIN bulk_import_importjob job ON job.id = chunk.job_id"
            " WHERE job.id = ? AND ? BETWEEN first_index AND first_index + row_count - 1",
            job_id.replace("-", ""),
            int(index),
        )
        known = self._epochs.get((sender, chunk_id))
        if epoch != known:
            self.wrongly_accepted.append(f"create of epoch {known} in epoch {epoch}")
        if is_cancelled:
            self.wrongly_accepted.append("create after the cancel")
        if pause_code in PAUSES_UNTIL_RESUMED:
            self.wrongly_accepted.append(f"create during the pause {pause_code}")

    def _check_pause(self, chunk_id: str) -> None:
        """Check that the end of a chunk, which shows that rows can be created, has ended a pause by a worker."""
        query = (
            "SELECT pause_code FROM bulk_import_importjob WHERE status = 'paused'"
            " AND pause_code NOT IN ('staff', 'most_rows_failed')"
            " AND id = (SELECT job_id FROM bulk_import_importchunk WHERE id = ?)"
        )
        if self._world.sql(query, chunk_id):
            self.wrongly_accepted.append("finish without an end of the pause")
