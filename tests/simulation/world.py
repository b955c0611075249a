"""The world of one run: everything that happens in it happens on one event loop, in virtual time."""

from __future__ import annotations

import asyncio
import hashlib
import json
from contextlib import suppress
from contextvars import Context
from random import Random
from smtplib import SMTPServerDisconnected
from typing import TYPE_CHECKING, Any

import httpx
from django.db import connections

from bulk_import.exceptions import QueueUnavailable
from bulk_import.models.lost_messages import MESSAGE_TIMEOUT
from bulk_import.outbox.relay import sweep
from tests.simulation.aws import S3
from tests.simulation.endpoint import Endpoint
from tests.simulation.event_loop import VirtualLoop
from tests.simulation.faults import Fates, MessageFault
from tests.simulation.faults_of_services import RelayDies
from tests.simulation.loads import Loads
from tests.simulation.lost_messages import LostMessages
from tests.simulation.monolith import Death, Died, Monolith
from tests.simulation.network import Network
from tests.simulation.people import People
from tests.simulation.queue import Message, Queue, Sqs
from tests.simulation.virtual_time import clock, database_time
from tests.simulation.windows import Windows
from tests.simulation.worker import Poller, Releases

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from django.core.mail import EmailMessage

    from tests.simulation.audited import Audited
    from tests.simulation.plan import Plan

RELAY_SECONDS = 60.0
"""Time between two sweeps of the relay."""

IDLE_RELAY_SECONDS = 600.0
"""Time between two sweeps for chunks if nothing changes in the database."""

TICK_SECONDS = 15.0
"""How often the run looks whether it is over."""

PATIENCE_SECONDS = 4 * 3600.0
"""Time after the last fault within which every job must have ended.

A pause may last an hour (MAX_PAUSE_HOURS of the settings), and each message may be delayed by 15 minutes afterwards.
Each fault that loses messages doubles this time: a chunk waits for a replacement as long as it has waited already.
"""


UNSENT = (
    "SELECT 1 FROM bulk_import_importchunk WHERE status IN ('pending', 'reserved')"
    " OR (status IN ('queued', 'processing') AND queued_at < ?)"
    " OR (status = 'processing' AND lease_expires_at < ?) LIMIT 1"
)
"""Query for a chunk whose message the relay may have to send."""


class World:
    """Creates all parts of a run and connects them."""

    def __init__(self, plan: Plan, *, verbose: bool = False) -> None:
        self.plan, self._verbose = plan, verbose
        self._hash = hashlib.sha256()
        self.stuck = ""  # why the run did not come to its end
        self.epilogues: list[Callable[[World], Awaitable[None]]] = []  # what happens after the first audit
        self.audited: list[Audited] = []
        self._kept: set[asyncio.Task[Any]] = set()
        self._database: Any = connections["default"]
        self._changes_at_sweep, self._swept_at = -1, 0.0
        self.random = Random(f"world {plan.seed}")
        self.loop = VirtualLoop(clock, Random(f"loop {plan.seed}"))
        self.context = Context()  # in which the parts of the world run that are no process
        self.fates = Fates()
        self.endpoint = Endpoint()
        self.windows = Windows(self)
        self.lost_messages = LostMessages(self)
        self.monolith = Monolith(plan.clock_skews, self.windows.check)
        self.network = Network(self, Random(f"network {plan.seed}"))
        self.loads = Loads(self)
        self.network.after_call.append(self.loads.check_call)
        self.releases = Releases()
        self.receivers = Receivers(self)
        visibility = plan.function_seconds * 1.5 + plan.lease_seconds
        queue_random = Random(f"queue {plan.seed}")
        self.dead_letters = Queue(queue_random, 100.0)
        self.queue = Queue(queue_random, visibility, plan.max_receives, self.dead_letters)
        self.s3 = S3(self._service_fault)
        self.sqs = Sqs(self.queue, self._service_fault, self._on_send)
        self.people = People(self)

    # --- the run

    async def run(self) -> None:
        """Run everything until all jobs have ended and nothing is on its way."""
        plan = self.plan
        for fault in plan.faults:
            fault.arm(self)
        for job in plan.jobs:
            self.people.start(self.people.submit(job))
        pollers = [Poller(self, self.queue, False, plan.batch_size, plan.function_seconds) for _ in range(plan.pollers)]
        pollers.append(Poller(self, self.dead_letters, True, 1, plan.function_seconds))
        for poller in pollers:
            self.keep(self.loop.create_task(poller.run()))
        self.call_later(RELAY_SECONDS, self._run_relay)
        await self.until_quiet()

    async def run_epilogue(self) -> None:
        """Run what happens long after the jobs have ended."""
        for epilogue in self.epilogues:
            await epilogue(self)

    async def until_quiet(self) -> None:
        """Wait until all jobs have ended and nothing is on its way, or until something is wrong or takes too long."""
        patience = PATIENCE_SECONDS * 2 ** sum(fault.loses_messages for fault in self.plan.faults)
        give_up_at = max(self.plan.faults_end_at, clock.now) + patience
        while not self._is_over():
            if self.has_failed:
                self.stuck = "stopped, because a check has failed"
                return
            if clock.now > give_up_at:
                self.stuck = f"not over {patience:.0f} s after the last fault"
                return
            await asyncio.sleep(TICK_SECONDS)

    def _is_over(self) -> bool:
        for task in self.people.tasks:
            if not task.done():
                return False
            task.result()  # raises what went wrong in the simulation itself
        is_quiet = not self.queue.messages and not self.dead_letters.messages
        return is_quiet and not self.open_jobs() and not self.sql("SELECT 1 FROM bulk_import_delivery LIMIT 1")

    @property
    def has_failed(self) -> bool:
        """Whether a check has failed while the run lasts."""
        return bool(self.loads.wrongly_accepted or self.windows.findings or self.lost_messages.findings)

    def open_jobs(self) -> list[str]:
        """Return the IDs of the jobs that have not ended."""
        ended = "('succeeded', 'partially_succeeded', 'failed', 'cancelled')"
        return [row[0] for row in self.sql(f"SELECT id FROM bulk_import_importjob WHERE status NOT IN {ended}")]  # noqa: S608 - a constant

    def _run_relay(self) -> None:
        """Run `manage.py bulk_import_relay` now and from time to time.

        This is no task: webhooks run in an event loop of their own, and Python 3.14 runs no task inside another one.
        """
        self.call_later(RELAY_SECONDS, self._run_relay)
        self.lost_messages.look()
        if self._is_sweep_useful():
            hits = self._hits()
            fault = self.fates.next("sweep")
            death = Death(fault.step) if isinstance(fault, RelayDies) else None
            self.run_in_monolith("sweep", self._sweep, death)
            if self._hits() == hits:
                self.lost_messages.check()

    def _hits(self) -> int:
        """Return how often a fault has had an effect so far."""
        return sum(fault.hits for fault in self.plan.faults)

    def _is_sweep_useful(self) -> bool:
        """Return whether a sweep may find something to do. If it finds nothing, it only takes time."""
        if self.sql("SELECT 1 FROM bulk_import_delivery WHERE due_at <= ? LIMIT 1", database_time()):
            return True
        changes = self._database.connection.total_changes
        if (changes == self._changes_at_sweep and clock.now < self._swept_at + IDLE_RELAY_SECONDS) or not self.sql(
            UNSENT, database_time(-MESSAGE_TIMEOUT.total_seconds()), database_time()
        ):
            return False
        self._changes_at_sweep, self._swept_at = changes, clock.now
        return True

    def _sweep(self) -> None:
        try:
            sweep(WebhookTransport(self))
        except QueueUnavailable:
            self.trace("sweep failed")

    # --- what the parts of the world use

    def run_in_monolith(self, name: str, work: Callable[[], Any], death: Death | None = None) -> None:
        """Run a command of the site as a process of its own. It may die."""
        self.trace(name)
        try:
            self.monolith.run(name, work, death)
        except Died as died:
            self.trace("died", name, died)

    def sql(self, query: str, *values: Any) -> list[Any]:
        """Run a query directly in the database, without Django and without faults."""
        found: list[Any] = self._database.connection.execute(query, values).fetchall()
        return found

    def call_later(self, seconds: float, function: Callable[..., Any], *args: Any) -> None:
        """Call a function later, as a part of the world and not of the process that runs now."""
        self.loop.call_later(seconds, function, *args, context=self.context.copy())

    async def sleep_until(self, at: float) -> None:
        await asyncio.sleep(max(0.0, at - clock.now))

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Keep a task from being collected before the run is over, unless it has ended."""
        self._kept = {kept for kept in self._kept if not kept.done()} | {task}

    def trace(self, *details: Any) -> None:
        """Add an event to the trace, whose hash shows whether two runs were identical."""
        line = f"{clock.now:.6f} {' '.join(map(str, details))}"
        self._hash.update(line.encode())
        if self._verbose:
            print(line, flush=True)

    def trace_hash(self) -> str:
        """Return the hash of everything that happened."""
        self.trace(self.loop.steps, self.network.calls, self.random.random())
        return self._hash.hexdigest()

    def _service_fault(self, operation: str) -> str:
        fault = self.fates.of_service(operation)
        self.trace(operation, fault)
        return fault

    def _on_send(self, message: Message) -> None:
        fault = self.fates.next("message")
        if isinstance(fault, MessageFault):
            fault.affect(message)

    def dismantle(self) -> None:
        """Close the coroutines that are left, so that none of them runs again."""
        for task in asyncio.all_tasks(self.loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]
            coroutine: Any = task.get_coro()
            with suppress(Exception):  # a `finally` block may try to wait, which is not possible any more
                coroutine.close()
        self.loop._ready.clear()
        self.loop._scheduled.clear()
        self.loop.close()


class Receivers:
    """The mail server and the receiver of the webhooks."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.emails: list[tuple[str, str]] = []  # the ID of the event and the address
        self.webhooks: list[tuple[str, dict[str, Any]]] = []  # the ID of the event and the body

    def take_email(self, message: EmailMessage) -> None:
        """Accept an email, or raise SMTPException."""
        fault = self._world.fates.of_service("email")
        if fault != "refused":
            event_id = message.extra_headers["Message-ID"].removeprefix("<").partition(".")[0]
            self.emails.append((event_id, message.to[0]))
            self._world.trace("email", event_id, message.subject)
        if fault:
            raise SMTPServerDisconnected

    def take_webhook(self, request: httpx.Request) -> int:
        """Return the status of the answer to a webhook."""
        fault = self._world.fates.of_service("webhook")
        if fault != "refused":
            self.webhooks.append((request.headers["webhook-id"], json.loads(request.content)))
            self._world.trace("webhook", request.headers["webhook-id"])
        return 500 if fault else 204


class WebhookTransport(httpx.AsyncBaseTransport):
    """The relay's transport: it hands each webhook to the receiver."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        await request.aread()
        return httpx.Response(self._world.receivers.take_webhook(request))
