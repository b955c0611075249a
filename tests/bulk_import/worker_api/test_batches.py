"""The batch call: several rows in one request, each with a transaction, a ledger record and an answer of its own."""

from __future__ import annotations

import asyncio
import json
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import httpx
import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Permission
from django.db import connection, connections
from django.db.backends.signals import connection_created
from django.db.models.signals import post_save
from django.http import HttpResponseForbidden
from django.test import AsyncClient
from django.test.utils import CaptureQueriesContext
from django.urls import get_script_prefix, get_urlconf
from django.utils import timezone
from django.utils.translation import get_language
from rest_framework.exceptions import Throttled
from rest_framework.response import Response
from rest_framework.test import APIClient

from bulk_import.models import ImportChunk, ImportedRow, ImportJob
from bulk_import.worker_api import batch as batch_module
from bulk_import.worker_api import replay
from bulk_import_wire.batch import BATCH_CONTENT_TYPE, BATCH_END, MAX_BATCH_BYTES
from bulk_import_wire.contract import CONTRACT_HEADER, VERDICT_HEADER
from products.models import Category, Product
from products.views import ProductViewSet
from tests.bulk_import.conftest import WORKER_SECRET, Aws, claim, post_rows, product
from tests.bulk_import.worker_api.batches import Chunk, claimed, lines_of, read_lines, with_batches

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pytest_django import Settings
    from pytest_django.live_server_helper import LiveServer

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def chunk(client_of_merchandiser: APIClient, worker: APIClient, aws: Aws, settings: Settings) -> Chunk:
    """The rows A, B and C, which a worker has claimed."""
    settings.BULK_IMPORT = with_batches(settings.BULK_IMPORT)
    assert post_rows(client_of_merchandiser, [product(sku) for sku in "ABC"]).status_code == 202
    (chunk,) = claimed(worker, aws)
    return chunk


@pytest.fixture
def after_row_a() -> Iterator[list[Callable[[], Any]]]:
    """Functions that are called when the first row has been saved, in its transaction."""
    functions: list[Callable[[], Any]] = []

    def run(instance: Product, **_signal: Any) -> None:
        if instance.sku == "A":
            for function in functions:
                function()

    post_save.connect(run, sender=Product)
    yield functions
    post_save.disconnect(run, sender=Product)


def stored() -> list[str]:
    return [sku for (sku,) in Product.objects.order_by("sku").values_list("sku")]


def test_the_claim_says_how_many_rows_a_batch_may_have(
    client_of_merchandiser: APIClient, worker: APIClient, aws: Aws, settings: Settings
) -> None:
    post_rows(client_of_merchandiser, [product(str(n)) for n in range(6)])
    first, second = aws.messages()

    assert claim(worker, first).batch_rows == 1
    settings.BULK_IMPORT = with_batches(settings.BULK_IMPORT)
    assert claim(worker, second).batch_rows == 20


def test_each_row_of_a_batch_has_its_own_record_and_answer(chunk: Chunk) -> None:
    Product.objects.create(
        sku="B", name="There already", price=1, currency="EUR", category=Category.objects.get(slug="tents")
    )

    first, second, third = lines_of(chunk.send())
    again = lines_of(chunk.send())

    assert [line.index for line in (first, second, third)] == [0, 1, 2]
    assert [(line.status, line.headers[VERDICT_HEADER], line.body) for line in (first, third)] == [
        (201, "created", ""),
        (201, "created", ""),
    ]
    assert (second.status, second.headers[VERDICT_HEADER]) == (400, "not-created")
    assert json.loads(second.body)["errors"][0]["code"] == "unique"
    assert [line.headers[VERDICT_HEADER] for line in again] == ["replayed", "not-created", "replayed"]
    assert stored() == ["A", "B", "C"]
    assert [*ImportedRow.objects.order_by("index").values_list("index", flat=True)] == [0, 2]


HEAD = json.dumps({"epoch": 1, "indices": [0, 1]}).encode()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "the body is empty"),
        (b"[" * 100_000, "the first line is not JSON"),
        (b"\xff\n{}", "the first line is not JSON"),
        (b"[]\n{}", "expected a JSON object"),
        (b'{"epoch": 1, "indices": ["0"]}\n{}', "indices: expected"),
        (b'{"epoch": 1, "indices": []}', "at least one"),
        (HEAD + b"\n{}", "one for each of the 1 rows"),
        (HEAD + b"\n{}\n{}\n{}", "one for each of the 3 rows"),
        (HEAD + b"\n{}\n" + b"x" * MAX_BATCH_BYTES, "longer than"),
    ],
)
def test_a_malformed_batch_is_refused_before_its_first_row(chunk: Chunk, body: bytes, message: str) -> None:
    answer = chunk.send(body)

    assert (answer.status_code, answer.json()["code"]) == (400, "malformed")
    assert message in answer.json()["message"]
    assert CONTRACT_HEADER in answer.headers
    assert not stored()


def test_a_batch_with_more_rows_than_the_target_allows_is_refused(chunk: Chunk, settings: Settings) -> None:
    settings.BULK_IMPORT = with_batches(settings.BULK_IMPORT, 2)

    answer = chunk.send()

    assert (answer.status_code, answer.json()["message"]) == (400, "indices: expected at most 2")


def test_a_batch_that_is_not_of_the_current_claim_is_refused(chunk: Chunk) -> None:
    stale = replace(chunk, claim=replace(chunk.claim, epoch=2))
    unknown = replace(chunk, message=replace(chunk.message, chunk_id=str(uuid.uuid4())))

    for sent, status, code in [(unknown, 404, "unknown_chunk"), (stale, 409, "stale_epoch")]:
        answer = sent.send()
        assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not stored()


def test_a_batch_needs_the_worker_secret_and_its_own_content_type(chunk: Chunk) -> None:
    stranger, plain = replace(chunk, worker=APIClient()), chunk.worker.post(chunk.path, {}, format="json")

    assert (stranger.send().status_code, plain.status_code) == (401, 415)
    assert not stored()


def test_a_body_that_is_not_the_stored_row_creates_nothing(chunk: Chunk) -> None:
    forged = replace(chunk, rows=[(0, chunk.rows[0][1]), (1, chunk.rows[2][1]), (7, chunk.rows[2][1])])

    answered = [(line.status, json.loads(line.body or "{}").get("code")) for line in lines_of(forged.send())]

    assert answered == [(201, None), (422, "not_the_stored_row"), (403, "foreign_row")]
    assert stored() == ["A"]


# --- Stops between rows


@pytest.mark.parametrize(
    ("change", "verdict"),
    [
        (lambda: ImportJob.objects.update(cancel_requested_at="2026-01-01T00:00Z"), "cancelled"),
        (lambda: ImportJob.objects.update(pause_code="staff"), "paused"),
        (lambda: ImportChunk.objects.update(epoch=2), "stale"),
    ],
)
def test_what_stops_the_chunk_takes_effect_between_two_rows(
    chunk: Chunk, after_row_a: list[Callable[[], Any]], change: Callable[[], Any], verdict: str
) -> None:
    after_row_a.append(change)

    assert chunk.verdicts() == ["created", verdict]
    assert stored() == ["A"]


def test_after_a_busy_answer_the_worker_decides_when_the_next_row_begins(
    chunk: Chunk, monkeypatch: pytest.MonkeyPatch
) -> None:
    def create(*_args: Any, **_kwargs: Any) -> None:
        raise Throttled(wait=9)

    monkeypatch.setattr(ProductViewSet, "create", create)

    (line,) = lines_of(chunk.send())

    assert (line.status, line.headers["Retry-After"]) == (429, "9")


def create_with_status_200(*_args: Any, **_kwargs: Any) -> Response:
    return Response({})


def maintenance(_get_response: Any) -> Callable[[Any], Any]:
    """Middleware that answers every create call, but not the batch call."""
    return lambda request: _get_response(request) if "rows" in request.path else HttpResponseForbidden("Closed")


def test_the_worker_decides_after_an_answer_that_other_rows_will_probably_get_as_well(
    chunk: Chunk, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    monkeypatch.setattr(ProductViewSet, "create", create_with_status_200)
    assert [(line.status, line.headers[VERDICT_HEADER]) for line in lines_of(chunk.send())] == [(200, "not-created")]

    replay._handler.cache_clear()
    settings.MIDDLEWARE = [f"{__name__}.{maintenance.__name__}", *settings.MIDDLEWARE]
    assert [(line.status, VERDICT_HEADER in line.headers) for line in lines_of(chunk.send())] == [(403, False)]


def test_after_its_time_a_batch_begins_no_further_row(chunk: Chunk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_module, "MAX_BATCH_SECONDS", 0)

    assert chunk.verdicts() == ["created"]
    assert stored() == ["A"]


def test_each_answer_is_sent_at_once_and_nothing_is_created_after_the_worker_has_gone(chunk: Chunk) -> None:
    answer = chunk.send()
    assert not stored()

    line = next(iter(answer.streaming_content))
    assert json.loads(line)["index"] == 0
    assert stored() == ["A"]

    answer.close()
    assert stored() == ["A"]


def test_a_row_that_kills_the_process_costs_only_its_batch(chunk: Chunk, monkeypatch: pytest.MonkeyPatch) -> None:
    create: Any = ProductViewSet.perform_create

    def abort(view: ProductViewSet, serializer: Any) -> None:
        create(view, serializer)
        if serializer.validated_data["sku"] == "B":
            raise SystemExit  # as gunicorn does in a worker that has hung for too long

    with monkeypatch.context() as patch:
        patch.setattr(ProductViewSet, "perform_create", abort)
        pieces = iter(chunk.send().streaming_content)
        assert json.loads(next(pieces))["index"] == 0
        with pytest.raises(SystemExit):
            next(pieces)

    assert stored() == ["A"]
    assert chunk.verdicts() == ["replayed", "created", "created"]


# --- The permissions that the rows of a batch share


def permission_queries(chunk: Chunk) -> int:
    with CaptureQueriesContext(connection) as queries:
        assert chunk.verdicts() == ["created"] * len(chunk.rows)
    return sum('FROM "auth_permission"' in query["sql"] for query in queries)


def test_permissions_are_loaded_once_per_batch(chunk: Chunk) -> None:
    first, others = replace(chunk, rows=chunk.rows[:1]), replace(chunk, rows=chunk.rows[1:])

    assert permission_queries(first) == permission_queries(others) == 2  # those of the user, and those of groups


def test_a_withdrawn_permission_takes_effect_with_the_next_batch(chunk: Chunk, merchandiser: Any) -> None:
    assert replace(chunk, rows=chunk.rows[:1]).verdicts() == ["created"]
    merchandiser.user_permissions.clear()

    assert [(line.status, line.headers[VERDICT_HEADER]) for line in lines_of(chunk.send())] == [
        (201, "replayed"),
        (403, "not-created"),
        (403, "not-created"),
    ]


def test_a_disabled_submitter_creates_nothing_from_the_next_row_on(
    chunk: Chunk, after_row_a: list[Callable[[], Any]]
) -> None:
    after_row_a.append(lambda: get_user_model().objects.update(is_active=False))

    assert chunk.verdicts() == ["created", "not-created", "not-created"]


def test_a_permission_that_was_rolled_back_is_not_shared(
    chunk: Chunk, merchandiser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    allowed = []

    def create(_view: ProductViewSet, serializer: Any) -> None:
        user: Any = _view.request.user
        allowed.append(user.has_perm("products.delete_product"))
        if serializer.validated_data["sku"] == "A":
            del user._perm_cache, user._user_perm_cache
            user.user_permissions.add(Permission.objects.get(codename="delete_product"))
            assert user.has_perm("products.delete_product")
            raise RuntimeError("rolled back")

    monkeypatch.setattr(ProductViewSet, "perform_create", create)
    chunk.verdicts()

    assert allowed == [False, False, False]


# --- The batch call itself


def test_a_row_changes_nothing_for_the_batch_or_the_next_row(
    chunk: Chunk, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    zones = []

    def create(*_args: Any, **_kwargs: Any) -> None:
        zones.append(timezone.get_current_timezone_name())
        timezone.activate("America/Sao_Paulo")
        raise RuntimeError("the shop's own bug")

    monkeypatch.setattr(ProductViewSet, "create", create)
    answer = chunk.send(headers={"Accept-Language": "pt-br"})
    before = (get_language(), get_urlconf(), get_script_prefix())
    assert before == ("pt-br", settings.ROOT_URLCONF, "/")

    for _line in answer.streaming_content:
        assert (get_language(), get_urlconf(), get_script_prefix()) == before
    assert [*zones, timezone.get_current_timezone_name()] == [settings.TIME_ZONE] * 4


@pytest.mark.parametrize("max_age", [0, 60, None])
@pytest.mark.parametrize("health_checks", [False, True])
def test_a_batch_uses_one_connection_which_django_closes_afterwards(
    chunk: Chunk, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch, max_age: int | None, *, health_checks: bool
) -> None:
    for name, value in {"CONN_MAX_AGE": max_age, "CONN_HEALTH_CHECKS": health_checks}.items():
        monkeypatch.setitem(connections.settings["default"], name, value)
        monkeypatch.setitem(connection.settings_dict, name, value)
    opened: list[Any] = []

    def note(connection: Any, **_signal: Any) -> None:
        opened.append(connection)

    connection_created.connect(note)
    try:
        answers = [send_over_network(live_server, chunk) for _batch in range(2)]
    finally:
        connection_created.disconnect(note)

    assert [[line.status for line in read_lines([answer])] for answer in answers] == [[201] * 3] * 2
    assert len(opened) == 2
    assert [used.close_at is None for used in opened] == [max_age is None] * 2


def send_over_network(server: LiveServer, chunk: Chunk) -> bytes:
    headers = {"Authorization": f"Bearer {WORKER_SECRET}", "Content-Type": BATCH_CONTENT_TYPE}
    return httpx.post(server.url + chunk.path, content=chunk.body, headers=headers, trust_env=False).content


def test_under_asgi_each_answer_is_sent_at_once(chunk: Chunk) -> None:
    async def send() -> list[Any]:
        answer: Any = await AsyncClient().generic(
            "POST",
            chunk.path,
            chunk.body,
            content_type=BATCH_CONTENT_TYPE,
            headers={"Authorization": f"Bearer {WORKER_SECRET}"},
        )
        lines = [(json.loads(piece), await Product.objects.acount()) async for piece in answer.streaming_content]
        await sync_to_async(connections.close_all)()
        return lines

    *rows, end = asyncio.run(send())

    assert [(line["status"], created) for line, created in rows] == [(201, 1), (201, 2), (201, 3)]
    assert end == (BATCH_END, 3)
