"""The process in which the handler runs: what an execution environment is to the Lambda service.

It imports the handler once (cold start) and then runs one invocation after the other (warm). Event and
answer cross a pipe as JSON text, so a handler sees here what it sees on AWS. A handler that hangs or
crashes takes its process with it and nothing else; the next `start` brings a new one.

    ExecutionEnvironment (in the poller) ── {"requestId", "deadline", "event"} ──▶ _serve (child process)
                                         ◀── {"answer": …} or {"errorType": …} ──
"""

from __future__ import annotations

import importlib
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bulk_import_wire.logs import JsonFormatter, install_log_context, log_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from lambda_worker.events import LambdaContext, SqsEvent

INIT_TIMEOUT_SECONDS = 30
"""For the import of the handler. Lambda grants 10 s, and more when it then has to begin again."""

MAX_ANSWER_BYTES = 6 * 1024 * 1024
"""Lambda's limit for the answer of a synchronous invocation."""

EXIT_GRACE_SECONDS = 2
"""For an idle process to leave by itself once its pipe is closed."""

FUNCTION_NAME = "lambda_worker"

logger = logging.getLogger(__name__)


class FunctionError(Exception):
    """The invocation brought no answer that can be used: to the queue, the whole batch has failed."""


class InitError(Exception):
    """No process with the handler in it could be started. Wait, then start again."""


def configure_logging(*, as_json: bool = False) -> None:
    """One line an event on stderr. As on Lambda, other people's loggers are heard from WARNING on."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(threadName)s[%(process)d] %(message)s")
    handler.setFormatter(JsonFormatter() if as_json else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    install_log_context()
    logging.getLogger("lambda_worker").setLevel(logging.INFO)


class ExecutionEnvironment:
    """The poller's side. Belongs to one thread."""

    def __init__(self, handler: str, timeout_seconds: int, function_arn: str, *, json_logs: bool = False) -> None:
        self._handler = handler
        self._timeout_seconds = timeout_seconds
        self._function_arn = function_arn
        self._json_logs = json_logs
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def start(self) -> None:
        """Have a process that is ready for an invocation. Raises InitError."""
        if self._process is not None and self._process.is_alive():
            return
        self._discard()
        started_at = time.monotonic()
        # A process of its own kind, not a fork: the poller's threads and sockets stay out of it.
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        arguments = (theirs, self._handler, self._function_arn, self._json_logs)
        self._process = spawn.Process(target=_serve, args=arguments, daemon=True)
        try:
            self._process.start()
        except OSError as error:
            self._process = None
            raise InitError(f"no process could be started: {error}") from error
        finally:
            theirs.close()
        try:
            reply = self._reply(INIT_TIMEOUT_SECONDS)
        except FunctionError as error:
            raise InitError(str(error)) from error
        if "errorType" in reply:
            self._discard()
            raise InitError(reply["errorType"])
        logger.info("handler imported duration=%.2fs", time.monotonic() - started_at)

    def invoke(self, event: SqsEvent, request_id: str) -> Any:
        """Run the handler and return its answer, as decoded from JSON. Raises FunctionError."""
        try:
            self.start()
        except InitError as error:
            raise FunctionError(f"init error: {error}") from error
        assert self._pipe is not None  # noqa: S101 -- start() has seen to it
        request = {
            "requestId": request_id,
            "deadline": time.monotonic() + self._timeout_seconds,
            "event": event,
        }
        try:
            self._pipe.send_bytes(json.dumps(request).encode())
        except OSError as error:
            self._discard()
            raise FunctionError("the process was gone before the invocation") from error
        reply = self._reply(self._timeout_seconds)
        if "errorType" in reply:
            raise FunctionError(reply["errorType"])
        return reply["answer"]

    def close(self) -> None:
        """Let an idle process leave, and see that it does."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.join(EXIT_GRACE_SECONDS)
        self._discard()

    def _reply(self, timeout_seconds: float) -> dict[str, Any]:
        """Wait for the process to say something; when it does not, it is of no more use."""
        assert self._pipe is not None  # noqa: S101 -- only called on a started process
        assert self._process is not None  # noqa: S101
        ready = multiprocessing.connection.wait([self._pipe, self._process.sentinel], timeout_seconds)
        if not ready:
            self._discard()
            raise FunctionError(f"timed out after {timeout_seconds} s")
        try:
            # The sentinel alone may be ready: then this reads the end of the pipe.
            reply: dict[str, Any] = json.loads(self._pipe.recv_bytes())
        except (EOFError, OSError) as error:
            self._process.join(EXIT_GRACE_SECONDS)
            exit_code = self._process.exitcode
            self._discard()
            raise FunctionError(f"the process crashed with exit code {exit_code}") from error
        return reply

    def _discard(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._process = None
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


@dataclass(frozen=True, slots=True)
class _Context:
    """See `lambda_worker.events.LambdaContext`."""

    aws_request_id: str
    invoked_function_arn: str
    deadline: float  # by time.monotonic(), which counts the same in every process of a machine
    function_name: str = FUNCTION_NAME
    function_version: str = "$LATEST"
    memory_limit_in_mb: str = "1024"  # not enforced here

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.monotonic()) * 1000))


def _serve(pipe: Connection, handler_path: str, function_arn: str, json_logs: bool) -> None:
    """Run the child process until the poller closes the pipe or dies."""
    # Ctrl-C and a service manager's stop reach the whole group; when this process ends, the poller decides.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_leave_with_parent, name="parent-watch", daemon=True).start()
    configure_logging(as_json=json_logs)
    try:
        module, _, name = handler_path.rpartition(".")
        handler = getattr(importlib.import_module(module), name)
    except Exception as error:
        logger.exception("init error: the handler %s cannot be imported", handler_path)
        pipe.send_bytes(json.dumps({"errorType": type(error).__name__}).encode())
        return
    try:
        pipe.send_bytes(b"{}")
        while True:
            request = json.loads(pipe.recv_bytes())
            context = _Context(request["requestId"], function_arn, request["deadline"])
            with log_context(request_id=context.aws_request_id):
                answer = _run(handler, request["event"], context)
            pipe.send_bytes(answer)
    except (EOFError, OSError):
        return  # the poller has closed the pipe


def _run(handler: Callable[[SqsEvent, LambdaContext], object], event: SqsEvent, context: _Context) -> bytes:
    try:
        answer = json.dumps({"answer": handler(event, context)}).encode()
    except Exception as error:
        logger.exception("function error request=%s", context.aws_request_id)
        return json.dumps({"errorType": type(error).__name__}).encode()
    if len(answer) > MAX_ANSWER_BYTES:
        return json.dumps({"errorType": f"answer above {MAX_ANSWER_BYTES} bytes"}).encode()
    return answer


def _leave_with_parent() -> None:
    """End this process in the middle of whatever it does once the poller is gone, even by kill -9."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 -- this is a child process
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
