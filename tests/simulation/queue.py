"""A simulated SQS: visibility, receive counts, delays, duplicates, reordering, retention and dead letters."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from tests.simulation.aws import fail
from tests.simulation.settings import QUEUE_URL
from tests.simulation.virtual_time import START_OF_TIME, clock

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

RETENTION_SECONDS = 14 * 24 * 3600


@dataclass(eq=False)
class Message:
    body: str
    attributes: dict[str, Any]
    visible_at: float  # virtual time
    id: str = field(default_factory=lambda: str(uuid4()))
    sent_at: float = field(default_factory=lambda: clock.now)
    receives: int = 0
    receipt: str = ""

    @property
    def chunk_id(self) -> str:
        """The ID of its chunk, as in SQLite."""
        return str(json.loads(self.body)["chunk_id"]).replace("-", "")

    def record(self) -> dict[str, Any]:
        """Return the message as Lambda passes it to a function."""
        return {
            "messageId": self.id,
            "receiptHandle": self.receipt,
            "body": self.body,
            "attributes": {
                "ApproximateReceiveCount": str(self.receives),
                "SentTimestamp": str(int((START_OF_TIME + self.sent_at) * 1000)),
            },
            "messageAttributes": {
                name: {"dataType": value["DataType"], "stringValue": value["StringValue"]}
                for name, value in self.attributes.items()
            },
            "md5OfBody": "",
            "eventSource": "aws:sqs",
            "eventSourceARN": "arn:aws:sqs:us-east-1:123456789012:import",
            "awsRegion": "us-east-1",
        }


@dataclass(eq=False)
class Queue:
    """A standard queue. Messages have no order: the seed decides which one a receiver gets."""

    random: Random
    visibility_seconds: float
    max_receives: int = 10**9
    dead_letters: Queue | None = None
    messages: list[Message] = field(default_factory=list)
    sent: list[Message] = field(default_factory=list)  # every message so far
    most: Counter[str] = field(default_factory=Counter)  # most messages with the same body at the same time
    lost: int = 0  # messages that the retention deleted
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def send(self, body: str, attributes: dict[str, Any], delay_seconds: float) -> Message:
        message = Message(body, attributes, visible_at=clock.now + delay_seconds)
        self.sent.append(message)
        self.take(message)
        return message

    def take(self, message: Message) -> None:
        """Add a message that was sent, or that became a dead letter, and wake up the receivers."""
        self.messages.append(message)
        self.most[message.body] = max(
            self.most[message.body], sum(other.body == message.body for other in self.messages)
        )
        self._changed.set()

    def hide_copy(self, message: Message, seconds: float) -> None:
        """Add a copy of a message that a worker has received. The worker died, so nobody sees the copy for a while."""
        copy = Message(message.body, message.attributes, visible_at=clock.now + seconds, receives=1)
        self.take(copy)

    def send_all_again(self) -> None:
        """Send each message again, as if it had been on its way all the time."""
        for body in sorted({message.body for message in self.sent}):
            self.send(body, {}, 0.0)

    async def receive(self, limit: int) -> list[Message]:
        """Wait until a message is visible, and return at most `limit` of them."""
        while True:
            self._expire()
            visible = [message for message in self.messages if message.visible_at <= clock.now]
            self.random.shuffle(visible)
            if received := [message for message in visible[:limit] if self._deliver(message)]:
                return received
            if not visible:
                next_at = min((message.visible_at for message in self.messages), default=None)
                self._changed.clear()
                timeout = None if next_at is None else max(0.0, next_at - clock.now)
                try:
                    await asyncio.wait_for(self._changed.wait(), timeout)
                except TimeoutError:
                    continue

    def _deliver(self, message: Message) -> bool:
        """Count a delivery and hide the message. Return False if it became a dead letter instead."""
        if message.receives >= self.max_receives and self.dead_letters:
            self.messages.remove(message)
            message.visible_at, message.receives = clock.now, 0
            self.dead_letters.take(message)
            return False
        message.receives += 1
        message.receipt = str(uuid4())
        message.visible_at = clock.now + self.visibility_seconds
        return True

    def delete(self, receipt: str) -> None:
        self.messages = [message for message in self.messages if message.receipt != receipt]

    def set_visibility(self, receipt: str, seconds: float) -> None:
        for message in self.messages:
            if message.receipt == receipt:
                message.visible_at = clock.now + seconds
        self._changed.set()

    def _expire(self) -> None:
        kept = [message for message in self.messages if message.sent_at > clock.now - RETENTION_SECONDS]
        self.lost += len(self.messages) - len(kept)
        self.messages = kept


@dataclass
class Sqs:
    """The client of the import queue. `fault_of` names what goes wrong with a request: "" for nothing."""

    queue: Queue
    fault_of: Callable[[str], str]
    on_send: Callable[[Message], None]

    def send_message(
        self,
        *,
        QueueUrl: str,
        MessageBody: str,
        MessageAttributes: dict[str, Any],
        DelaySeconds: int = 0,
    ) -> dict[str, Any]:
        assert QueueUrl == QUEUE_URL
        fault = self._begin("SendMessage")
        message = self.queue.send(MessageBody, MessageAttributes, DelaySeconds)
        self.on_send(message)
        self._end("SendMessage", fault)
        return {"MessageId": message.id}

    def send_message_batch(self, *, QueueUrl: str, Entries: list[dict[str, Any]]) -> dict[str, Any]:
        assert QueueUrl == QUEUE_URL
        fault = self._begin("SendMessageBatch")
        sent, failed = [], []
        for number, entry in enumerate(Entries):
            if fault == "partly" and number % 2 == 0:
                failed.append({"Id": entry["Id"], "Code": "InternalError", "SenderFault": False})
                continue
            for _copy in range(2 if fault == "twice" else 1):
                self.on_send(self.queue.send(entry["MessageBody"], entry["MessageAttributes"], 0))
            sent.append({"Id": entry["Id"]})
        self._end("SendMessageBatch", fault if fault not in {"partly", "twice"} else "")
        return {"Successful": sent, "Failed": failed}

    def change_message_visibility(self, *, QueueUrl: str, ReceiptHandle: str, VisibilityTimeout: int) -> dict[str, Any]:
        assert QueueUrl == QUEUE_URL
        fault = self._begin("ChangeMessageVisibility")
        self.queue.set_visibility(ReceiptHandle, VisibilityTimeout)
        self._end("ChangeMessageVisibility", fault)
        return {}

    def _begin(self, operation: str) -> str:
        """Return what goes wrong with this request after SQS has carried it out. Raises if it fails before."""
        fault = self.fault_of(operation)
        if fault in {"refused", "no connection"}:
            fail(operation, fault)
        return fault

    def _end(self, operation: str, fault: str) -> None:
        if fault:
            fail(operation, "no answer")
