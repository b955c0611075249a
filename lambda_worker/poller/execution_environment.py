"""The process in which the handler runs, as in an execution environment of AWS Lambda.

The process imports the handler once (cold start) and then runs one invocation after the other (warm start). The event
and the response cross a pipe as JSON text, so the handler gets the same types as on AWS. If the handler hangs or
crashes, only this process ends, and the next `start` creates a new one.

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
"""Timeout for the import of the handler.

Lambda allows 10 s. If that is not enough, it starts the import again and allows the function's timeout.
"""

MAX_ANSWER_BYTES = 6 * 1024 * 1024
"""Lambda's limit for the size of the response of a synchronous invocation."""

EXIT_GRACE_SECONDS = 2
"""How long we wait for an idle process to end by itself after we close its pipe. Then we kill it."""

FUNCTION_NAME = "lambda_worker"

logger = logging.getLogger(__name__)


class FunctionError(Exception):
    """The invocation returned no usable response. The event source mapping treats the whole batch as failed."""


class InitError(Exception):
    """The process could not be started, or could not import the handler. Wait, then retry."""


def configure_logging(*, as_json: bool = False) -> None:
    """Write one line per log record to stderr. As on Lambda, third-party loggers write warnings and errors only."""
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s %(threadName)s[%(process)d] %(message)s")
    handler.setFormatter(JsonFormatter() if as_json else text)
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    install_log_context()
    logging.getLogger("lambda_worker").setLevel(logging.INFO)


class ExecutionEnvironment:
    """The poller's side of the pipe. Not thread-safe: each slot has its own instance."""

    def __init__(self, handler: str, timeout_seconds: int, function_arn: str, *, json_logs: bool = False) -> None:
        self._handler = handler
        self._timeout_seconds = timeout_seconds
        self._function_arn = function_arn
        self._json_logs = json_logs
        self._process: SpawnProcess | None = None
        self._pipe: Connection | None = None

    def start(self) -> None:
        """Start the process unless it already runs, and wait until the handler is imported. Raises InitError."""
        if self._process is not None and self._process.is_alive():
            return
        self._discard()
        started_at = time.monotonic()
        # We spawn rather than fork, because a fork would inherit the poller's locks and sockets in whatever state its
        # other threads left them.
        spawn = multiprocessing.get_context("spawn")
        self._pipe, theirs = spawn.Pipe()
        arguments = (theirs, self._handler, self._function_arn, self._json_logs)
        self._process = spawn.Process(target=_serve, args=arguments, daemon=True)
        try:
            self._process.start()
        except OSError as error:
            self._process = None
            raise InitError(f"the process could not be started: {error}") from error
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
        """Run the handler and return its response, decoded from JSON.

        Raises FunctionError if the handler raises, crashes, exceeds its timeout or returns something that is not JSON.
        """
        try:
            self.start()
        except InitError as error:
            raise FunctionError(f"init error: {error}") from error
        assert self._pipe is not None  # noqa: S101 - start() has set it
        request = {
            "requestId": request_id,
            "deadline": time.monotonic() + self._timeout_seconds,
            "event": event,
        }
        try:
            self._pipe.send_bytes(json.dumps(request).encode())
        except OSError as error:
            self._discard()
            raise FunctionError("the process ended before the invocation") from error
        reply = self._reply(self._timeout_seconds)
        if "errorType" in reply:
            raise FunctionError(reply["errorType"])
        return reply["answer"]

    def close(self) -> None:
        """Let the idle process end by itself, and kill it if it does not."""
        if self._pipe is not None:
            self._pipe.close()
        if self._process is not None:
            self._process.join(EXIT_GRACE_SECONDS)
        self._discard()

    def _reply(self, timeout_seconds: float) -> dict[str, Any]:
        """Wait for the process to reply, and return the reply.

        Kills the process and raises FunctionError if it does not reply in time, or crashes.
        """
        assert self._pipe is not None  # noqa: S101 - only called on a started process
        assert self._process is not None  # noqa: S101
        ready = multiprocessing.connection.wait([self._pipe, self._process.sentinel], timeout_seconds)
        if not ready:
            self._discard()
            raise FunctionError(f"timed out after {timeout_seconds} s")
        try:
            # If only the sentinel is ready, the process has ended and this read raises EOFError.
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
    """Implements the protocol `lambda_worker.events.LambdaContext`."""

    aws_request_id: str
    invoked_function_arn: str
    deadline: float  # a time of time.monotonic(), which is the same clock in every process of a machine
    function_name: str = FUNCTION_NAME
    function_version: str = "$LATEST"
    memory_limit_in_mb: str = "1024"  # not enforced here

    def get_remaining_time_in_millis(self) -> int:
        return max(0, int((self.deadline - time.monotonic()) * 1000))


def _serve(pipe: Connection, handler_path: str, function_arn: str, json_logs: bool) -> None:
    """Entry point of the child process. Returns when the poller closes the pipe. If the poller dies, it ends too."""
    # Ctrl-C and many service managers send their signal to the whole process group. Only the poller reacts to it, so
    # that a running invocation can finish.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, name="parent-watch", daemon=True).start()
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
        return  # the poller closed the pipe


def _run(handler: Callable[[SqsEvent, LambdaContext], object], event: SqsEvent, context: _Context) -> bytes:
    try:
        answer = json.dumps({"answer": handler(event, context)}).encode()
    except Exception as error:
        logger.exception("function error request=%s", context.aws_request_id)
        return json.dumps({"errorType": type(error).__name__}).encode()
    if len(answer) > MAX_ANSWER_BYTES:
        return json.dumps({"errorType": f"response larger than {MAX_ANSWER_BYTES} bytes"}).encode()
    return answer


def _exit_with_parent() -> None:
    """End this process at once when the poller ends, even if SIGKILL ended it. A running invocation does not finish."""
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101 - this is a child process
    multiprocessing.connection.wait([parent.sentinel])
    os._exit(1)
