"""Replaces AWS's event source mapping between an SQS queue and a Lambda function, on one machine.

Each slot is a thread with its own long-poll loop and its own execution environment. It receives a batch, invokes the
handler, and deletes the messages that the handler did not report as failed. The poller leaves failed messages alone:
SQS redelivers them when their visibility timeout ends, and moves them to the dead-letter queue after maxReceiveCount
deliveries. No message body is ever logged.
"""

from __future__ import annotations

import logging
import time
import uuid
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from bulk_import_wire.logs import log_context
from lambda_worker.poller.event_source import EventSource, QueueUnavailableError, check_queue, to_record
from lambda_worker.poller.execution_environment import FUNCTION_NAME, ExecutionEnvironment, FunctionError, InitError
from lambda_worker.poller.health import Health
from lambda_worker.retries import backoff_seconds

if TYPE_CHECKING:
    import threading
    from collections.abc import Collection, Sequence

    from mypy_boto3_sqs.type_defs import MessageTypeDef

DEAD_LETTER_HANDLER = "lambda_worker.dead_letter.handler"

MAX_BACKOFF_SECONDS = 30.0
"""Longest wait after a failure. It limits the CPU time that is spent on restarting a handler that cannot start."""

SHORT_POLL_PAUSE_SECONDS = 0.2
"""Pause after an empty receive with `wait_seconds` 0. Without it, short polling would be a busy loop."""

logger = logging.getLogger(__name__)


class MalformedAnswerError(FunctionError):
    """The handler's response does not have the format of ReportBatchItemFailures, so the whole batch has failed."""


class PortInUseError(Exception):
    """The health server cannot listen: another process uses its port."""


@dataclass(frozen=True, slots=True)
class Options:
    """The options of the command line. `lambda_worker.__main__` describes them."""

    queue_url: str
    handler: str
    concurrency: int
    batch_size: int
    function_timeout: int  # seconds
    wait_seconds: int  # duration of a long poll
    health_port: int = 0  # 0: no health server
    json_logs: bool = False


def failed_message_ids(answer: object, message_ids: Collection[str]) -> set[str]:
    """Return the IDs of the messages that SQS must redeliver, by the rules of `ReportBatchItemFailures`.

    The whole batch succeeded, and the result is empty, if
    - the response is null, an empty string or an empty object;
    - its `batchItemFailures` is missing, null or an empty list. This includes an object that has only other
      keys, because the event source mapping reads only `batchItemFailures`.

    Some messages failed, and the result contains their IDs, if each entry of `batchItemFailures` is an object
    whose `itemIdentifier` is the ID of a message of the batch.

    Raises MalformedAnswerError, which means that the whole batch failed, if
    - the response is not an object, or `batchItemFailures` is not a list;
    - an `itemIdentifier` is missing, empty, not a string, or not the ID of a message of the batch.

    Source: AWS Lambda documentation, "Reporting batch item failures", success and failure conditions.
    """
    if answer is None or answer == "":
        return set()
    if not isinstance(answer, dict):
        raise MalformedAnswerError(f"the response is not an object but {type(answer).__name__}")
    failures = answer.get("batchItemFailures")
    if failures is None:
        return set()
    if not isinstance(failures, list):
        raise MalformedAnswerError(f"batchItemFailures is not a list but {type(failures).__name__}")
    failed = set()
    for failure in failures:
        identifier = failure.get("itemIdentifier") if isinstance(failure, dict) else None
        if not isinstance(identifier, str) or identifier not in message_ids:
            raise MalformedAnswerError("an itemIdentifier is missing or names no message of the batch")
        failed.add(identifier)
    return failed


class Poller:
    """All slots of one process."""

    def __init__(self, options: Options, stop: threading.Event) -> None:
        """Create the clients. Raises QueueError if AWS is not configured."""
        self._options = options
        self._stop = stop
        self._health = Health(stop, options.wait_seconds)
        self._source = EventSource(
            options.queue_url,
            batch_size=options.batch_size,
            wait_seconds=options.wait_seconds,
            connections=options.concurrency,
        )

    def run(self) -> None:
        """Poll until `stop` is set and all running invocations have ended.

        Raises QueueError if the queue's configuration does not work, and PortInUseError if the health port is in use.
        """
        if self._options.health_port:
            try:
                self._health.serve(self._options.health_port)
            except OSError as error:
                raise PortInUseError(f"cannot listen on port {self._options.health_port}: {error}") from error
        attributes = self._queue_attributes()
        if attributes is None:
            return
        is_dead_letter_queue = self._options.handler == DEAD_LETTER_HANDLER
        check_queue(attributes, self._options.function_timeout, is_dead_letter_queue=is_dead_letter_queue)
        slots = self._options.concurrency
        with ThreadPoolExecutor(slots, thread_name_prefix="slot") as executor:
            runs = [executor.submit(self._run_slot, attributes["QueueArn"]) for _ in range(slots)]
            wait(runs, return_when=FIRST_EXCEPTION)
            self._stop.set()  # if one slot fails, stop all: the process must not go on with fewer slots
        for run in runs:
            run.result()

    def _queue_attributes(self) -> dict[str, str] | None:
        """Return the queue's attributes, or None if the poller is stopped before SQS responds."""
        for failures in count(1):
            try:
                return self._source.attributes()
            except QueueUnavailableError as error:
                self._back_off(failures, "SQS is unreachable", error)
            if self._stop.is_set():
                break
        return None

    def _run_slot(self, queue_arn: str) -> None:
        region, account = queue_arn.split(":")[3:5]
        function_arn = f"arn:aws:lambda:{region}:{account}:function:{FUNCTION_NAME}"
        environment = ExecutionEnvironment(
            self._options.handler,
            self._options.function_timeout,
            function_arn,
            json_logs=self._options.json_logs,
        )
        try:
            self._poll(environment, queue_arn)
        finally:
            environment.close()

    def _poll(self, environment: ExecutionEnvironment, queue_arn: str) -> None:
        failures = 0
        ready = False
        while not self._stop.is_set():
            try:
                # Start the handler's process before receiving messages: a cold start would use up their visibility
                # timeout.
                environment.start()
                if not ready:
                    logger.info("ready queue=%s handler=%s", queue_arn, self._options.handler)
                    ready = True
                messages = self._source.receive()
            except InitError as error:
                failures += 1
                self._back_off(failures, "init error, no message is received", error)
            except QueueUnavailableError as error:
                failures += 1
                self._back_off(failures, "SQS is unreachable", error)
            else:
                failures = 0
                self._health.received()
                if messages and self._stop.is_set():
                    self._source.return_to_queue(messages)
                elif messages:
                    self._health.begin()
                    try:
                        self._invoke(environment, messages, queue_arn)
                    finally:
                        self._health.end()
                elif self._options.wait_seconds == 0:
                    self._stop.wait(SHORT_POLL_PAUSE_SECONDS)

    def _invoke(self, environment: ExecutionEnvironment, messages: Sequence[MessageTypeDef], queue_arn: str) -> None:
        request_id = str(uuid.uuid4())
        with log_context(request_id=request_id):
            self._invoke_as(request_id, environment, messages, queue_arn)

    def _invoke_as(
        self, request_id: str, environment: ExecutionEnvironment, messages: Sequence[MessageTypeDef], queue_arn: str
    ) -> None:
        message_ids = [message["MessageId"] for message in messages]
        logger.info("invocation started request=%s messages=%s", request_id, ",".join(message_ids))
        started_at = time.monotonic()
        try:
            answer = environment.invoke({"Records": [to_record(m, queue_arn) for m in messages]}, request_id)
            failed = failed_message_ids(answer, message_ids)
        except FunctionError as error:
            logger.warning("invocation failed request=%s: %s", request_id, error)
            failed = set(message_ids)
        self._source.delete([message for message in messages if message["MessageId"] not in failed])
        logger.info(
            "invocation ended request=%s duration=%.3fs succeeded=%d failed=%d%s",
            request_id,
            time.monotonic() - started_at,
            len(messages) - len(failed),
            len(failed),
            f" failed_messages={','.join(sorted(failed))}" if failed else "",
        )

    def _back_off(self, failures: int, what: str, error: Exception) -> None:
        seconds = backoff_seconds(failures, MAX_BACKOFF_SECONDS)
        logger.warning("%s, next attempt in %.1f s: %s", what, seconds, error)
        self._stop.wait(seconds)
