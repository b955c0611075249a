"""The monolith of a run: Django's real WSGI handler. Each request is a process of its own that may die at any step.

A request runs to its end before anything else happens, because all requests share one connection to SQLite.
"""

from __future__ import annotations

import asyncio
import io
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from django.core.handlers.wsgi import WSGIHandler
from django.db import OperationalError, connection

from tests.simulation.virtual_time import Process, current_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from random import Random


class Died(BaseException):
    """The process of the monolith is dead. Nothing catches this, and it executes no further SQL."""


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request to the monolith. The names of the headers are in lower case."""

    method: str
    path: str  # with the query
    headers: dict[str, str]
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class Response:
    status: int
    headers: dict[str, str]
    content: bytes


MAX_STEPS = 120
"""Most steps of a process. The longest one in 3,000 runs had 95: a sweep with emails and webhooks of several jobs.

A check fails if a process has more, because no death would ever be drawn at its last steps.
"""

AFTER_COMMIT = 0
"""In place of a step: right after the first commit, before the process sends what it has committed."""


@dataclass
class Death:
    """Where a process of the monolith fails: at its n-th step, which is a statement, or a moment around a commit."""

    step: int  # from 1 to MAX_STEPS, or AFTER_COMMIT
    with_error: bool = False  # the database reports an error, and the process lives on
    has_happened: bool = False


def draw_step(random: Random) -> int:
    """Return the step of a death: mostly one that nearly every process reaches, rarely one that only long ones do."""
    return random.randint(1, random.choices([8, 16, 32, MAX_STEPS], [2, 3, 2, 1])[0])


@dataclass
class Monolith:
    """All web processes and commands of the site."""

    clock_skews: list[float]
    after_process: Callable[[], None]  # called when a process has ended or died
    requests: int = 0
    most_steps: int = 0  # of a process
    _handler: Any = field(default_factory=WSGIHandler)

    def handle(self, request: Request, death: Death | None = None) -> Response:
        """Return the response to a request. Raises Died."""
        response: Response = self.run("request", lambda: self._respond(request), death)
        return response

    def run(self, name: str, work: Callable[[], Any], death: Death | None = None) -> Any:
        """Run a function as a process of its own, and return its result. Raises Died."""
        self.requests += 1
        process = Process(name, clock_skew=self.clock_skews[self.requests % len(self.clock_skews)])
        context = Context()
        context.run(current_process.set, process)
        try:
            with _outside_the_loop(), self._may_die(death):
                return context.run(work)
        finally:
            self.after_process()

    @contextmanager
    def _may_die(self, death: Death | None) -> Iterator[None]:
        """Let the block die at its n-th step. What the dead process had not committed is rolled back."""
        steps = 0

        def step(name: str) -> None:
            nonlocal steps
            steps += 1
            if death is None or steps < death.step or (death.with_error and death.has_happened):
                return
            if death.step == AFTER_COMMIT and name != "after commit":
                return
            if death.with_error and name in {"before commit", "after commit"}:
                return
            death.has_happened = True
            if death.with_error:
                raise OperationalError("The database went away.")
            raise Died(name.partition(" ")[0])  # the rest may contain the number of this thread

        connection.before_step = step  # type: ignore[attr-defined]
        try:
            yield
        except Died:
            connection.forget_transaction()  # type: ignore[attr-defined]
            raise
        finally:
            del connection.before_step  # type: ignore[attr-defined]
            self.most_steps = max(self.most_steps, steps)

    def _respond(self, request: Request) -> Response:
        path, _, query = request.path.partition("?")
        environ = {
            "REQUEST_METHOD": request.method,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "SERVER_NAME": "shop.example",
            "SERVER_PORT": "443",
            "HTTP_HOST": "shop.example",
            "CONTENT_LENGTH": str(len(request.content)),
            "wsgi.url_scheme": "https",
            "wsgi.input": io.BytesIO(request.content),
            "wsgi.errors": io.StringIO(),
        }
        for name, value in request.headers.items():
            key = name.upper().replace("-", "_")
            environ[key if key in {"CONTENT_TYPE", "CONTENT_LENGTH"} else f"HTTP_{key}"] = value
        started: dict[str, Any] = {}

        def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> None:
            started.update(status=int(status.partition(" ")[0]), headers={k.lower(): v for k, v in headers})

        answer = self._handler(environ, start_response)
        try:
            content = b"".join(answer)
        finally:
            answer.close()
        if context := getattr(answer, "renderer_context", None):  # the objects of DRF refer to each other in circles,
            vars(context["view"]).clear()  # and no garbage is collected during a run
            context["request"].parser_context.clear()
            context.clear()
        return Response(started["status"], started["headers"], content)


@contextmanager
def _outside_the_loop() -> Iterator[None]:
    """Run synchronous code of Django as if no event loop were running in this thread."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        yield
    finally:
        asyncio._set_running_loop(loop)
