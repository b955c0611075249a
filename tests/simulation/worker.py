"""AWS Lambda and its SQS trigger around the real handlers of the worker."""

from __future__ import annotations

import asyncio
import json
from dataclasses import MISSING, dataclass, field, fields
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from bulk_import_wire.contract import Claim, ClaimRequest, Finish, Heartbeat, HeartbeatAnswer, Release, ReleaseAnswer
from lambda_worker import dead_letter
from lambda_worker import handler as chunk_handler
from lambda_worker.config import Config
from settings.known_secrets import WORKER_SECRET
from tests.simulation.monolith import Request
from tests.simulation.network import WorkerTransport
from tests.simulation.settings import FAILURES_BUCKET, PAYLOADS_BUCKET, QUEUE_URL
from tests.simulation.virtual_time import Process, clock

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from bulk_import_wire.json_object import JsonObject
    from tests.simulation.queue import Message, Queue
    from tests.simulation.world import World

CONFIG = Config(
    base_url="https://shop.example",
    worker_secret=WORKER_SECRET,
    payloads_bucket=PAYLOADS_BUCKET,
    failures_bucket=FAILURES_BUCKET,
    queue_url=QUEUE_URL,
)

KILL_SECONDS = 0.05
"""How late Lambda kills an invocation whose time is over."""


@dataclass
class Context:
    """Lambda's context object."""

    end_at: float  # virtual time
    aws_request_id: str = field(default_factory=lambda: str(uuid4()))
    function_name: str = "worker"
    function_version: str = "1"
    memory_limit_in_mb: str = "512"
    invoked_function_arn: str = ""

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.end_at - clock.now) * 1000))


@dataclass
class Poller:
    """One slot of the trigger: receives messages, invokes the function, and deletes what is done."""

    world: World
    queue: Queue
    is_dead_letter: bool
    batch_size: int
    timeout_seconds: float

    async def run(self) -> None:
        """Process messages until the run ends."""
        while True:
            messages = await self.queue.receive(self.batch_size)
            sent_before = len(self.world.queue.sent)
            answer = await self._invoke(messages)
            if answer is None:  # the function died, so the messages come back after their visibility timeout
                continue
            failed = {failure["itemIdentifier"] for failure in answer["batchItemFailures"]}
            for message in messages:
                if message.id not in failed:
                    self.world.loads.check_acknowledgement(message, sent_before)
                    if not self.world.fates.next("delete"):
                        self.queue.delete(message.receipt)

    async def _invoke(self, messages: list[Message]) -> dict[str, Any] | None:
        """Run the handler in a process of its own. Return its answer, or None if the process was killed."""
        world = self.world
        process = Process("dead letters" if self.is_dead_letter else "worker")
        world.fates.of_invocation(process)
        event = json.loads(json.dumps({"Records": [message.record() for message in messages]}))
        context = Context(clock.now + self.timeout_seconds)
        s3: Any = world.s3
        sqs: Any = world.sqs
        services = chunk_handler.Services(CONFIG, s3, sqs, WorkerTransport(world, process))
        module: Any = dead_letter if self.is_dead_letter else chunk_handler
        work: Coroutine[Any, Any, Any] = module.process_event(event, context, services)
        task = world.loop.create_task(work, context=process.context())
        world.keep(task)
        death = asyncio.Event()
        process.on_death = death.set
        died = world.loop.create_task(death.wait())
        timeout = self.timeout_seconds + KILL_SECONDS
        while process.is_alive and not task.done():
            await asyncio.wait([task, died], timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            # An execution environment that is frozen gets its timeout only when it wakes up.
            timeout = process.frozen_until - clock.now
            if not task.done() and timeout <= 0:
                process.kill()
        died.cancel()
        world.trace("invocation", process.name, process.is_alive, process.steps)
        return task.result() if task.done() else None


def _optional_fields(kind: type[JsonObject]) -> set[str]:
    return {each.name for each in fields(kind) if each.default is not MISSING or each.default_factory is not MISSING}


REQUESTS = {"claim": ClaimRequest, "heartbeat": Heartbeat, "release": Release, "finish": Finish, "dead": Finish}
ANSWERS = {"claim": Claim, "heartbeat": HeartbeatAnswer, "release": ReleaseAnswer}
NEW_IN_REQUESTS = {point: _optional_fields(kind) for point, kind in REQUESTS.items()}
NEW_IN_ANSWERS = {point: _optional_fields(kind) for point, kind in ANSWERS.items()}
"""Fields of the contract that the previous release does not know, by call: all that have a default."""


@dataclass
class Releases:
    """Workers of the previous release: they neither send nor read the optional fields of the contract."""

    old_until: float = 0.0  # virtual time of the deployment
    reported_chunks: set[str] = field(default_factory=set)  # the chunks that these workers have tried to end

    def outgoing(self, process: Process, point: str, request: Request) -> Request:
        if not self._is_old(process) or point not in NEW_IN_REQUESTS:
            return request
        if point in {"finish", "dead"}:
            self.reported_chunks.add(request.path.replace("-", "").split("/")[-2])
        content = _without(request.content, NEW_IN_REQUESTS[point])
        return Request(request.method, request.path, {**request.headers, "content-length": str(len(content))}, content)

    def incoming(self, process: Process, point: str, content: bytes) -> bytes:
        is_known = not self._is_old(process) or point not in NEW_IN_ANSWERS
        return content if is_known else _without(content, NEW_IN_ANSWERS[point])

    def _is_old(self, process: Process) -> bool:
        return process.started_at < self.old_until


def _without(content: bytes, names: set[str]) -> bytes:
    try:
        document = json.loads(content)
    except ValueError:
        return content
    return json.dumps({name: value for name, value in document.items() if name not in names}).encode()
