"""A batch call over real connections: what it sends, and what each possible answer means."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING

import pytest

from bulk_import_wire.batch import BATCH_END, BatchLine
from bulk_import_wire.contract import CONTRACT_HEADER, LOAD_HEADER, VERDICT_HEADER, WORKER_API_PATH, RowVerdict
from lambda_worker.batches import MAX_LINE_BYTES, batch_body
from lambda_worker.exceptions import BatchRefused, Unreachable
from lambda_worker.monolith_client import Answer, MonolithClient
from lambda_worker.row import Row
from tests.lambda_worker.conftest import (
    WORKER_SECRET,
    Reply,
    a_claim,
    a_config,
    a_message,
    a_row,
    json_reply,
    misbehaving,
    say_without_end,
    serving,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

CLAIM = a_claim(epoch=1, host="north.example")
ROWS = [Row(index, a_row(index)) for index in (3, 4, 7)]
LINES = [
    BatchLine(3, 201, {VERDICT_HEADER: RowVerdict.CREATED.value, LOAD_HEADER: "0.25"}),
    BatchLine(4, 400, {VERDICT_HEADER: RowVerdict.NOT_CREATED.value}, '{"errors": []}'),
    BatchLine(7, 429, {"Retry-After": "9", VERDICT_HEADER: "\xe9"}, "\ud800"),
]
TEXT = b"".join(json.dumps(document).encode() + b"\n" for document in [*(line.to_dict() for line in LINES), BATCH_END])
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n%s: 1\r\n\r\n" % CONTRACT_HEADER.encode()


def create_batch(url: str, settle_in: float = 20.0) -> tuple[list[Answer], Exception | None]:
    """Make a batch call of ROWS. Return the answers, and the error with which it ended."""

    async def call() -> tuple[list[Answer], Exception | None]:
        found: list[Answer] = []
        async with MonolithClient(a_config(url), "request") as client:
            try:
                async for some in client.create_batch(a_message(), CLAIM, ROWS, time.monotonic() + settle_in):
                    found += some
            except (Unreachable, BatchRefused) as error:
                return found, error
        return found, None

    return asyncio.run(call())


def chunked(*pieces: bytes) -> bytes:
    return b"".join(b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces)


def test_a_batch_call_sends_the_rows_unchanged_and_each_row_gets_its_answer() -> None:
    with serving(lambda _request: Reply(200, TEXT)) as server:
        answers, error = create_batch(server.url)

    (request,) = server.requests
    assert (request.method, request.path) == ("POST", f"{WORKER_API_PATH}chunks/{a_message().chunk_id}/rows")
    assert request.body == batch_body(1, ROWS)
    assert request.headers["Authorization"] == f"Bearer {WORKER_SECRET}"
    assert request.headers["Content-Type"] == "application/x-ndjson"
    assert CONTRACT_HEADER in request.headers
    assert request.headers["Host"] == "north.example"  # as the rows have it: a gateway may choose the tenant by it
    assert error is None
    assert [(answer.status, answer.row_verdict, answer.body) for answer in answers] == [
        (201, "created", b""),
        (400, "not-created", b'{"errors": []}'),
        (429, "", b"?"),
    ]
    assert (answers[0].shop_load, answers[2].headers["retry-after"]) == (0.25, "9")


def test_an_answer_arrives_before_the_next_row_is_created() -> None:
    has_arrived = threading.Event()

    def behave(connection: socket.socket) -> None:
        first, rest = TEXT.split(b"\n", 1)
        connection.sendall(HEAD + chunked(first + b"\n"))
        assert has_arrived.wait(60)
        connection.sendall(chunked(rest, b""))

    async def call(url: str) -> int:
        count = 0
        async with MonolithClient(a_config(url), "request") as client:
            async for some in client.create_batch(a_message(), CLAIM, ROWS, time.monotonic() + 60):
                count += len(some)
                has_arrived.set()
        return count

    with misbehaving(behave) as url:
        assert asyncio.run(call(url)) == 3


def test_rows_that_had_no_turn_have_no_answer() -> None:
    first = TEXT.splitlines(keepends=True)[0]
    with serving(lambda _request: Reply(200, first + json.dumps(BATCH_END).encode() + b"\n")) as server:
        answers, error = create_batch(server.url)

    assert ([answer.status for answer in answers], error) == ([201], None)


def say(*pieces: bytes) -> Callable[[socket.socket], object]:
    return lambda connection: connection.sendall(HEAD + b"".join(pieces))


def say_and_hang(*pieces: bytes) -> Callable[[socket.socket], object]:
    def behave(connection: socket.socket) -> None:
        connection.sendall(HEAD + b"".join(pieces))
        connection.recv(1)  # until the client closes the connection

    return behave


FIRST, SECOND = (chunked(line) for line in TEXT.splitlines(keepends=True)[:2])


@pytest.mark.parametrize(
    ("behave", "count"),
    [
        pytest.param(say(FIRST), 1, id="cut after a line"),
        pytest.param(say(FIRST, chunked(b'{"index": 4')), 1, id="cut in a line"),
        pytest.param(say(FIRST, chunked(b"")), 1, id="no end line"),
        pytest.param(say(SECOND), 0, id="a wrong row"),
        pytest.param(say(chunked(b"<html>\n")), 0, id="HTML"),
        pytest.param(say(chunked(b"[" * 100_000 + b"\n")), 0, id="nested too deeply"),
        pytest.param(say(chunked(b'{"index": 3, "status": 2010, "headers": {}}\n')), 0, id="no HTTP status"),
        pytest.param(say(chunked(b'{"index": 3, "status": 201, "headers": {"a": 1}}\n')), 0, id="no header"),
        pytest.param(say_and_hang(FIRST), 1, id="hangs after a line"),
        pytest.param(say_and_hang(), 0, id="hangs before the first line"),
        pytest.param(say_without_end(HEAD + b"%x\r\n" % (1000 * MAX_LINE_BYTES)), 0, id="an endless line"),
    ],
)
def test_the_answers_before_a_call_breaks_off_count(behave: Callable[[socket.socket], object], count: int) -> None:
    with misbehaving(behave) as url:
        answers, error = create_batch(url, settle_in=0.5)

    assert [answer.status for answer in answers] == [201] * count
    assert isinstance(error, Unreachable)


@pytest.mark.parametrize("status", [301, 400, 403, 404, 405, 409, 410, 413, 415, 501])
def test_a_refused_batch_was_not_tried(status: int) -> None:
    with serving(lambda _request: json_reply(status, {"code": "no"})) as server:
        answers, error = create_batch(server.url)

    assert answers == []
    assert isinstance(error, BatchRefused)
    assert str(status) in str(error)


def test_a_success_that_does_not_come_from_the_monolith_is_a_refusal() -> None:
    with serving(lambda _request: Reply(200, b"<html>Please log in</html>")) as server:
        assert isinstance(create_batch(server.url)[1], BatchRefused)


@pytest.mark.parametrize("status", [500, 502, 504])
def test_after_a_server_error_the_first_row_may_have_been_created(status: int) -> None:
    with serving(lambda _request: Reply(status, b"<html>Bad gateway</html>")) as server:
        answers, error = create_batch(server.url)

    assert answers == []
    assert isinstance(error, Unreachable)


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_monolith_answers_the_first_row(status: int) -> None:
    with serving(lambda _request: json_reply(status, {}, Retry_After="40")) as server:
        answers, error = create_batch(server.url)

    assert [(answer.status, answer.headers["retry-after"]) for answer in answers] == [(status, "40")]
    assert error is None


def test_the_connection_of_a_batch_call_is_used_again() -> None:
    async def call_twice(url: str) -> None:
        async with MonolithClient(a_config(url), "request") as client:
            for _call in range(2):
                answers = client.create_batch(a_message(), CLAIM, ROWS, time.monotonic() + 60)
                assert [len(some) async for some in answers] == [3]

    connections = set()

    def verify(request: object, client_address: object) -> bool:
        connections.add(client_address)
        return True

    with serving(lambda _request: Reply(200, TEXT)) as server:
        server.verify_request = verify  # type: ignore[method-assign]
        asyncio.run(call_twice(server.url))

    assert len(connections) == 1
