"""A fake Lambda service: it runs one function in one execution environment, and implements the Runtime API.

The process runs Lambda's real runtime client (awslambdaric), with only the unpacked zip and the runtime's packages.
Like Lambda, this service kills a process that exceeds its timeout, and replaces one that has ended.
"""

from __future__ import annotations

import json
import queue
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Any, Self

from tests.lambda_worker.conftest import HttpServer, Reply, Request, serving

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from lambda_worker.events import BatchResponse, LambdaContext, SqsEvent

API = "/2018-06-01/runtime"
FUNCTION_ARN = "arn:aws:lambda:us-east-1:123456789012:function:lambda_worker"
START_SECONDS = 60.0  # Lambda allows 10, but this machine may be busy
LATE_SECONDS = 2.0
"""Additional time before we kill a process that exceeds its timeout."""


class FunctionFailed(Exception):
    """The invocation returned no answer. The event source mapping treats the whole batch as failed."""


class Function:
    """An execution environment, as a context manager. A process that has ended is replaced, as on Lambda."""

    def __init__(self, python: Path, task_root: Path, log: Path, handler: str, environment: dict[str, str]) -> None:
        self.python, self.task_root, self.log_path, self.handler = python, task_root, log, handler
        self.environment = environment
        self.timeout_seconds = 60.0
        self.inits = 0
        self.process: subprocess.Popen[bytes] | None = None
        self.init_errors: list[dict[str, Any]] = []
        self._invocations: queue.Queue[tuple[str, bytes]] = queue.Queue()  # for the current process
        self._answers: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._serving: AbstractContextManager[HttpServer] = serving(self._respond)
        self._deadline_ms = 0

    def __enter__(self) -> Self:
        self._api = self._serving.__enter__()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stop()
        self._serving.__exit__(None, None, None)

    @property
    def log(self) -> str:
        return self.log_path.read_text()

    def start(self) -> subprocess.Popen[bytes]:
        """Cold start: start the process, which imports the handler and then requests an invocation."""
        reserved = {
            "AWS_LAMBDA_RUNTIME_API": self._api.url.removeprefix("http://"),
            "AWS_LAMBDA_FUNCTION_NAME": "lambda_worker",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1024",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "LAMBDA_TASK_ROOT": str(self.task_root),
            "_HANDLER": self.handler,
        }
        self.stop()
        self._invocations = queue.Queue()
        self.inits += 1
        with self.log_path.open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-m", "awslambdaric", self.handler],
                cwd=self.task_root,
                env=self.environment | reserved,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        return self.process

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()
            self.process = None
        self._invocations.put(("", b""))  # answers a pending request of the killed process

    def __call__(self, event: SqsEvent, _context: LambdaContext | None = None) -> BatchResponse:
        """Invoke the function, as the event source mapping does, and return its answer. Raises FunctionFailed."""
        process = self.process if self.process and self.process.poll() is None else self.start()
        self._deadline_ms = int((time.time() + self.timeout_seconds) * 1000)
        self._invocations.put((str(uuid.uuid4()), json.dumps(event).encode()))
        give_up_at = time.monotonic() + self.timeout_seconds + LATE_SECONDS
        while time.monotonic() < give_up_at:
            try:
                kind, answer = self._answers.get(timeout=0.05)
            except queue.Empty:
                if process.poll() is not None and self._answers.empty():
                    raise FunctionFailed(f"Runtime exited with {process.returncode}") from None
                continue
            if kind == "response":
                response: BatchResponse = answer
                return response
            raise FunctionFailed(answer["errorType"])
        self.stop()
        raise FunctionFailed("Task timed out")

    def _respond(self, request: Request) -> Reply:
        resource, _, verb = request.path.removeprefix(API).rpartition("/")
        if (resource, verb) == ("/invocation", "next"):
            return self._next()
        if (resource, verb) == ("/init", "error"):
            self.init_errors.append(request.json())
        else:
            self._answers.put((verb, request.json()))
        return Reply(202)

    def _next(self) -> Reply:
        request_id, event = self._invocations.get()
        headers = {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": request_id,
            "Lambda-Runtime-Deadline-Ms": str(self._deadline_ms),
            "Lambda-Runtime-Invoked-Function-Arn": FUNCTION_ARN,
            "Lambda-Runtime-Trace-Id": "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1",
        }
        return Reply(200, event, headers)
