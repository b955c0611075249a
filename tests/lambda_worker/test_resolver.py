"""The lookup of the monolith's address: it works, and one that hangs does not delay the end of an invocation."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from lambda_worker.exceptions import Unreachable
from lambda_worker.resolver import ThreadResolver
from tests.lambda_worker.conftest import HttpServer, Monolith, a_claim, a_row, with_client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lambda_worker.monolith_client import Answer, MonolithClient

HANGS_SECONDS = 60.0


@pytest.fixture
def _hanging_lookups(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let each lookup hang, as it does without an answer of the DNS server."""
    is_over = threading.Event()

    def hang(*_args: Any, **_options: Any) -> Any:
        is_over.wait(HANGS_SECONDS)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", hang)
    yield
    is_over.set()


async def create(client: MonolithClient) -> Answer:
    return await client.create(a_claim(), "job:0", a_row(0), 0.2)


@pytest.mark.usefixtures("_hanging_lookups")
def test_an_invocation_ends_while_a_lookup_hangs() -> None:
    """`asyncio.run` would wait for a lookup in one of asyncio's own threads."""
    started_at = time.monotonic()

    with pytest.raises(Unreachable):
        with_client("http://shop.invalid", create)

    assert time.monotonic() - started_at < HANGS_SECONDS / 2


def test_a_host_name_is_looked_up(monolith_server: HttpServer, monolith: Monolith) -> None:
    answer = with_client(monolith_server.url.replace("127.0.0.1", "localhost"), create)

    assert answer.status == 201
    assert monolith.indexes == [0]


def test_an_unknown_host_is_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any, **_options: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)

    with pytest.raises(Unreachable):
        with_client("http://shop.invalid", create)


def test_ipv6_addresses_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    infos = [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 443, 0, 0))]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_options: infos)

    (found,) = asyncio.run(ThreadResolver().resolve("shop.example", 443))

    assert (found["hostname"], found["host"], found["port"]) == ("shop.example", "2001:db8::1", 443)
