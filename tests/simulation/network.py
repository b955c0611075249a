"""HTTP between the simulated processes: latency, and requests and answers that are lost, late, doubled or replaced."""

from __future__ import annotations

import asyncio
import base64
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING

import httpx

from tests.simulation.batches import BATCH, Answered, batch_keys, called_rows
from tests.simulation.monolith import Death, Died, Request, Response

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from random import Random

    from tests.simulation.virtual_time import Process
    from tests.simulation.world import World

LATENCY_SECONDS = (0.001, 0.05)
"""Shortest and longest time that a request or an answer travels."""

PAGE = b"<html>Please try again later.</html>"
"""What a proxy answers in place of the monolith."""


@dataclass
class Fate:
    """What happens to one request. Without changes, it arrives and its answer arrives."""

    arrives: bool = True
    arrives_twice: bool = False
    delay_seconds: float = 0.0  # before the monolith gets the request
    death: Death | None = None
    answer_arrives: bool = True
    hangs: bool = False  # without an answer, the connection stays open
    is_cut: bool = False  # the connection breaks in the middle of the answer
    page: int = 0  # status of the page with which a proxy replaces the answer, or answers instead
    is_overtaken: bool = False  # its worker dies, and it arrives only when another one has claimed the chunk


@dataclass
class Call:
    """A request on its way, and the future of its answer."""

    point: str  # what the request is for: a verb of the worker API, `create`, or what a user does
    request: Request
    sender: Process | None
    fate: Fate
    answer: asyncio.Future[tuple[Response, bool]]


@dataclass
class Network:
    """Carries each request to the monolith at a virtual moment of its own."""

    world: World
    random: Random
    after_call: list[Callable[[Call, Response], None]] = field(default_factory=list)
    calls: int = 0
    errors: list[str] = field(default_factory=list)  # requests to our views that the monolith answered with a 500
    _claims: dict[Process, str] = field(default_factory=dict)  # the path of each worker's last claim
    _overtaken: list[Call] = field(default_factory=list)

    async def send(self, point: str, request: Request, sender: Process | None = None) -> tuple[Response, bool]:
        """Send a request, and return its answer and whether it is cut. Raises httpx.TransportError."""
        fate = self.world.fates.of_request(point)
        call = Call(point, request, sender, fate, asyncio.get_running_loop().create_future())
        if fate.is_overtaken and sender and sender in self._claims:
            self._overtaken.append(call)
            sender.kill()
        else:
            self.world.call_later(self._latency() + fate.delay_seconds, self._arrive, call)
        if fate.arrives_twice:
            self.world.call_later(self._latency() * self.random.choice([1, 1, 100, 1000]), self._arrive, call)
        return await call.answer

    def _arrive(self, call: Call) -> None:
        """Let the monolith handle a request, and send its answer."""
        fate, self.calls = call.fate, self.calls + 1
        response = Response(fate.page or 502, {"content-type": "text/html"}, PAGE)
        died = False
        if fate.arrives:
            try:
                handled = self.world.monolith.handle(call.request, fate.death)
            except Died as death:
                died = True
                self.world.trace("died", call.point, call.request.headers.get("idempotency-key", ""), death)
                self.world.loads.note_death(call)
            else:
                self.world.trace(call.point, call.request.path, handled.status, handled.headers.get("bulk-import-row"))
                if handled.status == HTTPStatus.INTERNAL_SERVER_ERROR and call.point != "create":
                    self.errors.append(f"{call.request.method} {call.request.path}")
                for listener in self.after_call:
                    listener(call, handled)
                if call.point == "claim" and handled.status == HTTPStatus.OK:
                    self._note_claim(call)
                response = response if fate.page else handled
        if fate.answer_arrives and not (died and not fate.page):
            self.world.call_later(self._latency(), self._answer, call, response)
        elif not fate.hangs:
            self.world.call_later(self._latency(), self._break, call)

    def _note_claim(self, call: Call) -> None:
        """Remember which chunk the worker has, and let the requests arrive that this claim has overtaken."""
        if not call.sender:
            return
        self._claims[call.sender] = call.request.path
        overtaken = [
            other for other in self._overtaken if other.sender and self._claims[other.sender] == call.request.path
        ]
        self._overtaken = [other for other in self._overtaken if other not in overtaken]
        for other in overtaken:
            self.world.call_later(self._latency(), self._arrive, other)

    @staticmethod
    def _answer(call: Call, response: Response) -> None:
        if not call.answer.done():
            call.answer.set_result((response, call.fate.is_cut))

    @staticmethod
    def _break(call: Call) -> None:
        if not call.answer.done():
            call.answer.set_exception(httpx.ReadError("The connection was reset."))

    def _latency(self) -> float:
        return self.random.uniform(*LATENCY_SECONDS) * self.world.plan.latency_factor


class AnswerStream(httpx.AsyncByteStream):
    """The body of an answer, which may break off in the middle."""

    def __init__(self, content: bytes, *, is_cut: bool) -> None:
        self._content, self._is_cut = content, is_cut

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._is_cut:
            yield self._content[: len(self._content) // 2]
            raise httpx.ReadError("The connection was reset.")
        yield self._content


class WorkerTransport(httpx.AsyncBaseTransport):
    """The transport of one invocation of the worker. It also counts the create calls for the checks."""

    def __init__(self, world: World, process: Process) -> None:
        self._world, self._process = world, process

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        headers = {name.decode().lower(): value.decode() for name, value in request.headers.raw}
        sent = Request(request.method, request.url.raw_path.decode(), headers, request.content)
        is_batch = sent.path.endswith(BATCH)
        is_create = is_batch or "idempotency-key" in headers
        point = "create" if is_create else sent.path.rpartition("/")[2]
        sent = self._world.releases.outgoing(self._process, point, sent)
        keys = batch_keys(self._world, sent) if is_batch else [headers.get("idempotency-key", "")]
        called = [Answered(keys[0])]
        is_held = False
        if is_create:
            self._world.loads.begin(self._process)
        try:
            response, is_cut = await self._world.network.send(point, sent, self._process)
            if is_batch:
                called = list(called_rows(keys, response.status, response.content, is_cut=is_cut))
            else:
                verdict = None if is_cut else response.headers.get("bulk-import-row")
                called = [Answered(keys[0], verdict, response.status)]
            is_held = response.status == HTTPStatus.CONFLICT and b"lease_held" in response.content
        finally:
            if point == "claim" and not is_held:  # another worker's lease limits how often the chunk is claimed
                self._world.loads.count_claim(sent.path.split("/")[-2])
            if is_create:
                self._world.loads.end(self._process, called)
        content = self._world.releases.incoming(self._process, point, response.content)
        return httpx.Response(response.status, headers=response.headers, stream=AnswerStream(content, is_cut=is_cut))


def basic_authentication(username: str) -> dict[str, str]:
    """Return the header with which a user of the site authenticates."""
    return {"authorization": "Basic " + base64.b64encode(f"{username}:{username}".encode()).decode()}
