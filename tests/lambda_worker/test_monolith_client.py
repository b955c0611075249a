"""The client with real servers that misbehave. Every transport error becomes Unreachable."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from contextlib import nullcontext, suppress
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from ipaddress import IPv4Address
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from bulk_import_wire.contract import (
    CONTRACT_HEADER,
    CONTRACT_VERSION,
    IDEMPOTENCY_KEY,
    MAX_ANSWER_BYTES,
    VERDICT_HEADER,
    WORKER_API_PATH,
    Finish,
    Heartbeat,
    HeartbeatAnswer,
    Release,
    ReleaseAnswer,
    RowVerdict,
)
from bulk_import_wire.json_object import MessageError
from lambda_worker import connections as monolith_connections
from lambda_worker import monolith_client
from lambda_worker.exceptions import (
    ChunkClosed,
    ChunkDeferred,
    ChunkReturned,
    MessageRefused,
    MonolithAway,
    StaleEpoch,
    Unreachable,
    WorkerError,
)
from lambda_worker.monolith_client import Answer, MonolithClient
from lambda_worker.retries import MAX_RETRY_AFTER_SECONDS, MAX_TRIES
from lambda_worker.worker_api_errors import AWAY_SECONDS
from tests.lambda_worker.conftest import (
    CREATE_PATH,
    JOB_ID,
    TOKEN,
    WORKER_SECRET,
    HttpServer,
    Monolith,
    Reply,
    Request,
    a_claim,
    a_config,
    a_message,
    a_row,
    json_reply,
    misbehaving,
    say_without_end,
    serving,
    with_client,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bulk_import_wire.contract import Claim

pytestmark = pytest.mark.usefixtures("_no_backoff")

KEY = f"{JOB_ID}:7"
CLAIM_URL = f"{WORKER_API_PATH}chunks/{a_message().chunk_id}/claim"
FINISH = Finish(epoch=1, rejected=0, failed=0, unprocessed=0, failures_key="")
RELEASE = Release(epoch=1, failures_key="", pause="endpoint_busy", retry_after_seconds=7)
CLAIMANT = "claimant"
HEAD = b"HTTP/1.1 201 Created\r\n"
ENOUGH_SECONDS = 20.0


def create(url: str, timeout_seconds: float = ENOUGH_SECONDS, claim: Claim | None = None) -> Answer:
    return with_client(url, lambda client: client.create(claim or a_claim(), KEY, a_row(7), timeout_seconds))


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


def say(data: bytes) -> Callable[[socket.socket], None]:
    return lambda connection: connection.sendall(data)


def say_and_hang(data: bytes) -> Callable[[socket.socket], object]:
    """Return a behaviour that sends data and then waits until the client closes the connection."""

    def behave(connection: socket.socket) -> object:
        connection.sendall(data)
        return connection.recv(1)

    return behave


def test_a_create_call_sends_the_row_unchanged_on_behalf_of_the_submitter() -> None:
    with serving(lambda _request: json_reply(201, {"id": 1}, **{VERDICT_HEADER: RowVerdict.CREATED})) as server:
        answer = create(server.url, claim=a_claim(language="pt-br"))

    (request,) = server.requests
    assert (request.method, request.path, request.body) == ("POST", CREATE_PATH, a_row(7))
    assert request.headers["Authorization"] == f"Import {TOKEN}"
    assert request.headers[IDEMPOTENCY_KEY] == KEY
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Accept-Language"] == "pt-br"
    assert (answer.status, answer.row_verdict, answer.json()) == (201, RowVerdict.CREATED, {"id": 1})


def test_when_the_connection_is_refused_the_endpoint_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"

    with pytest.raises(Unreachable):
        create(url)


@pytest.mark.parametrize(
    "behave",
    [
        pytest.param(close, id="closed"),
        pytest.param(reset, id="reset"),
        pytest.param(say(b"garbage\r\n\r\n"), id="garbage"),
        pytest.param(say(b"HTTP/1.1 2"), id="half a status line"),
        pytest.param(say(HEAD), id="half a head"),
        pytest.param(say(HEAD + b"Content-Length: 100\r\n\r\n{"), id="half a body"),
        pytest.param(say(HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\nabc"), id="half a chunk"),
        pytest.param(say(HEAD + b"Transfer-Encoding: chunked\r\n\r\nZZZ\r\nabc"), id="an invalid chunk"),
        pytest.param(say(HEAD + b"Content-Length: many\r\n\r\n"), id="an invalid length"),
        pytest.param(say(HEAD + b"X: " + b"x" * 100_000 + b"\r\n\r\n"), id="an endless header"),
        pytest.param(say(HEAD + b"X: \x00\r\n\r\n"), id="a NUL"),
        pytest.param(say(b"HTTP/1.1 201 \xff\r\n\r\n"), id="not a text"),
    ],
)
def test_every_transport_error_becomes_unreachable(behave: Callable[[socket.socket], object]) -> None:
    with misbehaving(behave) as url, pytest.raises(Unreachable):
        create(url)


@pytest.mark.parametrize(
    "said", [b"", HEAD, HEAD + b"Content-Length: 100\r\n\r\n{"], ids=["nothing", "half a head", "half a body"]
)
def test_an_endpoint_that_stops_in_the_middle_is_unreachable_after_the_timeout(said: bytes) -> None:
    with misbehaving(say_and_hang(said)) as url, pytest.raises(Unreachable, match="TimeoutError"):
        create(url, timeout_seconds=0.1)


@pytest.mark.parametrize("is_trusted", [False, True])
def test_only_a_certificate_that_the_system_trusts_is_accepted(
    is_trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE names the certificates that OpenSSL takes for those of the system."""
    file = self_signed_certificate(tmp_path)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(file)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(HEAD + b"Content-Length: 0\r\n\r\n")

    async def call() -> Answer:
        server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_side)
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, MonolithClient(a_config(url), "the-invocation") as client:
            return await client.create(a_claim(), KEY, a_row(7), ENOUGH_SECONDS)

    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
    monkeypatch.setattr(monolith_connections, "tls_context", monolith_connections.tls_context.__wrapped__)
    with nullcontext() if is_trusted else pytest.raises(Unreachable, match="ClientConnectorCertificateError"):
        assert asyncio.run(call()).status == HTTPStatus.CREATED


def self_signed_certificate(folder: Path) -> Path:
    """Return the path of a file with a new key and its certificate for 127.0.0.1."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the monolith")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(IPv4Address("127.0.0.1"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    file = folder / "monolith.pem"
    file.write_bytes(private + certificate.public_bytes(encoding))
    return file


@pytest.mark.parametrize("path", ["/a\nb", "/\x00", "/\ud800", "/" + "a" * 70_000])
def test_a_create_path_that_is_not_a_url_is_unreachable(path: str) -> None:
    with pytest.raises(Unreachable):
        create("http://127.0.0.1:1", claim=a_claim(create_path=path))


@pytest.mark.parametrize("token", ["a\r\nX-Injected: yes", "ü"])
def test_a_token_that_is_not_a_valid_header_is_never_sent(token: str, monolith_server: HttpServer) -> None:
    with pytest.raises(Unreachable):
        create(monolith_server.url, claim=a_claim(token=token))

    assert monolith_server.requests == []


def test_only_the_beginning_of_an_endless_answer_is_read() -> None:
    with misbehaving(say_without_end(HEAD + b"Content-Length: 1000000000000\r\n\r\n")) as url:
        answer = create(url)

    assert answer.body == b"x" * MAX_ANSWER_BYTES


def test_compressed_answers_are_neither_requested_nor_decompressed() -> None:
    with serving(lambda _request: Reply(400, b"\x1f\x8b", {"Content-Encoding": "gzip"})) as server:
        assert create(server.url).body == b"\x1f\x8b"

    assert server.requests[0].headers["Accept-Encoding"] == "identity"


@pytest.mark.parametrize("location", ["/elsewhere", "http://evil.example/"])
@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_redirect_is_not_followed(status: int, location: str) -> None:
    with serving(lambda _request: Reply(status, headers={"Location": location})) as server:
        assert create(server.url).status == status

    assert [request.path for request in server.requests] == [CREATE_PATH]


def test_a_cookie_is_never_sent_back() -> None:
    async def twice(client: MonolithClient) -> None:
        for _call in range(2):
            await client.create(a_claim(), KEY, a_row(7), ENOUGH_SECONDS)

    with serving(lambda _request: Reply(headers={"Set-Cookie": "sessionid=of-a-row; Path=/"})) as server:
        with_client(
            server.url.replace("127.0.0.1", "localhost"), twice
        )  # aiohttp never accepts cookies from an IP address

    assert [request.headers["Cookie"] for request in server.requests] == [None, None]


def test_a_proxy_in_the_environment_is_ignored(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(lambda _request: Reply(502)) as proxy, serving(lambda _request: Reply(201)) as server:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.url)
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)

        assert create(server.url).status == 201

    assert proxy.requests == []


def claimed(client: MonolithClient) -> Any:
    return client.claim(a_message(), CLAIMANT)


def kept_alive(client: MonolithClient) -> Any:
    return client.heartbeat(a_message(), Heartbeat(1))


def finished(client: MonolithClient) -> Any:
    return client.finish(a_message(), FINISH)


def released(client: MonolithClient) -> Any:
    return client.release(a_message(), RELEASE)


def reported_dead(client: MonolithClient) -> Any:
    return client.finish(a_message(), FINISH, is_dead=True)


CALLS = {"claim": claimed, "heartbeat": kept_alive, "release": released, "finish": finished, "dead": reported_dead}


def answered(verb: str, *replies: Reply) -> tuple[Any, list[Request]]:
    """Call the worker API, which sends these replies and repeats the last one. Return the result and the requests."""
    monolith = Monolith()
    monolith.replies[verb] = list(replies)
    with serving(monolith.respond) as server:
        try:
            return with_client(server.url, CALLS[verb]), server.requests
        except WorkerError as error:
            return error, server.requests


def test_a_claim_sends_the_message_and_the_claimant_with_the_worker_secret() -> None:
    claim, (request,) = answered("claim")

    assert claim == a_claim()
    assert (request.method, request.path) == ("POST", CLAIM_URL)
    assert request.json() == {"message": a_message().to_dict(), "claimant": CLAIMANT, "creates": True}
    assert request.headers["Authorization"] == f"Bearer {WORKER_SECRET}"


def test_a_heartbeat_sends_the_epoch_and_returns_the_answer() -> None:
    answer, (request,) = answered("heartbeat")

    assert answer == HeartbeatAnswer(lease_seconds=60, cancelled=False, paused=False, concurrency=4)
    assert request.json() == {"epoch": 1, "calls": {}}


@pytest.mark.parametrize("verb", ["finish", "dead"])
def test_a_finish_sends_the_report(verb: str) -> None:
    _, (request,) = answered(verb)

    assert request.json() == FINISH.to_dict()


def test_a_release_sends_the_reason_and_returns_the_answer() -> None:
    answer, (request,) = answered("release")

    assert answer == ReleaseAnswer(retry_after_seconds=Monolith.pause_seconds)
    assert request.json() == RELEASE.to_dict()


@pytest.mark.parametrize("verb", CALLS)
@pytest.mark.parametrize(
    ("status", "document", "expected"),
    [
        (409, {"code": "lease_held"}, ChunkDeferred),
        (400, {"code": "unsupported_contract"}, ChunkReturned),
        (409, {"code": "paused"}, ChunkDeferred),
        (409, {"code": "ledger_disagrees"}, ChunkReturned),
        (409, {"code": "stale_epoch"}, StaleEpoch),
        (410, {"code": "closed"}, ChunkClosed),
        (410, None, ChunkReturned),  # the answer of a proxy
        (404, {"code": "unknown_chunk"}, MessageRefused),
        (404, None, ChunkReturned),
        (422, {"code": "foreign_message"}, MessageRefused),
        (400, {"code": "malformed"}, ChunkReturned),
        (401, {"detail": "No."}, ChunkReturned),
        (403, "No.", ChunkReturned),
        (429, {}, MonolithAway),
        (302, {}, ChunkReturned),
        (201, {}, ChunkReturned),
        (400, {"code": ["malformed"]}, ChunkReturned),
        (400, {"code": {}}, ChunkReturned),
        (400, {"code": None}, ChunkReturned),
        (400, ["malformed"], ChunkReturned),
    ],
)
def test_a_refusal_becomes_the_right_exception_and_is_not_retried(
    verb: str, status: int, document: object, expected: type[WorkerError]
) -> None:
    error, requests = answered(verb, json_reply(status, document))

    assert type(error) is expected
    assert len(requests) == 1


def test_a_call_carries_the_version_of_the_contract() -> None:
    _, (request,) = answered("heartbeat", json_reply(200, {}))

    assert request.headers[CONTRACT_HEADER] == str(CONTRACT_VERSION)


def test_a_rejected_secret_names_the_variable_to_correct() -> None:
    error, _ = answered("claim", json_reply(401, {"code": "authentication_failed"}))

    assert "BULK_IMPORT_WORKER_SECRET" in str(error)


def test_a_long_code_in_a_refusal_is_shortened() -> None:
    error, _ = answered("claim", json_reply(400, {"code": "x" * 10_000}))

    assert len(str(error)) < 200


@pytest.mark.parametrize("verb", ["claim", "finish"])
@pytest.mark.parametrize("fault", [Reply(500), Reply(503, b"<html>"), Reply(cut_at=-1), Reply(cut_at=1)])
def test_a_failed_call_of_the_worker_api_is_retried(verb: str, fault: Reply) -> None:
    good = {"claim": a_claim().to_dict(), "finish": {"status": "done"}}[verb]

    result, requests = answered(verb, fault, fault, json_reply(200, good))

    assert not isinstance(result, WorkerError)
    assert len(requests) == 3


@pytest.mark.parametrize("verb", ["finish", "dead"])
@pytest.mark.parametrize("reply", [json_reply(200, {}), json_reply(200, ["done"])])
def test_a_report_counts_as_accepted_only_after_an_answer_of_the_monolith(verb: str, reply: Reply) -> None:
    error, _ = answered(verb, reply)

    assert type(error) is ChunkReturned


@pytest.mark.parametrize("verb", ["claim", "release", "finish", "dead"])
def test_when_every_try_is_answered_500_the_delivery_has_failed(verb: str) -> None:
    error, requests = answered(verb, Reply(500))

    assert type(error) is ChunkReturned
    assert len(requests) == MAX_TRIES


@pytest.mark.parametrize("verb", ["claim", "release", "finish", "dead"])
@pytest.mark.parametrize(
    "fault",
    [
        Reply(cut_at=-1),
        Reply(502),
        Reply(503, b"<html>"),
        Reply(504),
        Reply(200, b"<h1>Maintenance</h1>"),
        Reply(302, b"<a>", {"Location": "/login"}),
        Reply(404, b"<h1>No such service</h1>"),
        Reply(500, b"<h1>Server error</h1>"),
    ],
)
def test_while_the_worker_api_is_away_the_message_is_deferred(verb: str, fault: Reply) -> None:
    error, requests = answered(verb, fault)

    assert type(error) is MonolithAway
    assert (error.delay_seconds, error.pause) == (AWAY_SECONDS, None)
    assert len(requests) == MAX_TRIES


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize(
    ("asked", "seconds"), [("100", 100), ("1", AWAY_SECONDS), ("31536000", MAX_RETRY_AFTER_SECONDS)]
)
def test_the_worker_obeys_the_retry_after_of_the_worker_api(
    status: int, asked: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(monolith_client, "MAX_API_WAIT_SECONDS", 0.01)  # between the tries of this invocation
    error, _ = answered("claim", Reply(status, headers={"Retry-After": asked}))

    assert error.delay_seconds == seconds


@pytest.mark.parametrize("code", ["lease_held", "retried_too_soon", "paused"])
@pytest.mark.parametrize(("asked", "seconds"), [("42", 42), ("0", 1), ("", 1), ("31536000", MAX_RETRY_AFTER_SECONDS)])
def test_a_chunk_that_cannot_be_claimed_now_is_deferred_until_it_can(code: str, asked: str, seconds: float) -> None:
    error, _ = answered("claim", json_reply(409, {"code": code}, Retry_After=asked))

    assert (type(error), error.delay_seconds, error.pause) == (ChunkDeferred, seconds, None)


def test_a_claim_whose_answer_is_lost_is_retried_by_the_same_claimant() -> None:
    _, requests = answered("claim", Reply(cut_at=-1), Reply(502), json_reply(200, a_claim().to_dict()))

    assert [request.json()["claimant"] for request in requests] == [CLAIMANT] * 3


def test_a_heartbeat_is_tried_once_because_the_next_one_comes_soon() -> None:
    error, requests = answered("heartbeat", Reply(500))

    assert type(error) is ChunkReturned
    assert len(requests) == 1


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{}", b"[" * MAX_ANSWER_BYTES, b"\xff", b" " * (MAX_ANSWER_BYTES + 1) + b"{}"],
    ids=["empty", "list", "null", "object", "deep", "bytes", "long"],
)
@pytest.mark.parametrize("verb", ["claim", "heartbeat"])
def test_a_malformed_answer_fails_the_delivery(verb: str, body: bytes) -> None:
    error, _ = answered(verb, Reply(200, body))

    assert type(error) is ChunkReturned
    assert isinstance(error.__cause__, MessageError)


@pytest.mark.parametrize(
    "fields",
    [
        {"epoch": "1"},
        {"token": None},
        {"concurrency": True},
        {"created": [[1]]},
        {"created": [[1, 2, 3]]},
        {"created": [["1", "2"]]},
        {"heartbeat_seconds": 0},
    ],
)
def test_an_invalid_claim_fails_the_delivery(fields: dict[str, Any]) -> None:
    error, _ = answered("claim", json_reply(200, a_claim().to_dict() | fields))

    assert type(error) is ChunkReturned


@pytest.mark.parametrize("path", ["//evil.example/x", "http://evil", "https://evil/x", "products/", "", "\\\\evil\\x"])
def test_a_create_path_that_leaves_the_monolith_is_refused(path: str) -> None:
    error, requests = answered("claim", json_reply(200, a_claim(create_path=path).to_dict()))

    assert type(error) is ChunkReturned
    assert len(requests) == 1


@pytest.mark.parametrize(
    "reply",
    [
        Reply(401),
        json_reply(403, {"code": "x"}),
        Reply(500),
        Reply(cut_at=-1),
        Reply(200, b"<html>"),
        json_reply(410, {}),
        json_reply(200, a_claim(create_path="http://evil").to_dict()),
    ],
)
def test_no_error_shows_the_secret_or_a_token(reply: Reply) -> None:
    error, _ = answered("claim", reply)

    shown = ""
    while error is not None:
        shown += f"{error!r} {error} "
        error = error.__cause__
    assert shown
    assert WORKER_SECRET not in shown
    assert TOKEN not in shown


def test_after_a_timeout_no_error_shows_the_token() -> None:
    with misbehaving(say_and_hang(b"")) as url, pytest.raises(Unreachable) as caught:
        create(url, timeout_seconds=0.05)

    assert TOKEN not in f"{caught.value!r} {caught.value.__cause__!r}"


def test_the_path_of_the_base_url_stays_in_front_of_every_path() -> None:
    async def call(client: MonolithClient) -> None:
        await client.create(a_claim(), KEY, b"{}", ENOUGH_SECONDS)
        with suppress(ChunkReturned):
            await client.heartbeat(a_message(), Heartbeat(1))

    with serving(lambda _request: Reply(400)) as server:
        with_client(f"{server.url}/shop", call)

    assert [request.path for request in server.requests] == [
        f"/shop{CREATE_PATH}",
        f"/shop{WORKER_API_PATH}chunks/{a_message().chunk_id}/heartbeat",
    ]


def test_one_client_makes_many_calls_at_once(monolith: Monolith, monolith_server: HttpServer) -> None:
    async def many() -> list[Answer]:
        async with MonolithClient(a_config(monolith_server.url), "the-invocation") as client:
            return await asyncio.gather(
                *(client.create(a_claim(), f"{JOB_ID}:{index}", a_row(index), ENOUGH_SECONDS) for index in range(40))
            )

    assert {answer.row_verdict for answer in asyncio.run(many())} == {RowVerdict.CREATED}
    assert monolith.ledger == {f"{JOB_ID}:{index}": a_row(index) for index in range(40)}
