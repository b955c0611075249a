"""Faults of S3, SQS, Lambda, the relay and the receivers of notifications."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.simulation.faults import Fault, InvocationFault, MessageFault, ServiceFault, draw_duration
from tests.simulation.monolith import draw_step
from tests.simulation.surroundings import current
from tests.simulation.virtual_time import clock

if TYPE_CHECKING:
    from random import Random

    from tests.simulation.plan import Plan
    from tests.simulation.queue import Message
    from tests.simulation.virtual_time import Process
    from tests.simulation.world import World

OPERATIONS = {"GetObject": 3, "PutObject": 3, "SendMessageBatch": 4, "SendMessage": 2, "ChangeMessageVisibility": 1}

ENDED_CHUNKS = "SELECT id FROM bulk_import_importchunk WHERE status IN ('done', 'dead')"


@dataclass(eq=False)
class AwsFault(ServiceFault):
    """One call of S3 or SQS is refused, or its answer is lost, or the object is read only partly."""

    weight = 14

    operation: str
    number: int

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        operation = random.choice(list(OPERATIONS))
        kinds = ["refused", "no connection", "no answer"]
        kinds += ["breaks off"] * (operation == "GetObject") + ["partly", "twice"] * (operation == "SendMessageBatch")
        return cls(random.choice(kinds), operation, random.randint(1, OPERATIONS[operation]))

    def arm(self, world: World) -> None:
        world.fates.arm(self.operation, self.number, self)


@dataclass(eq=False)
class AwsAway(ServiceFault):
    """S3 or SQS, or a part of it, is away for a while."""

    weight = 3

    operations: tuple[str, ...]
    start: float
    seconds: float

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        s3, sqs = ("GetObject", "PutObject", "HeadObject"), ("SendMessageBatch", "SendMessage", "delete")
        operations = random.choice([s3, ("GetObject",), ("PutObject",), sqs, ("SendMessageBatch",), ("SendMessage",)])
        return cls(
            random.choice(["refused", "no connection"]), operations, plan.draw_time(random), draw_duration(random)
        )

    def arm(self, world: World) -> None:
        world.fates.arm_window(self.start, self.ends_at(), self.operations, self)

    def ends_at(self) -> float:
        return self.start + self.seconds


@dataclass(eq=False)
class WorkerDies(InvocationFault):
    """An invocation of a function is killed at one of its awaits."""

    weight = 10

    function: str
    number: int
    steps: int

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        function = random.choice(["worker", "worker", "worker", "dead letters"])
        return cls(function, random.randint(1, 4), int(random.triangular(1, 150, 10)))

    def arm(self, world: World) -> None:
        world.fates.arm(self.function, self.number, self)

    def affect(self, process: Process) -> None:
        process.dies_after = self.steps


@dataclass(eq=False)
class WorkerSleeps(InvocationFault):
    """An execution environment is frozen for longer than its lease, and another worker gets a copy of the message."""

    weight = 10

    number: int
    after: float  # seconds after its start
    seconds: float
    has_copy: bool  # whether the message is delivered again meanwhile

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        seconds = plan.lease_seconds * random.uniform(0.5, 4)
        return cls(random.randint(1, 3), random.uniform(0.0, 0.6), seconds, random.random() < 0.8)

    def arm(self, world: World) -> None:
        world.fates.arm("worker", self.number, self)

    def affect(self, process: Process) -> None:
        current().call_later(self.after, self._freeze, process)

    def _freeze(self, process: Process) -> None:
        process.frozen_until = clock.now + self.seconds
        world = current()
        if self.has_copy and (messages := world.queue.messages):
            message = world.random.choice(messages)
            world.queue.send(message.body, message.attributes, self.seconds * 0.7)


@dataclass(eq=False)
class ClockDiffers(InvocationFault):
    """The wall clock of an invocation is wrong."""

    weight = 2

    number: int
    seconds: float

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        return cls(random.randint(1, 4), random.choice([-1, 1]) * random.choice([5.0, 600.0, 100_000.0]))

    def arm(self, world: World) -> None:
        world.fates.arm("worker", self.number, self)

    def affect(self, process: Process) -> None:
        process.clock_skew = self.seconds


@dataclass(eq=False)
class MessageGoesAstray(MessageFault):
    """A message that was sent is doubled, delayed, or moved to the dead-letter queue; or its deletion is lost."""

    weight = 10

    number: int
    kind: str
    seconds: float

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        kind = random.choice(["twice", "twice", "late", "dead", "delete"])
        return cls(random.randint(1, 4), kind, random.choice([0.0, 1.0, 20.0, 900.0]) * random.random())

    def arm(self, world: World) -> None:
        world.fates.arm("delete" if self.kind == "delete" else "message", self.number, self)

    def affect(self, message: Message) -> None:
        queue = current().queue
        if self.kind == "twice":
            queue.send(message.body, message.attributes, self.seconds)
        elif self.kind == "late":
            message.visible_at += self.seconds
        elif self.kind == "dead":
            message.receives = queue.max_receives


@dataclass(eq=False)
class MessageIsLost(MessageFault):
    """A message is lost although SQS has accepted it: an operator purges the queue, or its retention is over."""

    weight = 4
    loses_messages = True

    number: int

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        return cls(random.randint(1, 6))

    def arm(self, world: World) -> None:
        world.fates.arm("message", self.number, self)

    def affect(self, message: Message) -> None:
        current().queue.messages.remove(message)


@dataclass(eq=False)
class LossIsHidden(MessageIsLost):
    """A message is lost, and a moment later the queue has surplus messages, of chunks that have ended.

    SQS has delivered these messages to workers that died, so it hides them until its visibility timeout is over.
    Whoever counts the messages of the queue misses none.
    """

    weight = 3

    surplus: int
    after: float  # seconds
    seconds: float

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        return cls(random.randint(1, 6), random.randint(1, 4), random.uniform(0, 60), random.uniform(900, 3600))

    def affect(self, message: Message) -> None:
        super().affect(message)
        current().call_later(self.after, self._add_surplus)

    def _add_surplus(self) -> None:
        world = current()
        queue = world.queue
        done = {chunk_id for (chunk_id,) in world.sql(ENDED_CHUNKS)}
        ended = [message for message in queue.sent if message.chunk_id in done]
        for message in world.random.choices(ended, k=self.surplus if ended else 0):
            queue.hide_copy(message, self.seconds)


@dataclass(eq=False)
class RelayDies(Fault):
    """A sweep of the relay dies at a statement or around a commit."""

    weight = 3

    number: int
    step: int

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        return cls(random.randint(1, 5), draw_step(random))

    def arm(self, world: World) -> None:
        world.fates.arm("sweep", self.number, self)


@dataclass(eq=False)
class ReceiverAway(ServiceFault):
    """The mail server or webhook receiver refuses for a while, or takes a message although it reports an error."""

    weight = 4

    service: str
    start: float
    seconds: float

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        failure, service = random.choice(["refused", "no answer"]), random.choice(["email", "webhook"])
        return cls(failure, service, plan.draw_time(random), random.choice([5.0, 60.0, 600.0]))

    def arm(self, world: World) -> None:
        world.fates.arm_window(self.start, self.ends_at(), (self.service,), self)

    def ends_at(self) -> float:
        return self.start + self.seconds


@dataclass(eq=False)
class Deployment(Fault):
    """Workers of the previous release run until this moment."""

    weight = 2

    at: float

    @classmethod
    def draw(cls, random: Random, plan: Plan) -> Self:
        return cls(plan.draw_time(random))

    def arm(self, world: World) -> None:
        self.hits += 1
        world.releases.old_until = max(world.releases.old_until, self.at)
