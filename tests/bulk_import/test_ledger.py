"""A create call writes the product and its ledger record together, at most once, as the submitter."""

from __future__ import annotations

import json
import threading
import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from django.contrib.auth import get_user_model
from django.core import signing
from django.core.exceptions import PermissionDenied as DjangoPermissionDenied
from django.db import IntegrityError, connection, connections, transaction
from django.db.models.functions import Now
from django.db.models.signals import post_save
from django.http import Http404, StreamingHttpResponse
from django.test.utils import CaptureQueriesContext
from rest_framework.exceptions import PermissionDenied
from rest_framework.response import Response
from rest_framework.test import APIClient
from rest_framework.views import exception_handler

from bulk_import import operations
from bulk_import.authentication import TOKEN_SALT, ImportToken
from bulk_import.models import ImportChunk, ImportedRow, ImportJob
from bulk_import.models.locked_chunk import _locking_query
from bulk_import.models.row import ROW_HASH_BYTES, row_hash
from bulk_import_wire.contract import VERDICT_HEADER, Claim
from products.models import Category, Product
from products.views import ProductViewSet
from tests.bulk_import.conftest import Aws, call, claim_body, make_user, post_rows, product, release

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_django import Settings

pytestmark = pytest.mark.django_db(transaction=True)


class Importer:
    """Claims a chunk and calls the create endpoint, as a worker does."""

    def __init__(self, worker: APIClient, aws: Aws) -> None:
        self.message = aws.messages()[0]
        path = f"/bulk-import/worker/chunks/{self.message.chunk_id}/claim"
        self.claim = Claim.from_dict(worker.post(path, claim_body(self.message), format="json").json())
        self.job = ImportJob.objects.get()

    def submit(self, row: dict[str, Any], index: int = 0) -> None:
        """Act as if the user had submitted this row at this index."""
        chunk = ImportChunk.objects.get(pk=self.message.chunk_id)
        hashes, position = bytearray(chunk.row_hashes), index * ROW_HASH_BYTES
        hashes[position : position + ROW_HASH_BYTES] = row_hash(json.dumps(row).encode())
        ImportChunk.objects.filter(pk=chunk.pk).update(row_hashes=bytes(hashes))

    def create(self, row: dict[str, Any], index: int = 0, **request: str) -> Any:
        """Create a row as if the user had submitted it."""
        self.submit(row, index)
        return self.call(row, index, **request)

    def call(
        self, row: dict[str, Any], index: int = 0, *, path: str = "/products/", method: str = "POST", **headers: str
    ) -> Any:
        sent = {
            "Authorization": f"Import {self.claim.token}",
            "Idempotency-Key": f"{self.job.pk}:{index}",
            **{name.replace("_", "-"): value for name, value in headers.items()},
        }
        return APIClient().generic(method, path, json.dumps(row), content_type="application/json", headers=sent)


@pytest.fixture
def importer(client_of_merchandiser: APIClient, worker: APIClient, aws: Aws) -> Importer:
    """A worker with a claim on a chunk of rows 0 to 2."""
    post_rows(client_of_merchandiser, [product(str(n)) for n in range(3)])
    return Importer(worker, aws)


@pytest.fixture
def receiver_that_raises() -> Iterator[None]:
    """A signal receiver of the shop that raises after the product was saved."""

    def fail(**_signal: Any) -> None:
        raise RuntimeError("the shop's own bug")

    post_save.connect(fail, sender=Product)
    yield
    post_save.disconnect(fail, sender=Product)


@pytest.mark.parametrize("rows", [3, 300])
def test_a_create_call_needs_the_same_few_queries_however_large_the_job_is(
    client_of_merchandiser: APIClient, worker: APIClient, aws: Aws, rows: int
) -> None:
    """One query locks the chunk, one writes the record, one adds the product's ID; and there are BEGIN and COMMIT."""
    post_rows(client_of_merchandiser, [product(str(n)) for n in range(rows)])
    importer = Importer(worker, aws)
    importer.submit(product("0"))

    with CaptureQueriesContext(connection) as queries_of_worker:
        assert importer.call(product("0")).status_code == 201
    with CaptureQueriesContext(connection) as queries_of_person:
        assert client_of_merchandiser.post("/products/", product("by-hand"), format="json").status_code == 201

    own_queries = [query["sql"] for query in queries_of_worker if "bulk_import" in query["sql"]]
    assert [query.split()[0] for query in own_queries] == ["SELECT", "INSERT", "UPDATE"]
    assert len(queries_of_worker) <= len(queries_of_person) + 4


def test_a_row_is_created_with_its_ledger_record(importer: Importer) -> None:
    answer = importer.create(product("A"))

    created = Product.objects.get()
    record = ImportedRow.objects.get()
    assert (answer.status_code, answer[VERDICT_HEADER]) == (201, "created")
    assert (record.job_id, record.index, record.object_id) == (importer.job.pk, 0, str(created.pk))


def test_a_repeated_call_is_answered_from_the_ledger(importer: Importer) -> None:
    first = importer.create(product("A")).json()
    again = importer.create(product("A"))

    assert (again.status_code, again[VERDICT_HEADER]) == (201, "replayed")
    assert again.json() == {"id": str(first["id"])}
    assert Product.objects.count() == 1


def test_only_the_row_that_was_submitted_can_be_created(importer: Importer) -> None:
    """Not even a worker with the right secret and token can create another one."""
    answers = [importer.call(product(sku), index) for sku, index in [("A", 0), ("1", 0), ("0", 1)]]

    assert [answer.status_code for answer in answers] == [422] * 3
    assert {(answer[VERDICT_HEADER], answer.json()["code"]) for answer in answers} == {
        ("not-created", "not_the_stored_row")
    }
    expect_nothing_was_kept()


def test_a_worker_creates_every_row_as_it_was_submitted(client_of_merchandiser: APIClient, run_worker: Any) -> None:
    """Blanks, numbers and texts in any notation: the worker sends the bytes whose hash the chunk has."""
    rows = [product(str(n), name=f"Zelt “{n}” \u00e9 \\ /") for n in range(40)]
    body = json.dumps(rows, indent=1).replace('"249.90"', "249.900").encode()
    assert post_rows(client_of_merchandiser, body).status_code == 202

    run_worker()

    job = ImportJob.objects.for_reports().get()
    assert (job.status, job.created_count) == ("succeeded", 40)


def test_an_index_that_is_too_large_for_the_database_is_refused(importer: Importer) -> None:
    answer = importer.call(product("A"), Idempotency_Key=f"{importer.job.pk}:{2**31}")

    assert (answer.status_code, answer.json()["code"]) == (400, "invalid_key")


def test_the_same_key_with_another_body_is_422(importer: Importer) -> None:
    importer.create(product("A"))
    answer = importer.create(product("B"))

    assert (answer.status_code, answer[VERDICT_HEADER], answer.json()["code"]) == (422, "not-created", "key_reused")
    assert Product.objects.count() == 1


def test_simultaneous_calls_for_one_row_create_one_product(importer: Importer) -> None:
    answers: list[Any] = []

    def call() -> None:
        try:
            answers.append(importer.create(product("A")))
        finally:
            connection.close()

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(answer[VERDICT_HEADER] for answer in answers) == ["created", *["replayed"] * 5]
    assert Product.objects.count() == 1


def test_a_row_that_the_endpoint_rejects_is_not_kept_and_the_answer_has_field_and_code(importer: Importer) -> None:
    answer = importer.create(product("A", category="kayaks"))

    assert (answer.status_code, answer[VERDICT_HEADER]) == (400, "not-created")
    assert answer.json() == {
        "errors": [{"field": "category", "code": "does_not_exist", "message": "There is no category “kayaks”."}]
    }
    assert not ImportedRow.objects.exists()


def test_the_same_key_can_be_used_again_after_a_rejection(importer: Importer) -> None:
    importer.create(product("A", category="kayaks"))

    assert importer.create(product("A"))[VERDICT_HEADER] == "created"


def test_a_row_is_rolled_back_when_the_view_raises_after_saving_it(
    importer: Importer, receiver_that_raises: None
) -> None:
    with pytest.raises(
        RuntimeError, match="the shop's own bug"
    ):  # a server would answer 500; the test client raises the error
        importer.create(product("A"))

    assert not Product.objects.exists()
    assert not ImportedRow.objects.exists()


def test_a_stale_epoch_creates_nothing(importer: Importer, worker: APIClient) -> None:
    ImportChunk.objects.update(lease_expires_at=Now() - timedelta(seconds=1))
    message = importer.message
    worker.post(f"/bulk-import/worker/chunks/{message.chunk_id}/claim", claim_body(message), format="json")
    answer = importer.create(product("A"))

    assert (answer.status_code, answer[VERDICT_HEADER], answer.json()["code"]) == (409, "stale", "stale_epoch")
    assert not Product.objects.exists()


def test_a_job_that_staff_paused_creates_nothing_from_then_on(importer: Importer, merchandiser: Any) -> None:
    """The worker need not wait for its next heartbeat."""
    assert importer.create(product("A"))[VERDICT_HEADER] == "created"
    operations.pause(importer.job, merchandiser)
    answer = importer.create(product("B"), 1)

    assert (answer.status_code, answer[VERDICT_HEADER], answer.json()["code"]) == (409, "paused", "paused")
    assert Product.objects.count() == ImportedRow.objects.count() == 1

    operations.resume(importer.job, merchandiser)
    assert importer.create(product("B"), 1)[VERDICT_HEADER] == "created"


def test_a_job_that_the_circuit_breaker_paused_creates_nothing_from_then_on(importer: Importer) -> None:
    ImportJob.objects.update(status="paused", pause_code="most_rows_failed", paused_at=Now())

    answer = importer.create(product("A"))

    assert (answer.status_code, answer[VERDICT_HEADER], answer.json()["code"]) == (409, "paused", "paused")
    assert not Product.objects.exists()


def test_a_pause_by_a_worker_does_not_stop_the_probe(importer: Importer) -> None:
    ImportJob.objects.update(status="paused", pause_code="endpoint_away", paused_at=Now(), paused_until=Now())

    assert importer.create(product("A"))[VERDICT_HEADER] == "created"


def test_a_chunk_that_was_released_creates_nothing(importer: Importer, worker: APIClient) -> None:
    """A call that the worker no longer waits for may arrive after its release."""
    body = release(importer.claim.epoch)
    assert call(worker, "release", importer.message, body).status_code == 200
    answer = importer.create(product("A"))

    assert (answer.status_code, answer[VERDICT_HEADER], answer.json()["code"]) == (409, "stale", "stale_epoch")
    assert call(worker, "heartbeat", importer.message, {"epoch": importer.claim.epoch}).status_code == 409
    assert call(worker, "release", importer.message, body).status_code == 200  # repeated because its answer was lost
    expect_nothing_was_kept()


def test_a_finished_chunk_creates_nothing(importer: Importer) -> None:
    ImportChunk.objects.update(status="done")

    assert importer.create(product("A"))[VERDICT_HEADER] == "stale"
    assert not Product.objects.exists()


@pytest.mark.parametrize(
    ("key", "status"),
    [
        ("", 400),
        ("nonsense", 400),
        ("{job}:", 400),
        ("{job}:3", 403),
        ("{job}:-1", 403),
        (f"{uuid.UUID(int=1)}:0", 403),
    ],
)
def test_a_key_that_names_no_row_of_the_chunk_is_refused(importer: Importer, key: str, status: int) -> None:
    answer = importer.create(product("A"), Idempotency_Key=key.format(job=importer.job.pk))

    assert answer.status_code == status
    assert not Product.objects.exists()


@pytest.mark.parametrize(
    "token",
    [
        "",
        "nonsense",
        signing.dumps([uuid.uuid4().hex, 1], salt="another purpose"),
        signing.dumps([uuid.uuid4().hex, 1], salt=TOKEN_SALT, key="another key"),
    ],
)
def test_a_forged_token_is_refused(importer: Importer, token: str) -> None:
    answer = importer.create(product("A"), Authorization=f"Import {token}")

    assert (answer.status_code, answer[VERDICT_HEADER]) == (401, "stale")
    assert not Product.objects.exists()


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/products/"), ("GET", "/admin/"), ("POST", "/products/bulk"), ("PUT", "/products/")],
)
def test_a_token_is_only_valid_for_the_create_endpoint(importer: Importer, method: str, path: str) -> None:
    answer = importer.create(product("A"), method=method, path=path)

    assert (answer.status_code, answer.json()["code"]) == (403, "wrong_endpoint")


def test_a_token_signed_with_the_previous_key_is_still_valid(importer: Importer, settings: Settings) -> None:
    old = settings.BULK_IMPORT["TOKEN_KEYS"]
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TOKEN_KEYS": ["the-new-key-of-thirty-two-letters", *old]}

    assert importer.create(product("A"))[VERDICT_HEADER] == "created"


def test_a_token_is_neither_valid_without_its_key_nor_signed_with_the_secret_key(
    importer: Importer, settings: Settings
) -> None:
    signed_with_secret_key = signing.dumps([uuid.UUID(importer.message.chunk_id).hex, 1], salt=TOKEN_SALT)
    assert importer.create(product("A"), Authorization=f"Import {signed_with_secret_key}").status_code == 401

    settings.SECRET_KEY = "rotated"  # has no effect on running imports
    assert importer.create(product("A"))[VERDICT_HEADER] == "created"

    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TOKEN_KEYS": ["the-new-key-of-thirty-two-letters"]}
    assert importer.create(product("B"), 1).status_code == 401


def test_the_submitters_permission_is_checked_for_every_row(importer: Importer, merchandiser: Any) -> None:
    importer.create(product("A"))
    merchandiser.user_permissions.clear()
    answer = importer.create(product("B"), 1)

    assert (answer.status_code, answer[VERDICT_HEADER]) == (403, "not-created")
    assert answer.json()["errors"][0]["code"] == "permission_denied"
    assert Product.objects.count() == 1


def test_a_403_for_one_row_refuses_only_that_row(importer: Importer, monkeypatch: pytest.MonkeyPatch) -> None:
    """The submitter may create products, but not this one, so the job need not be paused."""

    def deny(*_arguments: Any) -> None:
        raise PermissionDenied("Not in this category.")

    monkeypatch.setattr(ProductViewSet, "perform_create", deny)
    answer = importer.create(product("A"))

    assert (answer.status_code, answer[VERDICT_HEADER]) == (403, "refused")
    assert answer.json()["errors"][0]["message"] == "Not in this category."
    expect_nothing_was_kept()


@pytest.mark.parametrize("error", [DjangoPermissionDenied(), Http404()])
def test_a_permission_may_raise_django_s_own_errors(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """DRF handles them like its own, so the verdict must not get lost."""

    def deny(*_arguments: Any) -> None:
        raise error

    monkeypatch.setattr(ProductViewSet, "check_permissions", deny)
    answer = importer.create(product("A"))

    assert answer[VERDICT_HEADER] == "not-created"
    expect_nothing_was_kept()


def test_an_error_that_the_project_answers_with_200_is_not_created(importer: Importer, settings: Settings) -> None:
    """Some projects put every response into an envelope, with the status 200 also for errors."""
    target = {**settings.BULK_IMPORT["TARGETS"]["products"], "success_statuses": [200]}
    settings.BULK_IMPORT = {**settings.BULK_IMPORT, "TARGETS": {"products": target}}
    settings.REST_FRAMEWORK = {**settings.REST_FRAMEWORK, "EXCEPTION_HANDLER": f"{__name__}.answer_200"}

    answer = importer.create(product("A", category="unknown"))

    assert answer[VERDICT_HEADER] == "not-created"
    assert answer.json()["errors"][0]["field"] == "category"
    expect_nothing_was_kept()


def answer_200(error: Exception, context: dict[str, Any]) -> Response | None:
    response = exception_handler(error, context)
    if response is not None:
        response.data, response.status_code = {"ok": False, "errors": response.data}, 200
    return response


def test_a_chunk_without_row_hashes_is_still_imported(importer: Importer) -> None:
    """Jobs that were accepted before the hashes were introduced have none."""
    ImportChunk.objects.update(row_hashes=b"")

    assert importer.call(product("A"))[VERDICT_HEADER] == "created"


def test_a_row_that_the_database_refuses_at_the_commit_is_refused(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database checks a deferred constraint only at the commit. All foreign keys of Django are deferred."""

    def save(_view: Any, serializer: Any) -> None:
        Product.objects.filter(pk=serializer.save().pk).update(category_id=987654)

    monkeypatch.setattr(ProductViewSet, "perform_create", save)
    answer = importer.create(product("A"))

    assert (answer.status_code, answer[VERDICT_HEADER], answer.json()["code"]) == (409, "refused", "integrity")
    expect_nothing_was_kept()


@pytest.mark.parametrize(
    "error", [RuntimeError("the shop's own bug"), IntegrityError("duplicate key in another table")]
)
def test_a_row_is_created_although_an_on_commit_hook_of_the_shop_raises(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    """The hook runs after the commit, so its error cannot change what happened to the row."""

    def fail() -> None:
        raise error

    def save(_view: Any, serializer: Any) -> None:
        serializer.save()
        transaction.on_commit(fail)

    monkeypatch.setattr(ProductViewSet, "perform_create", save)
    answer = importer.create(product("A"))

    assert (answer.status_code, answer[VERDICT_HEADER]) == (201, "created")
    assert answer.json()["id"] == Product.objects.get().pk
    assert [logged.exc_info[1] for logged in caplog.records if logged.exc_info] == [error]


def test_a_disabled_submitter_creates_nothing(importer: Importer, merchandiser: Any) -> None:
    merchandiser.is_active = False
    merchandiser.save()
    answer = importer.create(product("A"))

    assert (answer.status_code, answer.json()["code"]) == (403, "submitter_disabled")


def test_a_deleted_submitter_creates_nothing(importer: Importer, merchandiser: Any) -> None:
    merchandiser.delete()

    assert importer.create(product("A")).json()["code"] == "submitter_disabled"


def test_a_throttled_row_is_not_created_and_has_a_retry_after(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rest_framework.throttling.ScopedRateThrottle.THROTTLE_RATES", {"products": "1/hour"})
    importer.create(product("A"))
    answer = importer.create(product("B"), 1)

    assert (answer.status_code, answer[VERDICT_HEADER]) == (429, "not-created")
    assert int(answer["Retry-After"]) > 0


def test_a_request_without_an_import_token_passes_through_unchanged(importer: Importer, merchandiser: Any) -> None:
    client = APIClient(headers={"Idempotency-Key": f"{importer.job.pk}:0"})
    client.force_login(merchandiser)
    answer = client.post("/products/", product("A"), format="json")

    assert answer.status_code == 201
    assert VERDICT_HEADER not in answer
    assert not ImportedRow.objects.exists()


def test_a_token_of_one_chunk_is_not_valid_for_another_chunk(importer: Importer) -> None:
    other = make_user("other", "add_product")
    job = ImportJob.objects.create(target="products", submitter=other, rows=1, language="en")
    chunk = ImportChunk.objects.create(
        job=job, number=0, first_index=0, row_count=1, first_byte=0, byte_count=2, status="processing", epoch=1
    )
    answer = importer.create(product("A"), Authorization=f"Import {ImportToken(chunk.pk, 1).sign()}")

    assert (answer.status_code, answer.json()["code"]) == (403, "foreign_row")


def let_the_view_answer(monkeypatch: pytest.MonkeyPatch, answer: Any) -> None:
    """Make the shop's view return this answer after it has created the product."""

    def create(view: ProductViewSet, request: Any, *_arguments: Any, **_keywords: Any) -> Any:
        serializer = view.get_serializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        view.perform_create(serializer)
        return answer()

    monkeypatch.setattr(ProductViewSet, "create", create)


def expect_nothing_was_kept() -> None:
    assert not Product.objects.exists()
    assert not ImportedRow.objects.exists()


@pytest.mark.parametrize("status", [200, 202, 204, 302])
def test_a_row_is_rolled_back_when_the_view_does_not_answer_201(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Even if it has saved a product: only 201 means that the row exists."""
    let_the_view_answer(monkeypatch, lambda: Response({"sku": "A"}, status=status, headers={"Location": "/elsewhere"}))
    answer = importer.create(product("A"))

    assert (answer.status_code, answer[VERDICT_HEADER]) == (status, "not-created")
    if status == 204:
        assert answer.content == b""  # HTTP allows no body with 204
    else:
        assert [error["code"] for error in answer.json()["errors"]] == ["not_created"]
    expect_nothing_was_kept()


@pytest.mark.parametrize(("status", "verdict"), [(201, "created"), (200, "not-created"), (400, "not-created")])
def test_a_view_may_answer_with_a_stream(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, status: int, verdict: str
) -> None:
    let_the_view_answer(monkeypatch, lambda: StreamingHttpResponse([b"a", b"b"], status=status))
    answer = importer.create(product("A"))

    assert (answer.status_code, answer[VERDICT_HEADER]) == (status, verdict)
    if verdict == "created":
        assert answer.getvalue() == b"ab"
        assert ImportedRow.objects.get().object_id == ""
        assert Product.objects.count() == 1
    elif status < 400:
        assert [error["code"] for error in answer.json()["errors"]] == ["not_created"]
        expect_nothing_was_kept()
    else:
        assert answer.getvalue() == b"ab"
        expect_nothing_was_kept()


@pytest.mark.parametrize("atomic_requests", [False, True])
def test_a_row_is_not_created_when_the_view_answers_201_but_rolls_back(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, *, atomic_requests: bool
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic_requests)

    def roll_back() -> Response:
        transaction.set_rollback(True)
        return Response({"id": 1}, status=201)

    let_the_view_answer(monkeypatch, roll_back)

    assert importer.create(product("A"))[VERDICT_HEADER] == "not-created"
    with connection.execute_wrapper(add_comments):
        assert importer.create(product("A"))[VERDICT_HEADER] == "not-created"
    expect_nothing_was_kept()


def add_comments(execute: Any, sql: str, *arguments: Any) -> Any:
    """Add comments to each statement, as instrumentations do."""
    return execute(f"/* span {uuid.uuid4()} */ {sql} /* {uuid.uuid4()} */", *arguments)


def test_the_submitter_is_selected_as_the_fields_of_the_user_want(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fields of PostGIS select their columns in a form of their own."""
    field: Any = get_user_model()._meta.get_field("first_name")
    monkeypatch.setattr(field, "select_format", lambda _compiler, sql, params: (f"UPPER('in ' || {sql})", params))
    get_user_model().objects.update(first_name="Ana")
    names: list[str] = []

    def note_name(view: Any) -> list[Any]:
        names.append(view.request.user.first_name)
        return []

    monkeypatch.setattr(ProductViewSet, "get_throttles", note_name)
    _locking_query.cache_clear()
    try:
        assert importer.create(product("A"))[VERDICT_HEADER] == "created"
    finally:
        _locking_query.cache_clear()
    assert names == ["IN ANA"]


@pytest.mark.parametrize("atomic_requests", [False, True])
def test_a_rollback_in_an_inner_transaction_of_the_view_does_not_roll_back_the_row(
    importer: Importer, monkeypatch: pytest.MonkeyPatch, *, atomic_requests: bool
) -> None:
    monkeypatch.setitem(connections.settings["default"], "ATOMIC_REQUESTS", atomic_requests)

    def try_something() -> Response:
        with transaction.atomic():
            Category.objects.create(slug="boats", name="Boats")
            transaction.set_rollback(True)
        return Response({"id": 7}, status=201)

    let_the_view_answer(monkeypatch, try_something)

    assert importer.create(product("A"))[VERDICT_HEADER] == "created"
    assert (Product.objects.count(), ImportedRow.objects.get().object_id) == (1, "7")
    assert not Category.objects.filter(slug="boats").exists()


def test_a_view_with_a_durable_transaction_fails_with_a_runtime_error_and_creates_nothing(
    importer: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The view requires its own transaction, so the ledger record cannot be in the same one."""

    def insist() -> Response:
        with transaction.atomic(durable=True):
            return Response({"id": 1}, status=201)

    let_the_view_answer(monkeypatch, insist)

    with pytest.raises(RuntimeError, match="A durable atomic block cannot be nested"):
        importer.create(product("A"))
    expect_nothing_was_kept()
